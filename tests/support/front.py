"""The front half of the service: it watches, sweeps, settles and takes in as `astrad run` does, and runs no bundle.

It is the service's own code, turned by hand: fast enough to be killed hundreds of times, and in a test's own process
it gives the one clean pass after which the records must agree with the disk.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from types import TracebackType
from typing import NoReturn, Self

from astra import products, tree
from astra.clock import Clock
from astra.config import Settings
from astra.database.connection import available
from daemon import executors
from daemon.service import Service
from daemon.startup import compile_rules

_LONGEST_PASS = 30.0


class Ahead(Clock):
    """The system's clock, whose wall time is fast by some seconds: what is racy now is not so there."""

    def __init__(self, seconds: float) -> None:
        self._by = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._by


class Front:
    """The service without its scheduler, on the database that is open; a context while which folders are watched."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._service = Service(settings, clock)
        self._service._executor = executors.build(settings, clock, self._service._wake.set)  # never started
        self._service._listener.mine = frozenset(each.name for each in settings.watch)  # nobody else watches
        self._service._build(compile_rules(settings))

    def __enter__(self) -> Self:
        self._service._watching.start(self._clock.monotonic())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._service._watching.stop()
        self._service._scheduler.stop()

    def hint(self, root: str, path: str) -> None:
        """Tell of a file as an event does."""
        self._service._hint(root, path)

    def look(self, root: str) -> None:
        """Have changed folders looked at, as the watcher does where events come late."""
        self._service._watching.sweeper.look(root, "events come faster than they are read")

    def run(self) -> NoReturn:
        """Go on until somebody kills this process."""
        while True:
            self.turn()

    def run_until_done(self) -> None:
        """Go on until nothing is on its way, and a walk of every folder finds nothing that the ledger lacks."""
        deadline = self._clock.monotonic() + _LONGEST_PASS
        while self.turn() or not self._is_done():
            if self._clock.monotonic() > deadline:
                raise AssertionError(
                    f"not done within {_LONGEST_PASS:g} s; it waits for {self._service._intake.waiting} files"
                )

    def turn(self) -> bool:
        """Take one turn, or wait a little where there is nothing to do; return whether there is more to do at once."""
        with available():
            more = self._service._front_turn(self._clock.monotonic())
        if not more:
            self._clock.wait(threading.Event(), min(0.02, self._service._pause()))
        return more

    def _is_done(self) -> bool:
        sweeper = self._service._watching.sweeper
        if self._service._intake.waiting or not (sweeper.tried and sweeper.idle):
            return False
        lacking = [watch.name for watch in self._settings.watch if self._lacks(watch.name)]
        for name in lacking:
            sweeper.request(name, "the walk after it found more")
        return not lacking

    def _lacks(self, name: str) -> bool:
        watch = next(each for each in self._settings.watch if each.name == name)
        found = tree.differing(name, watch.path, products.might_be_product, self._clock.now(), tree.WalkReport())
        return any(list(found))
