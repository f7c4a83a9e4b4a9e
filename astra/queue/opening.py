"""Bundles begun: claimed by a scheduler and started by a process, or opened by a person."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from astra.database.connection import by_index, changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import among, load, stage
from astra.errors import AstraError, LeaseLost
from astra.provenance import Code, Owner
from astra.queue.ending import fail_gone, hold
from astra.queue.enqueueing import CHUNK, insert
from astra.states import IS_LIVE, TaskState
from astra.work import ByHand, Claimed, NewTask, new_token


def claim(bundle_key: str, limit: int, owner: Owner, executor: str, now: datetime) -> Claimed | None:
    """Take up to `limit` pending tasks of one bundle key as a submitted bundle; None where somebody was faster."""
    token, created = new_token(), instant_text(now)
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, executor, created)
    with database.atomic():
        return _claim_sqlite(bundle_key, limit, token, ours) if is_sqlite() else _claim(bundle_key, limit, token, ours)


_BUNDLE = 'token, owner_boot, owner_pid, owner_start, host, "user", executor, created'
_PENDING = "FROM task WHERE bundle_key = ? AND state = 'pending' AND not_before IS NULL ORDER BY priority, id LIMIT ?"


def _claim_sqlite(bundle_key: str, limit: int, token: str, ours: tuple[object, ...]) -> Claimed | None:
    found = run(f"SELECT name {_PENDING}", (bundle_key, 1))
    if not found:
        return None
    bundle: int = execute(
        f"INSERT INTO bundle (name, bundle_key, size, state, {_BUNDLE}) "
        "VALUES (?, ?, 0, 'submitted', ?, ?, ?, ?, ?, ?, ?, ?)",
        (found[0][0], bundle_key, *ours),
    ).lastrowid
    size = changed(
        "INSERT INTO task_bundle (bundle_id, position, task_id) "
        f"SELECT ?, row_number() OVER (ORDER BY priority, id) - 1, id FROM (SELECT id, priority {_PENDING})",
        (bundle, bundle_key, limit),
    )
    execute(
        "UPDATE task SET state = 'running', bundle_id = ? WHERE state = 'pending' "
        "AND id IN (SELECT task_id FROM task_bundle WHERE bundle_id = ?)",
        (bundle, bundle),
    )
    execute("UPDATE bundle SET size = ? WHERE id = ?", (size, bundle))
    return Claimed(bundle, size, token)


def _claim(bundle_key: str, limit: int, token: str, ours: tuple[object, ...]) -> Claimed | None:
    _plan_by_index()
    rows = run(
        f"""
        WITH picked AS MATERIALIZED (SELECT id, name, priority {_PENDING} FOR UPDATE SKIP LOCKED),
        ordered AS MATERIALIZED (SELECT id, row_number() OVER (ORDER BY priority, id) - 1 AS position FROM picked),
        made AS (
            INSERT INTO bundle (name, bundle_key, size, state, {_BUNDLE})
            SELECT min(name), ?, count(*), 'submitted', ?, ?, ?, ?, ?, ?, ?, CAST(? AS TIMESTAMPTZ) FROM picked
            HAVING count(*) > 0 RETURNING id, size),
        moved AS (
            UPDATE task SET state = 'running', bundle_id = made.id FROM ordered, made WHERE task.id = ordered.id
            RETURNING task.id),
        members AS (
            INSERT INTO task_bundle (bundle_id, position, task_id)
            SELECT made.id, ordered.position, ordered.id FROM ordered, made RETURNING position)
        SELECT made.id, made.size FROM made
        """,
        (bundle_key, limit, bundle_key, *ours),
    )
    return Claimed(rows[0][0], rows[0][1], token) if rows else None


def _plan_by_index() -> None:
    """Keep PostgreSQL to the indexes for this transaction: a queue's statistics are always stale, and mislead it."""
    if not is_sqlite():
        execute("SET LOCAL enable_seqscan = off")
        execute("SET LOCAL enable_bitmapscan = off")


def start(
    claimed: Sequence[Claimed], owner: Owner, code: Code, environment: int, lease: datetime, now: datetime
) -> tuple[str, list[Claimed]]:
    """Turn submitted bundles running, and return the token that fences their writes from now on, and those started.

    Raises
    ------
    LeaseLost
        If all of them were released, or another process has started them.
    """
    token = new_token()
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, instant_text(lease), instant_text(now))
    made = (environment, code.version, code.component_version, code.source_sha256, code.git_commit, code.git_dirty)
    listed = ", ".join(str(int(each.bundle)) for each in claimed)
    with database.atomic():
        rows = run(
            "UPDATE bundle SET state = 'running', token = ?, owner_boot = ?, owner_pid = ?, owner_start = ?, host = ?, "
            '"user" = ?, lease_expires = ?, started = ?, environment_id = ?, version = ?, component_version = ?, '
            f"source_sha256 = ?, git_commit = ?, git_dirty = ? WHERE id IN ({listed}) AND token = ? "
            "AND state = 'submitted' RETURNING id",
            (*ours, *made, claimed[0].token),
        )
    started = {row[0] for row in rows}
    if not started:
        raise LeaseLost(f"bundle {claimed[0].bundle} was taken back before it started; nothing was run")
    return token, [replace(each, token=token) for each in claimed if each.bundle in started]


def open_by_hand(request: ByHand, now: datetime) -> tuple[Claimed, array[int]]:
    """Record an interactive bundle as running, with no lease, and return it with the keys of its tasks in order.

    Each chunk is written in a transaction of its own, so that nobody waits long for a large bundle.
    """
    _refuse_untakeable(request.recorded)
    chunks, keys = iter(request.chunks), array("q")
    first = next(chunks)
    with database.atomic():
        held = _open(request, now)
        keys.extend(_join(held.bundle, 0, first, now))
    try:
        for chunk in chunks:
            with database.atomic():
                if not hold(held.bundle, held.token):
                    raise LeaseLost(f"bundle {held.bundle} was ended before it was recorded whole; nothing was run")
                keys.extend(_join(held.bundle, len(keys), chunk, now))
    except BaseException:
        fail_gone(held.bundle, held.token, "it could not be recorded whole", now)
        raise
    return held, keys


def _open(request: ByHand, now: datetime) -> Claimed:
    token, owner, code = new_token(), request.owner, request.code
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, "interactive", instant_text(now))
    made = (instant_text(now), request.environment, code.version, code.component_version, code.source_sha256)
    bundle: int = run(
        f"INSERT INTO bundle (name, bundle_key, size, state, {_BUNDLE}, started, environment_id, version, "
        "component_version, source_sha256, git_commit, git_dirty) "
        "VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (request.name, request.bundle_key, request.size, *ours, *made, code.git_commit, code.git_dirty),
    )[0][0]
    return Claimed(bundle, request.size, token)


def _join(bundle: int, first: int, chunk: Sequence[NewTask | int], now: datetime) -> list[int]:
    """Record a chunk's new tasks, take its recorded ones, and give each its position in the bundle; return their keys.

    A task that runs is always one of its bundle's, whatever comes between two chunks.
    """
    _take([each for each in chunk if isinstance(each, int)], bundle)
    made = iter(insert([each for each in chunk if not isinstance(each, int)], TaskState.RUNNING, bundle, now))
    keys = [each if isinstance(each, int) else next(made) for each in chunk]
    members = [(bundle, position, key) for position, key in enumerate(keys, start=first)]
    load("task_bundle", ["bundle_id", "position", "task_id"], members)
    return keys


def _take(tasks: Sequence[int], bundle: int) -> None:
    """Move recorded tasks that are not running or completed into a bundle run by hand."""
    if not tasks:
        return
    stage("taken", {"id": "BIGINT"}, [(each,) for each in tasks])
    taken = changed(
        "UPDATE task SET state = 'running', bundle_id = ?, not_before = NULL "
        "WHERE id IN (SELECT id FROM taken) AND state IN ('pending', 'failed', 'cancelled')",
        (bundle,),
    )
    if taken != len(tasks):
        raise AstraError(_taken_already(len(tasks) - taken, len(tasks)))


def _taken_already(count: int, most: int) -> str:
    return f"{count} of the {most} tasks are running or completed; nothing was started"


def _refuse_untakeable(tasks: Sequence[int]) -> None:
    """Raise `AstraError` where recorded tasks cannot be run by hand together, before any of them is touched."""
    if len(set(tasks)) < len(tasks):
        raise AstraError(f"task {Counter(tasks).most_common(1)[0][0]} was given twice; nothing was started")
    taken = 0
    seen: dict[str, int] = {}
    for start in range(0, len(tasks), CHUNK):
        listed = ", ".join(map(str, tasks[start : start + CHUNK]))
        own: dict[str, int] = {}
        with by_index():
            query = f"SELECT id, identity, state FROM task WHERE id IN ({listed}) ORDER BY id"
            for task, identity, state in run(query):
                taken += state in (TaskState.RUNNING, TaskState.COMPLETED)
                if identity in seen:
                    same = f"tasks {seen[identity]} and {task} record the same work"
                    raise AstraError(f"{same}; nothing was started: run one of them")
                if identity is not None:
                    own[identity] = seen[identity] = task
        _refuse_queued(own)
    if taken:
        raise AstraError(_taken_already(taken, len(tasks)))


def _refuse_queued(tasks: Mapping[str, int]) -> None:
    """Raise `AstraError` where another task, which is pending or running, is the same work; tasks by identity."""
    condition, parameter = among("identity", list(tasks))
    with by_index():
        live = run(f"SELECT identity, id FROM task WHERE {condition} AND {IS_LIVE} ORDER BY id", (parameter,))
    for identity, twin in live:
        if twin != tasks[identity]:
            words = f"task {tasks[identity]} is already queued as task {twin}, which is the same work"
            raise AstraError(f"{words}: run that one")
