"""Runs bundles on this machine, in a fixed number of persistent processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from astra.clock import Clock
from astra.config import Own, Settings
from astra.work import Load, OpenBundle
from daemon.executors import Ending, Span
from daemon.executors.supervisor import Supervisor

SPAN = Span(0.5, 2_000)  # a bundle that takes longer is handed over alone
_DIED = "given back: the process that was to run it has died"


class LocalExecutor:
    """A pool of supervised processes."""

    name = "local"
    outlives = False

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None]) -> None:
        self._supervisors = [Supervisor(settings, clock, wake) for _ in range(settings.executor.workers)]
        self._endings: list[Ending] = []
        self._clock = clock

    def start(self) -> None:
        """Start the processes."""
        for each in self._supervisors:
            each.start()

    def free(self) -> int:
        """Return how many loads can be handed over now."""
        return sum(each.idle for each in self._supervisors)

    def passed_over(self, now: float) -> Collection[str]:
        """Return no component: each is as welcome here as any other."""
        return ()

    def slots(self) -> int:
        """Return how many loads can run at the same time."""
        return len(self._supervisors)

    def span(self, own: Own) -> Span:
        """Return how much of a component is to be handed over at once: short bundles share transactions."""
        return SPAN

    def adopt(self, found: Sequence[OpenBundle], now: float) -> list[int]:
        """Return nothing: what a service before this one ran here ended with it."""
        return []

    def state(self) -> dict[str, Any]:
        """Return how many processes there are, and how many of them are idle."""
        return {"processes": self.slots(), "idle": self.free()}

    def submit(self, load: Load, now: float) -> None:
        """Hand a load to an idle process: to the one that last ran the same key, if there is one, else to a new one.

        Where the last of them has died since it was counted, the load is given back.
        """
        key = load.bundles[0].key
        idle = [each for each in self._supervisors if each.idle]
        if not idle:
            self._endings += [Ending(each.bundle, _DIED) for each in load.bundles]
            return
        min(idle, key=lambda each: (each.key != key, each.key is not None)).submit(load, now)

    def turn(self, now: float) -> list[Ending]:
        """Look after every process; return the bundles that ended."""
        for each in self._supervisors:
            self._endings += each.turn(now)  # kept here: the next one's turn may fail
        endings, self._endings = self._endings, []
        return endings

    def unrecorded(self) -> int:
        """Return how many bundles are in processes that wait for the database."""
        return sum(each.unrecorded for each in self._supervisors)

    def drain(self) -> None:
        """Let no process begin a further task of what it runs."""
        for each in self._supervisors:
            each.drain()

    def drain_bundle(self, bundle: int) -> None:
        """Let the process that runs a bundle begin no further task of its load."""
        for each in self._supervisors:
            if bundle in each.bundles:
                each.drain()

    def drop(self, bundles: Collection[int]) -> None:
        """End the processes that run any of these bundles, which were taken away: no ending tells of them."""
        for each in self._supervisors:
            each.drop(bundles, self._clock.monotonic())

    def is_mine(self, found: OpenBundle) -> bool:
        """Return whether an open bundle is in one of these processes."""
        return any(found.bundle in each.bundles for each in self._supervisors)

    def stop(self) -> list[int]:
        """End every process now, and return the bundles that were still open."""
        bundles = [each.bundle for each in self._endings if each.trouble is not None]
        self._endings.clear()
        return bundles + [bundle for each in self._supervisors for bundle in each.stop()]


EXECUTOR = LocalExecutor
