"""Bundles and their tasks ended: finished in chunks, released, expired; each write fenced by token and row counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from astra.database.astradb import STAGES
from astra.database.connection import changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import insert_rows, load, stage
from astra.errors import InputChanged, LeaseLost
from astra.queue.enqueueing import enqueue
from astra.states import STATE_AFTER, BundleState
from astra.work import Ended, Expiry, Finish, Input, NewTask, Totals

# What `Ended` holds, as it is staged.
_ENDED = {"position": "BIGINT", "task_id": "BIGINT", "outcome": "TEXT"}
_ENDED |= {f"time_{name}": "REAL" for name in STAGES}
_ENDED |= {"error_class": "TEXT", "error_message": "TEXT", "traceback": "TEXT"}


def renew(bundles: Sequence[int], token: str, lease: datetime) -> set[int]:
    """Lengthen the lease of running bundles that share a token; return those that are still the caller's."""
    listed = ", ".join(str(int(each)) for each in bundles)
    with database.atomic():
        statement = f"UPDATE bundle SET lease_expires = ? WHERE id IN ({listed}) AND token = ? AND state = 'running'"
        return {row[0] for row in run(f"{statement} RETURNING id", (instant_text(lease), token))}


def note_log(bundle: int, path: str, start: int, end: int) -> None:
    """Note where the output of a bundle lies that could not do so itself: its process died."""
    with database.atomic():
        execute("UPDATE bundle SET log = ?, log_start = ?, log_end = ? WHERE id = ?", (path, start, end, bundle))


def finish(chunk: Finish, now: datetime) -> None:
    """End a chunk of a bundle's tasks with their times and results, in one transaction; with `totals`, the bundle too.

    Raises
    ------
    LeaseLost
        If the bundle, or one of the tasks, is no longer the caller's: nothing is written.
    """
    with database.atomic():
        last = chunk.totals
        if not (hold(chunk.bundle, chunk.token) if last is None else _end_bundle(chunk, last, now)):
            raise LeaseLost(
                f"bundle {chunk.bundle} is no longer this process's: {len(chunk.ended)} of its tasks were not recorded"
            )
        if chunk.ended:
            _end_tasks(chunk.bundle, chunk.ended)
        insert_rows(chunk.results)
        if chunk.outputs:
            rows = [(task, chunk.bundle, product) for task, product in chunk.outputs]
            load("task_output_data_product", ["task_id", "bundle_id", "data_product_id"], rows)
        if changed_inputs := [each.task for each in chunk.ended if each.error_class == InputChanged.__name__]:
            _follow(changed_inputs, now)


def _follow(tasks: Sequence[int], now: datetime) -> None:
    """Enqueue the work of rule tasks anew whose file, the same in content, lies in another place by now.

    When it moved, they were running: what the rules called for on the file in its new place was taken for their twin.
    """
    stage("followed", {"id": "BIGINT"}, [(each,) for each in tasks])
    rows = run(
        "SELECT t.name, t.component_version, t.parameters, t.bundle_key, t.priority, t.identity, t.rule, "
        "p.id, c.id, p.identity FROM followed f JOIN task t ON t.id = f.id "
        "JOIN task_input_data_product i ON i.task_id = t.id JOIN data_product p ON p.id = i.data_product_id "
        "JOIN ingestion g ON g.id = i.ingestion_id JOIN ingestion c ON c.id = p.current_ingestion_id "
        "WHERE t.rule IS NOT NULL AND c.id <> g.id AND c.size = g.size AND c.mtime_ns = g.mtime_ns "
        "AND c.header_sha256 = g.header_sha256"
    )
    again = [
        NewTask(name, version, parameters, key, (Input(product, ingestion, known, ""),), priority, identity, rule)
        for name, version, parameters, key, priority, identity, rule, product, ingestion, known in rows
    ]
    if again:
        enqueue(again, now)


def _end_tasks(bundle: int, ended: Sequence[Ended]) -> None:
    stage("ended", _ENDED, ended)
    names = ", ".join(_ENDED)
    updates = ", ".join(f"{name} = excluded.{name}" for name in list(_ENDED)[2:])
    # An upsert, not UPDATE ... FROM: a new bundle is estimated at one row, which makes that one quadratic.
    counted = changed(
        f"INSERT INTO task_bundle (bundle_id, {names}) SELECT CAST(? AS BIGINT), {names} FROM ended WHERE true "
        f"ON CONFLICT (bundle_id, position) DO UPDATE SET {updates} "
        "WHERE task_bundle.outcome IS NULL AND task_bundle.task_id = excluded.task_id",
        (bundle,),
    )
    moved = 0
    for outcome in {each.outcome for each in ended}:
        moved += changed(
            "UPDATE task SET state = ? WHERE bundle_id = ? AND state = 'running' "
            f"AND id {_each_of('SELECT task_id FROM ended WHERE outcome = ?')}",
            (STATE_AFTER[outcome], bundle, outcome),
        )
    if counted != len(ended) or moved != len(ended):
        raise LeaseLost(f"bundle {bundle}: some of its tasks had ended already; this chunk was not recorded")


def hold(bundle: int, token: str) -> bool:
    """Return whether the bundle is the caller's, and keep it so until the transaction ends."""
    statement = "UPDATE bundle SET state = state WHERE id = ? AND token = ? AND state = 'running'"
    return changed(statement, (bundle, token)) == 1


def _end_bundle(chunk: Finish, totals: Totals, now: datetime) -> bool:
    """End the bundle, if it is the caller's; return whether it was."""
    times = [seconds for pair in totals.stages for seconds in pair]
    columns = ", ".join(f"time_{name} = ?, time_{name}_overhead = ?" for name in STAGES)
    statement = (
        f"UPDATE bundle SET state = 'ended', lease_expires = NULL, ended = ?, error = ?, {columns}, "
        "peak_memory = ?, log = ?, log_start = ?, log_end = ? WHERE id = ? AND token = ? AND state = 'running'"
    )
    kept = (totals.peak_memory, *(totals.log or (None, None, None)))
    return changed(statement, (instant_text(now), totals.error, *times, *kept, chunk.bundle, chunk.token)) == 1


def release(bundle: int, token: str, reason: str, now: datetime) -> int:
    """Give a bundle's unfinished tasks back to the queue, unrun; return how many. 0 where it is not the caller's."""
    with database.atomic():
        if not _close(bundle, token, BundleState.RELEASED, reason, now):
            return 0
        given = changed(
            f"UPDATE task SET state = 'pending' WHERE bundle_id = ? AND state = 'running' AND id {_members()}",
            (bundle, bundle),
        )
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
        if expiry.position is not None:
            _release_but(expiry.bundle, expiry.position)
        execute(
            "UPDATE task_bundle SET outcome = 'expired', error_class = 'ProcessDied', error_message = ? "
            "WHERE bundle_id = ? AND outcome IS NULL",
            (expiry.reason, expiry.bundle),
        )
        failed = changed(
            f"UPDATE task SET state = 'failed' WHERE id {_members()} AND bundle_id = ? AND state = 'running' "
            "AND (SELECT count(*) FROM task_bundle m WHERE m.task_id = task.id AND m.outcome = 'expired') > ?",
            (expiry.bundle, expiry.bundle, expiry.retries),
        )
        waiting = changed(
            f"UPDATE task SET state = 'pending', not_before = ? WHERE id {_members()} "
            "AND bundle_id = ? AND state = 'running'",
            (instant_text(expiry.not_before), expiry.bundle, expiry.bundle),
        )
    return waiting, failed


def _release_but(bundle: int, position: int) -> None:
    """Give back the unfinished tasks of a bundle but the one that was in hand: they had no part in what happened."""
    execute(
        f"UPDATE task SET state = 'pending' WHERE id {_members()} AND bundle_id = ? AND state = 'running' "
        "AND id <> (SELECT task_id FROM task_bundle WHERE bundle_id = ? AND position = ?)",
        (bundle, bundle, bundle, position),
    )
    execute(
        "UPDATE task_bundle SET outcome = 'released' WHERE bundle_id = ? AND outcome IS NULL AND position <> ?",
        (bundle, position),
    )


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
        return changed(
            f"UPDATE task SET state = 'failed' WHERE bundle_id = ? AND state = 'running' AND id {_members()}",
            (bundle, bundle),
        )


def _close(bundle: int, token: str, state: BundleState, reason: str, now: datetime) -> bool:
    statement = (
        "UPDATE bundle SET state = ?, ended = ?, error = ?, lease_expires = NULL "
        "WHERE id = ? AND token = ? AND state IN ('submitted', 'running')"
    )
    return changed(statement, (state, instant_text(now), reason, bundle, token)) == 1


def _members() -> str:
    """Return the condition that a task is one of a bundle's, whose key is to be given."""
    return _each_of("SELECT task_id FROM task_bundle WHERE bundle_id = ?")


def _each_of(keys: str) -> str:
    """Return a condition that leads both databases to look each key up, whatever they believe of the table's size.

    A queue's statistics are always stale: told that a bundle has one task, PostgreSQL would walk all of a table.
    """
    return f"IN ({keys})" if is_sqlite() else f"= ANY (ARRAY({keys}))"
