"""What the queue holds, for those who schedule: what to serve next, and who holds which bundle. Writes nothing.

Comes from `scheduler` and the commands; what it tells is acted upon by `queue`, whose guarded updates decide whether it
is still so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from astra import queue
from astra.database.astradb import STAGES
from astra.database.connection import by_index, run
from astra.database.fields import instant_text, read_instant
from astra.holds import AWAITS
from astra.provenance import Owner
from astra.settings_values import MOST_PRIORITY
from astra.states import IS_DUE, BundleState
from astra.work import OpenBundle, lane


class Waiting(NamedTuple):
    """A bundle key with tasks to be claimed: how many, counted no further than asked; since when the first waits."""

    key: str
    tasks: int
    since: datetime


# in the words and the order of the one index for all that can be claimed
_IN_ORDER = "ORDER BY replay_id, priority, bundle_key, id LIMIT 1"
_PAST = "!"  # comes after the space that ends a component's name in its keys, and before all that names are made of


def replays() -> list[int]:
    """Return the replays that have tasks to be claimed; one look-up each."""
    found: list[int] = []
    query = f"SELECT replay_id FROM task WHERE {IS_DUE} AND replay_id > ? {_IN_ORDER}"
    while rows := run(query, (found[-1] if found else 0,)):
        found.append(rows[0][0])
    return found


def most_urgent(replay: int | None, after: int = -MOST_PRIORITY - 2) -> int | None:
    """Return the lowest number of a priority with tasks to be claimed in a lane, of those above `after`."""
    rows = run(f"SELECT priority FROM task WHERE {IS_DUE} AND {lane(replay)} AND priority > ? {_IN_ORDER}", (after,))
    return rows[0][0] if rows else None


def next_component(replay: int | None, priority: int, after: str = "") -> str | None:
    """Return the component that comes next in a lane and priority, in the order of names."""
    query = f"SELECT bundle_key FROM task WHERE {IS_DUE} AND {lane(replay)} AND priority = ? AND bundle_key > ?"
    rows = run(f"{query} {_IN_ORDER}", (priority, f"{after}{_PAST}"))
    return rows[0][0].partition(" ")[0] if rows else None


def keys(place: tuple[int | None, int, str], after: str, most: int, count: int) -> list[Waiting]:
    """Return up to `most` bundle keys of a component, those after `after` in their order.

    Parameters
    ----------
    place
        Lane, priority and component.
    count
        How far the tasks of each key are counted.
    """
    replay, priority, component = place
    past = f"{component}{_PAST}"
    there = f"FROM task WHERE {IS_DUE} AND {lane(replay)} AND priority = ?"
    following = f"SELECT bundle_key {there} AND bundle_key > {{after}} AND bundle_key < ? {_IN_ORDER}"
    first, later = following.format(after="CAST(? AS TEXT)"), following.format(after="found.bundle_key")
    rows = run(
        f"WITH RECURSIVE found (bundle_key, number) AS (SELECT ({first}), 1 UNION ALL "
        f"SELECT ({later}), number + 1 FROM found WHERE found.bundle_key IS NOT NULL AND number < ?) "
        f"SELECT bundle_key, (SELECT count(*) FROM (SELECT 1 {there} AND task.bundle_key = found.bundle_key LIMIT ?) "
        f"AS counted), (SELECT created {there} AND task.bundle_key = found.bundle_key {_IN_ORDER}) "
        "FROM found WHERE bundle_key IS NOT NULL ORDER BY number",
        (priority, after or component, past, priority, past, most, priority, count, priority),
    )
    return [Waiting(key, number, _instant(created)) for key, number, created in rows]


def count(place: tuple[int | None, int, str], key: str, most: int) -> int:
    """Return how many tasks of a key can be claimed, counted no further than `most`; for `place` see `keys`."""
    replay, priority, _ = place
    query = f"SELECT 1 FROM task WHERE {IS_DUE} AND {lane(replay)} AND priority = ? AND bundle_key = ? LIMIT ?"
    found: int = run(f"SELECT count(*) FROM ({query}) AS counted", (priority, key, most))[0][0]
    return found


_HELD = "SELECT target FROM hold WHERE lifted IS NULL AND kind ="
_FREE = (
    f"name NOT IN ({_HELD} 'component') AND (replay_id IS NULL OR CAST(replay_id AS TEXT) NOT IN ({_HELD} 'replay'))"
)


def is_due() -> bool:
    """Return whether any task can be claimed: what is held cannot."""
    return bool(run(f"SELECT 1 FROM task WHERE {IS_DUE} AND {_FREE} LIMIT 1"))


def unfinished() -> bool:
    """Return whether any task waits, for its turn or for its time, or is running.

    What is held waits for a person, and what comes after work that is not done, for that.
    """
    later = f"SELECT 1 FROM task WHERE state = 'pending' AND not_before < ? AND {_FREE} LIMIT 1"
    return bool(
        run("SELECT 1 FROM bundle WHERE state IN ('submitted', 'running') LIMIT 1")
        or is_due()
        or run(later, (instant_text(AWAITS),))
        or queue.waits_in_vain()
    )


def waiting_for_others() -> int:
    """Return how many pending tasks come after work that is not done."""
    query = "SELECT count(*) FROM task WHERE state = 'pending' AND after IS NOT NULL AND not_before = ?"
    found: int = run(query, (instant_text(AWAITS),))[0][0]
    return found


def open_bundles(now: datetime) -> list[OpenBundle]:
    """Return every bundle that is submitted or running; `lapsed` where its lease has run out."""
    return _open("state IN ('submitted', 'running')", now)


def open_bundle(bundle: int) -> OpenBundle | None:
    """Return one bundle, if it is submitted or running."""
    found = _open(f"state IN ('submitted', 'running') AND id = {int(bundle)}", None)
    return found[0] if found else None


def states_in(executor: str) -> dict[int, BundleState]:
    """Return every open bundle of an executor, with its state."""
    query = "SELECT id, state FROM bundle WHERE state IN ('submitted', 'running') AND executor = ?"
    return {key: BundleState(state) for key, state in run(query, (executor,))}


def has_open_of(array: str) -> bool:
    """Return whether a bundle is open that was handed over in this array."""
    query = "SELECT 1 FROM bundle WHERE state IN ('submitted', 'running') AND substr(external_name, 1, ?) = ? LIMIT 1"
    return bool(run(query, (len(array) + 1, f"{array}_")))


def bundles_by_hand(tasks: Sequence[int]) -> list[OpenBundle]:
    """Return the bundles that people are running, of those that these tasks were last in."""
    listed = ", ".join(str(int(key)) for key in tasks)
    with by_index():
        found = {row[0] for row in run(f"SELECT bundle_id FROM task WHERE id IN ({listed}) AND state = 'running'")}
    held = ", ".join(map(str, found - {None})) or "0"  # 0 is no bundle's key
    return _open(f"state = 'running' AND executor = 'interactive' AND id IN ({held})", None)


def _open(which: str, now: datetime | None) -> list[OpenBundle]:
    rows = run(
        'SELECT id, name, token, state, owner_boot, owner_pid, owner_start, host, "user", executor, size, '
        "lease_expires IS NOT NULL AND lease_expires < ?, created, external_id, external_name, keeper "
        f"FROM bundle WHERE {which} ORDER BY id",
        (instant_text(now),),
    )
    return [_of_row(row) for row in rows]


def _of_row(row: Sequence[Any]) -> OpenBundle:
    key, name, token, state, boot, pid, start, host, user, executor, size, lapsed, created, *outside = row
    external_id, external_name, keeper = outside
    return OpenBundle(
        bundle=key,
        component=name,
        token=token,
        state=BundleState(state),
        owner=Owner(boot, pid, start, host, user),
        executor=executor,
        size=size,
        lapsed=bool(lapsed),
        created=_instant(created),
        external_id=external_id,
        external_name=external_name,
        keeper=Owner.of_text(keeper) if keeper else None,
    )


def ended(bundles: Sequence[int]) -> list[Ended]:
    """Return what became of bundles that have ended."""
    listed = ", ".join(str(int(key)) for key in bundles) or "0"
    rows = run(
        f"SELECT id, name, size, completed, failed, started, ended FROM bundle WHERE id IN ({listed}) "
        "AND state IN ('ended', 'expired') ORDER BY id"
    )
    return [
        Ended(key, component, size, completed, failed, _between(began, over))
        for key, component, size, completed, failed, began, over in rows
    ]


def _between(began: Any, over: Any) -> float | None:
    return None if began is None or over is None else (_instant(over) - _instant(began)).total_seconds()


def failures(bundle: int, most: int) -> list[tuple[int, str]]:
    """Return the first `most` tasks that failed for good in a bundle, each with its error."""
    failed = run(
        "SELECT m.task_id, coalesce(m.error_class, '') || ': ' || coalesce(m.error_message, '') FROM task_bundle m "
        "JOIN task t ON t.id = m.task_id WHERE m.bundle_id = ? AND m.outcome IN ('failed', 'expired') "
        "AND t.bundle_id = m.bundle_id AND t.state = 'failed' ORDER BY m.position LIMIT ?",
        (bundle, most),
    )
    return [(task, error) for task, error in failed]


def asked(wish: str) -> list[int]:
    """Return the bundles on their way or running of which a person wants this."""
    query = "SELECT id FROM bundle WHERE asked IS NOT NULL AND state IN ('submitted', 'running') AND asked = ?"
    return [row[0] for row in run(query, (wish,))]


def closed(bundles: Collection[int]) -> dict[int, tuple[BundleState, str | None]]:
    """Return those of these bundles that are no longer open, each with its state and what was said of its end."""
    listed = ", ".join(str(int(key)) for key in bundles) or "0"
    query = f"SELECT id, state, error FROM bundle WHERE id IN ({listed}) AND state IN ('ended', 'released', 'expired')"
    return {key: (BundleState(state), error) for key, state, error in run(query)}


def taken_away(bundles: Collection[int]) -> dict[int, str]:
    """Return those of these bundles that are no longer open and have not come to their end either, each with why."""
    listed = ", ".join(str(int(key)) for key in bundles) or "0"
    query = f"SELECT id, coalesce(error, '') FROM bundle WHERE id IN ({listed}) AND state IN ('released', 'expired')"
    return dict(run(query))


def cancelled_in(bundles: Collection[int]) -> dict[int, int]:
    """Return how many tasks were cancelled in each of these bundles, of those in which any was."""
    listed = ", ".join(str(int(key)) for key in bundles) or "0"
    query = f"SELECT bundle_id, count(*) FROM task_bundle WHERE bundle_id IN ({listed}) AND outcome = 'cancelled'"
    return dict(run(f"{query} GROUP BY bundle_id"))


class Ended(NamedTuple):
    """A bundle that has ended: its component, how many of its tasks completed and failed, and how long it ran."""

    bundle: int
    component: str
    size: int
    completed: int
    failed: int
    seconds: float | None = None


class Record(NamedTuple):
    """What a bundle that has ended tells of its component: seconds in all, and those that belong to no single task."""

    bundle: int
    size: int
    completed: int
    failed: int
    seconds: float
    overhead: float


def latest(component: str, most: int, since: datetime | None = None) -> list[Record]:
    """Return the latest bundles of a component that have ended, the newest first; made after `since`, if given."""
    seconds, overhead = (" + ".join(f"coalesce(time_{name}{part}, 0)" for name in STAGES) for part in ("", "_overhead"))
    rows = run(
        f"SELECT id, size, completed, failed, {seconds}, {overhead} FROM bundle WHERE name = ? "
        f"AND state IN ('ended', 'expired'){' AND created > ?' if since else ''} ORDER BY id DESC LIMIT ?",
        (component, instant_text(since), most) if since else (component, most),
    )
    return [Record(*row) for row in rows]


def _instant(value: Any) -> datetime:
    found = read_instant(value)
    assert found is not None  # the column is not null
    return found
