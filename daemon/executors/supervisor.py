"""Keeps one process that runs bundles: hands loads to it, renews their leases, tells how it died, replaces it.

The component's own thread never renews: one that holds the interpreter for minutes keeps its lease, one that is gone
loses it. What a process may take is enforced by its `guard`, and a process that was stopped is found dead here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

from astra import queue
from astra.clock import Clock
from astra.config import Settings
from astra.database.connection import available, waiting_at_most
from astra.errors import DatabaseUnavailable
from astra.inhand import ON_THE_WAY
from astra.states import ErrorKind
from astra.work import Load
from daemon.executors import Ending, stacks
from daemon.executors.memory import MEGABYTE, Family
from daemon.executors.process import WorkerProcess
from daemon.logs import event

log = logging.getLogger(__name__)
_WORD_SECONDS = 5.0
_LONGEST_BACKOFF = 30.0
_REST_SECONDS = 10.0  # that a process may take to come to rest, after its last bundle
_AGAIN_SECONDS = 1.0  # until a lease that could not be renewed is tried again
_WITH_ANOTHER = "given back: its process was ended, for another bundle of it had been taken away"
_BESIDE = "given back: its process ended, which had another bundle in hand"


@dataclass
class _Running:
    load: Load
    renewed: float
    tried: float
    open: dict[int, None]
    token: str | None = None
    is_late: bool = False
    over: float | None = None
    lost: dict[int, float] = field(default_factory=dict)


class Supervisor:
    """One process at a time, and the load that it runs."""

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None]) -> None:
        self._settings, self._clock, self._wake = settings, clock, wake
        self._process: WorkerProcess | None = None
        self._let_go: list[tuple[WorkerProcess, float]] = []
        self._running: _Running | None = None
        self._endings: list[Ending] = []
        self._failures, self._start_at, self._ran, self._is_ready = 0, 0.0, 0, False
        self._is_away = False  # the database
        self.key: str | None = None
        """The key of the bundle that the process ran last."""

    @property
    def bundles(self) -> list[int]:
        """The bundles that are on their way or running, or wait in the load."""
        return list(self._running.open) if self._running else []

    @property
    def idle(self) -> bool:
        """Whether a load can be handed over."""
        process = self._process
        return self._running is None and process is not None and process.lives and process.guard.verdict is None

    @property
    def unrecorded(self) -> int:
        """How many bundles are held up by the database alone, which is away."""
        return len(self.bundles) if self._process is not None and self._process.in_hand.waits else 0

    def start(self) -> None:
        """Start the process. Call it from the thread that lives longest: the process dies with that thread."""
        self._process = WorkerProcess(self._settings, self._clock, self._wake)
        self._ran, self.key, self._is_ready = 0, None, False

    def submit(self, load: Load, now: float) -> None:
        """Hand a load to the process."""
        assert self._process is not None
        self._process.in_hand.begin(ON_THE_WAY)
        self._process.in_hand.draining = self._process.in_hand.waits = False
        self._process.stacks.clear()
        self._process.printed.forget()
        own = self._settings.of(load.bundles[0].component)
        self._process.guard.watch(own, [each.size for each in load.bundles])
        self._process.hand_over(load)
        # Not before: what could not be handed over is nobody's, and is found to be so.
        self._running = _Running(load, now, now, {each.bundle: None for each in load.bundles})
        self.key = load.bundles[-1].key

    def drain(self) -> None:
        """Let the process begin no further task of its load."""
        if self._process is not None:
            self._process.in_hand.draining = True

    def turn(self, now: float) -> list[Ending]:
        """Hear the process, renew its leases, replace it where it is gone; return the bundles that ended."""
        process = self._process
        if process is not None:
            ran = self._ran
            self._hear(process, now)
            if process.gone:
                self._died(process, now)
            elif self._running is not None:
                self._keep(process, self._running, now)
            elif self._ran > ran:
                self._recycle(process, now)
        if self._process is None and now >= self._start_at:
            self._replace(now)
        self._see_off(now)
        endings, self._endings = self._endings, []
        return endings

    def drop(self, bundles: Collection[int], now: float) -> None:
        """End the process, if any of these bundles is its: somebody took them away. The others are given back."""
        if self._process is None or not set(self.bundles).intersection(bundles):
            return
        self._end(self._process, now, lambda each: Ending(each, _WITH_ANOTHER))
        self._endings = [each for each in self._endings if each.bundle not in bundles]

    def interrupt(self, reason: str, now: float) -> None:
        """End the process before its time is over: the bundle in hand is told, the others are given back.

        The first of the load has had all of that time, so it took too long; a later one was merely interrupted.
        """
        if self._process is not None and self._running is not None:
            place = self._process.in_hand.place()
            in_hand = self._bundle_in_hand(self._process, self._running)
            own = Ending(in_hand or 0, reason, ErrorKind.INTERRUPTED)
            if place.bundle == 0:
                own = Ending(in_hand or 0, reason, ErrorKind.TIMEOUT, place.position)
            self._end(self._process, now, lambda each: own if each == in_hand else Ending(each, reason))

    def stop(self) -> list[int]:
        """End the process now, and return the bundles that were open, or of whose trouble nobody was told yet."""
        for process in filter(None, [self._process, *(each for each, _ in self._let_go)]):
            process.kill()
            if process is self._process:
                self._hear(process, 0.0)
                self._note_log(process)
            process.close()
        bundles = self.bundles + [each.bundle for each in self._endings if each.trouble is not None]
        self._process, self._running, self._endings = None, None, []
        self._let_go.clear()
        return bundles

    # ------------------------------------------------------------------------------------------- what it says

    def _hear(self, process: WorkerProcess, now: float) -> None:
        for message in process.hear():
            running = self._running
            if "ready" in message:
                self._failures, self._is_ready = 0, True
            elif running is None:
                continue
            elif "started" in message:
                running.token, running.renewed = message["started"], now
            elif "ended" in message and message["ended"] in running.open:
                del running.open[message["ended"]]
                kind = ErrorKind.RETRY if message["trouble"] else None
                self._endings.append(Ending(message["ended"], message["trouble"], kind))
            elif "given_back" in message and message["given_back"] in running.open:
                del running.open[message["given_back"]]
                self._endings.append(Ending(message["given_back"], message["why"], away=message["away"]))
            elif "idle" in message:
                self._endings += [Ending(each, "its process did not say how it ended") for each in running.open]
                self._ran += len(running.load.bundles)
                self._running = None

    def _recycle(self, process: WorkerProcess, now: float) -> None:
        """Replace a process that has run many bundles, or holds much memory: what leaks ends with it."""
        most, reason = self._settings.executor.recycle_memory, None
        if self._ran >= self._settings.executor.recycle_bundles:
            reason = f"it has run {self._ran} bundles"
        elif most is not None and (held := Family(process.pid).resident()) > most * MEGABYTE:
            reason = f"it holds {held / MEGABYTE:,.0f} MB"
        if reason is not None:
            event(log, "worker_recycled", reason=reason)
            process.let_go()
            self._let_go.append((process, now + self._settings.executor.grace))
            self._process, self._start_at = None, now

    def _see_off(self, now: float) -> None:
        """Close the accounts of processes that were to end by themselves; one that does not is ended."""
        for process, deadline in list(self._let_go):
            if not process.lives or now > deadline:
                process.kill()
                process.close()
                self._let_go.remove((process, deadline))

    # -------------------------------------------------------------------------------------------------- leases

    def _keep(self, process: WorkerProcess, running: _Running, now: float) -> None:
        """Renew the leases of the load in time; end the process where the bundle in hand is somebody else's."""
        if not running.open:
            self._see_to_rest(process, running, now)
            return
        in_hand = self._bundle_in_hand(process, running)
        # The last chunk may have ended the bundle a moment ago, and the process's own word is on its way.
        if in_hand in running.open and now - running.lost.get(in_hand, now) > _WORD_SECONDS:
            taken = "stopped: its bundle had been taken over"
            self._end(process, now, lambda each: Ending(each, taken if each == in_hand else _BESIDE))
        elif running.token is None:
            self._tell_late(process, running, now)
        elif self._is_due(running, now):
            self._renew(running, running.token, now)

    def _see_to_rest(self, process: WorkerProcess, running: _Running, now: float) -> None:
        """Replace a process that has told of all its bundles and not that it is idle: its server may not answer."""
        if running.over is None:
            running.over = now
        if now - running.over > _REST_SECONDS:
            reason = "ended: it had run all its bundles, and did not come to rest"
            event(log, "worker_died", logging.WARNING, reason=reason)
            self._end(process, now, lambda each: Ending(each, reason))
            self._start_at = now

    def _tell_late(self, process: WorkerProcess, running: _Running, now: float) -> None:
        """Tell, once, of a load that was not started in time, and where its process is: an import may take long."""
        since = now - running.renewed - stacks.START_SECONDS
        if running.is_late or since < 1.0:
            return
        where = process.stacks.text()
        if where is None and since < _WORD_SECONDS:  # the process counts from when it came to read the order
            return
        running.is_late = True
        details = {"pid": process.pid, "listens": self._is_ready, "seconds": now - running.renewed, "at": where}
        event(log, "not_started", logging.WARNING, bundle=next(iter(running.open)), **details)
        process.stacks.clear()  # should it die, this does not tell of what

    def _bundle_in_hand(self, process: WorkerProcess, running: _Running) -> int | None:
        place = process.in_hand.place()
        return running.load.bundles[place.bundle].bundle if place.bundle != ON_THE_WAY else None

    def _is_due(self, running: _Running, now: float) -> bool:
        if now - running.renewed <= self._settings.scheduler.lease / 3:
            return False
        return running.tried <= running.renewed or now - running.tried > _AGAIN_SECONDS

    def _renew(self, running: _Running, token: str, now: float) -> None:
        running.tried = now
        until = self._clock.now() + timedelta(seconds=self._settings.scheduler.lease)
        try:
            with available():
                held = queue.renew(list(running.open), token, until)
        except DatabaseUnavailable as error:
            if not self._is_away:  # once, however long it is away
                event(log, "lease_not_renewed", logging.WARNING, bundle=next(iter(running.open)), reason=str(error))
            self._is_away = True
            return
        running.renewed, self._is_away = now, False
        for each in running.open.keys() - held:
            running.lost.setdefault(each, now)

    # --------------------------------------------------------------------------------------------------- deaths

    def _died(self, process: WorkerProcess, now: float) -> None:
        """Take note of a death: the bundle in hand is to blame, the others of the load had no part in it."""
        self._end(process, now, lambda each: self._ending(process, each))
        verdict = process.guard.verdict
        reason = verdict.reason if verdict is not None else process.how_it_died()
        blamed = next((each.bundle for each in self._endings if each.kind is not None), None)
        event(log, "worker_died", logging.WARNING, reason=reason, bundle=blamed)
        self._put_off(now)

    def _end(self, process: WorkerProcess, now: float, ending_of: Callable[[int], Ending]) -> None:
        """End the process, and note what became of the bundles that it has not told of as ended."""
        process.kill()
        self._hear(process, now)
        self._note_log(process)
        self._endings += [ending_of(each) for each in self.bundles]
        process.close()
        self._process, self._running = None, None

    def _ending(self, process: WorkerProcess, bundle: int) -> Ending:
        """Return how an open bundle ended whose process died, or was stopped."""
        assert self._running is not None
        verdict = process.guard.verdict
        if not self._is_ready:
            return Ending(bundle, f"given back: its process never came to listen: {process.how_it_died()}")
        place = verdict.place if verdict is not None else process.in_hand.place()
        index = max(0, place.bundle)  # on the way, the first of the load is to blame: its component does not start
        if self._running.load.bundles[index].bundle != bundle:
            return Ending(bundle, _BESIDE)
        peak = process.guard.peak
        if verdict is not None:
            return Ending(bundle, verdict.reason, verdict.kind, place.position, verdict.stack, peak)
        stack = process.stacks.text()
        return Ending(bundle, process.how_it_died(), ErrorKind.CRASH, place.position, stack, peak)

    def _note_log(self, process: WorkerProcess) -> None:
        """Note where the output of the bundle lies at which the process was, when it was ended: it cannot any more."""
        part = process.printed_by_last()
        if self._running is None or part is None:
            return
        index, (path, start, end) = part
        bundle = self._running.load.bundles[index].bundle
        if bundle not in self._running.open:
            return
        try:
            with available(), waiting_at_most(_WORD_SECONDS):
                queue.note_log(bundle, path, start, end)
        except DatabaseUnavailable as error:
            event(log, "log_not_noted", logging.WARNING, bundle=bundle, path=path, reason=str(error))

    def _replace(self, now: float) -> None:
        try:
            self.start()
        except OSError as error:  # no memory, no process number left
            event(log, "worker_died", logging.WARNING, reason=f"it could not be started: {error}")
            self._put_off(now)

    def _put_off(self, now: float) -> None:
        """Start the next process at once; or, where the last one could not even start, after a growing pause."""
        pause = min(_LONGEST_BACKOFF, 2.0 ** min(self._failures - 1, 20))
        self._start_at = now + (pause if self._failures else 0.0)
        self._failures += 1
