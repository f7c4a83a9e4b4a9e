"""Components whose jobs Slurm refuses, or that end before they begin: when the next one is submitted.

Each time it goes wrong the pause is longer. When it is over a single job shows whether it goes well again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PAUSE, _LONGEST_PAUSE = 15.0, 1800.0


@dataclass
class _Pause:
    reason: str
    began: float
    until: float
    times: int
    refused: bool


class Pauses:
    """Which components are paused, and since when."""

    def __init__(self) -> None:
        self._of: dict[str, _Pause] = {}

    def begin(self, component: str, reason: str, now: float) -> float | None:
        """Pause a component whose job ended before it began; return for how many seconds.

        Or None where it is paused as it is.
        """
        return self._begin(component, _Pause(reason, now, now, 0, refused=False))

    def refuse(self, component: str, reason: str, now: float) -> float | None:
        """Pause a component whose jobs Slurm does not take; return as `begin` does."""
        return self._begin(component, _Pause(reason, now, now, 0, refused=True))

    def _begin(self, component: str, pause: _Pause) -> float | None:
        before = self._of.get(component)
        if before is not None and pause.began < before.until:  # the others of an array say the same
            return None
        pause.times = before.times + 1 if before is not None else 0
        seconds = min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(pause.times, 20))
        pause.until = pause.began + seconds
        self._of[component] = pause
        return seconds

    def accept(self, component: str) -> None:
        """Let a component go on that was refused: Slurm takes its jobs again."""
        if component in self._of and self._of[component].refused:
            del self._of[component]

    def end(self, component: str, submitted: float) -> None:
        """Let a component go on, of which a bundle began in a job that was submitted then."""
        pause = self._of.get(component)
        if pause is not None and submitted >= pause.began:
            del self._of[component]

    def over(self, now: float, submitted: Mapping[str, float]) -> set[str]:
        """Return the components that nothing is to be handed over of: paused, or on trial with a job on its way.

        Parameters
        ----------
        submitted
            When the last job on its way of each component was. One from before the pause shows nothing, and may run on
            for a day.
        """
        return {
            name
            for name, each in self._of.items()
            if now < each.until or (name in submitted and submitted[name] >= each.began)
        }

    def reasons(self) -> dict[str, str]:
        """Return why each of them is paused."""
        return {name: each.reason for name, each in self._of.items()}
