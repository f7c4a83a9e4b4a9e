"""The components that are measured: one does nothing, so that what is timed is the recording; one says when it runs."""

from __future__ import annotations

import threading
from typing import Any

from astra.base import Parameter, TaskInstance
from astra.clock import SYSTEM


class Trivial(TaskInstance):
    """Looks at each task, and does nothing."""

    version = "1"
    number = Parameter(default=0)
    model = Parameter(default="a model", bundled=True)
    snr = Parameter(default=100.0)

    def execute(self) -> Any:
        for _ in self.iterable():
            pass


class Noted(TaskInstance):
    """Notes when it is at its first task, and waits."""

    version = "1"
    number = Parameter(default=0)
    note = Parameter()
    seconds = Parameter(default=0.0)

    def execute(self) -> Any:
        for task, _ in self.iterable():
            with open(task.parameters["note"], "a") as file:
                file.write(f"{SYSTEM.monotonic()}\n")
            SYSTEM.wait(threading.Event(), task.parameters["seconds"])
