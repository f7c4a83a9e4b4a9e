"""New tasks, recorded; old ones superseded; waiting ones let go when their time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

import peewee

from astra.database.connection import by_index, changed, database, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.notices import announce
from astra.database.staging import among, load, reserve_ids, stage
from astra.holds import AWAITS
from astra.provenance import astra_version
from astra.queue.awaiting import done
from astra.states import IS_LIVE, TaskState
from astra.work import NewTask

CHUNK = 10_000
# A task's own columns, and where `NewTask` has them.
_NEW_TASK = (
    "id", "name", "parameters", "component_version", "priority", "bundle_key", "identity", "rule", "repeat_of_id",
    "replay_id", "after",
)  # fmt: skip
_COMMON = ("version", "state", "bundle_id", "created")  # and what is the same for all tasks of a call
_NEW_INPUT = ("task_id", "position", "data_product_id", "ingestion_id")
_own = itemgetter(*(NewTask._fields.index(name.removesuffix("_id")) for name in _NEW_TASK[1:]))


def enqueue(tasks: Sequence[NewTask], now: datetime) -> list[int]:
    """Record tasks as pending, in the caller's transaction where there is one.

    Returns
    -------
    list of int
        The key of each task, in order. Where a live task of the same identity exists, it is that one's.
    """
    keys: list[int] = []
    with database.atomic():
        for start in range(0, len(tasks), CHUNK):
            keys += insert(tasks[start : start + CHUNK], TaskState.PENDING, None, now)
    return keys


def insert(tasks: Sequence[NewTask], state: TaskState, bundle: int | None, now: datetime) -> list[int]:
    """Record up to `CHUNK` tasks in a state, in the caller's transaction; return their keys, or their live twins'.

    Where somebody else enqueues the same work at the same moment, one of the two is refused by the generation's index,
    and not before the other has committed: trying again it meets the other's tasks.
    """
    if not tasks:
        return []
    own = reserve_ids("task", len(tasks))
    common = (astra_version(), state.value, bundle, instant_text(now))
    for left in reversed(range(_TRIES)):
        waiting = instant_text(AWAITS) if state is TaskState.PENDING else None
        keys, rows, inputs = _rows(tasks, own, common, waiting)
        if not is_sqlite():  # in one order, so that two enqueuers of the same work cannot deadlock
            rows.sort(key=lambda row: row[_IDENTITY] or "")
        try:
            with database.atomic():
                load("task", [*_NEW_TASK, "generation", "not_before", *_COMMON], rows)
                load("task_input_data_product", _NEW_INPUT, inputs)
            break
        except peewee.IntegrityError:
            if not left:
                raise
    if rows and state is TaskState.PENDING:
        announce()
    return keys


_IDENTITY = _NEW_TASK.index("identity")
_TRIES = 10


def _rows(
    tasks: Sequence[NewTask], own: Sequence[int], common: tuple[Any, ...], waiting: str | None
) -> tuple[list[int], list[Any], list[Any]]:
    """Return the key of each task, which is its live twin's where it has one; and the rows of those that have none.

    What comes after work that is not done yet is `waiting`; also where it was done, and is to be done again with these.
    """
    lives = lives_of([task.identity for task in tasks if task.identity is not None])
    after = {task.after for task in tasks if task.after is not None} if waiting else set()
    undone = after - (done(after) - {task.identity for task in tasks})
    keys: list[int] = []
    rows: list[Any] = []
    inputs: list[Any] = []
    first: dict[str, int] = {}
    for key, task in zip(own, tasks, strict=True):
        found, generation = key, None
        if task.identity is not None:  # without one, as run by hand, it has no twin
            known = lives.get(task.identity, NO_LIVES)
            found, generation = known.live or first.setdefault(task.identity, key), known.generation + 1
        keys.append(found)
        if found == key:
            rows.append((key, *_own(task), generation, waiting if task.after in undone else None, *common))
            if task.inputs:
                inputs += [(key, at, each.data_product, each.ingestion) for at, each in enumerate(task.inputs)]
    return keys, rows, inputs


class Lives(NamedTuple):
    """The tasks that there are of one identity: the latest generation, which is alive, and the newest that is not."""

    generation: int
    live: int | None
    newest: int | None


NO_LIVES = Lives(0, None, None)


def lives_of(identities: Sequence[str]) -> dict[str, Lives]:
    """Return, by identity, what tasks there are of it; nothing of one that has none."""
    if not identities:
        return {}
    condition, parameter = among("identity", identities)
    live, others = (f"max(CASE WHEN {which} THEN id END)" for which in (IS_LIVE, f"NOT ({IS_LIVE})"))
    query = f"SELECT identity, coalesce(max(generation), 0), {live}, {others} FROM task WHERE {condition}"
    with by_index():
        return {identity: Lives(*known) for identity, *known in run(f"{query} GROUP BY identity", (parameter,))}


def supersede(data_products: Sequence[int], now: datetime) -> int:
    """Cancel the pending rule tasks of these data products whose input is no longer the current file version."""
    with database.atomic():
        stage("superseded", {"id": "BIGINT"}, [(each,) for each in data_products])
        on_old = (
            "SELECT i.task_id FROM superseded s JOIN data_product p ON p.id = s.id "
            "JOIN task_input_data_product i ON i.data_product_id = p.id WHERE i.ingestion_id <> p.current_ingestion_id"
        )
        return changed(
            "UPDATE task SET state = 'cancelled' WHERE state || '' = 'pending' AND rule IS NOT NULL "
            f"AND id {each_of(in_order(f'id {each_of(on_old)}'))}"
        )


def in_order(which: str) -> str:
    """Return the keys of pending tasks, as a query: on PostgreSQL locked in their order.

    An UPDATE alone locks as it comes to rows. So of two, each may come to wait for the other.
    """
    locked = "" if is_sqlite() else " ORDER BY id FOR UPDATE"
    return f"SELECT id FROM task WHERE {which} AND state || '' = 'pending'{locked}"


def supersede_gathered(
    rule: str, data_products: Sequence[int], identities: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Cancel a rule's pending tasks on any of these data products, but for those of these identities.

    In the caller's transaction.

    Returns
    -------
    tuple of list of int
        The tasks that were cancelled; and those that somebody else is claiming, or changing in another way, just now:
        they are to be looked at once more.
    """
    given, products = among("i.data_product_id", data_products, "BIGINT")
    kept, identities_kept = among("t.identity", identities)
    on_them = f"SELECT i.task_id FROM task_input_data_product i WHERE {given}"
    with by_index():
        rows = run(
            f"SELECT t.id FROM task t WHERE t.id {each_of(on_them)} "
            f"AND t.state || '' = 'pending' AND t.rule = ? AND NOT ({kept}) ORDER BY t.id",
            (products, rule, identities_kept),
        )
        stale = [task for (task,) in rows]
        cancelled = _cancel_free(stale) if stale else []
    return cancelled, sorted({*stale} - {*cancelled})


def _cancel_free(stale: Sequence[int]) -> list[int]:
    """Cancel those of these tasks that are pending and that nobody else has locked; return them."""
    which, parameter = among("id", stale, "BIGINT")
    if not is_sqlite():
        free = f"SELECT id FROM task WHERE {which} AND state || '' = 'pending' ORDER BY id FOR UPDATE SKIP LOCKED"
        which = f"id {each_of(free)}"
    update = f"UPDATE task SET state = 'cancelled', not_before = NULL WHERE state || '' = 'pending' AND {which}"
    return [task for (task,) in run(f"{update} RETURNING id", (parameter,))]


def make_due(now: datetime) -> int:
    """Let the pending tasks whose waiting time has passed be claimed; return how many. Each chunk is a transaction."""
    count = 0
    while True:
        chunk = _make_chunk_due(instant_text(now))
        count += chunk
        if chunk < CHUNK:
            return count


_WAITED = "state = 'pending' AND not_before <= ?"


def _make_chunk_due(now: str | None) -> int:
    if not run(f"SELECT 1 FROM task WHERE {_WAITED} LIMIT 1", (now,)):  # which takes no lock
        return 0
    # Whoever holds, cancels or takes tasks locks them in another order. Nobody is waited for here, so nobody can wait
    # in a circle; what is skipped is found the next time.
    # The rows are locked by then: the words keep PostgreSQL from looking for them among all that wait.
    skipped = "" if is_sqlite() else " FOR UPDATE SKIP LOCKED"
    due = f"SELECT id FROM task WHERE {_WAITED} ORDER BY not_before LIMIT {CHUNK}{skipped}"
    with database.atomic():
        return changed(f"UPDATE task SET not_before = NULL WHERE state || '' = 'pending' AND id {each_of(due)}", (now,))


def each_of(keys: str) -> str:
    """Return a condition that leads both databases to look each key up, whatever they believe of the table's size.

    A queue's statistics are always stale: told that a bundle has one task, PostgreSQL would walk all of a table.
    """
    return f"IN ({keys})" if is_sqlite() else f"= ANY (ARRAY({keys}))"
