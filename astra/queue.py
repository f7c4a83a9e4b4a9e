"""The sole writer of task and bundle state. Comes from rules, notebooks and the scheduler; goes to the database.

Every change is one guarded UPDATE whose row count is read. A bundle's token is swapped when its process starts, and
every later write is fenced by it *and* by its counts: who lost the bundle changes nothing and is told (`LeaseLost`).
Statements grow with chunks, never with tasks; `docs/STATES.md` draws both state machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from astra.database.astradb import STAGES
from astra.database.connection import changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import insert_rows, reserve_ids, stage
from astra.errors import AstraError, LeaseLost
from astra.provenance import Code, Owner, astra_version
from astra.states import STATE_AFTER, BundleState, TaskState
from astra.work import ByHand, Claimed, Ended, Expiry, Finish, NewTask, Totals, new_token

CHUNK = 10_000
LIVE = f"state IN ('{TaskState.PENDING}', '{TaskState.RUNNING}')"


# A task's own columns as they are staged, and where `NewTask` has them.
_NEW_TASK = {
    "id": "BIGINT", "name": "TEXT", "parameters": "TEXT", "component_version": "TEXT", "priority": "BIGINT",
    "bundle_key": "TEXT", "identity": "TEXT", "rule": "TEXT", "repeat_of_id": "BIGINT", "replay_id": "BIGINT",
}  # fmt: skip
_own = attrgetter(*(name.removesuffix("_id") for name in list(_NEW_TASK)[1:]))


# ---------------------------------------------------------------------------------------------------- making tasks


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
            keys += _insert(tasks[start : start + CHUNK], TaskState.PENDING, None, now)
    return keys


def _insert(tasks: Sequence[NewTask], state: TaskState, bundle: int | None, now: datetime) -> list[int]:
    keys = reserve_ids("task", len(tasks))
    version, created = astra_version(), instant_text(now)
    rows = [(key, *_own(task)) for key, task in zip(keys, tasks, strict=True)]
    stage("new_task", _NEW_TASK, rows)
    names = ", ".join(_NEW_TASK)
    # Ordered by identity, so that two enqueuers of the same work cannot deadlock.
    inserted = changed(
        f"INSERT INTO task ({names}, version, state, bundle_id, created) "
        f"SELECT {names}, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS {_instant()}) "
        f"FROM new_task WHERE true ORDER BY identity, id ON CONFLICT (identity) WHERE {LIVE} DO NOTHING",
        (version, state, bundle, created),
    )
    inputs = [
        (key, position, each.data_product, each.ingestion)
        for key, task in zip(keys, tasks, strict=True)
        for position, each in enumerate(task.inputs)
    ]
    if inputs:
        wanted = {"task_id": "BIGINT", "position": "BIGINT", "data_product_id": "BIGINT", "ingestion_id": "BIGINT"}
        stage("new_input", wanted, inputs)
        own = "" if inserted == len(tasks) else " JOIN task t ON t.id = i.task_id"
        execute(
            "INSERT INTO task_input_data_product (task_id, position, data_product_id, ingestion_id) "
            f"SELECT i.task_id, i.position, i.data_product_id, i.ingestion_id FROM new_input i{own}"
        )
    if inserted < len(tasks):
        twins = run(f"SELECT n.id, t.id FROM new_task n JOIN task t ON t.identity = n.identity AND t.{LIVE}")
        existing = dict(twins)
        # A twin may have ended since it was met: then nothing stands for that task yet.
        gone = [at for at, (key, t) in enumerate(zip(keys, tasks, strict=True)) if t.identity and key not in existing]
        keys = [existing.get(key, key) for key in keys]
        if gone:
            for at, key in zip(gone, _insert([tasks[at] for at in gone], state, bundle, now), strict=True):
                keys[at] = key
    return keys


def supersede(data_products: Sequence[int], now: datetime) -> int:
    """Cancel the pending rule tasks of these data products whose input is no longer the current file version."""
    with database.atomic():
        stage("superseded", {"id": "BIGINT"}, [(each,) for each in data_products])
        return changed(
            f"UPDATE task SET state = '{TaskState.CANCELLED}' WHERE state = '{TaskState.PENDING}' AND rule IS NOT NULL "
            "AND id IN (SELECT i.task_id FROM superseded s JOIN data_product p ON p.id = s.id "
            "JOIN task_input_data_product i ON i.data_product_id = p.id WHERE i.ingestion_id <> p.current_ingestion_id)"
        )


# ------------------------------------------------------------------------------------------------- claiming bundles


def make_due(now: datetime) -> int:
    """Let the pending tasks whose waiting time has passed be claimed."""
    if not run("SELECT 1 FROM task WHERE state = 'pending' AND not_before <= ? LIMIT 1", (instant_text(now),)):
        return 0
    with database.atomic():
        return changed(
            "UPDATE task SET not_before = NULL WHERE state = 'pending' AND not_before IS NOT NULL AND not_before <= ?",
            (instant_text(now),),
        )


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


def _each_of(keys: str) -> str:
    """Return a condition that leads both databases to look each key up, whatever they believe of the table's size.

    Told apart from the rest of the condition, which is written so that no index fits it: a queue's statistics are
    always stale, and for a bundle believed to have one task PostgreSQL would walk all tasks once for each of them.
    """
    return f"IN ({keys})" if is_sqlite() else f"= ANY (ARRAY({keys}))"


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
    """Record an interactive bundle as running, with no lease, and return it with the keys of its tasks in order."""
    first = request.new[0] if request.new else None
    token, owner, code = new_token(), request.owner, request.code
    with database.atomic():
        name, key = (first.name, first.bundle_key) if first else _name_and_key(request.recorded[0])
        size = len(request.new) + len(request.recorded)
        ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, "interactive", instant_text(now))
        made = (instant_text(now), request.environment, code.version, code.component_version, code.source_sha256)
        bundle: int = run(
            f"INSERT INTO bundle (name, bundle_key, size, state, {_BUNDLE}, started, environment_id, version, "
            "component_version, source_sha256, git_commit, git_dirty) "
            "VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (name, key, size, *ours, *made, code.git_commit, code.git_dirty),
        )[0][0]
        keys = _take_recorded(request.recorded, bundle)
        for at in range(0, len(request.new), CHUNK):
            keys += _insert(request.new[at : at + CHUNK], TaskState.RUNNING, bundle, now)
        for at in range(0, size, CHUNK):
            columns = {"bundle_id": "BIGINT", "position": "BIGINT", "task_id": "BIGINT"}
            stage("members", columns, [(bundle, at + i, each) for i, each in enumerate(keys[at : at + CHUNK])])
            names = "bundle_id, position, task_id"
            execute(f"INSERT INTO task_bundle ({names}) SELECT {names} FROM members")
    return Claimed(bundle, size, token), keys


def _name_and_key(task: int) -> tuple[str, str]:
    name, key = run("SELECT name, bundle_key FROM task WHERE id = ?", (task,))[0]
    return name, key


def _take_recorded(tasks: Sequence[int], bundle: int) -> list[int]:
    """Move recorded tasks that are not running or completed into a bundle run by hand."""
    if not tasks:
        return []
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
    return list(tasks)


# --------------------------------------------------------------------------------------------------- ending bundles


def renew(bundle: int, token: str, lease: datetime) -> bool:
    """Lengthen a running bundle's lease; False where it is no longer the caller's."""
    with database.atomic():
        statement = "UPDATE bundle SET lease_expires = ? WHERE id = ? AND token = ? AND state = 'running'"
        return changed(statement, (instant_text(lease), bundle, token)) == 1


def finish(chunk: Finish, now: datetime) -> None:
    """End a chunk of a bundle's tasks with their times and results, in one transaction; with `totals`, the bundle too.

    Raises
    ------
    LeaseLost
        If the bundle, or one of the tasks, is no longer the caller's: nothing is written.
    """
    fence = "UPDATE bundle SET state = state WHERE id = ? AND token = ? AND state = 'running'"
    with database.atomic():
        if changed(fence, (chunk.bundle, chunk.token)) != 1:
            raise LeaseLost(
                f"bundle {chunk.bundle} is no longer this process's: {len(chunk.ended)} of its tasks were not recorded"
            )
        if chunk.ended:
            _end_tasks(chunk.bundle, chunk.ended)
        insert_rows(chunk.results)
        if chunk.totals is not None:
            _end_bundle(chunk.bundle, chunk.totals, now)


def _end_tasks(bundle: int, ended: Sequence[Ended]) -> None:
    columns = {"bundle_id": "BIGINT", "position": "BIGINT", "task_id": "BIGINT", "outcome": "TEXT"}
    columns |= {"error_class": "TEXT", "error_message": "TEXT", "traceback": "TEXT"}
    columns |= {f"time_{name}": "REAL" for name in STAGES}
    rows = [
        (bundle, e.position, e.task, e.outcome, e.error_class, e.error_message, e.traceback, *e.times) for e in ended
    ]
    stage("ended", columns, rows)
    names = ", ".join(columns)
    updates = ", ".join(f"{name} = excluded.{name}" for name in list(columns)[3:])
    # An upsert, not UPDATE ... FROM: a new bundle is estimated at one row, which makes that one quadratic.
    counted = changed(
        f"INSERT INTO task_bundle ({names}) SELECT {names} FROM ended WHERE true "
        f"ON CONFLICT (bundle_id, position) DO UPDATE SET {updates} "
        "WHERE task_bundle.outcome IS NULL AND task_bundle.task_id = excluded.task_id"
    )
    moved = 0
    for outcome in {each.outcome for each in ended}:
        moved += changed(
            "UPDATE task SET state = ? WHERE bundle_id + 0 = ? AND state || '' = 'running' "
            f"AND id {_each_of('SELECT task_id FROM ended WHERE outcome = ?')}",
            (STATE_AFTER[outcome], bundle, outcome),
        )
    if counted != len(ended) or moved != len(ended):
        raise LeaseLost(f"bundle {bundle}: some of its tasks had ended already; this chunk was not recorded")


def _end_bundle(bundle: int, totals: Totals, now: datetime) -> None:
    times = [seconds for pair in totals.stages for seconds in pair]
    columns = ", ".join(f"time_{name} = ?, time_{name}_overhead = ?" for name in STAGES)
    execute(
        f"UPDATE bundle SET state = 'ended', lease_expires = NULL, ended = ?, error = ?, {columns} WHERE id = ?",
        (instant_text(now), totals.error, *times, bundle),
    )


def release(bundle: int, token: str, reason: str, now: datetime) -> int:
    """Give a bundle's unfinished tasks back to the queue, unrun; return how many. 0 where it is not the caller's."""
    with database.atomic():
        if not _close(bundle, token, BundleState.RELEASED, reason, now):
            return 0
        given = changed("UPDATE task SET state = 'pending' WHERE bundle_id = ? AND state = 'running'", (bundle,))
        execute("UPDATE task_bundle SET outcome = 'released' WHERE bundle_id = ? AND outcome IS NULL", (bundle,))
    return given


def expire(expiry: Expiry, now: datetime) -> tuple[int, int]:
    """Take a bundle from a process that died or was ended: its tasks wait for another try, or fail after `retries`.

    Returns
    -------
    tuple of int
        How many tasks will be tried again, and how many failed. Both 0 where the bundle had ended meanwhile.
    """
    with database.atomic():
        if not _close(expiry.bundle, expiry.token, BundleState.EXPIRED, expiry.reason, now):
            return 0, 0
        execute(
            "UPDATE task_bundle SET outcome = 'expired', error_class = 'ProcessDied', error_message = ? "
            "WHERE bundle_id = ? AND outcome IS NULL",
            (expiry.reason, expiry.bundle),
        )
        failed = changed(
            "UPDATE task SET state = 'failed' WHERE bundle_id = ? AND state = 'running' AND (SELECT count(*) "
            "FROM task_bundle m WHERE m.task_id = task.id AND m.outcome = 'expired') > ?",
            (expiry.bundle, expiry.retries),
        )
        waiting = changed(
            "UPDATE task SET state = 'pending', not_before = ? WHERE bundle_id = ? AND state = 'running'",
            (instant_text(expiry.not_before), expiry.bundle),
        )
    return waiting, failed


def fail_gone(bundle: int, token: str, reason: str, now: datetime) -> int:
    """End a bundle that nobody will try again: its unfinished tasks failed, and how many those were is returned."""
    with database.atomic():
        if not _close(bundle, token, BundleState.EXPIRED, reason, now):
            return 0
        execute(
            "UPDATE task_bundle SET outcome = 'failed', error_class = 'ProcessDied', error_message = ? "
            "WHERE bundle_id = ? AND outcome IS NULL",
            (reason, bundle),
        )
        return changed("UPDATE task SET state = 'failed' WHERE bundle_id = ? AND state = 'running'", (bundle,))


def _close(bundle: int, token: str, state: BundleState, reason: str, now: datetime) -> bool:
    statement = (
        "UPDATE bundle SET state = ?, ended = ?, error = ?, lease_expires = NULL "
        "WHERE id = ? AND token = ? AND state IN ('submitted', 'running')"
    )
    return changed(statement, (state, instant_text(now), reason, bundle, token)) == 1


def _instant() -> str:
    return "TEXT" if is_sqlite() else "TIMESTAMPTZ"
