"""Tasks recorded and executed in bundles, against bare SQL that keeps nothing but their state."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from astra import backlog, provenance, queue
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.database.connection import changed, database, execute, execute_many, run
from astra.members import bundle_by_key
from bench.components import Trivial
from bench.measure import Table, Turn, Way, compare, interleaved, timed
from bench.stores import Store
from bench.taking_in import rules, take_in

COLUMNS = ("n", "us each: median (min to max)", "per second")
LEASE = timedelta(minutes=5)


def enqueue(count: int) -> int:
    """Record `count` tasks as pending; each has parameters of its own."""
    return len(Trivial(number=list(range(count))).enqueue())


def run_bundles(size: int, most: int) -> int:
    """Do what the scheduler and an executor's process do: pick, claim, start, rebuild, run, record."""
    owner, environment, count = provenance.owner(), provenance.environment_id(), 0
    while count < most and (picked := backlog.pick()) is not None:
        claimed = queue.claim(picked[1], size, owner, "local", SYSTEM.now())
        assert claimed is not None
        bundle, now = bundle_by_key(claimed.bundle), SYSTEM.now()
        token = queue.start(claimed, owner, provenance.code_of(Trivial), environment, now + LEASE, now)
        TaskInstance.from_bundle(bundle).run_held(replace(claimed, token=token))
        count += claimed.size
    return count


def _enqueued(store: Store, count: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            return timed(lambda: enqueue(count))

    return turn


def _claimed(store: Store, size: int, most: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            enqueue(most)
            made = timed(lambda: run_bundles(size, most))
            _check(most)
        return made

    return turn


def _claimed_with_files(store: Store, folder: Path, size: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            count = take_in(folder, rules())
            made = timed(lambda: run_bundles(size, count))
            _check(count)
        return made

    return turn


def _floor(store: Store, size: int, most: int) -> Way:
    def work() -> int:
        count = 0
        while count < most:
            count += _claim_and_complete(size)
        return count

    def turn() -> Turn:
        with store.opened():
            execute("CREATE TABLE floor (id BIGINT PRIMARY KEY, state SMALLINT, bundle BIGINT)")
            execute("CREATE INDEX floor_waiting ON floor (state, id) WHERE state = 0")
            with database.atomic():
                execute_many("INSERT INTO floor VALUES (?, 0, NULL)", [(number,) for number in range(most)])
            return timed(work)

    return turn


def _claim_and_complete(size: int) -> int:
    with database.atomic():
        picked = "SELECT id FROM floor WHERE state = 0 ORDER BY state, id LIMIT ?"
        rows = run(f"UPDATE floor SET state = 1 WHERE id IN ({picked}) RETURNING id", (size,))
        keys = sorted(row[0] for row in rows)
    with database.atomic():
        return changed("UPDATE floor SET state = 2 WHERE state = 1 AND id BETWEEN ? AND ?", (keys[0], keys[-1]))


def _check(count: int) -> None:
    done = run("SELECT count(*) FROM task WHERE state = 'completed'")[0][0]
    timed_too = run("SELECT count(*) FROM task_time WHERE time_total IS NOT NULL")[0][0]
    assert (done, timed_too) == (count, count), (done, timed_too, count)


def in_bundles(store: Store, count: int, rounds: int, folder: Path) -> Table:
    """Measure `count` tasks: enqueued, and claimed in bundles of several sizes."""
    single, hundred = min(count, max(10, count // 30)), min(count, max(100, count // 3))
    ways: dict[str, Way] = {
        "enqueued": _enqueued(store, count),
        f"claimed and executed, one bundle of {count:,}": _claimed(store, count, count),
        "claimed and executed, bundles of 1,000": _claimed(store, 1_000, count),
        "claimed and executed, bundles of 100": _claimed(store, 100, hundred),
        "claimed and executed, bundles of 1": _claimed(store, 1, single),
        "claimed and executed, bundles of 1,000, a file each": _claimed_with_files(store, folder, 1_000),
        "floor: bare SQL, claimed and completed by 1,000": _floor(store, 1_000, count),
        "floor: bare SQL, claimed and completed by 1": _floor(store, 1, single),
    }
    rows = compare(interleaved(ways, rounds))
    table = Table(f"Tasks of the service: {store.name}", ("way", *COLUMNS), [row[: 1 + len(COLUMNS)] for row in rows])
    table.notes = [
        "The component does nothing. Each task keeps its parameters, versions, environment, bundle, outcome and three "
        "stage times; with a file, also the file version, which is checked before and after. The floor is the same "
        "database through bare SQL that keeps a state and nothing else."
    ]
    return table
