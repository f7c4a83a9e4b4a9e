"""Build the parts of the service, start them in order, keep their loops turning, stop them in reverse.

Comes from `astrad run`; goes to `settler` (fed by `watcher` and `sweeper`), `intake` and `scheduler`. Two threads do
the work: one takes files in, the main one schedules, so that a slow disk never costs a lease; what wakes them on
PostgreSQL is heard by `listener`. APScheduler keeps the calendar alone; every other wait is counted here, in monotonic
time.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from types import FrameType
from typing import Any

from astra import backlog
from astra.catalogue.consulting import linking_of
from astra.clock import Clock
from astra.components import component_class
from astra.config import Settings
from astra.database import connection, migrate
from astra.database.connection import available, run, waiting_at_most
from astra.errors import DatabaseUnavailable
from astra.rules import Rule
from daemon import executors, status
from daemon.calendar import Calendar, Duty
from daemon.executors.handed import prune_printed
from daemon.executors.output import prune
from daemon.gatherer import Gatherer
from daemon.intake import Intake
from daemon.listener import Listener
from daemon.logs import event
from daemon.notify import notify, watchdog_interval
from daemon.outage import AGAIN, Outage
from daemon.relinker import Relinker
from daemon.scheduler import UNRECORDED_SECONDS, Scheduler
from daemon.startup import (
    compile_rules,
    lock_root,
    prepare_database,
    refuse_network_sqlite,
    refuse_unknown_releases,
)
from daemon.watching import Takers, Watching

log = logging.getLogger(__name__)
_STATUS_EVERY = 2.0
_LONGEST_BACKOFF = 30.0
_TURN_PATIENCE = 2.0  # no renewal, and no word to systemd, may wait long for another writer
_FRONT_SECONDS = 10.0
_HUNG_SECONDS = 60.0  # after which a turn of the intake is believed to hang, on a dead disk say
_PRUNE = "40 3 * * *"
_FRONT, _INTAKE, _MAIN = "front", "intake", "main"  # who can meet that the database is away
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Until(StrEnum):
    """When the service ends by itself: never, when nothing is left to do, or after one pass."""

    STOPPED = "stopped"
    DRAINED = "drained"
    ONCE = "once"


class Service:
    """The whole daemon in one process, and its executor's.

    Parameters
    ----------
    settings
        Valid settings.
    clock
        The clock.
    until
        When to end without being asked.
    """

    def __init__(self, settings: Settings, clock: Clock, until: Until = Until.STOPPED) -> None:
        self._settings, self._clock, self._until = settings, clock, until
        self._stop, self._front_wake, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._outage = Outage()
        self._signals = 0
        self._executor = executors.build(settings, clock, self._wake.set)
        self._linking = linking_of(settings.catalog, clock)
        self._relinker = Relinker(self._linking, clock)
        relink = Duty("relink", settings.catalog.relink, self._relinker.request)
        pruning = Duty("prune logs", _PRUNE, lambda _: self._prune_logs())
        self._calendar = Calendar(settings.schedule, [relink, pruning], clock, self._wake.set)
        names = [each.name for each in settings.watch]
        self._listener = Listener(names, settings.scheduler.tick, clock, self._wake.set)
        self._front_turned = clock.monotonic()
        self._confirming = False
        self._status_trouble: str | None = None
        self._began = clock.now()

    def run(self) -> int:
        """Run until stopped or done; return the exit status: 1 where something failed in a run that ends by itself."""
        with ExitStack() as stack:
            stack.enter_context(self._handled_signals())
            if self._linking.survey is not None:
                stack.callback(self._linking.survey.close)
            # first of all: its processes take as long to come to listen as all the rest here
            stack.callback(self._executor.stop)
            self._executor.start()
            refuse_unknown_releases(self._settings)  # before what a wait for the database does not mend
            compiled = compile_rules(self._settings)
            self._open_database(stack)
            if self._stop.is_set():
                return 0
            stack.enter_context(self._locked_roots())
            with available():
                before = status.last_ingestion()
                stack.enter_context(self._listener.running())
                self._build(compiled)
            self._start(stack)
            notify("READY=1", f"STATUS=watching {len(self._listener.mine)} folders")
            event(log, "started", database=connection.place(), roots=len(self._settings.watch))
            self._loop()
            notify("STOPPING=1")
            event(log, "stopping", running=self._scheduler.running)
            self._drain()
            self._tell_status()  # the last word stands in the file until the next start
            return self._exit_status(before)

    def _exit_status(self, before: int) -> int:
        if self._until is Until.STOPPED:
            return 0
        with available():
            if left := backlog.waiting_for_others():
                why = "they come after work that is not done"
                event(log, "left_waiting", logging.WARNING, tasks=left, reason=why)
            unread = self._intake.out_of_reach or self._watching.outages
            return 1 if unread or status.troubles(before, self._began) else 0

    # ------------------------------------------------------------------------------------------------- starting

    def _open_database(self, stack: ExitStack) -> None:
        """Open the database, waiting for one that is away; make the tables of one that is new."""
        settings = self._settings.database
        refuse_network_sqlite(self._settings)
        connection.open_database(settings.url, settings.synchronous)
        stack.callback(connection.close_database)
        wait = 0.5
        while not self._stop.is_set():
            try:
                with available():
                    prepare_database()
                return
            except DatabaseUnavailable as error:
                event(log, "database_away", logging.ERROR, reason=f"{error}; {AGAIN}", again_in=wait)
                notify(f"STATUS=waiting for the database: {error}", f"EXTEND_TIMEOUT_USEC={int(2e6 * (wait + 10))}")
                self._clock.wait(self._stop, wait)
                wait = min(_LONGEST_BACKOFF, 2 * wait)

    @contextmanager
    def _locked_roots(self) -> Iterator[None]:
        """Hold every root's lock here: two services in one state folder would write over each other's status."""
        with ExitStack() as stack:
            for watch in self._settings.watch:
                stack.enter_context(lock_root(self._settings, watch))
            yield

    def _build(self, compiled: tuple[Rule, ...]) -> None:
        settings, clock = self._settings, self._clock
        for task in {each.task for each in settings.rules} | {each.task for each in settings.schedule}:
            migrate.create_result_tables(component_class(task).result_models)
        self._intake = Intake(settings, compiled, clock, self._linking)
        self._gatherer = Gatherer(compiled, clock)
        takers = Takers(self._hint, self._intake.offer)
        self._watching = Watching(settings.watch, takers, clock, compiled)
        self._watching.follow(self._listener.mine)
        self._scheduler = Scheduler(settings, self._executor, clock)

    def _prune_logs(self) -> None:
        now = self._clock.now()
        deleted = prune(self._settings.bundle_logs, self._settings.log.keep, now) + prune_printed(self._settings, now)
        event(log, "logs_pruned", files=deleted)

    def _hint(self, root: str, path: str) -> None:
        self._intake.hint(root, path)
        self._front_wake.set()

    def _start(self, stack: ExitStack) -> None:
        stack.callback(self._scheduler.stop)
        self._front_turned = self._clock.monotonic()
        self._listener.unwell = self._unwell
        self._watching.start(self._clock.monotonic())
        stack.callback(self._watching.stop)
        front = threading.Thread(target=self._front_loop, name="intake", daemon=True)
        front.start()
        stack.callback(
            front.join, _FRONT_SECONDS
        )  # one that hangs on a dead disk must not keep the service from ending
        stack.callback(self._front_wake.set)
        stack.callback(self._stop.set)
        stack.enter_context(self._calendar.running())

    # -------------------------------------------------------------------------------------------------- the loops

    def _front_loop(self) -> None:
        """Watch, sweep and take in, until the service stops."""
        backoff = 0.5
        while not self._stop.is_set():
            try:
                with available():
                    pause = 0.0 if self._front_turn(self._clock.monotonic()) else self._pause()
                backoff = 0.5
            except DatabaseUnavailable as error:
                self._outage.begin(_FRONT, f"{error}; {AGAIN}")
                pause, backoff = backoff, min(_LONGEST_BACKOFF, 2 * backoff)
            except Exception:  # the loop's one boundary: whatever it is, files that arrive later are still taken in
                log.exception("intake failed; it goes on in %.1f s", backoff)
                self._intake.failed()
                pause, backoff = backoff, min(_LONGEST_BACKOFF, 2 * backoff)
            self._front_turned = self._clock.monotonic()
            if pause:
                self._clock.wait(self._front_wake, pause)
            self._front_wake.clear()  # before `_stop` is looked at, which is set before it
        connection.drop_connection()

    def _unwell(self) -> dict[str, str]:
        """Return the folders that are not looked after, and why: another service may be able to."""
        hung = self._clock.monotonic() - self._front_turned
        if hung > _HUNG_SECONDS:
            return dict.fromkeys(self._listener.mine, f"the intake has not turned for {hung:.0f} s")
        return self._watching.outages

    def _front_turn(self, now: float) -> bool:
        """Take one turn; return whether there is more to do at once."""
        self._watching.follow(self._listener.mine)
        swept = self._watching.turn(now, self._intake.load)
        recorded = self._intake.turn(self._clock.monotonic())
        if recorded:
            self._wake.set()
        while self._intake.overfull:
            self._watching.sweeper.request(self._intake.overfull.pop(), "more arrivals than could be kept")
        self._sweep_after_outage()
        busy = swept is not None or bool(recorded) or self._intake.ready
        return busy or self._relinker.turn(now)

    def _sweep_after_outage(self) -> None:
        """Sweep when the database is back: a server that crashed may have lost commits, and with them the ledger's."""
        if self._intake.trouble is not None:
            self._outage.begin(_INTAKE)
        else:
            self._outage.end(_INTAKE)
        if self._outage.is_met_by(_FRONT):
            run("SELECT 1")  # a turn that has nothing to take in asks nothing
            self._outage.end(_FRONT)
        if self._outage.over.is_set():
            self._outage.over.clear()
            self._watching.request("the database was away")

    def _pause(self) -> float:
        due = self._intake.settler.next_due
        return 0.25 if due is None else max(0.01, min(0.25, due - self._clock.monotonic()))

    def _loop(self) -> None:
        """Schedule, tell systemd and the status file, until a stop is asked for or nothing is left."""
        beat, tick = watchdog_interval(), self._settings.scheduler.tick
        next_beat = next_status = 0.0
        while not self._stop.is_set():
            now = self._clock.monotonic()
            busy = self._turn(now)
            if beat is not None and now >= next_beat:
                notify("WATCHDOG=1")
                next_beat = now + beat
            if now >= next_status:
                self._tell_status()
                next_status = now + _STATUS_EVERY
            if self._until is not Until.STOPPED and not busy and self._ends():
                return
            self._clock.wait(self._wake, tick)
            self._wake.clear()

    def _turn(self, now: float) -> bool:
        """Take one turn of the scheduler; whatever goes wrong in it is told, and the next turn tries again."""
        try:
            with available(), waiting_at_most(_TURN_PATIENCE):
                brought = self._bring()
                busy = self._scheduler.tick(now).busy or brought
            self._outage.end(_MAIN)
            return busy
        except DatabaseUnavailable as error:
            self._outage.begin(_MAIN, f"{error}; {AGAIN}")
        except Exception:  # the loop's one boundary
            log.exception("the scheduler's turn failed; it tries again")
        return True

    def _bring(self) -> bool:
        """Enqueue what the calendar and the rules that gather call for; return whether there may be more at once.

        What goes wrong with that is no reason to start nothing else, and to renew no lease.
        """
        try:
            with available():
                self._calendar.enqueue_due()
                return self._gatherer.turn()
        except DatabaseUnavailable:
            raise
        except Exception:  # a boundary of its own
            log.exception("what has fallen due could not be enqueued; the next turn tries again")
        return True

    def _tell_status(self) -> None:
        watching = self._watching
        parts = (watching.watcher, watching.sweeper, self._intake, self._scheduler)
        snapshot = status.live(parts, self._began, self._clock)
        snapshot["roots"] += status.stood_by(self._settings.watch, self._listener.others)
        snapshot["intake_turned_seconds_ago"] = round(self._clock.monotonic() - self._front_turned, 3)
        notify(f"STATUS={self._scheduler.running} bundles running, {self._intake.waiting} files on their way")
        try:
            status.write(status.status_file(self._settings), snapshot)
            self._status_trouble = None
        except OSError as error:
            if self._status_trouble is None:
                event(log, "status_not_written", logging.WARNING, reason=str(error))
            self._status_trouble = str(error)

    def _ends(self) -> bool:
        try:
            with available():
                return self._is_done()
        except DatabaseUnavailable:
            return False  # the next turn of the scheduler tells of it

    def _is_done(self) -> bool:
        """Whether nothing is left to do; before that is believed, every root is swept once more."""
        sweeper, is_known = self._watching.sweeper, self._listener.has_looked
        if not (is_known and self._watching.follows(self._listener.mine) and sweeper.tried and sweeper.idle):
            return False
        once = self._until is Until.ONCE
        waiting = self._intake.settled if once else self._intake.waiting
        left = backlog.is_due() if once else backlog.unfinished() or not self._gatherer.is_done
        if waiting or left or self._relinker.busy or not self._scheduler.idle:
            self._confirming = False
            return False
        if self._confirming or self._until is Until.ONCE:
            return True
        self._confirming = True
        self._watching.request("is anything left?")
        self._front_wake.set()
        return not self._watching.sweeper.roots

    # ------------------------------------------------------------------------------------------------- stopping

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        """Let the first signal drain the service and the second stop it at once; a handler only sets flags."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            self._stop.set()
            self._front_wake.set()
            self._wake.set()

        before: list[tuple[signal.Signals, Any]] = [(each, signal.signal(each, handle)) for each in _SIGNALS]
        try:
            yield
        finally:
            for each, old in before:
                signal.signal(each, old)

    def _drain(self) -> None:
        """Take no new bundles; wait for the running ones, as long as the settings or a second signal allow.

        When half of that time is over, they begin no further task, so that what they have done is kept.
        """
        self._stop.set()
        self._scheduler.draining = True
        self._tell_status()
        deadline = self._clock.monotonic() + self._settings.executor.drain
        wind_up = deadline - self._settings.executor.drain / 2
        while self._scheduler.ending_with_service and self._signals < 2 and self._clock.monotonic() < deadline:
            self._wake.clear()
            if self._clock.monotonic() > wind_up:
                self._scheduler.wind_up()
            now = self._clock.monotonic()
            self._turn(now)
            if self._scheduler.unrecorded_for(now) > UNRECORDED_SECONDS:
                break
            notify("WATCHDOG=1", f"STATUS=stopping: {self._scheduler.running} bundles still running")
            if self._scheduler.ending_with_service:
                self._clock.wait(self._wake, 0.2)
        stopped = self._scheduler.stop()
        event(log, "stopped", released=stopped)
