"""A clock that tests move by hand: nothing ever sleeps on it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from astra.clock import Clock

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeClock(Clock):
    """Time stands still until a test moves it; waiting moves it by the time waited.

    A wait whose event is already set returns at once and takes no time. `waits` holds what was waited for, in order.
    Several threads may use one clock: no step is lost, but a loop that waits on it never stops for breath.
    """

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        self._now = start
        self._counter = 1000.0
        self.waits: list[float] = []

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._counter

    def wait(self, event: threading.Event, timeout: float) -> bool:
        if not event.is_set():
            self.pause(timeout)
        return event.is_set()

    def pause(self, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass, on the wall and on the counter."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds} s (step_wall moves the wall clock alone)")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._counter += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock on or back, as an administrator does; the counter does not notice."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
