"""Inside a job on another machine: runs the load that was handed to it, under the supervisor that a service has too.

Comes from `astrad bundle`, which a job of Slurm's calls; goes to `supervisor`. It records all by itself, whether or not
a service is there, and asks the database what people want of its bundles. Slurm tells it in time that its walltime is
about to end: then it begins no further task, and gives back what is not done. Told to end at once it leaves its bundles
as they are: why, Slurm tells the service.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from astra import backlog, holds, provenance, queue
from astra.clock import Clock
from astra.config import Settings
from astra.database import connection, migrate
from astra.database.connection import available
from astra.errors import DatabaseUnavailable
from astra.states import BundleState, ErrorKind
from astra.work import Load, OpenBundle
from daemon.executors import Ending
from daemon.executors.supervisor import Supervisor
from daemon.logs import event
from daemon.outage import AGAIN
from daemon.taking_back import take_back, tell_taken_away

log = logging.getLogger(__name__)
_TURN = 0.25
_ASK_EVERY = 2.0
_LONGEST_BACKOFF = 30.0
_TOLD_SECONDS = 1.0  # within which the end of all a job's processes tells of itself
_LAST_SECONDS = 15.0  # before the walltime's end, at which what is in hand is stopped
_STOP, _NOTICE = (signal.SIGTERM, signal.SIGINT), signal.SIGUSR1
_OWN_MEGABYTES = 100  # of a job's memory, for this process and the shell


class Job:
    """One load, from its start to its end, in a job.

    Parameters
    ----------
    settings
        Valid settings.
    load
        What was handed to this job.
    clock
        The clock.
    environ
        The environment, in which Slurm says which job this is.
    """

    def __init__(self, settings: Settings, load: Load, clock: Clock, environ: Mapping[str, str]) -> None:
        self._settings, self._load, self._clock, self._environ = settings, load, clock, environ
        self._stop, self._notice, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._supervisor = Supervisor(_within(settings, load), clock, self._wake.set)
        self._open = {each.bundle for each in load.bundles}
        self._endings: list[Ending] = []
        self._began = clock.monotonic()
        self._noticed: float | None = None
        self._ask_at = 0.0
        self._is_away = False  # the database

    def run(self) -> int:
        """Run the load; return the exit status: 0 where the end of every bundle is recorded."""
        with self._handled_signals():
            self._supervisor.start()  # it comes to listen while the database is opened
            try:
                if self._open_database() and self._open:
                    self._supervisor.submit(self._left(), self._clock.monotonic())
                    self._go_on()
            finally:
                self._supervisor.stop()
                connection.close_database()
        return 1 if self._open else 0

    def _open_database(self) -> bool:
        """Open the database, however long it is away; return whether this job is still wanted by then."""
        connection.open_database(self._settings.database.url)
        wait = 0.5
        while not self._stop.is_set():
            try:
                with available():
                    migrate.require_current()
                    queue.note_external(self._own_name())
                    self._let_go(backlog.taken_away(self._open))
                return True
            except DatabaseUnavailable as error:
                event(log, "database_away", logging.ERROR, reason=f"{error}; {AGAIN}", again_in=wait)
                self._clock.wait(self._stop, wait)
                wait = min(_LONGEST_BACKOFF, 2 * wait)
        return False

    def _left(self) -> Load:
        """Return the load without what was taken away while this job waited: the others would be given back with it."""
        return replace(self._load, bundles=tuple(each for each in self._load.bundles if each.bundle in self._open))

    def _own_name(self) -> dict[str, str]:
        names = ("SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
        name, job, index = (self._environ.get(each) for each in names)
        return {f"{name}_{index}": f"{job}_{index}"} if name and job and index else {}

    def _go_on(self) -> None:
        while self._open and not self._stop.is_set():
            now = self._clock.monotonic()
            self._heed_notice(now)
            self._endings += self._supervisor.turn(now)
            if self._is_being_ended():
                return
            self._record(now)
            if self._open:
                self._clock.wait(self._wake, _TURN)
                self._wake.clear()

    def _is_being_ended(self) -> bool:
        """Whether a death is one of all this job's processes: Slurm ends them together, and tells us so as well."""
        died = any(each.kind is ErrorKind.CRASH for each in self._endings)
        if died:
            self._clock.wait(self._stop, _TOLD_SECONDS)
        return died and self._stop.is_set()

    def _heed_notice(self, now: float) -> None:
        """Begin no further task when the walltime is about to end; stop what is in hand when it all but has.

        Slurm says when; its signal may have come too early to be heard, so the clock tells as well.
        """
        asked = self._settings.slurm_of(self._load.bundles[0].component)
        notice = asked.notice
        if not self._notice.is_set() and now - self._began < 60 * asked.time - notice:
            return
        if self._noticed is None:
            self._noticed = now
            event(log, "slurm_notice", logging.WARNING, seconds=notice)
        self._supervisor.drain()
        if now - self._noticed > notice - min(_LAST_SECONDS, notice / 2):
            self._supervisor.interrupt("stopped: the walltime of its Slurm job was about to end", now)

    def _record(self, now: float) -> None:
        """Record what went wrong, and do what people want; while the database is away, that waits."""
        try:
            with available():
                while self._endings:
                    self._record_one(self._endings[0])
                    self._open.discard(self._endings.pop(0).bundle)
                if now >= self._ask_at:
                    self._obey(now)
                    self._ask_at = now + _ASK_EVERY
            self._is_away = False
        except DatabaseUnavailable as error:
            if not self._is_away:
                event(log, "database_away", logging.ERROR, reason=f"{error}; {AGAIN}")
            self._is_away = True

    def _record_one(self, ending: Ending) -> None:
        if ending.trouble is None:
            return
        now = self._clock.now()
        found = backlog.open_bundle(ending.bundle)
        if found is None or not self._is_ours(found):
            event(log, "taken_away", logging.WARNING, bundle=ending.bundle, reason=ending.trouble)
        else:
            take_back(found, ending, self._load.retry, now)

    def _is_ours(self, found: OpenBundle) -> bool:
        """Whether an open bundle is in this job's hands: another one may have been faster to start it."""
        if found.state is BundleState.RUNNING:
            return found.owner == provenance.owner()
        return found.token == self._load.bundles[0].token

    def _obey(self, now: float) -> None:
        """Begin no further task where somebody wants so; let go of bundles that were taken away."""
        if self._open.intersection(backlog.asked(holds.DRAIN)):
            self._supervisor.drain()
        if taken := backlog.taken_away(self._open):
            self._supervisor.drop(taken, now)
            self._let_go(taken)

    def _let_go(self, taken: Mapping[int, str]) -> None:
        tell_taken_away(taken)
        self._open -= taken.keys()

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        """Note what Slurm signals; a handler only sets flags."""

        def handle(number: int, frame: FrameType | None) -> None:
            (self._notice if number == _NOTICE else self._stop).set()
            self._wake.set()

        before: list[tuple[signal.Signals, Any]] = [(each, signal.signal(each, handle)) for each in (*_STOP, _NOTICE)]
        try:
            yield
        finally:
            for each, old in before:
                signal.signal(each, old)


def _within(settings: Settings, load: Load) -> Settings:
    """Return settings by which a bundle is stopped before its job holds too much memory, if they set no other limit.

    Many a cluster ends such a job without a word, and then nobody could tell why.
    """
    component = load.bundles[0].component
    most = settings.slurm_of(component).memory
    if most is None or settings.of(component).memory is not None:
        return settings
    limit = max(most - _OWN_MEGABYTES, most // 2)
    return replace(settings, executor=replace(settings.executor, memory=limit))
