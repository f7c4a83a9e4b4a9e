"""What people ask of work while it waits or runs: hold, let go, give back, cancel, drain, retry. The writer of holds.

Comes from the commands and, for holds, from the scheduler's circuit breaker; goes to the database. A bundle is taken by
closing it, whatever process has it: the guard is its state, and whoever ran it is told by the fence of its next write.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import peewee

from astra.database.astradb import Hold
from astra.database.connection import by_index, changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.staging import stage
from astra.errors import AstraError
from astra.holds import HELD_UNTIL
from astra.queue.enqueueing import CHUNK, next_generation
from astra.queue.giving_back import release
from astra.states import IS_LIVE, HoldKind, TaskState

_CLASHES = 5  # with enqueuers of the same work, before somebody is told
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
                f"UPDATE task SET not_before = ? WHERE bundle_id = ? AND state = 'pending' AND id {_of_bundle()}",
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
            "UPDATE task SET state = 'cancelled' WHERE bundle_id = ? AND state = 'running' "
            f"{lane}AND id {_of_bundle()}",
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
        f"UPDATE task SET state = 'pending' WHERE bundle_id = ? AND state = 'running' AND id {_of_bundle()}",
        (bundle, bundle),
    )
    execute("UPDATE task_bundle SET outcome = 'released' WHERE bundle_id = ? AND outcome IS NULL", (bundle,))


def _of_bundle() -> str:
    """Return the condition that a key is of an unfinished task of a bundle, whose key is to be given; see `ending`."""
    keys = "SELECT task_id FROM task_bundle WHERE bundle_id = ?"
    return f"IN ({keys})" if is_sqlite() else f"= ANY (ARRAY({keys}))"


# ------------------------------------------------------------------------------------------------------------- tasks


def hold_tasks(keys: Sequence[int]) -> int:
    """Hold pending tasks one by one; return how many were pending."""
    return _in_chunks("UPDATE task SET not_before = ? WHERE state = 'pending'", (instant_text(HELD_UNTIL),), keys)


def lift_tasks(keys: Sequence[int]) -> int:
    """Let go the pending tasks that were held one by one; return how many those are."""
    held = instant_text(HELD_UNTIL)
    return _in_chunks("UPDATE task SET not_before = NULL WHERE state = 'pending' AND not_before >= ?", (held,), keys)


def cancel_pending(keys: Sequence[int]) -> int:
    """Cancel the tasks that are pending; return how many those are. Each chunk is a transaction of its own."""
    return _in_chunks("UPDATE task SET state = 'cancelled', not_before = NULL WHERE state = 'pending'", (), keys)


def _in_chunks(statement: str, values: Sequence[Any], keys: Sequence[int]) -> int:
    count = 0
    for chunk in _chunks(keys):
        condition, parameter = _among_keys(chunk)
        with database.atomic():
            count += changed(f"{statement} AND id {condition}", (*values, parameter))
    return count


def _chunks(keys: Sequence[int]) -> Iterator[list[int]]:
    """Yield the keys in ranges; in order, so that two who change the same tasks cannot deadlock."""
    for start in range(0, len(keys), CHUNK):
        yield sorted(keys[start : start + CHUNK])


def _among_keys(keys: list[int]) -> tuple[str, Any]:
    """Return the condition that a column is one of many keys, and the one parameter that it takes."""
    if is_sqlite():
        return "IN (SELECT value FROM json_each(?))", json.dumps(keys)
    return "= ANY (CAST(? AS BIGINT[]))", keys


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
            plan.again.extend(key for key, _ in _retryable(chunk, states, plan))
    return plan


class _Clash(Exception):
    """Somebody changed a task between our look and our write."""


def _retry_chunk(chunk: list[int], states: frozenset[TaskState], done: Retried) -> None:
    for _ in range(_CLASHES):
        found = Retried()
        try:
            with by_index(), database.atomic():
                rows = _retryable(chunk, states, found)
                stage("retried", {"id": "BIGINT", "generation": "BIGINT"}, rows)
                if sum(_make_pending(state) for state in sorted(states)) != len(rows):
                    raise _Clash
        except (peewee.IntegrityError, _Clash):  # a twin was enqueued since we looked: the next look sees it
            continue
        done.again.extend(key for key, _ in rows)
        for each in found.left:
            done.leave(*each)
        done.alone += found.alone - len(found.left)
        return
    raise AstraError(f"tasks {chunk[0]} to {chunk[-1]} are changed by others all the time: ask for them again")


def _make_pending(state: TaskState) -> int:
    """Make pending what is staged; the generation, told when no twin lived, is refused where one has come since."""
    return changed(
        "UPDATE task SET state = 'pending', not_before = NULL, cohort = NULL, "
        "tries_after = coalesce(bundle_id, tries_after), "
        "generation = (SELECT r.generation FROM retried r WHERE r.id = task.id) "
        "WHERE state IN ('failed', 'cancelled') AND state = ? AND id IN (SELECT id FROM retried)",
        (state.value,),
    )


def _retryable(chunk: list[int], states: frozenset[TaskState], found: Retried) -> list[tuple[int, int]]:
    """Return which tasks can be retried, each with its next generation, and count the others in `found`."""
    condition, parameter = _among_keys(chunk)
    live = f"SELECT max(l.id) FROM task l WHERE l.identity = t.identity AND l.{IS_LIVE}"
    newest = f"SELECT max(n.id) FROM task n WHERE n.identity = t.identity AND NOT n.{IS_LIVE}"
    old = (
        "SELECT 1 FROM task_input_data_product i JOIN data_product p ON p.id = i.data_product_id "
        "WHERE i.task_id = t.id AND i.ingestion_id <> p.current_ingestion_id"
    )
    rows = run(
        f"SELECT t.id, t.state, t.identity IS NULL, t.rule, ({live}), ({newest}), EXISTS ({old}), "
        f"{next_generation('t')} FROM task t WHERE t.id {condition} ORDER BY t.id",
        (parameter,),
    )
    again = []
    for row in rows:
        candidate = _Candidate(*row)
        if (reason := _why_not(candidate, states)) is None:
            again.append((candidate.task, candidate.generation))
        else:
            found.leave(candidate.task, reason)
    return again


class _Candidate(NamedTuple):
    task: int
    state: str
    by_hand: bool
    rule: str | None
    live: int | None
    newest: int | None
    superseded: bool
    generation: int


def _why_not(given: _Candidate, states: frozenset[TaskState]) -> str | None:
    """Return why a task is not to be retried; None where it is."""
    if given.state not in states:
        also = "; --cancelled means it too" if given.state == TaskState.CANCELLED else ""
        return f"task {given.task} is {given.state}{also}"
    if given.by_hand:
        return f"task {given.task} was run by hand: `astra execute task {given.task}` runs it again"
    if given.live is not None:
        return f"task {given.task} is queued as task {given.live}, which is the same work"
    if given.newest is not None and given.newest > given.task:
        return f"task {given.task} was enqueued again as task {given.newest}, which stands for it"
    if given.superseded:
        last = "the task of that version does the work" if given.rule else "`astra replay tasks` enqueues it on that"
        return f"task {given.task} was given a file that has a newer version: {last}"
    return None
