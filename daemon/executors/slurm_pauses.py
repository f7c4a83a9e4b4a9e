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


class Pauses:
    """Which components are paused, and since when."""

    def __init__(self) -> None:
        self._of: dict[str, _Pause] = {}

    def begin(self, component: str, reason: str, now: float) -> float | None:
        """Pause a component; return for how many seconds, or None where it is paused as it is."""
        before = self._of.get(component)
        if before is not None and now < before.until:  # the others of an array say the same
            return None
        times = before.times + 1 if before is not None else 0
        pause = min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(times, 20))
        self._of[component] = _Pause(reason, now, now + pause, times)
        return pause

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
