"""What to claim next: fair between components and their keys, live work before replays, no more than should be.

Live work comes first, then the replays in turn. In each of these lanes the more urgent priority comes first; within it
the components take turns, however many keys one of them has, and within a component its keys. Whose turn it was is
memory: a new start begins at the front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from astra import backlog
from astra.settings import Own, Settings
from astra.states import HoldKind
from astra.work import Pick
from daemon.executors import Span

MOST_BUNDLES = 100  # that a process is handed at once
PAGES = (8, 100, 400, 400)  # keys of a component that are read at a time, and looked at in one turn
_RECORDS, _RECORDS_READ = 5, 50  # latest bundles that are learned from, of so many that may have come to nothing

Lane = int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a component is expected to take, in seconds: a bundle's own, and each task's."""

    bundle: float
    task: float

    @classmethod
    def of(cls, component: str) -> Cost | None:
        """Return what the latest bundles of a component took that completed anything; None where none has."""
        usable = [each for each in backlog.latest(component, _RECORDS_READ) if each.completed and each.seconds]
        if not (found := usable[:_RECORDS]):
            return None
        tasks, seconds = sum(each.completed + each.failed for each in found), sum(each.seconds for each in found)
        overhead = sum(each.overhead for each in found)
        if overhead >= seconds:  # it never says which task it has in hand: all of its time may be theirs
            return cls(0.0, seconds / tasks)
        return cls(overhead / len(found), (seconds - overhead) / tasks)

    def most(self, target: float) -> int:
        """Return how many tasks a bundle may have to take no longer than `target`.

        Or no longer than twice its own time, where that is more: else a model is loaded for every single task.
        """
        return max(1, int(max(target - self.bundle, self.bundle) / self.task)) if self.task else 1 << 31

    def seconds(self, tasks: int) -> float:
        """Return what a bundle of so many tasks is expected to take."""
        return self.bundle + tasks * self.task


class Choice:
    """Whose turn it is.

    Parameters
    ----------
    settings
        For the sizes of bundles.
    span
        How much of a component is handed over at once.
    """

    def __init__(self, settings: Settings, span: Callable[[Own], Span]) -> None:
        self._settings, self._span = settings, span
        self._lane: Lane = None
        self._components: dict[tuple[Lane, int], str] = {}
        self._keys: dict[tuple[Lane, int, str], str] = {}
        self._costs: dict[str, Cost | None] = {}
        self._to_learn: set[str] = set()

    def learn(self, component: str) -> None:
        """Forget what a component was expected to take: another bundle of it has ended."""
        self._costs.pop(component, None)
        self._to_learn.add(component)

    def next(self, held: Collection[tuple[HoldKind, str]], slots: int, now: datetime) -> list[Pick]:
        """Return what to claim for one process: bundles of one component, several where they are short.

        Parameters
        ----------
        held
            What is held back, and left out.
        slots
            How many bundles can run at the same time: what waits under one key is shared out among them.
        now
            The instant against which a task's waiting is counted.
        """
        waits = False
        for lane in self._lanes():
            if (HoldKind.REPLAY, str(lane)) in held:
                waits = True
                continue
            for place in self._places(lane):
                waits = True
                if (HoldKind.COMPONENT, place[2]) not in held and (picks := self._of(place, slots, now)):
                    self._lane = lane if lane is not None else self._lane
                    self._components[place[:2]] = place[2]
                    return picks
        if not waits:  # whoever comes next has no one before him, and is found in fewer statements
            self._components.clear()
            self._keys.clear()
            self._costs |= {each: Cost.of(each) for each in self._to_learn}
            self._to_learn.clear()
        return []

    def probe(self, component: str, held: Collection[tuple[HoldKind, str]], now: datetime) -> list[Pick]:
        """Return one bundle of a component that is held itself, and of nothing else that is."""
        for lane in self._lanes():
            if (HoldKind.REPLAY, str(lane)) in held:
                continue
            for place in self._places(lane):
                if place[2] == component and (picks := self._of(place, 1, now)):
                    return [picks[0]._replace(times=1)]
        return []

    def _lanes(self) -> Iterator[Lane]:
        yield None
        replays, last = backlog.replays(), self._lane or 0
        yield from [each for each in replays if each > last] + [each for each in replays if each <= last]

    def _places(self, lane: Lane) -> Iterator[tuple[Lane, int, str]]:
        """Yield what has tasks in a lane: the urgent before the others, components after the one served last first."""
        priority = backlog.most_urgent(lane)
        while priority is not None:
            last = self._components.get((lane, priority), "")
            for component in _turns(lane, priority, last):
                yield lane, priority, component
            priority = backlog.most_urgent(lane, priority)

    def _of(self, place: tuple[Lane, int, str], slots: int, now: datetime) -> list[Pick]:
        own = self._settings.of(place[2])
        if place[2] not in self._costs:
            self._costs[place[2]] = Cost.of(place[2])
            self._to_learn.discard(place[2])
        cost = self._costs[place[2]]
        size = own.max_bundle_size if cost is None else min(own.max_bundle_size, cost.most(own.target))
        room = Room(cost, self._span(own))
        picks: list[Pick] = []
        for waiting in self._pages(place, size):
            for each in waiting:
                is_full = each.tasks >= size
                if own.max_wait and not is_full and (now - each.since).total_seconds() < own.max_wait:
                    self._keys[place] = each.key
                    continue
                most = size * slots * room.most(size)
                tasks = backlog.count(place, each.key, most) if is_full and most > size else each.tasks
                if not tasks:  # somebody took them since the keys were read
                    continue
                share = math.ceil(tasks / slots)
                if own.max_wait:  # it was not waited for to be divided
                    share = max(share, min(size, tasks))
                limit = min(size, share)
                if not (times := room.take(limit, math.ceil(share / limit))):
                    return picks
                self._keys[place] = each.key
                picks.append(Pick(*place[:2], each.key, limit, times))
                if not room.most(1):
                    return picks
        return picks

    def _pages(self, place: tuple[Lane, int, str], size: int) -> Iterator[list[backlog.Waiting]]:
        """Yield the keys of a component, a page at a time, from the one after the last served on and round again."""
        began = after = self._keys.get(place, "")
        round_again = False
        for most in PAGES:
            found = backlog.keys(place, after, most, size)
            yield [each for each in found if not (round_again and each.key > began)]
            if len(found) < most:
                if round_again or not began:
                    return
                round_again, after = True, ""
            else:
                after = found[-1].key
            if round_again and after > began:
                return


class Room:
    """How much more a process can be handed at once. The first bundle always; others while all of them are short."""

    def __init__(self, cost: Cost | None, span: Span) -> None:
        self._cost, self._span = cost, span
        self._bundles, self._tasks, self._seconds = 0, 0, 0.0

    def most(self, size: int) -> int:
        """Return how many more bundles of a size there is room for."""
        if self._cost is None:
            return 0 if self._bundles else 1
        seconds = self._cost.seconds(size)
        in_time = int((self._span.seconds - self._seconds) / seconds) if seconds else MOST_BUNDLES
        found = min(MOST_BUNDLES - self._bundles, (self._span.tasks - self._tasks) // size, in_time)
        return max(found, 0 if self._bundles else 1)

    def take(self, size: int, times: int) -> int:
        """Return for how many of `times` bundles of a size there is room, and count them."""
        taken = min(times, self.most(size))
        self._bundles += taken
        self._tasks += taken * size
        self._seconds += taken * self._cost.seconds(size) if self._cost else 0.0
        return taken


def _turns(lane: Lane, priority: int, last: str) -> Iterator[str]:
    component = backlog.next_component(lane, priority, last) if last else None
    while component is not None:
        yield component
        component = backlog.next_component(lane, priority, component)
    component = backlog.next_component(lane, priority)
    while component is not None and (not last or component <= last):
        yield component
        component = backlog.next_component(lane, priority, component)
