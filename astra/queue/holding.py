"""What people ask of work while it waits or runs: hold, let go, give back, cancel, drain, retry. The writer of holds.

Comes from the commands and, for holds, from the scheduler's circuit breaker; goes to the database. A bundle is taken by
closing it, whatever process has it: the guard is its state, and whoever ran it is told by the fence of its next write.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import peewee

from astra.database.astradb import Hold
from astra.database.connection import by_index, changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.notices import announce
from astra.database.staging import among, stage
from astra.holds import AWAITS, HELD_UNTIL
from astra.queue.awaiting import let_go_among
from astra.queue.enqueueing import CHUNK, NO_LIVES, Lives, each_of, in_order, lives_of
from astra.queue.giving_back import of_bundle, release
from astra.states import HoldKind, TaskState

_LOOKS = 2  # at a chunk whose work others enqueue meanwhile, before its halves are retried by themselves
_LEFT_KEPT = 1000  # of the tasks that a retry leaves alone, so many are named


# ------------------------------------------------------------------------------------------- components and replays


def hold(
    kind: HoldKind, target: str, who: str, reason: str, now: datetime, probe_at: datetime | None = None
) -> bool:  # six values, each a column of the row
    """Hold a component or a replay: nothing more of it is to be started. Return whether it was not held before.

    Parameters
    ----------
    probe_at
        When the circuit breaker, whose hold it is, tries again. A person's hold, which has none, takes the place of one
        that has: it would else be lifted by a probe that goes well.
    """
    columns = "kind, target, who, reason, created, probe_at"
    with database.atomic():
        if probe_at is None:
            statement = "UPDATE hold SET lifted = ? WHERE kind = ? AND target = ? AND lifted IS NULL"
            execute(f"{statement} AND probe_at IS NOT NULL", (instant_text(now), kind.value, target))
        row = (kind.value, target, who, reason, instant_text(now), instant_text(probe_at))
        instant = "TEXT" if is_sqlite() else "TIMESTAMPTZ"
        return changed(
            f"INSERT INTO hold ({columns}) VALUES (?, ?, ?, ?, CAST(? AS {instant}), CAST(? AS {instant})) "
            "ON CONFLICT (kind, target) WHERE lifted IS NULL DO NOTHING",
            row,
        ) == 1  # fmt: skip


def lift(kind: HoldKind, target: str, now: datetime, key: int | None = None) -> Hold | None:
    """Lift the hold that stands on a component or a replay and return it; None where nothing does.

    Parameters
    ----------
    key
        The one hold that is meant: the breaker's own, which a person's may have replaced meanwhile.
    """
    own, values = ("", ()) if key is None else (" AND id = ?", (key,))
    statement = f"UPDATE hold SET lifted = ? WHERE kind = ? AND target = ? AND lifted IS NULL{own} RETURNING id"
    with database.atomic():
        found = run(statement, (instant_text(now), kind.value, target, *values))
        if found:
            announce()
    return Hold.get_by_id(found[0][0]) if found else None


def probe(key: int, bundle: int, again: datetime, now: datetime) -> bool:
    """Take the turn to try a bundle of what the breaker holds; False where it is not due, or somebody was faster.

    Parameters
    ----------
    key
        The hold.
    bundle
        The bundle, claimed already.
    again
        When the next turn is, should this one fail.
    """
    statement = "UPDATE hold SET probe_at = ?, probes = probes + 1, probe_bundle = ? WHERE id = ? AND lifted IS NULL"
    with database.atomic():
        return changed(f"{statement} AND probe_at <= ?", (instant_text(again), bundle, key, instant_text(now))) == 1


# ----------------------------------------------------------------------------------------------------------- bundles


def ask(bundle: int, what: str) -> bool:
    """Leave word for the supervisor of a bundle; False where none has it: it is not open, or run by hand."""
    statement = (
        "UPDATE bundle SET asked = ? WHERE id = ? AND executor <> 'interactive' AND state IN ('submitted', 'running')"
    )
    with database.atomic():
        return changed(statement, (what, bundle)) == 1


def give_back(bundle: int, reason: str, now: datetime, until: datetime | None = None) -> int:
    """Take an open bundle from whatever process has it; its unfinished tasks are pending again. Return how many.

    One that is run by hand is left alone: its tasks are nobody else's.

    Parameters
    ----------
    until
        `HELD_UNTIL`, where these tasks are to be held.
    """
    given = 0
    with database.atomic():
        while (token := _token(bundle)) is not None:  # it is swapped when the bundle starts, perhaps just now
            given += release(bundle, token, reason, now)
        if given and until is not None:
            execute(
                f"UPDATE task SET not_before = ? WHERE bundle_id = ? AND state = 'pending' AND id {of_bundle()}",
                (instant_text(until), bundle, bundle),
            )
    return given


def _token(bundle: int) -> str | None:
    """Return the token of a bundle that a service has open."""
    query = "SELECT token FROM bundle WHERE id = ? AND executor <> 'interactive' AND state IN ('submitted', 'running')"
    found = run(query, (bundle,))
    return found[0][0] if found else None


def cancel_running(bundle: int, reason: str, now: datetime, replay: int | None = None) -> int:
    """Take an open bundle from whatever process has it, and cancel its unfinished tasks; return how many.

    Parameters
    ----------
    replay
        Cancel those of this replay only, and give the others back.
    """
    lane = "" if replay is None else "AND replay_id = ? "
    values = () if replay is None else (replay,)
    with database.atomic():
        closed = changed(
            "UPDATE bundle SET state = 'released', ended = ?, error = ?, lease_expires = NULL "
            "WHERE id = ? AND state IN ('submitted', 'running')",
            (instant_text(now), reason, bundle),
        )
        if not closed:
            return 0
        cancelled = changed(
            f"UPDATE task SET state = 'cancelled' WHERE bundle_id = ? AND state = 'running' {lane}AND id {of_bundle()}",
            (bundle, *values, bundle),
        )
        execute(
            "UPDATE task_bundle SET outcome = 'cancelled', error_message = ? WHERE bundle_id = ? AND outcome IS NULL "
            "AND (SELECT t.state FROM task t WHERE t.id = task_bundle.task_id) = 'cancelled'",
            (reason, bundle),
        )
        if replay is not None:
            _give_back_others(bundle)
    return cancelled


def _give_back_others(bundle: int) -> None:
    execute(
        f"UPDATE task SET state = 'pending' WHERE bundle_id = ? AND state = 'running' AND id {of_bundle()}",
        (bundle, bundle),
    )
    execute("UPDATE task_bundle SET outcome = 'released' WHERE bundle_id = ? AND outcome IS NULL", (bundle,))


# ------------------------------------------------------------------------------------------------------------- tasks


def hold_tasks(keys: Sequence[int]) -> int:
    """Hold pending tasks one by one; return how many were pending."""
    return _in_chunks("UPDATE task SET not_before = ? WHERE state || '' = 'pending'", (instant_text(HELD_UNTIL),), keys)


def lift_tasks(keys: Sequence[int]) -> int:
    """Let go the pending tasks that were held one by one; return how many those are.

    One that comes after other work waits for that, if it is not done.
    """
    count, held = 0, instant_text(HELD_UNTIL)
    for chunk in _chunks(keys):
        condition, parameter = among("id", chunk, "BIGINT")
        with database.atomic():
            statement = f"UPDATE task SET not_before = {_wait()} WHERE state || '' = 'pending' AND not_before >= ?"
            count += changed(f"{statement} AND id {each_of(in_order(condition))}", (held, parameter))
            let_go_among(chunk)
    if count:
        announce()
    return count


def _wait() -> str:
    """Return what a task waits for that is pending anew: other work, until it is seen that this is done."""
    kind = "TEXT" if is_sqlite() else "TIMESTAMPTZ"
    return f"CASE WHEN task.after IS NOT NULL THEN CAST('{instant_text(AWAITS)}' AS {kind}) END"


def cancel_pending(keys: Sequence[int]) -> int:
    """Cancel the tasks that are pending; return how many those are. Each chunk is a transaction of its own."""
    statement = "UPDATE task SET state = 'cancelled', not_before = NULL WHERE state || '' = 'pending'"
    return _in_chunks(statement, (), keys)


def _in_chunks(statement: str, values: Sequence[Any], keys: Sequence[int]) -> int:
    count = 0
    for chunk in _chunks(keys):
        condition, parameter = among("id", chunk, "BIGINT")
        with database.atomic():
            count += changed(f"{statement} AND id {each_of(in_order(condition))}", (*values, parameter))
    return count


def _chunks(keys: Sequence[int]) -> Iterator[list[int]]:
    """Yield the keys in ranges."""
    for start in range(0, len(keys), CHUNK):
        yield sorted(keys[start : start + CHUNK])


# ------------------------------------------------------------------------------------------------------------- retry


class Left(NamedTuple):
    """A task that a retry leaves alone, and why."""

    task: int
    reason: str


@dataclass(slots=True)
class Retried:
    """What a retry has done, or would do: the tasks that are pending again, and the first of those left alone."""

    again: array[int] = field(default_factory=lambda: array("q"))
    left: list[Left] = field(default_factory=list)
    alone: int = 0

    def leave(self, task: int, reason: str) -> None:
        """Count a task that is left alone."""
        self.alone += 1
        if len(self.left) < _LEFT_KEPT:
            self.left.append(Left(task, reason))

    def take_over(self, other: Retried) -> None:
        """Count also the tasks that another has left alone."""
        for each in other.left:
            self.leave(*each)
        self.alone += other.alone - len(other.left)


FAILED = frozenset({TaskState.FAILED})


def retry(keys: Sequence[int], states: frozenset[TaskState] = FAILED) -> Retried:
    """Make failed tasks pending again, at once and as if they had not been tried; each chunk in its own transaction.

    Left alone, and named, are those whose work somebody else does: a live twin, a newer task of the same work, or the
    task of a newer file version; and those run by hand.

    Parameters
    ----------
    states
        Failed, or also cancelled.
    """
    done = Retried()
    for chunk in _chunks(keys):
        _retry_chunk(chunk, states, done)
    return done


def plan_retry(keys: Sequence[int], states: frozenset[TaskState] = FAILED) -> Retried:
    """Return what `retry` would do now; nothing is written."""
    plan = Retried()
    for chunk in _chunks(keys):
        with by_index():
            plan.again.extend(key for key, _, _ in _retryable(chunk, states, plan))
    return plan


def _retry_chunk(chunk: list[int], states: frozenset[TaskState], done: Retried) -> None:
    for _ in range(_LOOKS):
        found = Retried()
        try:
            with by_index(), database.atomic():
                rows = _retryable(chunk, states, found)
                moved = _make_pending(rows)
                if moved:
                    announce()
        except peewee.IntegrityError:  # a twin was enqueued since we looked: the next look sees it
            continue
        for key, _, _ in rows:
            if key in moved:
                done.again.append(key)
            else:
                found.leave(key, f"task {key} was changed by somebody else at this moment")
        done.take_over(found)
        return
    if len(chunk) == 1:
        done.leave(chunk[0], f"task {chunk[0]} is enqueued by somebody else at this moment")
        return
    middle = len(chunk) // 2
    for half in (chunk[:middle], chunk[middle:]):
        _retry_chunk(half, states, done)


def _make_pending(rows: list[tuple[int, str, int]]) -> set[int]:
    """Make tasks pending that are still in the state that was seen, and return which those were.

    The generation, told when no twin lived, is refused where one has come since.
    """
    stage("retried", {"id": "BIGINT", "state": "TEXT", "generation": "BIGINT"}, rows)
    # the words keep PostgreSQL from an index of states, and so to looking up each key
    moved = run(
        f"UPDATE task SET state = 'pending', not_before = {_wait()}, cohort = NULL, "
        "tries_after = coalesce(task.bundle_id, task.tries_after), generation = r.generation FROM retried r "
        "WHERE task.id = r.id AND task.state || '' = r.state AND task.state || '' IN ('failed', 'cancelled') "
        "RETURNING task.id"
    )
    let_go_among([key for (key,) in moved])
    return {key for (key,) in moved}


def _retryable(chunk: list[int], states: frozenset[TaskState], found: Retried) -> list[tuple[int, str, int]]:
    """Return which tasks can be retried, each with its state and next generation, and count the others in `found`."""
    condition, parameter = among("t.id", chunk, "BIGINT")
    old = (
        "SELECT 1 FROM task_input_data_product i JOIN data_product p ON p.id = i.data_product_id "
        "WHERE i.task_id = t.id AND i.ingestion_id <> p.current_ingestion_id"
    )
    query = f"SELECT t.id, t.state, t.identity, t.rule, EXISTS ({old}) FROM task t WHERE {condition} ORDER BY t.id"
    rows = [_Candidate(*row) for row in run(query, (parameter,))]
    lives = lives_of([row.identity for row in rows if row.identity is not None])
    again = []
    for each in rows:
        known = lives.get(each.identity or "", NO_LIVES)
        if (reason := _why_not(each, known, states)) is None:
            again.append((each.task, each.state, known.generation + 1))
        else:
            found.leave(each.task, reason)
    return again


class _Candidate(NamedTuple):
    task: int
    state: str
    identity: str | None
    rule: str | None
    superseded: bool


def _why_not(given: _Candidate, known: Lives, states: frozenset[TaskState]) -> str | None:
    """Return why a task is not to be retried; None where it is."""
    if given.state not in states:
        also = "; --cancelled means it too" if given.state == TaskState.CANCELLED else ""
        return f"task {given.task} is {given.state}{also}"
    if given.identity is None:
        return f"task {given.task} was run by hand: `astra execute task {given.task}` runs it again"
    if known.live not in (None, given.task):
        return f"task {given.task} is queued as task {known.live}, which is the same work"
    if known.newest is not None and known.newest > given.task:
        return f"task {given.task} was enqueued again as task {known.newest}, which stands for it"
    if given.superseded:
        last = "the task of that version does the work" if given.rule else "`astra replay tasks` enqueues it on that"
        return f"task {given.task} was given a file that has a newer version: {last}"
    return None
