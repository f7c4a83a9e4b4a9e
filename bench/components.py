"""The component that is measured: it does nothing, so that what is timed is the recording."""

from __future__ import annotations

from typing import Any

from astra.base import Parameter, TaskInstance


class Trivial(TaskInstance):
    """Looks at each task, and does nothing."""

    version = "1"
    number = Parameter(default=0)
    model = Parameter(default="a model", bundled=True)
    snr = Parameter(default=100.0)

    def execute(self) -> Any:
        for _ in self.iterable():
            pass
