"""Bundles given back, or taken from a process that died: whose tasks run again, which is to blame, which fails.

Each change begins with the bundle, guarded by its token: who finds it ended changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from astra.database.connection import changed, database, execute, run
from astra.database.fields import instant_text
from astra.failures import again_after
from astra.queue.ending import tries
from astra.queue.enqueueing import each_of
from astra.states import BundleState, ErrorKind
from astra.work import NO_RETRY, Expiry

FREE_INTERRUPTIONS = 5  # after which a task's next ones count against it
MOST_INTERRUPTIONS = 20  # of a task that is alone in its bundle


def release(bundle: int, token: str, reason: str, now: datetime) -> int:
    """Give a bundle's unfinished tasks back to the queue, unrun; return how many. 0 where it is not the caller's."""
    with database.atomic():
        if not _close(bundle, token, BundleState.RELEASED, reason, now):
            return 0
        given = changed(
            f"UPDATE task SET state = 'pending' WHERE bundle_id = ? AND state = 'running' AND id {of_bundle()}",
            (bundle, bundle),
        )
        execute("UPDATE task_bundle SET outcome = 'released' WHERE bundle_id = ? AND outcome IS NULL", (bundle,))
    return given


def expire(expiry: Expiry, now: datetime) -> tuple[int, int]:
    """Take a bundle from a process that died or was stopped, or whose service is gone.

    The task to blame is tried again when some time has passed, alone, or fails after its retries. Where nobody knows
    which it is, none counts a try: the two halves of the bundle never run together again, and wait when they are halves
    of a half.

    Returns
    -------
    tuple of int
        How many tasks will run again, and how many failed. Both 0 where the bundle had ended meanwhile.
    """
    with database.atomic():
        if not _close(expiry.bundle, expiry.token, BundleState.EXPIRED, expiry.reason, now):
            return 0, 0
        query = "SELECT count(*), min(position) FROM task_bundle WHERE bundle_id = ? AND outcome IS NULL"
        unfinished, first = run(query, (expiry.bundle,))[0]
        if not unfinished:
            return 0, 0
        if expiry.kind is ErrorKind.INTERRUPTED:
            return _give_back_interrupted(expiry, unfinished, first, now)
        execute("UPDATE bundle SET peak_memory = ? WHERE id = ?", (expiry.peak_memory, expiry.bundle))
        position = expiry.position if unfinished > 1 else first
        if position is None:
            _count_failure(expiry.bundle)
            _halve(expiry, unfinished, _wait_of_halves(expiry, now))
            return unfinished, 0
        failed = _blame(expiry, position, now)
        _release_rest(expiry, None)
        return unfinished - failed, failed


def _count_failure(bundle: int) -> None:
    """Count a process that died as one failure of its bundle, for the circuit breaker to see."""
    execute("UPDATE bundle SET failed = failed + 1 WHERE id = ?", (bundle,))


def _wait_of_halves(expiry: Expiry, now: datetime) -> datetime | None:
    """Return when the halves of a bundle may run: at once, unless it is what an earlier crash has left."""
    query = (
        "SELECT 1 FROM task_bundle m JOIN task t ON t.id = m.task_id "
        "WHERE m.bundle_id = ? AND m.outcome IS NULL AND t.cohort IS NOT NULL LIMIT 1"
    )
    return again_after(1, expiry.retry.backoff, now) if run(query, (expiry.bundle,)) else None


def _give_back_interrupted(expiry: Expiry, unfinished: int, first: int, now: datetime) -> tuple[int, int]:
    """Give back the tasks of a bundle that went with its service: nobody can tell whether one of them took it along.

    So when they have been interrupted some times already, they wait, and the bundle is halved; and one that is alone
    fails in the end.
    """
    times = _interruptions(expiry.bundle, first) + 1
    if unfinished == 1 and times > MOST_INTERRUPTIONS:
        return 0, _blame(replace(expiry, retry=NO_RETRY), first, now)
    if times <= FREE_INTERRUPTIONS:
        _release_rest(expiry, None)
        return unfinished, 0
    wait = again_after(times - FREE_INTERRUPTIONS, expiry.retry.backoff, now)
    if unfinished == 1:
        _release_rest(expiry, wait)
    else:
        _halve(expiry, unfinished, wait)
    return unfinished, 0


def _interruptions(bundle: int, position: int) -> int:
    counted: int = run(
        "SELECT count(*) FROM task_bundle own JOIN task t ON t.id = own.task_id JOIN task_bundle m "
        "ON m.task_id = t.id AND m.bundle_id > t.tries_after "
        "WHERE own.bundle_id = ? AND own.position = ? AND m.error_kind = 'interrupted'",
        (bundle, position),
    )[0][0]
    return counted


def _blame(expiry: Expiry, position: int, now: datetime) -> int:
    """Let the task at a position be tried again, alone and later, or fail; return 1 where it failed."""
    query = "SELECT task_id FROM task_bundle WHERE bundle_id = ? AND position = ? AND outcome IS NULL"
    found = run(query, (expiry.bundle, position))
    if not found:  # it had just ended: then nobody is to blame
        return 0
    task = found[0][0]
    if expiry.kind is not ErrorKind.INTERRUPTED:
        _count_failure(expiry.bundle)
    execute(
        "UPDATE task_bundle SET outcome = 'expired', error_class = 'ProcessDied', error_kind = ?, error_message = ?, "
        "traceback = ? WHERE bundle_id = ? AND position = ?",
        (expiry.kind, expiry.reason, expiry.stack, expiry.bundle, position),
    )
    count = tries([task], "expired")[task]
    if count > expiry.retry.retries:
        return changed(f"UPDATE task SET state = 'failed' {_ITS_OWN}", (task, expiry.bundle))
    wait = instant_text(again_after(count, expiry.retry.backoff, now))
    again = f"UPDATE task SET state = 'pending', not_before = ?, cohort = ? {_ITS_OWN}"
    execute(again, (wait, -task, task, expiry.bundle))
    return 0


def _halve(expiry: Expiry, unfinished: int, wait: datetime | None = None) -> None:
    """Give a bundle's unfinished tasks back as two cohorts, which are never claimed together."""
    query = "SELECT position FROM task_bundle WHERE bundle_id = ? AND outcome IS NULL ORDER BY position"
    middle = run(f"{query} LIMIT 1 OFFSET ?", (expiry.bundle, unfinished // 2))[0][0]
    execute(
        "UPDATE task SET cohort = CASE WHEN (SELECT position FROM task_bundle m WHERE m.bundle_id = ? "
        f"AND m.task_id = task.id) < ? THEN ? ELSE ? END WHERE {_UNFINISHED} AND id {of_bundle()}",
        (expiry.bundle, middle, 2 * expiry.bundle, 2 * expiry.bundle + 1, expiry.bundle, expiry.bundle),
    )
    _release_rest(expiry, wait)


def _release_rest(expiry: Expiry, wait: datetime | None) -> None:
    """Give back what is left of a bundle, and say why."""
    execute(
        f"UPDATE task SET state = 'pending', not_before = ? WHERE {_UNFINISHED} AND id {of_bundle()}",
        (instant_text(wait), expiry.bundle, expiry.bundle),
    )
    execute(
        "UPDATE task_bundle SET outcome = 'released', error_class = 'ProcessDied', error_kind = ?, error_message = ?, "
        "traceback = CASE WHEN position = (SELECT min(position) FROM task_bundle WHERE bundle_id = ? "
        "AND outcome IS NULL) THEN ? END WHERE bundle_id = ? AND outcome IS NULL",
        (expiry.kind, expiry.reason, expiry.bundle, expiry.stack, expiry.bundle),
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
            f"UPDATE task SET state = 'failed' WHERE bundle_id = ? AND state = 'running' AND id {of_bundle()}",
            (bundle, bundle),
        )


def _close(bundle: int, token: str, state: BundleState, reason: str, now: datetime) -> bool:
    statement = (
        "UPDATE bundle SET state = ?, ended = ?, error = ?, lease_expires = NULL "
        "WHERE id = ? AND token = ? AND state IN ('submitted', 'running')"
    )
    return changed(statement, (state, instant_text(now), reason, bundle, token)) == 1


_ITS_OWN = "WHERE id = ? AND bundle_id = ? AND state = 'running'"
_UNFINISHED = "bundle_id = ? AND state = 'running'"


def of_bundle() -> str:
    """Return the condition that a key is of a task of a bundle, whose key is to be given."""
    return each_of("SELECT task_id FROM task_bundle WHERE bundle_id = ?")
