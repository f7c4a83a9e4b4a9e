"""The contract of an executor: where bundles run. One file each; `config.toml` names the one to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from astra.clock import Clock
from astra.config import Settings
from astra.errors import ConfigurationError
from astra.work import Claimed, OpenBundle


@dataclass(frozen=True, slots=True)
class Ending:
    """A bundle that left its executor.

    `trouble` says what went wrong with it, `died` whether its process is gone, and `position` which task that process
    had in hand.
    """

    bundle: int
    trouble: str | None
    died: bool = False
    position: int | None = None


class Executor(Protocol):
    """What the scheduler needs. No call waits for a bundle; `turn` is called in every tick."""

    name: str

    def start(self) -> None:
        """Make ready to run bundles."""

    def free(self) -> int:
        """Return how many bundles can be handed over now."""

    def slots(self) -> int:
        """Return how many bundles can run at the same time."""

    def submit(self, claimed: Claimed, now: float) -> None:
        """Take over a claimed bundle; its process turns it running."""

    def turn(self, now: float) -> list[Ending]:
        """Renew the leases of what is alive, stop what has run too long, and return the bundles that ended."""

    def is_mine(self, found: OpenBundle) -> bool:
        """Return whether a bundle that is open in the database is still on its way here."""

    def stop(self) -> list[int]:
        """End every process now, and return the bundles that were still running."""


EXECUTORS = ("local",)
"""The files of this folder that hold an executor, as `EXECUTOR`."""


def build(settings: Settings, clock: Clock, wake: Callable[[], None]) -> Executor:
    """Return the executor that the settings name; it calls `wake`, from any thread, when a `turn` is worth taking."""
    name = settings.executor.name
    if name not in EXECUTORS:
        raise ConfigurationError(f"[executor] name = {name!r} is not known; there are: {', '.join(EXECUTORS)}")
    executor: Executor = import_module(f"{__name__}.{name}").EXECUTOR(settings, clock, wake)
    return executor
