"""Clocks that tests move by hand: nothing ever sleeps on them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

from astra.clock import Clock

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_FILES_CLOCK = 5  # CLOCK_REALTIME_COARSE of Linux, by which files are stamped; Python has no name for it


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


class LeapingClock(Clock):
    """The system's clock, put forward (and its wall back) by leaps: between them time passes as it does on the wall.

    The monotonic counter moves by leaps alone: what is due by it is due in every run of one example.
    The change times of files cannot be set, so `stamp` tells what a file's time would be had the leaps been waited
    for: a file written after a leap is as young by this clock as it is by the system's.
    """

    def __init__(self) -> None:
        self._counter = 0.0
        self._leaps: list[tuple[int, int]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.stamp(time.time_ns()) / 1e9, UTC)

    def monotonic(self) -> float:
        return self._counter

    def leap(self, seconds: float, wall: float | None = None) -> None:
        """Let `seconds` pass at once; `wall` is by how much the wall clock moves, where it moves otherwise."""
        coarse = time.clock_gettime_ns(_FILES_CLOCK)
        while (tick := time.clock_gettime_ns(_FILES_CLOCK)) == coarse:
            pass  # files are stamped by ticks of milliseconds: no two of them may share one across a leap
        last = self._leaps[-1][1] if self._leaps else 0
        self._leaps.append((tick, last + int(1e9 * (seconds if wall is None else wall))))
        self._counter += seconds

    def stamp(self, nanoseconds: int) -> int:
        """Return the time of this clock at which the system's showed `nanoseconds` since the epoch."""
        if nanoseconds > time.time_ns():
            return nanoseconds  # somebody made it up: no leap before it is known yet
        at = bisect_right(self._leaps, (nanoseconds, 1 << 63)) - 1
        return nanoseconds + (self._leaps[at][1] if at >= 0 else 0)
