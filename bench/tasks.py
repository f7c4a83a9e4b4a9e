"""The queue: tasks enqueued, claimed, executed and recorded; beside a million finished ones, bare SQL and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import finished, floors, peers, serving
from bench.measure import COLUMNS, Table, Turn, Way, compare, interleaved, timed
from bench.stores import Store, opened_at
from bench.taking_in import rules, take_in

AIM = "aim, per second"
AIMS = {
    "SQLite": {"enqueued": 100_000, "bundles of 1,000": 50_000, "bundles of one": 5_000},
    "PostgreSQL": {"enqueued": 40_000, "bundles of 1,000": 20_000, "bundles of one": 700},
}


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: so many tasks, beside none and beside so many finished ones; so many claimers at once."""

    tasks: int
    finished: int
    claimers: int


def queue(store: Store, amount: Amount, rounds: int, folder: Path) -> Table:
    """Measure the queue on one kind of database; `folder` is a tree of files, for tasks with a file each."""
    columns = ("way", *COLUMNS[:3], AIM)
    table = Table(f"The queue: {store.name}", columns)
    with ExitStack() as stack:
        ways: dict[str, Way] = {}
        for before in (0, amount.finished):
            own = stack.enter_context(_beside(store, before))
            beside = f", beside {before:,} finished" if before else ""
            ways |= {f"{name}{beside}": way for name, way in _ways(own, amount).items()}
            if peers.installed(peers.name_on(store)):
                peer = stack.enter_context(peers.opened(store, before))
                ways |= {f"{name}{beside}": way for name, way in _peer_ways(peer, amount).items()}
        ways |= {"bundles of 1,000, a file each": _with_files(store, folder), **_floors(store, amount.tasks, folder)}
        rows = compare(interleaved(ways, rounds))
    aims = AIMS[store.name]
    table.rows = [
        (*row[:4], f"{aims[name]:,}" if (name := row[0].partition(", beside")[0]) in aims else "") for row in rows
    ]
    table.notes = _notes(store)
    return table


def _ways(store: Store, amount: Amount) -> dict[str, Way]:
    count, single, claimers = amount.tasks, max(1, amount.tasks // 3), amount.claimers
    return {
        "enqueued": _enqueued(store, count),
        "bundles of 1,000": _served(store, serving.enqueue, 1_000, count),
        "bundles of 100": _served(store, serving.enqueue, 100, count),
        "bundles of one": _served(store, serving.enqueue, 1, single),
        f"{count:,} keys of one task": _served(store, serving.enqueue_keys, 1_000, count),
        f"bundles of 100, {claimers} claimers at once": _served_together(store, 100, count, claimers),
        f"bundles of one, {claimers} claimers at once": _served_together(store, 1, single, claimers),
    }


def _peer_ways(peer: peers.Peer, amount: Amount) -> dict[str, Way]:
    count, single, claimers = amount.tasks, max(1, amount.tasks // 3), amount.claimers
    how = "one by one" if peer.name == "huey" else "in batches of 1,000"
    return {
        f"{peer.name}: enqueued {how}": peer.enqueued(count),
        f"{peer.name}: executed by one process": peer.executed(single, 1),
        f"{peer.name}: executed by {claimers} processes": peer.executed(single, claimers),
    }


def _floors(store: Store, count: int, folder: Path) -> dict[str, Way]:
    single = max(1, count // 10)
    return {
        "floor: bare rows of tasks, all columns and indexes": _inserted(store, count),
        "floor: bare state, claimed and completed by 1,000": _changed(store, 1_000, count),
        "floor: bare state, claimed and completed one by one": _changed(store, 1, single),
        "floor: files read, and their checksums taken": partial(timed, partial(floors.take_checksums, folder)),
    }


@contextmanager
def _beside(store: Store, count: int) -> Iterator[Store]:
    """Yield databases with so many finished tasks."""

    def prepare(url: str) -> None:
        with opened_at(url):
            finished.fill(count)

    if not count:
        yield store
        return
    with store.prepared(prepare) as prepared:
        yield prepared


def _enqueued(store: Store, count: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            serving.warm_up()
            return timed(partial(serving.enqueue, count))

    return turn


def _served(store: Store, enqueue: Callable[[int], int], size: int, count: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            after = serving.warm_up()
            enqueue(count)
            made = timed(partial(serving.serve, size))
            serving.check(count, after)
        return made

    return turn


def _served_together(store: Store, size: int, count: int, claimers: int) -> Way:
    def turn() -> Turn:
        with store.made() as url:
            with opened_at(url):
                after = serving.warm_up()
                serving.enqueue(count)
            made = serving.together(url, size, claimers)
            with opened_at(url):
                serving.check(count, after)
        assert made.done == count, (made.done, count)
        return made

    return turn


def _with_files(store: Store, folder: Path) -> Way:
    def turn() -> Turn:
        with store.opened():
            after = serving.warm_up()
            count = take_in(folder, rules())
            made = timed(partial(serving.serve, 1_000))
            serving.check(count, after)
        return made

    return turn


def _inserted(store: Store, count: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            serving.warm_up()
            rows = floors.rows_of_tasks(count)
            return timed(partial(floors.insert, rows))

    return turn


def _changed(store: Store, size: int, count: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            floors.make_states(count)
            return timed(partial(floors.change_states, size, count))

    return turn


def _notes(store: Store) -> list[str]:
    name = peers.name_on(store)
    found = peers.installed(name)
    kept = {
        "huey": "It takes a task from its table before it runs it, keeps a result, and flushes nothing to disk "
        "(fsync=False); what was running when a process dies is lost.",
        "procrastinate": "It keeps a row of each job and three of its states; ten at a time in each process.",
    }
    return [
        "The component does nothing. Each task keeps its parameters, versions, environment, bundle, outcome and three "
        "stage times; with a file, also the file version, which is compared before and after, and the checksum of all "
        "its bytes, which are read for it. Bundles are claimed and handed over as the scheduler does it: short ones "
        "several at once, whose ends share transactions. Every run is looked at row by row: each task completed, once, "
        "with its times.",
        f"{name} {found.version}: the same parameters, the same nothing to do. {kept[name]}"
        if found
        else f"{name} is not installed, and was not measured: `make bench` installs it.",
    ]
