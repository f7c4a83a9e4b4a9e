"""Runs bundles on this machine, in a fixed number of persistent processes."""

from __future__ import annotations

from collections.abc import Callable

from astra.clock import Clock
from astra.config import Settings
from astra.work import Claimed, OpenBundle
from daemon.executors import Ending
from daemon.executors.supervisor import Supervisor


class LocalExecutor:
    """A pool of supervised processes."""

    name = "local"

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None]) -> None:
        self._supervisors = [Supervisor(settings, clock, wake) for _ in range(settings.executor.workers)]

    def start(self) -> None:
        """Start the processes."""
        for each in self._supervisors:
            each.start()

    def free(self) -> int:
        """Return how many bundles can be handed over now."""
        return sum(each.idle for each in self._supervisors)

    def slots(self) -> int:
        """Return how many bundles can run at the same time."""
        return len(self._supervisors)

    def submit(self, claimed: Claimed, now: float) -> None:
        """Hand a claimed bundle to an idle process."""
        next(each for each in self._supervisors if each.idle).submit(claimed, now)

    def turn(self, now: float) -> list[Ending]:
        """Look after every process; return the bundles that ended."""
        return [ending for each in self._supervisors if (ending := each.turn(now)) is not None]

    def is_mine(self, found: OpenBundle) -> bool:
        """Return whether an open bundle is in one of these processes."""
        return any(each.bundle == found.bundle for each in self._supervisors)

    def stop(self) -> list[int]:
        """End every process now, and return the bundles that were still running."""
        return [bundle for each in self._supervisors if (bundle := each.stop()) is not None]


EXECUTOR = LocalExecutor
