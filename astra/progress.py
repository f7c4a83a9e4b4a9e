"""A bar for whoever waits at a terminal or notebook for something long: how much is done, rate, time left.

Nothing is shown elsewhere, nor of work that takes less than a second or two.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from astra.clock import Clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

LATE = 1.5  # seconds after which there is somebody waiting
EVERY = 0.1


def somebody_waits() -> bool:
    """Return whether a person looks on: standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Progress:
    """The progress of one bundle, whose loops over its tasks each begin anew, or of something else with a `unit`."""

    def __init__(
        self, title: str, total: int, clock: Clock, console: Console | None = None, unit: str = "tasks"
    ) -> None:
        self._title, self._total, self._clock, self._console, self._unit = title, total, clock, console, unit
        self._bar: Bar | None = None
        self._next = 0.0

    def begin(self) -> None:
        """It begins."""
        self.close()
        self._next = self._clock.monotonic() + LATE

    def step(self, done: int) -> None:
        """So much of it is done."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        if self._bar is None:
            self._bar = self._open()
        self._bar.update(self._bar.task_ids[0], completed=done)
        self._next = now + EVERY

    def close(self) -> None:
        """It is over: nothing of the bar stays."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self) -> Bar:
        from rich import progress
        from rich.console import Console

        bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            _rate_column(self._unit),
            progress.TimeRemainingColumn(),
            console=self._console or Console(stderr=True),
            transient=True,
            get_time=self._clock.monotonic,
        )
        bar.add_task(self._title, total=self._total)
        bar.start()
        return bar


def _rate_column(unit: str) -> ProgressColumn:
    from rich import progress
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.speed:.3g} {unit}/s" if task.speed else "")

    return Rate()
