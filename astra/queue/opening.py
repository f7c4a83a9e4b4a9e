"""Bundles begun: claimed by a scheduler and started by a process, or opened by a person."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime

import peewee

from astra.database.connection import (
    by_index,
    changed,
    database,
    execute_many,
    is_sqlite,
    planned_without,
    run,
)
from astra.database.fields import instant_text
from astra.database.staging import among, load, reserve_ids, stage
from astra.errors import AstraError, LeaseLost
from astra.provenance import Code, Owner
from astra.queue.ending import is_holder
from astra.queue.enqueueing import CHUNK, Lives, insert, lives_of
from astra.queue.giving_back import fail_gone
from astra.states import IS_DUE, TaskState
from astra.work import ByHand, Claimed, NewTask, Pick, lane, new_token


def claim(picks: Sequence[Pick], owner: Owner, executor: str, now: datetime) -> list[Claimed]:
    """Take pending tasks as submitted bundles, all in one transaction; what somebody else was faster to take is left.

    Parameters
    ----------
    picks
        What to take: all of one lane, priority and component, each key once.
    owner
        The process that will see to them.
    executor
        Where they are to run.

    Returns
    -------
    list of Claimed
        The bundles, which share a token. None holds tasks of two cohorts.
    """
    ours = (owner.boot, owner.pid, owner.start, owner.host, owner.user, executor, instant_text(now))
    token = new_token()
    # A queue's statistics are always stale, and mislead PostgreSQL. A claim that a crash of the server undoes is of
    # tasks that nobody has begun: their start, which is flushed, takes it along.
    with planned_without("seqscan", "bitmapscan", flushed=False):
        taken = _claim_sqlite(picks, token, ours) if is_sqlite() else _claim(picks, token, ours)
    return [Claimed(bundle, size, token, key) for bundle, size, key in taken]


_BUNDLE = 'token, owner_boot, owner_pid, owner_start, host, "user", executor, created'
# in the words and the order of the index that leads there
_WAITING = f"WHERE {IS_DUE} AND {{lane}} AND priority = ?"
_IN_ORDER = "ORDER BY replay_id, priority, bundle_key, id"


def _claim_sqlite(picks: Sequence[Pick], token: str, ours: tuple[object, ...]) -> list[tuple[int, int, str]]:
    parts: list[tuple[Pick, str, list[int]]] = []
    for pick in picks:
        waiting = _WAITING.format(lane=lane(pick.replay))
        rows = run(
            f"SELECT id, cohort, name FROM task {waiting} AND bundle_key = ? {_IN_ORDER} LIMIT ?",
            (pick.priority, pick.key, pick.limit * pick.times),
        )
        keys = [row[0] for row in rows if row[1] == rows[0][1]]
        parts += [(pick, rows[0][2], keys[at : at + pick.limit]) for at in range(0, len(keys), pick.limit)]
    if not parts:
        return []
    bundles = reserve_ids("bundle", len(parts))
    execute_many(
        f"INSERT INTO bundle (id, name, bundle_key, size, state, {_BUNDLE}) "
        "VALUES (?, ?, ?, ?, 'submitted', ?, ?, ?, ?, ?, ?, ?, ?)",
        [(key, name, pick.key, len(own), token, *ours) for key, (pick, name, own) in zip(bundles, parts, strict=True)],
    )
    members = [(key, at, task) for key, part in zip(bundles, parts, strict=True) for at, task in enumerate(part[2])]
    execute_many("INSERT INTO task_bundle (bundle_id, position, task_id) VALUES (?, ?, ?)", members)
    execute_many(
        "UPDATE task SET state = 'running', bundle_id = ? WHERE id = ? AND state = 'pending'",
        [(key, task) for key, _, task in members],
    )
    return [(key, len(own), pick.key) for key, (pick, _, own) in zip(bundles, parts, strict=True)]


def _claim(picks: Sequence[Pick], token: str, ours: tuple[object, ...]) -> list[tuple[int, int, str]]:
    waiting = _WAITING.format(lane=lane(picks[0].replay))
    return run(
        f"""
        WITH asked AS MATERIALIZED (
            SELECT * FROM unnest(CAST(? AS TEXT[]), CAST(? AS INTEGER[]), CAST(? AS INTEGER[]))
            WITH ORDINALITY AS asked (key, most, size, pick)),
        picked AS MATERIALIZED (
            SELECT asked.pick, asked.size, found.id, found.name, found.cohort FROM asked CROSS JOIN LATERAL (
                SELECT id, name, cohort FROM task {waiting} AND bundle_key = asked.key {_IN_ORDER}
                LIMIT asked.most FOR UPDATE SKIP LOCKED) found),
        led AS (
            SELECT picked.*, first_value(cohort) OVER (PARTITION BY pick ORDER BY id) AS ahead FROM picked),
        numbered AS MATERIALIZED (
            SELECT pick, size, id, name, row_number() OVER (PARTITION BY pick ORDER BY id) - 1 AS number FROM led
            WHERE cohort IS NOT DISTINCT FROM ahead),
        parts AS (
            SELECT pick, number / size AS part, count(*) AS size, min(name) AS name FROM numbered
            GROUP BY pick, number / size ORDER BY pick, number / size),
        bundles AS MATERIALIZED (SELECT parts.*, nextval('bundle_id_seq') AS bundle FROM parts),
        made AS (
            INSERT INTO bundle (id, name, bundle_key, size, state, {_BUNDLE})
            SELECT bundle, name, key, bundles.size, 'submitted', ?, ?, ?, ?, ?, ?, ?, CAST(? AS TIMESTAMPTZ)
            FROM bundles JOIN asked USING (pick)),
        placed AS MATERIALIZED (
            SELECT bundle, number % numbered.size AS position, id FROM numbered
            JOIN bundles ON bundles.pick = numbered.pick AND bundles.part = numbered.number / numbered.size),
        moved AS (
            UPDATE task SET state = 'running', bundle_id = placed.bundle FROM placed WHERE task.id = placed.id),
        members AS (
            INSERT INTO task_bundle (bundle_id, position, task_id) SELECT bundle, position, id FROM placed)
        SELECT bundle, bundles.size, key FROM bundles JOIN asked USING (pick) ORDER BY bundle
        """,
        (
            [each.key for each in picks],
            [each.limit * each.times for each in picks],
            [each.limit for each in picks],
            picks[0].priority,
            token,
            *ours,
        ),
    )


def start(
    claimed: Sequence[Claimed], owner: Owner, code: Code, environment: int, until: datetime, now: datetime
) -> tuple[str, list[Claimed]]:
    """Turn submitted bundles of one claim running, with a lease until an instant.

    Returns
    -------
    tuple of (str, list of Claimed)
        The token that fences every write of theirs from now on, and the bundles that were still there to be started,
        with it.

    Raises
    ------
    LeaseLost
        If all were released, or started by another process.
    """
    token = new_token()
    ours = (token, owner.boot, owner.pid, owner.start, owner.host, owner.user, instant_text(until), instant_text(now))
    made = (environment, code.version, code.component_version, code.source_sha256, code.git_commit, code.git_dirty)
    listed = ", ".join(str(int(each.bundle)) for each in claimed)
    with database.atomic() if is_sqlite() else nullcontext():  # there one statement is a transaction by itself
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
                if not is_holder(held.bundle, held.token):
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
    stage("taken", {"id": "BIGINT", "state": "TEXT", "generation": "BIGINT"}, _with_generations(tasks))
    try:
        # Each still in the state that was seen, by which its generation was told; the words keep PostgreSQL from an
        # index of states, and so to looking up each key.
        taken = changed(
            "UPDATE task SET state = 'running', bundle_id = ?, not_before = NULL, "
            "generation = coalesce(n.generation, task.generation) FROM taken n WHERE task.id = n.id "
            "AND task.state || '' = n.state AND task.state || '' IN ('pending', 'failed', 'cancelled')",
            (bundle,),
        )
    except peewee.IntegrityError as error:  # its generation was told when no twin lived: one has come since
        raise AstraError("somebody enqueued the same work at this moment; nothing was started: try again") from error
    if taken != len(tasks):
        words = f"{len(tasks) - taken} of the {len(tasks)} tasks were changed by others at this moment"
        raise AstraError(f"{words}; nothing was started: try again")


def _with_generations(tasks: Sequence[int]) -> list[tuple[int, str, int | None]]:
    """Return recorded tasks, each with its state and the generation that it takes with life; None where it lives."""
    condition, parameter = among("id", tasks, "BIGINT")
    with by_index():
        rows = run(f"SELECT id, identity, state FROM task WHERE {condition} ORDER BY id", (parameter,))
    lives = _refuse_queued({identity: key for key, identity, _ in rows if identity is not None})
    next_ones = {identity: each.generation + 1 for identity, each in lives.items()}
    return [
        (key, state, None if state == TaskState.PENDING else next_ones.get(identity)) for key, identity, state in rows
    ]


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


def _refuse_queued(tasks: Mapping[str, int]) -> dict[str, Lives]:
    """Raise `AstraError` where another task, which is pending or running, is the same work; tasks by identity."""
    lives = lives_of(list(tasks))
    for identity, each in sorted(lives.items(), key=lambda pair: tasks[pair[0]]):
        if each.live not in (None, tasks[identity]):
            words = f"task {tasks[identity]} is already queued as task {each.live}, which is the same work"
            raise AstraError(f"{words}: run that one")
    return lives
