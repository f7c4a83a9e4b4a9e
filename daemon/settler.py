"""Decide which offered paths have stopped changing: values in, values out, no clock and no file system.

Comes from `watcher` and `sweeper`, whose finds are offered here; goes to `intake`, which looks at the files and drives
this turn by turn:

1. `offer` each arrival. One with a signature (a sweep's find) that has long been still is settled at once.
2. `due` gives the arrivals whose quiet wait is over; tell what the disk says of each with `observe`.
3. `take` gives settled arrivals to be examined: new files first, then those that lay there before their root was ever
   watched, then those that were written more than a day ago.
4. `not_whole` takes one back and answers whether it is to be waited for; `out_of_reach` takes back one that could not
   be read for a passing reason.

Nothing here must survive a crash: the next sweep offers again whatever the ledger lacks.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

from astra.signature import Signature

_DAY = 86_400.0
_LONGEST_DELAY = 60.0


class Arrival(NamedTuple):
    """A root's name and a path relative to it."""

    root: str
    path: str


class Instant(NamedTuple):
    """Now, twice: seconds on the monotonic counter for waits, seconds since the epoch to compare with file times."""

    monotonic: float
    wall: float


@dataclass(frozen=True, slots=True)
class Settled:
    """An arrival that is still, as it was last seen.

    `backfill` tells that it lay there before its root was ever watched; `refusals` that it was found not whole
    so often before, since the monotonic time `refused_at`.
    """

    arrival: Arrival
    signature: Signature
    backfill: bool = False
    refusals: int = 0
    refused_at: float = 0.0


@dataclass(slots=True)
class _Entry:
    """What is known of one arrival: its signature was first seen at `still_since`; `queued` is its time in the heap."""

    due: float
    backfill: bool
    signature: Signature | None = None
    still_since: float = 0.0
    refusals: int = 0
    refused_at: float = 0.0
    settled: bool = False
    out_of_reach: bool = False
    rank: int = 0
    queued: float | None = None
    since: float = 0.0


class Settler:
    """Arrivals on their way from offered to settled.

    Parameters
    ----------
    quiet
        Seconds that size and times must not have changed.
    patience
        Seconds after its last change that a file which is not whole is waited for.
    bound
        How many arrivals there should be at most, which is a `load` of 1: sweeps pause then. Those that are out of
        reach do not count, for they may stay so for days; up to five times as many are taken, with these.
    """

    def __init__(self, quiet: float, patience: float, bound: int = 20_000) -> None:
        self.quiet, self.patience, self.bound = quiet, patience, bound
        self._entries: dict[Arrival, _Entry] = {}
        self._heap: list[tuple[float, int, Arrival]] = []
        self._queues: tuple[deque[tuple[Arrival, _Entry]], ...] = (deque(), deque(), deque())  # by rank
        self._settled_count = 0
        self.out_of_reach_count = 0
        self._order = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, arrival: Arrival) -> bool:
        return arrival in self._entries

    @property
    def load(self) -> float:
        """How many arrivals are here and within reach, by how many there should be at most."""
        return (len(self._entries) - self.out_of_reach_count) / self.bound

    @property
    def oldest(self) -> float | None:
        """The monotonic time at which the arrival that has been here longest came, or None while there is none."""
        return min((entry.since for entry in list(self._entries.values())), default=None)

    @property
    def settled_count(self) -> int:
        """How many arrivals `take` could give now."""
        return self._settled_count

    @property
    def next_due(self) -> float | None:
        """The monotonic time at which the next wait may end, or None while nothing waits."""
        while self._heap:
            queued, _, arrival = self._heap[0]
            entry = self._entries.get(arrival)
            if entry is not None and entry.queued == queued and not entry.settled:
                return queued
            heapq.heappop(self._heap)
            if entry is not None and entry.queued == queued:
                entry.queued = None
        return None

    def offer(self, arrival: Arrival, now: Instant, signature: Signature | None = None, backfill: bool = False) -> bool:
        """Take an arrival: from an event without a signature, from a sweep with the one it saw.

        Returns
        -------
        bool
            False if there is no room; then the root has to be swept later.
        """
        entry = self._entries.get(arrival)
        if entry is None:
            if len(self._entries) >= self.bound * 5:
                return False
            entry = self._entries[arrival] = _Entry(now.monotonic + self.quiet, backfill, since=now.monotonic)
        entry.backfill = entry.backfill and backfill
        if signature is not None:
            if not (entry.refusals and signature == entry.signature):  # its own growing delay goes on
                self.observe(arrival, signature, now)
        else:
            self._unsettle(arrival, entry, now.monotonic + self.quiet)
        return True

    def due(self, now: float, limit: int = 1000) -> list[Arrival]:
        """Return arrivals whose wait is over at the monotonic time `now`, for `observe`."""
        found: list[Arrival] = []
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            queued, _, arrival = heapq.heappop(self._heap)
            entry = self._entries.get(arrival)
            if entry is None or entry.queued != queued:
                continue
            entry.queued = None
            if entry.settled:
                continue
            if entry.due <= now:
                found.append(arrival)
                entry.due = now + max(self.quiet, 1.0)  # comes up again should nobody observe it
            self._push(arrival, entry)
        return found

    def observe(self, arrival: Arrival, signature: Signature | None, now: Instant) -> None:
        """Tell what the disk says of an arrival: its signature, or None if it is gone."""
        entry = self._entries.get(arrival)
        if entry is None:
            return
        if signature is None:
            self._forget(arrival, entry)
            return
        if signature == entry.signature and entry.settled:
            return
        if signature != entry.signature:
            if entry.signature is not None:
                entry.refusals = 0
            entry.signature, entry.still_since = signature, now.monotonic
        unchanged = now.monotonic - entry.still_since
        age = now.wall - _last_change(signature)
        if max(unchanged, age) >= self.quiet:
            self._settle(arrival, entry, now)
        else:
            # a file from the future is waited for by our own count alone
            known = max(unchanged, age if age > 0 else 0.0)
            self._unsettle(arrival, entry, now.monotonic + self.quiet - known)

    def take(self, limit: int) -> list[Settled]:
        """Return up to `limit` settled arrivals, and forget them: new files first, those of the past last."""
        taken: list[Settled] = []
        for rank, queue in enumerate(self._queues):
            while queue and len(taken) < limit:
                arrival, entry = queue.popleft()
                if self._entries.get(arrival) is not entry or not entry.settled:
                    continue
                if entry.signature is None or entry.rank != rank:
                    continue
                self._forget(arrival, entry)
                taken.append(Settled(arrival, entry.signature, entry.backfill, entry.refusals, entry.refused_at))
        return taken

    def not_whole(self, settled: Settled, now: Instant) -> bool:
        """Take back a file that was examined and is not whole.

        It is looked at again after growing delays, at once after a change, and one last time when its patience ends.

        Returns
        -------
        bool
            False if its patience is over: it is not kept here, and belongs in quarantine.
        """
        since = settled.refused_at if settled.refusals else now.monotonic
        waited = max(now.wall - settled.signature.ctime_ns / 1e9, now.monotonic - since)
        if waited >= self.patience:
            return False
        self._refused(settled, now, self.patience - waited)
        return True

    def out_of_reach(self, settled: Settled, now: Instant) -> None:
        """Take back a file that the disk, or this machine, would not let be read: however long that lasts."""
        self._refused(settled, now, _LONGEST_DELAY)
        entry = self._entries[settled.arrival]
        self.out_of_reach_count += not entry.out_of_reach
        entry.out_of_reach = True

    def _refused(self, settled: Settled, now: Instant, most: float) -> None:
        since = settled.refused_at if settled.refusals else now.monotonic
        delay = min(max(self.quiet, 0.1) * 2.0 ** min(settled.refusals, 20), _LONGEST_DELAY, most)
        self.wait_again(replace(settled, refusals=settled.refusals + 1, refused_at=since), now.monotonic, delay)

    def wait_again(self, settled: Settled, now: float, delay: float) -> None:
        """Take back an arrival, to be looked at `delay` seconds later; one that was offered anew meanwhile stays so."""
        if settled.arrival in self._entries:
            entry = self._entries[settled.arrival]
            entry.backfill = entry.backfill and settled.backfill
            return
        entry = _Entry(now + delay, settled.backfill, settled.signature, now - self.quiet, since=settled.refused_at)
        entry.refusals, entry.refused_at = settled.refusals, settled.refused_at
        self._entries[settled.arrival] = entry
        self._push(settled.arrival, entry)

    def _settle(self, arrival: Arrival, entry: _Entry, now: Instant) -> None:
        if entry.settled or entry.signature is None:
            return
        entry.settled = True
        old = now.wall - entry.signature.mtime_ns / 1e9 >= _DAY
        entry.rank = 2 if old else int(entry.backfill)
        self._queues[entry.rank].append((arrival, entry))
        self._settled_count += 1

    def _unsettle(self, arrival: Arrival, entry: _Entry, due: float) -> None:
        if entry.settled:
            entry.settled = False
            self._settled_count -= 1
        entry.due = due
        self._push(arrival, entry)

    def _forget(self, arrival: Arrival, entry: _Entry) -> None:
        self._settled_count -= entry.settled
        self.out_of_reach_count -= entry.out_of_reach
        del self._entries[arrival]

    def _push(self, arrival: Arrival, entry: _Entry) -> None:
        # a wait that grew is found out when its old time comes up, so a file that keeps changing costs one heap entry
        if entry.queued is None or entry.due < entry.queued:
            entry.queued = entry.due
            heapq.heappush(self._heap, (entry.due, next(self._order), arrival))


def _last_change(signature: Signature) -> float:
    # a copy that keeps its modification time still gets a change time of its own
    return max(signature.mtime_ns, signature.ctime_ns) / 1e9
