"""Bundles begun: claimed by a scheduler and started by a process, or opened by a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from astra.database.connection import changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import stage
from astra.errors import AstraError, LeaseLost
from astra.provenance import Code, Owner
from astra.queue.ending import fail_gone
from astra.queue.enqueueing import CHUNK, LIVE, insert
from astra.states import TaskState
from astra.work import ByHand, Claimed, new_token


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
        f"UPDATE task SET state = 'running', bundle_id = ? WHERE id IN (SELECT id {_PENDING})",
        (bundle, bundle_key, limit),
    )
    execute(
        "INSERT INTO task_bundle (bundle_id, position, task_id) "
        "SELECT ?, row_number() OVER (ORDER BY priority, id) - 1, id FROM task "
        "WHERE bundle_id = ? AND state = 'running'",
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


def start(claimed: Claimed, owner: Owner, code: Code, environment: int, lease: datetime, now: datetime) -> str:
    """Turn a submitted bundle running in this process, and return the token that fences its writes from now on.

    Raises
    ------
    LeaseLost
        If the bundle was released, or another process has started it.
    """
    token = new_token()
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, instant_text(lease), instant_text(now))
    made = (environment, code.version, code.component_version, code.source_sha256, code.git_commit, code.git_dirty)
    with database.atomic():
        started = changed(
            "UPDATE bundle SET state = 'running', token = ?, owner_boot = ?, owner_pid = ?, owner_start = ?, host = ?, "
            '"user" = ?, lease_expires = ?, started = ?, environment_id = ?, version = ?, component_version = ?, '
            "source_sha256 = ?, git_commit = ?, git_dirty = ? WHERE id = ? AND token = ? AND state = 'submitted'",
            (*ours, *made, claimed.bundle, claimed.token),
        )
    if started != 1:
        raise LeaseLost(f"bundle {claimed.bundle} was taken back before it started; nothing was run")
    return token


def open_by_hand(request: ByHand, now: datetime) -> tuple[Claimed, list[int]]:
    """Record an interactive bundle as running, with no lease, and return it with the keys of its tasks in order.

    New tasks are written in chunks, each in a transaction of its own, so that nobody waits long for a large bundle.
    """
    recorded = [each for each in request.tasks if isinstance(each, int)]
    new = [each for each in request.tasks if not isinstance(each, int)]
    with database.atomic():
        held = _open(request, recorded, now)
        _take_recorded(recorded, held.bundle)
        made = insert(new[:CHUNK], TaskState.RUNNING, held.bundle, now)
        if len(new) <= CHUNK:
            return held, _join(request, held, made)
    try:
        for at in range(CHUNK, len(new), CHUNK):
            with database.atomic():
                made += insert(new[at : at + CHUNK], TaskState.RUNNING, held.bundle, now)
        return held, _join(request, held, made)
    except BaseException:
        fail_gone(held.bundle, held.token, "it could not be recorded whole", now)
        raise


def _open(request: ByHand, recorded: Sequence[int], now: datetime) -> Claimed:
    first, token, owner, code = request.tasks[0], new_token(), request.owner, request.code
    name, key = _name_and_key(recorded[0]) if isinstance(first, int) else (first.name, first.bundle_key)
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, "interactive", instant_text(now))
    made = (instant_text(now), request.environment, code.version, code.component_version, code.source_sha256)
    bundle: int = run(
        f"INSERT INTO bundle (name, bundle_key, size, state, {_BUNDLE}, started, environment_id, version, "
        "component_version, source_sha256, git_commit, git_dirty) "
        "VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (name, key, len(request.tasks), *ours, *made, code.git_commit, code.git_dirty),
    )[0][0]
    return Claimed(bundle, len(request.tasks), token)


def _join(request: ByHand, held: Claimed, made: Sequence[int]) -> list[int]:
    """Give every task its position in the bundle, and return their keys by position."""
    fresh = iter(made)
    keys = [each if isinstance(each, int) else next(fresh) for each in request.tasks]
    columns = {"bundle_id": "BIGINT", "position": "BIGINT", "task_id": "BIGINT"}
    names = ", ".join(columns)
    for at in range(0, len(keys), CHUNK):
        with database.atomic():
            stage("members", columns, [(held.bundle, at + i, each) for i, each in enumerate(keys[at : at + CHUNK])])
            execute(f"INSERT INTO task_bundle ({names}) SELECT {names} FROM members")
    return keys


def _name_and_key(task: int) -> tuple[str, str]:
    name, key = run("SELECT name, bundle_key FROM task WHERE id = ?", (task,))[0]
    return name, key


def _take_recorded(tasks: Sequence[int], bundle: int) -> None:
    """Move recorded tasks that are not running or completed into a bundle run by hand."""
    if not tasks:
        return
    if len(set(tasks)) < len(tasks):
        raise AstraError(f"task {Counter(tasks).most_common(1)[0][0]} was given twice; nothing was started")
    stage("taken", {"id": "BIGINT"}, [(each,) for each in tasks])
    twins = run(
        f"SELECT t.id, o.id, o.{LIVE} FROM taken n JOIN task t ON t.id = n.id JOIN task o ON o.identity = t.identity "
        f"AND o.id <> t.id AND (o.{LIVE} OR o.id IN (SELECT id FROM taken)) ORDER BY o.{LIVE} DESC, t.id, o.id LIMIT 1"
    )
    if twins:
        task, twin, alive = twins[0]
        if alive:
            raise AstraError(f"task {task} is already queued as task {twin}, which is the same work: run that one")
        raise AstraError(f"tasks {task} and {twin} record the same work; nothing was started: run one of them")
    taken = changed(
        "UPDATE task SET state = 'running', bundle_id = ?, not_before = NULL "
        "WHERE id IN (SELECT id FROM taken) AND state IN ('pending', 'failed', 'cancelled')",
        (bundle,),
    )
    if taken != len(tasks):
        raise AstraError(
            f"{len(tasks) - taken} of the {len(tasks)} tasks are running or completed; nothing was started"
        )
