"""Bundles and their tasks ended: finished in chunks, released, expired; each write fenced by token and row counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from astra.database.astradb import STAGES
from astra.database.connection import by_index, changed, database, execute, execute_many, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import among, insert_rows, load, stage
from astra.errors import InputChanged, LeaseLost
from astra.failures import PASSING, again_after
from astra.queue.awaiting import let_go
from astra.queue.enqueueing import enqueue
from astra.states import STATE_AFTER, ErrorKind, TaskOutcome
from astra.work import Ended, Finish, Input, NewTask

# What `Ended` holds, as it is staged.
_ENDED = {"bundle_id": "BIGINT", "position": "BIGINT", "task_id": "BIGINT", "outcome": "TEXT"}
_ENDED |= {f"time_{name}": "REAL" for name in STAGES}
_ENDED |= {"error_class": "TEXT", "error_message": "TEXT", "traceback": "TEXT", "error_kind": "TEXT"}
_TIMES = 7  # where the times end
# What `Totals` holds, as the bundle has it.
_TOTALS = [f"time_{name}{part}" for name in STAGES for part in ("", "_overhead")]
_TOTALS += ["error", "peak_memory", "log", "log_start", "log_end"]


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


def finish(chunks: Sequence[Finish], now: datetime) -> None:
    """End chunks of tasks of one or several bundles, with their times and results, in one transaction.

    Each is a chunk of another bundle; where it has `totals`, its bundle ends too. A task that raised what may pass is
    pending again, as often as its chunk's `retry` allows.

    Raises
    ------
    LeaseLost
        If a bundle, or one of the tasks, is no longer the caller's: nothing of all this is written.
    """
    with database.atomic():
        for chunk in chunks:
            if not _hold_or_end(chunk, now):
                raise LeaseLost(_lost(chunk.bundle, len(chunk.ended)))
        if any(chunk.ended for chunk in chunks):
            _end_tasks(chunks, now)
            let_go([each.task for chunk in chunks for each in chunk.ended if each.outcome is TaskOutcome.COMPLETED])
        insert_rows([row for chunk in chunks for row in chunk.results])
        if outputs := [(task, chunk.bundle, product) for chunk in chunks for task, product in chunk.outputs]:
            load("task_output_data_product", ["task_id", "bundle_id", "data_product_id"], outputs)
        changed_inputs = InputChanged.__name__
        if followed := [each.task for chunk in chunks for each in chunk.ended if each.error_class == changed_inputs]:
            _follow(followed, now)


def _lost(bundle: int, tasks: int) -> str:
    """Say that a bundle was taken away, and why, as far as its record tells."""
    found = run("SELECT error FROM bundle WHERE id = ?", (bundle,))
    why = f" ({found[0][0]})" if found and found[0][0] else ""
    return f"bundle {bundle} is no longer this process's{why}: {tasks} of its tasks were not recorded"


def _follow(tasks: Sequence[int], now: datetime) -> None:
    """Enqueue the work of rule tasks anew whose file, the same in content, lies in another place by now.

    When it moved, they were running: what the rules called for on the file in its new place was taken for their twin.
    """
    stage("followed", {"id": "BIGINT"}, [(each,) for each in tasks])
    rows = run(
        "SELECT t.id, t.name, t.component_version, t.parameters, t.bundle_key, t.priority, t.identity, t.rule, "
        "t.after, p.id, c.id, p.identity, c.id <> g.id, "
        "c.size = g.size AND c.mtime_ns = g.mtime_ns AND c.header_sha256 = g.header_sha256 "
        "FROM followed f JOIN task t ON t.id = f.id "
        "JOIN task_input_data_product i ON i.task_id = t.id JOIN data_product p ON p.id = i.data_product_id "
        "JOIN ingestion g ON g.id = i.ingestion_id JOIN ingestion c ON c.id = p.current_ingestion_id "
        "WHERE t.rule IS NOT NULL ORDER BY t.id, i.position"
    )
    again = []
    for _, own in groupby(rows, key=itemgetter(0)):
        given = list(own)
        if any(row[-2] for row in given) and all(row[-1] for row in given):
            inputs = tuple(Input(product, ingestion, known, "") for *_, product, ingestion, known, _, _ in given)
            _, name, version, parameters, key, priority, identity, rule, after, *_ = given[0]
            work = NewTask(name, version, parameters, key, inputs, priority, identity, rule, after=after)
            again.append(work)
    if again:
        enqueue(again, now)


def _end_tasks(chunks: Sequence[Finish], now: datetime) -> None:
    rows = [(chunk.bundle, *each) for chunk in chunks for each in chunk.ended]
    counted = _end_members(rows) if is_sqlite() else _end_staged_members(rows)
    again = _to_try_again([chunk for chunk in chunks if chunk.retry.retries], now)
    moved = _move_again(again) if again else 0
    left = [row for row in rows if row[2] not in again] if again else rows
    moved += _move(left) if is_sqlite() else _move_staged(left, again)
    if counted != len(rows) or moved != len(rows):
        raise LeaseLost(f"bundle {rows[0][0]}: some of its tasks had ended already; this chunk was not recorded")


def _end_members(rows: Sequence[tuple[Any, ...]]) -> int:
    """Write how tasks left their bundles, row by row; those without an error in fewer words."""
    names, count = list(_ENDED), 0
    for last, own in ((_TIMES, [row for row in rows if row[_TIMES] is None]), (None, [r for r in rows if r[_TIMES]])):
        columns = ", ".join(f"{name} = ?" for name in names[3:last])
        count += execute_many(
            f"UPDATE task_bundle SET {columns} WHERE bundle_id = ? AND position = ? AND task_id = ? "
            "AND outcome IS NULL",
            [(*row[3:last], *row[:3]) for row in own],
        )
    return count


def _end_staged_members(rows: Sequence[tuple[Any, ...]]) -> int:
    stage("ended", _ENDED, rows)
    names = ", ".join(_ENDED)
    updates = ", ".join(f"{name} = excluded.{name}" for name in list(_ENDED)[3:])
    # An upsert, not UPDATE ... FROM: a new bundle is estimated at one row, which makes that one quadratic.
    return changed(
        f"INSERT INTO task_bundle ({names}) SELECT {names} FROM ended WHERE true "
        f"ON CONFLICT (bundle_id, position) DO UPDATE SET {updates} "
        "WHERE task_bundle.outcome IS NULL AND task_bundle.task_id = excluded.task_id"
    )


def _move(rows: Sequence[tuple[Any, ...]]) -> int:
    return execute_many(
        "UPDATE task SET state = ? WHERE id = ? AND bundle_id = ? AND state = 'running'",
        [(STATE_AFTER[row[3]], row[2], row[0]) for row in rows],
    )


def _move_staged(rows: Sequence[tuple[Any, ...]], again: Collection[int]) -> int:
    """Give the staged tasks their states; those that are to be tried again have theirs."""
    others = f" AND task_id NOT IN ({', '.join(str(int(each)) for each in again)})" if again else ""
    moved = 0
    for outcome in {row[3] for row in rows}:
        moved += changed(
            "UPDATE task SET state = ? WHERE state = 'running' "
            f"AND id = ANY (ARRAY(SELECT task_id FROM ended WHERE outcome = ?{others})) "
            "AND bundle_id + 0 = ANY (ARRAY(SELECT DISTINCT bundle_id FROM ended))",
            (STATE_AFTER[outcome], outcome),
        )
    return moved


_Again = dict[int, tuple[int, str | None, int | None]]  # by task: its bundle, when, and with whom
_AGAIN = {"id": "BIGINT", "bundle_id": "BIGINT", "not_before": "INSTANT", "cohort": "BIGINT"}


def _move_again(again: _Again) -> int:
    stage("tried_again", _AGAIN, [(task, *again[task]) for task in sorted(again)])
    return changed(
        "UPDATE task SET state = 'pending', not_before = a.not_before, cohort = coalesce(a.cohort, task.cohort) "
        "FROM tried_again a WHERE task.id = a.id AND task.bundle_id + 0 = a.bundle_id AND task.state || '' = 'running'"
    )


def _to_try_again(chunks: Sequence[Finish], now: datetime) -> _Again:
    """Return the tasks that raised what may pass and have tries left: their bundle, when, and with whom.

    What ran out of memory or of time runs alone the next time, where it was that task alone; what befell all of a
    bundle, a disk that is full, say, is no reason to run each of them alone for ever.
    """
    raised = [(chunk, each) for chunk in chunks for each in chunk.ended if each.error_kind in PASSING]
    if not raised:
        return {}
    common = Counter(chunk.bundle for chunk, _ in raised)
    count = tries([each.task for _, each in raised], "failed")
    again: _Again = {}
    for chunk, each in raised:
        if count[each.task] <= chunk.retry.retries:
            wait = instant_text(again_after(count[each.task], chunk.retry.backoff, now))
            is_its_own = each.error_kind is not ErrorKind.RETRY and common[chunk.bundle] == 1
            again[each.task] = chunk.bundle, wait, -each.task if is_its_own else None
    return again


def tries(tasks: Sequence[int], outcome: str) -> dict[int, int]:
    """Return how often each of these tasks left a bundle in this way, since a person last asked for it."""
    condition, parameter = among("t.id", tasks, "BIGINT")
    with by_index():
        counted = run(
            "SELECT t.id, count(*) FROM task t JOIN task_bundle m ON m.task_id = t.id AND m.bundle_id > t.tries_after "
            f"WHERE {condition} AND m.outcome = ? AND m.error_kind IS NOT NULL GROUP BY t.id",
            (parameter, outcome),
        )
    return dict.fromkeys(tasks, 0) | dict(counted)


def is_holder(bundle: int, token: str) -> bool:
    """Return whether the bundle is the caller's, and keep it so until the transaction ends."""
    statement = "UPDATE bundle SET state = state WHERE id = ? AND token = ? AND state = 'running'"
    return changed(statement, (bundle, token)) == 1


_IS_MINE = "WHERE id = ? AND token = ? AND state = 'running'"


def _hold_or_end(chunk: Finish, now: datetime) -> bool:
    """Count a chunk's tasks in their bundle, and end it with its last chunk; return whether it is the caller's."""
    completed = sum(each.outcome is TaskOutcome.COMPLETED for each in chunk.ended)
    failed = sum(_counts_as_failure(each) for each in chunk.ended) if completed < len(chunk.ended) else 0
    counts = "completed = completed + ?, failed = failed + ?"
    if (last := chunk.totals) is None:
        own = (completed, failed, chunk.bundle, chunk.token)
        return changed(f"UPDATE bundle SET {counts} {_IS_MINE}", own) == 1
    totals: list[Any] = [seconds for pair in last.stages for seconds in pair]
    totals += [last.error, last.peak_memory, *(last.log or (None, None, None))]
    columns = ", ".join(f"{name} = ?" for name in _TOTALS)
    statement = f"UPDATE bundle SET state = 'ended', lease_expires = NULL, ended = ?, {counts}, {columns} {_IS_MINE}"
    return changed(statement, (instant_text(now), completed, failed, *totals, chunk.bundle, chunk.token)) == 1


def _counts_as_failure(ended: Ended) -> bool:
    """Whether a task's end speaks against its component: not where its input was rewritten."""
    return ended.outcome is TaskOutcome.FAILED and ended.error_class != InputChanged.__name__
