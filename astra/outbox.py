"""The ends of short bundles, kept for a moment and written together: many small transactions cost more than the work.

Comes from `session`, whose bundles end here; goes to `queue`. What is not written when the process dies is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from astra.clock import Clock
from astra.database.connection import REFUSED
from astra.errors import AstraError
from astra.interrupts import held_back
from astra.work import Ended, Finish, Totals

if TYPE_CHECKING:
    from astra.database.astradb import ResultModel
    from astra.session import Session

SECONDS = 0.2  # that an end is kept while others come; one that comes late keeps it until its first task is done
TASKS = 1_000  # that are kept at the most


class Kept(NamedTuple):
    """How a bundle ended, not yet written."""

    session: Session
    ended: Sequence[Ended]
    results: dict[int, list[ResultModel]]
    totals: Totals


class Outbox:
    """Ends of bundles on their way to the records.

    Parameters
    ----------
    clock
        The clock.
    told
        Called with each bundle whose end has been written, or could not be, and why not.
    """

    def __init__(self, clock: Clock, told: Callable[[int, str | None], None]) -> None:
        self._clock, self._told = clock, told
        self._kept: list[Kept] = []
        self._taken: set[int] = set()
        self._tasks, self._since = 0, 0.0

    def took(self, bundle: int) -> bool:
        """Return whether the end of a bundle came here: then this tells of it."""
        return bundle in self._taken

    def keep(self, end: Kept) -> None:
        """Take the end of a bundle, all of whose tasks are in it."""
        took = sum(total or 0.0 for total, _ in end.totals.stages)
        if not self._kept:
            self._since = self._clock.monotonic() - took  # what took long is not kept waiting
        self._kept.append(end)
        self._taken.add(end.session.held.bundle)
        self._tasks += len(end.ended)
        self.flush_in_time()

    def flush_in_time(self) -> None:
        """Write what is kept, if it is much, or has been kept for long: the next bundle may take its time."""
        if self._kept and (self._tasks >= TASKS or self._clock.monotonic() - self._since > SECONDS):
            self.flush()

    def flush(self) -> None:
        """Write what is kept; where that is refused, bundle by bundle, so that one stands for itself alone."""
        if not self._kept:
            return
        with held_back():
            kept, self._kept, self._tasks = self._kept, [], 0
            try:
                self._write(kept)
            except (*REFUSED, AstraError):
                for each in kept:
                    self._told(each.session.held.bundle, _alone(each))
            else:
                for each in kept:
                    self._told(each.session.held.bundle, None)

    def _write(self, kept: Sequence[Kept]) -> None:
        chunks: list[Finish] = [each.session.chunk(each.ended, each.results, each.totals) for each in kept]
        kept[0].session.finish(chunks)


def _alone(kept: Kept) -> str | None:
    """Write one end by itself; return why it could not be."""
    try:
        kept.session.write_halving(kept.ended, kept.results, kept.totals)
    except AstraError as error:
        return str(error)
    except REFUSED as error:
        return f"its end could not be recorded: {type(error).__name__}: {error}"
    return None
