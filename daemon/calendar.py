"""The calendar: components enqueued, and duties done, at set times of the day. The only user of APScheduler.

Comes from `[[schedule]]` and from the settings of duties; goes to the queue, by the main loop of `service`, in which
every other wait is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from astra.clock import Clock
from astra.components import component_class
from astra.config import Schedule
from daemon.logs import event

log = logging.getLogger(__name__)
_CLOCK_STEP = 5.0


@dataclass(frozen=True, slots=True)
class Duty:
    """What the service itself does at set times: `do` only asks for it, from the calendar's own thread."""

    name: str
    cron: str
    do: Callable[[], None]


class Calendar:
    """The entries of the calendar, and those whose time has come; and the duties."""

    def __init__(
        self, entries: Sequence[Schedule], duties: Sequence[Duty], clock: Clock, wake: Callable[[], None]
    ) -> None:
        self._entries, self._duties, self._clock, self._wake = entries, duties, clock, wake
        self._due: SimpleQueue[Schedule] = SimpleQueue()
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
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.cron import CronTrigger

        calendar = BackgroundScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True})
        doings: list[tuple[Schedule | Duty, Callable[[], None]]]
        doings = [(each, partial(self._fall_due, each)) for each in self._entries]
        doings += [(each, each.do) for each in self._duties]
        for each, do in doings:
            trigger = CronTrigger.from_crontab(each.cron, timezone="UTC")
            job = calendar.add_job(do, trigger, name=each.name)
            self._reschedule.append(partial(job.reschedule, trigger))
        calendar.start()
        try:
            yield
        finally:
            calendar.shutdown()

    def _fall_due(self, each: Schedule) -> None:
        self._due.put(each)
        self._wake()

    def _wall_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def enqueue_due(self) -> None:
        """Enqueue the entries whose time has come; put the calendar right where the wall clock was set."""
        if abs(self._wall_offset() - self._offset) > _CLOCK_STEP:
            # APScheduler keeps the wall-clock time of the next run, which a step of the clock may put a day away
            event(log, "clock_stepped", logging.WARNING, seconds=self._wall_offset() - self._offset)
            self._offset = self._wall_offset()
            for reschedule in self._reschedule:
                reschedule()
        while True:
            try:
                each = self._due.get_nowait()
            except Empty:
                return
            tasks = component_class(each.task)(**each.parameters).enqueue(each.priority)
            event(log, "scheduled", schedule=each.name, tasks=len(tasks))
