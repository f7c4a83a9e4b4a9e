"""The contract of an executor: where bundles run. One file each; `config.toml` names the one to use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from astra.clock import Clock
from astra.config import Own, Settings
from astra.errors import ConfigurationError
from astra.states import ErrorKind
from astra.work import Load, OpenBundle


@dataclass(frozen=True, slots=True)
class Ending:
    """A bundle that left its executor.

    `trouble` says what went wrong with it, and `kind` in which way: `CRASH`, `TIMEOUT` or `RESOURCE` where its process
    died or had to be stopped, `RETRY` where its end could not be recorded; `position` is the task that the process had
    in hand, `stack` where each of its threads was, `peak_memory` what it held, in bytes. `kind` is None where nothing
    went wrong, or the bundle was one of its load that had no part in it: then it is given back.
    """

    bundle: int
    trouble: str | None
    kind: ErrorKind | None = None
    position: int | None = None
    stack: str | None = None
    peak_memory: int | None = None
    cancelled: bool = False
    """Whether somebody cancelled it, outside of astra: so are its unfinished tasks."""
    away: bool = False
    """Whether it was given back because its process could not use the database: the next one may not either."""


STRANDED = 5  # leases after which what waits, and whose service cannot be seen, is believed to be nobody's


class Span(NamedTuple):
    """What the bundles of one load may come to together, if they are several: seconds, and tasks."""

    seconds: float
    tasks: int


class Executor(Protocol):
    """What the scheduler needs. No call waits for a bundle; `turn` is called in every tick."""

    name: str
    outlives: bool
    """Whether its bundles go on, obey people and record themselves while no service is there."""

    def start(self) -> None:
        """Make ready to run bundles."""

    def free(self) -> int:
        """Return how many loads can be handed over now."""

    def passed_over(self, now: float) -> Collection[str]:
        """Return the components of which nothing is to be handed over now."""

    def slots(self) -> int:
        """Return how many loads can run at the same time."""

    def span(self, own: Own) -> Span:
        """Return how much of a component is to be handed over at once."""

    def submit(self, load: Load, now: float) -> None:
        """Take over claimed bundles of one component; the process that runs them turns them running."""

    def adopt(self, found: Sequence[OpenBundle], now: float) -> list[int]:
        """Look after those of these open bundles that a service before this one handed over; return which."""

    def turn(self, now: float) -> list[Ending]:
        """Renew the leases of what is alive, replace what is gone, and return the bundles that ended."""

    def is_mine(self, found: OpenBundle) -> bool:
        """Return whether a bundle that is open in the database is still on its way here."""

    def unrecorded(self) -> int:
        """Return how many bundles that end with the service are held up by the database alone, which is away."""

    def drain(self) -> None:
        """Have every running bundle begin no further task: what is done is recorded, the rest given back."""

    def drain_bundle(self, bundle: int) -> None:
        """Have one running bundle, and what comes after it in its load, begin no further task."""

    def drop(self, bundles: Collection[int]) -> None:
        """End the processes that run these, which were taken away: they leave no ending.

        The other bundles of their loads are given back.
        """

    def state(self) -> dict[str, Any]:
        """Return what an operator wants to know of it, as JSON can hold it."""

    def stop(self) -> list[int]:
        """End what ends with the service, now, and return the bundles that were still open there."""


EXECUTORS = ("local", "slurm")
"""The files of this folder that hold an executor, as `EXECUTOR`."""


def build(settings: Settings, clock: Clock, wake: Callable[[], None]) -> Executor:
    """Return the executor that the settings name; it calls `wake`, from any thread, when a `turn` is worth taking."""
    name = settings.executor.name
    if name not in EXECUTORS:
        raise ConfigurationError(f"[executor] name = {name!r} is not known; there are: {', '.join(EXECUTORS)}")
    executor: Executor = import_module(f"{__name__}.{name}").EXECUTOR(settings, clock, wake)
    return executor
