"""The class as a scientist uses it: made and executed, one by one or as one bundle, and rebuilt from its records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from astra.database.astradb import Bundle
from astra.database.connection import run
from bench import plain_tasks
from bench.components import Trivial
from bench.measure import COLUMNS, Table, Turn, Way, compare, interleaved, timed
from bench.stores import Store


def one_by_one(count: int) -> int:
    """Make and execute an instance for each task."""
    for number in range(count):
        Trivial(number=number).execute()
    return count


def in_one_bundle(count: int) -> int:
    """Make and execute one instance of all tasks."""
    Trivial(number=list(range(count))).execute()
    return count


def rebuilt(count: int) -> int:
    """Build the newest bundle again, and read the values of every task."""
    instance = Bundle.select().order_by(Bundle.id.desc()).get().instance()
    found = sum(1 for _ in instance.plans())
    assert found == count, (found, count)
    return found


def _alone(store: Store, work: Callable[[], int]) -> Way:
    """Return a turn in a database of its own; the first task, which looks up packages and code, is not counted."""

    def turn() -> Turn:
        with store.opened():
            Trivial().execute()
            made = timed(work)
            done, known = run("SELECT count(*), (SELECT count(*) FROM task) FROM task WHERE state = 'completed'")[0]
            assert done == known, (done, known)
            return made

    return turn


def by_hand(store: Store, count: int, rounds: int) -> Table:
    """Measure `count` tasks, each way beside what plain peewee takes to keep less; then from small bundles to large."""
    single = min(count, max(10, count // 20))
    made, bundle = "made and executed one by one", f"made and executed as one bundle of {count:,}"
    pairs: list[dict[str, Way]] = [
        {
            f"floor: plain peewee, {made}": _alone(store, partial(plain_tasks.one_by_one, single)),
            f"astra: {made}": _alone(store, partial(one_by_one, single)),
        },
        {
            f"floor: plain peewee, {bundle}": _alone(store, partial(plain_tasks.in_one_bundle, count)),
            f"astra: {bundle}": _alone(store, partial(in_one_bundle, count)),
        },
        _sizes(store, count),
    ]
    table = Table(f"The class, by hand: {store.name}", ("way", *COLUMNS[:3], "times as fast as the first of its kind"))
    with store.opened():
        plain_tasks.in_one_bundle(count)
        in_one_bundle(count)
        read: dict[str, Way] = {
            f"floor: plain peewee, one bundle of {count:,} read": partial(timed, partial(plain_tasks.read, count)),
            f"astra: one bundle of {count:,} rebuilt": partial(timed, partial(rebuilt, count)),
        }
        table.rows += compare(interleaved(read, rounds))
    for ways in pairs:
        table.rows += compare(interleaved(ways, rounds))
    table.notes = [
        "Each task keeps its parameters, versions, environment, bundle, outcome and three stage times; the floor keeps "
        "parameters, a state and one time. The last rows are the same work in bundles of each size, and are compared "
        "with the smallest."
    ]
    return table


def _sizes(store: Store, count: int) -> dict[str, Way]:
    """Return the same number of tasks in bundles of every size, and ten times as many in one."""

    def many(size: int) -> int:
        return sum(in_one_bundle(size) for _ in range(count // size))

    sizes = sorted({max(1, count // 100), max(1, count // 10), count})
    ways = {f"astra: in bundles of {size:,}": _alone(store, partial(many, size)) for size in sizes}
    return ways | {f"astra: one bundle of {10 * count:,}": _alone(store, partial(in_one_bundle, 10 * count))}
