"""Stage times of a bundle, and each task's own part of them.

A task owns the time between being handed out by `iterable()` and the next turn of the loop. Inside a nested loop the
inner task owns the time; what nobody owns is the bundle's overhead.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from astra.clock import Clock
from astra.database.astradb import STAGES


@dataclass
class StageTime:
    """One stage's seconds: in all, and each task's own by position; `iterated` if any task was handed out."""

    total: float
    own: array[float]
    iterated: bool = False

    @property
    def overhead(self) -> float:
        """Seconds of the stage that belong to no task."""
        return max(0.0, self.total - sum(self.own))


class Stopwatch:
    """Times the stages of one bundle of `size` tasks."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.stages: dict[str, StageTime] = {}
        self._size = size
        self._clock = clock
        self._stage: StageTime | None = None
        self._began = 0.0
        self._mark = 0.0
        self._owners: list[int] = []

    @property
    def owner(self) -> int | None:
        """The position of the task that owns the time now."""
        return self._owners[-1] if self._owners else None

    def owns(self, position: int) -> bool:
        """Return whether the task at `position` is in hand: its time is not complete yet."""
        return position in self._owners

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; its times are kept whatever happens in it."""
        self._stage = self.stages[name] = StageTime(0.0, array("d", bytes(8 * self._size)))
        self._began = self._clock.monotonic()
        try:
            yield
        finally:
            now = self._clock.monotonic()
            self._attribute(now)
            self._stage.total = now - self._began
            if self._size == 1 and not self._stage.iterated:
                self._stage.own[0] = self._stage.total
            self._owners.clear()
            self._stage = None

    def enter(self, position: int) -> None:
        """From now on the time belongs to the task at `position`."""
        if self._stage is not None:
            self._stage.iterated = True
            self._attribute(self._clock.monotonic())
            self._owners.append(position)

    def leave(self, position: int) -> None:
        """The task at `position` gives the time back to whoever had it before."""
        if self._stage is not None and position in self._owners:
            self._attribute(self._clock.monotonic())
            while self._owners.pop() != position:
                pass

    def own(self, position: int) -> tuple[float | None, float | None, float | None]:
        """Return the seconds that the task at `position` owned of each of `STAGES`; None where one never began."""
        pre, execute, post = map(self.stages.get, STAGES)
        return (
            None if pre is None else pre.own[position],
            None if execute is None else execute.own[position],
            None if post is None else post.own[position],
        )

    def _attribute(self, now: float) -> None:
        if self._owners and self._stage is not None:
            self._stage.own[self._owners[-1]] += now - self._mark
        self._mark = now
