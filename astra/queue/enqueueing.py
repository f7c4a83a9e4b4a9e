"""New tasks, recorded; old ones superseded; waiting ones let go when their time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from astra.database.connection import by_index, changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import among, load, reserve_ids, stage
from astra.provenance import astra_version
from astra.states import IS_LIVE, TaskState
from astra.work import NewTask

CHUNK = 10_000
# A task's own columns as they are staged, and where `NewTask` has them.
_NEW_TASK = {
    "id": "BIGINT", "name": "TEXT", "parameters": "TEXT", "component_version": "TEXT", "priority": "BIGINT",
    "bundle_key": "TEXT", "identity": "TEXT", "rule": "TEXT", "repeat_of_id": "BIGINT", "replay_id": "BIGINT",
}  # fmt: skip
_COMMON = ("version", "state", "bundle_id", "created")  # and what is the same for all tasks of a call
_NEW_INPUT = {"task_id": "BIGINT", "position": "BIGINT", "data_product_id": "BIGINT", "ingestion_id": "BIGINT"}
_own = attrgetter(*(name.removesuffix("_id") for name in list(_NEW_TASK)[1:]))


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
    """Record up to `CHUNK` tasks in a state, in the caller's transaction; return their keys, or their live twins'."""
    if not tasks:
        return []
    keys = reserve_ids("task", len(tasks))
    rows = [(key, *_own(task)) for key, task in zip(keys, tasks, strict=True)]
    inputs = [
        (key, position, each.data_product, each.ingestion)
        for key, task in zip(keys, tasks, strict=True)
        for position, each in enumerate(task.inputs)
    ]
    common = (astra_version(), state.value, bundle, instant_text(now))
    if all(task.identity is None for task in tasks):  # run by hand: what has no identity has no twin
        load("task", [*_NEW_TASK, *_COMMON], [(*row, *common) for row in rows])
        load("task_input_data_product", list(_NEW_INPUT), inputs)
        return keys
    if _insert_without_twins(rows, inputs, common) == len(tasks):
        return keys
    lives = lives_of([task.identity for task in tasks if task.identity])
    existing = {identity: each.live for identity, each in lives.items() if each.live is not None}
    # A twin may have ended since it was met: then nothing stands for that task yet.
    gone = [at for at, (_, t) in enumerate(zip(keys, tasks, strict=True)) if t.identity and t.identity not in existing]
    keys = [existing.get(str(task.identity), key) for key, task in zip(keys, tasks, strict=True)]
    if gone:
        for at, key in zip(gone, insert([tasks[at] for at in gone], state, bundle, now), strict=True):
            keys[at] = key
    return keys


_IDENTITY = list(_NEW_TASK).index("identity")


def _insert_without_twins(rows: Sequence[Any], inputs: Sequence[Any], common: Sequence[Any]) -> int:
    """Record the tasks that have no live twin, with their inputs; return how many those are.

    Where somebody else enqueues the same work at the same moment, one of the two is refused by the generation's index.
    """
    lives = lives_of([row[_IDENTITY] for row in rows if row[_IDENTITY] is not None])
    new: list[tuple[Any, ...]] = []
    seen: set[str] = set()
    for row in rows:
        identity = row[_IDENTITY]
        if identity is None:
            new.append((*row, None))
            continue
        known = lives.get(identity, NO_LIVES)
        if known.live is None and identity not in seen:
            seen.add(identity)
            new.append((*row, known.generation + 1))
    if is_sqlite():  # whose write lock keeps true what was read here
        load("task", [*_NEW_TASK, "generation", *_COMMON], [(*row, *common) for row in new])
        inserted = len(new)
    else:
        inserted = _insert_staged(new, common)
    if inserted == len(rows):
        load("task_input_data_product", list(_NEW_INPUT), inputs)
    elif inputs:
        stage("new_input", _NEW_INPUT, inputs)
        columns = ", ".join(f"i.{name}" for name in _NEW_INPUT)
        execute(
            f"INSERT INTO task_input_data_product ({', '.join(_NEW_INPUT)}) "
            f"SELECT {columns} FROM new_input i JOIN task t ON t.id = i.task_id"
        )
    return inserted


class Lives(NamedTuple):
    """The tasks that there are of one identity: the latest generation, which is alive, and the newest that is not."""

    generation: int
    live: int | None
    newest: int | None


NO_LIVES = Lives(0, None, None)


def lives_of(identities: Sequence[str]) -> dict[str, Lives]:
    """Return, by identity, what tasks there are of it; nothing of one that has none."""
    condition, parameter = among("identity", identities)
    live, others = (f"max(CASE WHEN {which} THEN id END)" for which in (IS_LIVE, f"NOT ({IS_LIVE})"))
    query = f"SELECT identity, coalesce(max(generation), 0), {live}, {others} FROM task WHERE {condition}"
    with by_index():
        return {identity: Lives(*known) for identity, *known in run(f"{query} GROUP BY identity", (parameter,))}


def _insert_staged(rows: Sequence[Any], common: Sequence[Any]) -> int:
    stage("new_task", {**_NEW_TASK, "generation": "BIGINT"}, rows)
    names = f"{', '.join(_NEW_TASK)}, generation"
    # Ordered by identity, so that two enqueuers of the same work cannot deadlock.
    return changed(
        f"INSERT INTO task ({names}, {', '.join(_COMMON)}) "
        f"SELECT {names}, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TIMESTAMPTZ) FROM new_task "
        "ORDER BY identity, id ON CONFLICT (identity, generation) WHERE identity IS NOT NULL DO NOTHING",
        common,
    )


def supersede(data_products: Sequence[int], now: datetime) -> int:
    """Cancel the pending rule tasks of these data products whose input is no longer the current file version."""
    with database.atomic():
        stage("superseded", {"id": "BIGINT"}, [(each,) for each in data_products])
        return changed(
            f"UPDATE task SET state = '{TaskState.CANCELLED}' WHERE state = '{TaskState.PENDING}' AND rule IS NOT NULL "
            "AND id IN (SELECT i.task_id FROM superseded s JOIN data_product p ON p.id = s.id "
            "JOIN task_input_data_product i ON i.data_product_id = p.id WHERE i.ingestion_id <> p.current_ingestion_id)"
        )


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
    skipped = "" if is_sqlite() else " FOR UPDATE SKIP LOCKED"
    due = f"SELECT id FROM task WHERE {_WAITED} ORDER BY not_before LIMIT {CHUNK}{skipped}"
    with database.atomic():
        return changed(f"UPDATE task SET not_before = NULL WHERE {_WAITED} AND id {each_of(due)}", (now, now))


def each_of(keys: str) -> str:
    """Return a condition that leads both databases to look each key up, whatever they believe of the table's size.

    A queue's statistics are always stale: told that a bundle has one task, PostgreSQL would walk all of a table.
    """
    return f"IN ({keys})" if is_sqlite() else f"= ANY (ARRAY({keys}))"
