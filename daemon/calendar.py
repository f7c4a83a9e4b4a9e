"""The calendar: components enqueued, and duties done, at set times of the day. The only user of APScheduler.

Comes from `[[schedule]]` and from the settings of duties; goes to the queue, by the main loop of `service`, in which
every other wait is counted. Of several services on one database one does what falls due, once for each time: the
calendar's nominal instant, which is the same for all, decides, not the moment at which one of them comes to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from astra import turns
from astra.clock import Clock
from astra.components import component_class
from astra.config import Schedule
from astra.database.connection import available, database
from astra.database.fields import canonical_json
from astra.errors import DatabaseUnavailable
from daemon.logs import event

if TYPE_CHECKING:
    from apscheduler.events import JobSubmissionEvent

log = logging.getLogger(__name__)
_CLOCK_STEP = 5.0


@dataclass(frozen=True, slots=True)
class Duty:
    """What the service itself does at set times.

    What one service does for all on its database takes the turn when it begins, by what `do` is given, which returns
    whether the turn was still to be had. Taken any sooner, a service that ends before it begins would leave it undone.
    """

    name: str
    cron: str
    do: Callable[[Callable[[], bool]], None]

    @property
    def entry(self) -> str:
        """What tells it from all else that has a turn."""
        return f"the duty {self.name}"


def _entry(each: Schedule) -> str:
    """Return what tells an entry from all others, also from those of services with other settings."""
    return f"{each.name}: {each.cron} {each.task} {canonical_json(each.parameters)}"


class Calendar:
    """The entries of the calendar, and those whose time has come; and the duties."""

    def __init__(
        self, entries: Sequence[Schedule], duties: Sequence[Duty], clock: Clock, wake: Callable[[], None]
    ) -> None:
        self._entries, self._duties, self._clock, self._wake = entries, duties, clock, wake
        self._due: SimpleQueue[tuple[Schedule | Duty, datetime]] = SimpleQueue()
        self._in_hand: tuple[Schedule | Duty, datetime] | None = None
        self._reschedule: list[Callable[[], object]] = []
        self._offset = self._wall_offset()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Note the entries as their time comes, for `enqueue_due` to enqueue."""
        self._offset = self._wall_offset()
        self._reschedule.clear()
        if not self._entries and not self._duties:
            yield
            return
        from apscheduler.events import EVENT_JOB_SUBMITTED
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.cron import CronTrigger

        calendar = BackgroundScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True})
        known: dict[str, Schedule | Duty] = {}
        entries: list[Schedule | Duty] = [*self._entries, *self._duties]
        for each in entries:
            trigger = CronTrigger.from_crontab(each.cron, timezone="UTC")
            job = calendar.add_job(_nothing, trigger, name=each.name)
            known[job.id] = each
            self._reschedule.append(partial(job.reschedule, trigger))

        def note(told: JobSubmissionEvent) -> None:
            self._fall_due(known[told.job_id], told.scheduled_run_times[-1])

        calendar.add_listener(note, EVENT_JOB_SUBMITTED)  # which, unlike the job itself, knows its nominal time
        calendar.start()
        try:
            yield
        finally:
            calendar.shutdown()

    def _fall_due(self, each: Schedule | Duty, due: datetime) -> None:
        self._due.put((each, due))
        self._wake()

    def _wall_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def enqueue_due(self) -> None:
        """Do what has fallen due and is this service's to do; put the calendar right where the wall clock was set."""
        if abs(self._wall_offset() - self._offset) > _CLOCK_STEP:
            # APScheduler keeps the wall-clock time of the next run, which a step of the clock may put a day away
            event(log, "clock_stepped", logging.WARNING, seconds=self._wall_offset() - self._offset)
            self._offset = self._wall_offset()
            for reschedule in self._reschedule:
                reschedule()
        while self._in_hand is not None or not self._due.empty():
            each, due = self._in_hand or self._due.get_nowait()
            self._in_hand = None
            try:
                with available():
                    self._do(each, due)
            except DatabaseUnavailable:
                self._in_hand = (each, due)  # for the next turn
                raise

    def _do(self, each: Schedule | Duty, due: datetime) -> None:
        if isinstance(each, Duty):
            each.do(partial(_take_turn, each.name, each.entry, due))
            return
        instance = component_class(each.task)(**each.parameters)
        with database.atomic():
            if not _take_turn(each.name, _entry(each), due):
                return
            tasks = instance.enqueue(each.priority)
        event(log, "scheduled", schedule=each.name, tasks=len(tasks))


def _take_turn(name: str, entry: str, due: datetime) -> bool:
    """Take the turn to do what fell due; say so where it is not done because a later time's was taken already."""
    if turns.take(entry, due):
        return True
    later = turns.last(entry)
    if later is not None and later > due:
        event(log, "turn_skipped", logging.WARNING, schedule=name, due=due.isoformat(), done_for=later.isoformat())
    return False


def _nothing() -> None:
    """The job itself: what is to be done is done by the main loop."""
