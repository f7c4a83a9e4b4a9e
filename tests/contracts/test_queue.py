"""The queue, on SQLite and on PostgreSQL alike: work is enqueued once, claimed once, and ended once by who holds it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import peewee
import psycopg2
import pytest

from astra import backlog, provenance, queue
from astra.database.astradb import Bundle, Replay, ResultModel, Task, TaskBundle, TaskInputDataProduct
from astra.database.connection import execute, open_database, run
from astra.database.fields import instant_text
from astra.database.migrate import create_result_tables
from astra.errors import AstraError, LeaseLost
from astra.queue import enqueueing, opening
from astra.states import BundleState, ErrorKind, HoldKind, TaskOutcome, TaskState
from astra.work import Claimed, Ended, Expiry, Finish, NewTask, Pick, Retry
from tests.support.clock import START
from tests.support.processes import environment
from tests.support.tasks import (
    CODE,
    OTHER,
    OWNER,
    TOTALS,
    by_hand,
    claim,
    ended,
    fill,
    in_loops,
    new_task,
    plans,
    product,
    running,
    start,
    statements,
    version_of,
)

KEY = "thing {}"
LATER = START + timedelta(minutes=5)
MUCH_LATER = START + timedelta(days=9)
COMPLETED, FAILED, RELEASED = TaskOutcome.COMPLETED, TaskOutcome.FAILED, TaskOutcome.RELEASED
CANCELLED, EXPIRED = TaskOutcome.CANCELLED, TaskOutcome.EXPIRED


class QueueResult(ResultModel):
    snr = peewee.DoubleField()


def states() -> dict[str, int]:
    return dict(Counter(str(task.state) for task in Task.select()))


def snapshot() -> list[Any]:
    """Return all that a queue's tables hold."""
    return [run(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("task", "bundle", "task_bundle")]


def finish(held: Claimed, *outcomes: TaskOutcome, totals: bool = True, first: int = 0) -> None:
    rows = ended(held.bundle, *outcomes, first=first)
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS if totals else None)], LATER)


def expire(
    held: Claimed, retries: int = 2, kind: ErrorKind = ErrorKind.CRASH, position: int | None = None
) -> tuple[int, int]:
    why = (kind, "its process is gone", Retry(retries, 10), position, "where it was")
    return queue.expire(Expiry(held.bundle, held.token, *why), LATER)


def replay_row() -> int:
    made = Replay.create(who="me", created=START, verb="tasks", selection={}, planned=0, state="running")
    return int(made.id)


def outcomes(bundle: int) -> list[str | None]:
    query = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
    return [each.outcome for each in query]


# -------------------------------------------------------------------------------------------------------- enqueueing


def test_what_is_enqueued_is_recorded_as_it_was_given(database: peewee.Database) -> None:
    given = [product("/b"), product("/a")]
    work = new_task(inputs=tuple(given), priority=7, rule="quality", parameters='{"x":[1,2.5,"é\\\\N\\t"]}')
    key = queue.enqueue([work], START)[0]
    task = Task.get_by_id(key)
    assert (task.name, task.component_version, task.priority, task.rule) == ("tests.Thing", "1", 7, "quality")
    assert (task.state, task.bundle_key, task.identity) == (TaskState.PENDING, KEY, work.identity)
    assert (task.created, task.bundle, task.not_before) == (START, None, None)
    assert task.parameters == json.loads(work.parameters)
    rows = TaskInputDataProduct.select().order_by(TaskInputDataProduct.position)
    assert [(row.task_id, row.data_product_id, row.ingestion_id) for row in rows] == [
        (key, each.data_product, each.ingestion) for each in given
    ]


def test_work_that_is_alive_is_not_enqueued_again(database: peewee.Database) -> None:
    work = [new_task(inputs=(product(),)) for _ in range(3)]
    first = queue.enqueue(work, START)
    assert queue.enqueue([*reversed(work), new_task()], LATER)[:3] == first[::-1]
    start(claim(2))
    assert queue.enqueue(work, LATER) == first, "while it runs, too"
    assert Task.select().count() == 4
    assert TaskInputDataProduct.select().count() == 3


def test_twins_in_one_batch_are_one_task(database: peewee.Database) -> None:
    twin, other = new_task(inputs=(product(),)), new_task()
    keys = queue.enqueue([twin, other, twin, twin], START)
    assert keys[0] == keys[2] == keys[3] != keys[1]
    assert sorted(task.id for task in Task.select()) == sorted(set(keys))
    assert TaskInputDataProduct.select().count() == 1


def test_work_that_has_ended_is_enqueued_anew(database: peewee.Database) -> None:
    work = [new_task() for _ in range(3)]
    first = queue.enqueue(work, START)
    finish(start(claim()), COMPLETED, FAILED, CANCELLED)
    again = queue.enqueue(work, LATER)
    assert not set(first) & set(again)
    assert states() == {"completed": 1, "failed": 1, "cancelled": 1, "pending": 3}


def test_an_enqueue_in_a_transaction_that_fails_leaves_nothing(database: peewee.Database) -> None:
    def enqueue_and_fail() -> None:
        with database.atomic():
            fill(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        enqueue_and_fail()
    assert states() == {}


def test_tasks_without_an_identity_are_never_twins(database: peewee.Database) -> None:
    keys = queue.enqueue([new_task(identity=None), new_task(identity=None)], START)
    assert len(set(keys)) == Task.select().count() == 2


def test_nothing_to_enqueue_is_nothing_done(database: peewee.Database) -> None:
    assert queue.enqueue([], START) == []


ENQUEUE = """
import sys
from astra import queue
from astra.database.connection import open_database
from astra.work import NewTask
from tests.support.clock import START
open_database(sys.argv[1])
order = 1 if sys.argv[2] == "0" else -1
print("ready", flush=True)
sys.stdin.readline()
keys = []
for turn in range(4):
    tasks = [NewTask("tests.Thing", "1", "{}", "thing {}", identity=f"shared {turn} {n}") for n in range(2000)]
    keys += queue.enqueue(tasks[::order], START)
print(sorted(keys))
"""

CLAIM = """
import sys
from astra import queue
from astra.database.connection import open_database, run
from astra.states import TaskOutcome
from astra.work import Finish, Pick
from tests.support.clock import START
from tests.support.tasks import OWNER, TOTALS, ended, start
open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
mine = []
while claimed := queue.claim([Pick(None, 100, "thing {}", 7)], OWNER, "local", START):
    held = start(claimed[0])
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * held.size)
    mine += [each.task for each in rows]
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS)], START)
print(mine)
"""


def together(text: str, url: str, count: int) -> list[list[int]]:
    """Run a script in so many processes, let go at the same moment, and return the list that each printed."""
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(
            [sys.executable, "-c", text, url, str(number)],
            stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment(),
        )
        for number in range(count)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = []
    for process in started:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        said.append(json.loads(out))
    return said


def test_processes_that_enqueue_the_same_work_in_opposite_orders_make_it_once(database_url: str) -> None:
    first, second = together(ENQUEUE, database_url, 2)
    open_database(database_url)
    assert first == second == sorted(task.id for task in Task.select())
    assert len(set(first)) == 8000


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_work_that_another_enqueues_at_the_same_moment_is_that_ones(
    database: peewee.Database, database_url: str
) -> None:
    [pattern] = queue.enqueue([new_task()], START)
    shared, own = new_task(inputs=(product("/a"),)), new_task(inputs=(product("/b"),))

    def enqueue_elsewhere(event: Any) -> None:
        if not event.sql.startswith("SELECT identity"):
            return
        database.query_hooks.clear()
        columns = "name, parameters, version, component_version, state, priority, bundle_key, generation, created"
        other = psycopg2.connect(database_url)
        with other, other.cursor() as cursor:
            copied = f"INSERT INTO task (identity, {columns}) SELECT %s, {columns} FROM task WHERE id = %s"
            cursor.execute(copied, (shared.identity, pattern))
        other.close()

    database.query_hooks.append(enqueue_elsewhere)
    keys = queue.enqueue([shared, own], LATER)
    assert [Task.get_by_id(key).identity for key in keys] == [shared.identity, own.identity]
    assert Task.select().count() == 3
    assert [row.task_id for row in TaskInputDataProduct.select()] == [keys[1]], "the other's task has its own inputs"


def test_pending_rule_tasks_of_an_older_file_version_are_superseded(database: peewee.Database) -> None:
    old = product("/a")
    by_rule, by_person = new_task(inputs=(old,), rule="quality"), new_task(inputs=(old,))
    on_other = new_task(inputs=(product("/b"),), rule="quality")
    taken = new_task("other {}", inputs=(old,), rule="other")
    keys = queue.enqueue([by_rule, by_person, on_other, taken], START)
    assert claim(key="other {}").size == 1
    assert queue.supersede([old.data_product], START) == 0, "it is still the current one"
    version_of(old.data_product, "/a")
    assert queue.supersede([old.data_product], LATER) == 1
    assert [Task.get_by_id(key).state for key in keys] == ["cancelled", "pending", "pending", "running"]
    assert queue.supersede([old.data_product], LATER) == 0
    assert queue.supersede([], LATER) == 0


# ----------------------------------------------------------------------------------------------------------- picking


def keys_of(component: str, after: str = "", most: int = 10, count: int = 10) -> list[tuple[str, int]]:
    found = backlog.keys((None, 100, component), after, most, count)
    return [(each.key, each.tasks) for each in found]


def test_what_waits_is_told_by_lane_priority_component_and_key(database: peewee.Database) -> None:
    replays = [replay_row(), replay_row()]
    for key in ("a.B {1}", "a.B {2}", "a.B1 {1}", "a.B.C {1}", "a.Bz sha256:11", "b {1}"):
        fill(2, key=key)
    fill(1, key="b {1}", priority=7)
    fill(1, key="c {1}", replay=replays[1])
    assert backlog.replays() == [replays[1]]
    assert [backlog.most_urgent(None), backlog.most_urgent(None, 7), backlog.most_urgent(None, 100)] == [7, 100, None]
    assert backlog.most_urgent(replays[1]) == 100
    assert backlog.most_urgent(replays[0]) is None
    order, found = [], backlog.next_component(None, 100)
    while found is not None:
        order.append(found)
        found = backlog.next_component(None, 100, found)
    assert order == ["a.B", "a.B.C", "a.B1", "a.Bz", "b"]
    assert keys_of("a.B") == [("a.B {1}", 2), ("a.B {2}", 2)]
    assert keys_of("a.B", after="a.B {1}", count=1) == [("a.B {2}", 1)]
    assert keys_of("a.B", most=1) == [("a.B {1}", 2)]
    assert keys_of("a") == keys_of("c") == []
    assert backlog.keys((None, 100, "b"), "", 5, 5)[0].since == START


def test_what_is_claimed_or_waits_for_its_time_is_not_told_as_waiting(database: peewee.Database) -> None:
    assert not backlog.is_due()
    fill(3)
    assert keys_of("thing") == [(KEY, 3)]
    claim(2)
    assert keys_of("thing") == [(KEY, 1)]
    execute("UPDATE task SET not_before = ? WHERE state = 'pending'", (instant_text(LATER),))
    assert keys_of("thing") == []
    assert not backlog.is_due()
    assert backlog.unfinished()


def test_what_is_held_back_leaves_nothing_unfinished(database: peewee.Database) -> None:
    replay = replay_row()
    one, other = fill(1), fill(1, replay=replay)
    assert backlog.unfinished()
    queue.hold(HoldKind.REPLAY, str(replay), "me", "", START)
    queue.hold_tasks(one)
    assert not backlog.unfinished()
    queue.lift_tasks(one)
    assert backlog.unfinished()
    queue.hold(HoldKind.COMPONENT, "tests.Thing", "me", "", START)
    queue.lift(HoldKind.REPLAY, str(replay), START)
    assert not backlog.unfinished()
    queue.lift(HoldKind.COMPONENT, "tests.Thing", START)
    assert backlog.unfinished()
    assert other


# ---------------------------------------------------------------------------------------------------------- claiming


def test_a_claim_takes_the_oldest_of_its_key_up_to_its_limit(database: peewee.Database) -> None:
    fill(2, priority=1)
    oldest = fill(4)
    claimed = claim(3)
    assert claimed.size == 3
    bundle = Bundle.get_by_id(claimed.bundle)
    assert [task.id for task in bundle.tasks] == oldest[:3]
    assert (bundle.name, bundle.bundle_key, claimed.key) == ("tests.Thing", KEY, KEY)
    assert (bundle.state, bundle.size, bundle.executor) == (BundleState.SUBMITTED, 3, "local")
    assert (bundle.token, bundle.lease_expires, bundle.created) == (claimed.token, None, START)
    assert (bundle.owner_boot, bundle.owner_pid, bundle.owner_start) == ("boot", 4242, 99)
    assert states() == {"running": 3, "pending": 3}
    assert {task.bundle_id for task in bundle.tasks} == {claimed.bundle}
    rows = TaskBundle.select().where(TaskBundle.bundle == claimed.bundle).order_by(TaskBundle.position)
    assert [(row.position, row.task_id, row.outcome) for row in rows] == [(at, oldest[at], None) for at in range(3)]


def test_many_bundles_are_claimed_at_once_each_of_one_key(database: peewee.Database) -> None:
    of = {key: fill(count, key=key) for key, count in (("a {1}", 7), ("a {2}", 1), ("a {3}", 4))}
    picks = [Pick(None, 100, "a {1}", 2, 3), Pick(None, 100, "a {2}", 2, 5), Pick(None, 100, "a {9}", 2, 5)]
    claimed = queue.claim(picks, OWNER, "local", START)
    assert [(each.key, each.size) for each in claimed] == [("a {1}", 2)] * 3 + [("a {2}", 1)]
    assert len({each.token for each in claimed}) == 1
    found = [[task.id for task in Bundle.get_by_id(each.bundle).tasks] for each in claimed]
    assert found == [of["a {1}"][:2], of["a {1}"][2:4], of["a {1}"][4:6], of["a {2}"]]
    assert states() == {"running": 7, "pending": 5}


def test_a_claim_stays_in_its_lane(database: peewee.Database) -> None:
    replay = replay_row()
    live, replayed = fill(2), fill(2, replay=replay)
    [claimed] = queue.claim([Pick(replay, 100, KEY, 5)], OWNER, "local", START)
    assert [task.id for task in Bundle.get_by_id(claimed.bundle).tasks] == replayed
    assert [task.id for task in Bundle.get_by_id(claim(5).bundle).tasks] == live


def test_a_claim_of_nothing_makes_no_bundle(database: peewee.Database) -> None:
    fill(1, key="other")
    assert queue.claim([Pick(None, 100, KEY, 5)], OWNER, "local", START) == []
    assert Bundle.select().count() == 0


def test_a_task_that_waits_for_its_time_is_not_claimed_before(database: peewee.Database) -> None:
    fill(2)
    execute("UPDATE task SET not_before = ?", (instant_text(LATER),))
    assert queue.make_due(START) == 0
    assert queue.claim([Pick(None, 100, KEY, 5)], OWNER, "local", START) == []
    assert queue.make_due(LATER) == 2
    assert queue.make_due(LATER) == 0
    assert claim(5).size == 2


def test_many_that_have_waited_are_let_go_in_chunks_and_those_that_are_held_are_not(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueueing, "CHUNK", 4)
    keys = fill(11)
    Task.update(not_before=START).execute()
    queue.hold_tasks(keys[:1])
    with plans(database) as seen:
        assert queue.make_due(LATER) == 10
    updates = [plan for sql, plan in seen if sql.startswith("UPDATE task")]
    assert len(updates) == 3
    assert all(plan.count("task_due") <= 1 for plan in updates), "a chunk is looked up, not looked for again"
    assert [task.id for task in Task.select().where(Task.not_before.is_null(False))] == keys[:1]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_letting_go_waits_for_nobody_who_changes_the_same_tasks(database: peewee.Database, database_url: str) -> None:
    keys = fill(3)
    Task.update(not_before=START).execute()
    own = psycopg2.connect(database_url)
    with own, own.cursor() as cursor:
        cursor.execute("UPDATE task SET priority = priority WHERE id = %s", (keys[1],))
        execute("SET lock_timeout = 100")
        assert queue.make_due(LATER) == 2
    own.close()
    assert queue.make_due(LATER) == 1


def test_processes_that_claim_at_once_never_share_a_task(database_url: str) -> None:
    open_database(database_url)
    keys = fill(150)
    taken = together(CLAIM, database_url, 3)
    assert sorted(key for own in taken for key in own) == keys
    assert states() == {"completed": 150}


def test_threads_that_claim_at_once_never_share_a_task(database: peewee.Database) -> None:
    keys = fill(80)
    claimed: list[int] = []

    def take() -> None:
        while found := queue.claim([Pick(None, 100, KEY, 3)], OWNER, "local", START):
            claimed.append(found[0].bundle)
        database.close()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    rows = TaskBundle.select().where(TaskBundle.bundle << claimed)
    assert sorted(row.task_id for row in rows) == keys


# ---------------------------------------------------------------------------------------------------------- starting


def test_starting_swaps_the_token_and_records_who_runs_what(database: peewee.Database) -> None:
    fill(1)
    claimed = claim()
    held = start(claimed, lease=LATER, now=START)
    bundle = Bundle.get_by_id(held.bundle)
    assert bundle.token == held.token != claimed.token
    assert (bundle.state, bundle.lease_expires, bundle.started) == (BundleState.RUNNING, LATER, START)
    assert (bundle.version, bundle.component_version, bundle.source_sha256) == ("0.1.0", "1", "ab" * 32)
    assert bundle.environment.digest


def test_a_bundle_is_started_once(database: peewee.Database) -> None:
    fill(1)
    claimed = claim()
    held = start(claimed)
    before = snapshot()
    for token in (claimed.token, held.token, "guess"):
        with pytest.raises(LeaseLost, match=f"bundle {claimed.bundle} was taken back before it started"):
            start(replace(claimed, token=token))
    assert snapshot() == before


def test_a_released_bundle_is_not_started(database: peewee.Database) -> None:
    fill(1)
    claimed = claim()
    assert queue.release(claimed.bundle, claimed.token, "stopped", START) == 1
    with pytest.raises(LeaseLost):
        start(claimed)
    assert states() == {"pending": 1}


def test_only_the_holder_of_a_running_bundle_renews_its_lease(database: peewee.Database) -> None:
    fill(1)
    claimed = claim()
    assert not queue.renew([claimed.bundle], claimed.token, LATER), "it has not started"
    held = start(claimed)
    assert queue.renew([held.bundle], held.token, LATER)
    assert Bundle.get_by_id(held.bundle).lease_expires == LATER
    assert not queue.renew([held.bundle], claimed.token, START)
    finish(held, COMPLETED)
    assert not queue.renew([held.bundle], held.token, LATER)
    assert Bundle.get_by_id(held.bundle).lease_expires is None


# --------------------------------------------------------------------------------------------------------- finishing


def test_each_outcome_leaves_its_task_in_its_state_with_its_times(database: peewee.Database) -> None:
    held = running(4)
    rows = ended(held.bundle, COMPLETED, FAILED, RELEASED, CANCELLED)
    rows[1] = rows[1]._replace(error_class="ValueError", error_message="bad\tpixel", traceback="line\nline\\N")
    queue.finish([Finish(held.bundle, held.token, rows, (), replace(TOTALS, error="ValueError: bad"))], LATER)
    bundle = Bundle.get_by_id(held.bundle)
    assert [task.state for task in bundle.tasks] == ["completed", "failed", "pending", "cancelled"]
    assert (bundle.state, bundle.ended, bundle.error) == (BundleState.ENDED, LATER, "ValueError: bad")
    assert (bundle.time_execute, bundle.time_execute_overhead, bundle.lease_expires) == (3.0, 1.5, None)
    failed = TaskBundle.get((TaskBundle.bundle == held.bundle) & (TaskBundle.position == 1))
    assert (failed.error_class, failed.error_message, failed.traceback) == ("ValueError", "bad\tpixel", "line\nline\\N")
    assert (failed.time_pre_execute, failed.time_execute, failed.time_post_execute) == (0.25, 1.5, 0.125)


def test_a_bundle_is_finished_in_chunks_and_ends_with_the_last(database: peewee.Database) -> None:
    held = running(3)
    finish(held, COMPLETED, FAILED, totals=False)
    assert Bundle.get_by_id(held.bundle).state is BundleState.RUNNING
    assert outcomes(held.bundle) == ["completed", "failed", None]
    finish(held, COMPLETED, first=2)
    assert Bundle.get_by_id(held.bundle).state is BundleState.ENDED
    assert states() == {"completed": 2, "failed": 1}


def refused(chunk: Finish) -> None:
    before = [*snapshot(), QueueResult.select().count()]
    with pytest.raises(LeaseLost, match=f"bundle {chunk.bundle}"):
        queue.finish([chunk], LATER)
    assert [*snapshot(), QueueResult.select().count()] == before, "who lost the bundle writes nothing at all"


def result(task: int) -> QueueResult:
    return QueueResult(task=task, snr=1.5)


def test_who_does_not_hold_the_token_writes_nothing(database: peewee.Database) -> None:
    create_result_tables([QueueResult])
    fill(2)
    claimed = claim()
    held = start(claimed)
    rows = ended(held.bundle, COMPLETED, COMPLETED)
    for token in (claimed.token, "guess", ""):
        refused(Finish(held.bundle, token, rows, [result(rows[0].task)], TOTALS))


def test_a_second_finisher_with_the_same_token_writes_nothing(database: peewee.Database) -> None:
    create_result_tables([QueueResult])
    held = running(3)
    rows = ended(held.bundle, COMPLETED, FAILED, COMPLETED)
    queue.finish([Finish(held.bundle, held.token, rows[:2], [result(rows[0].task)], None)], LATER)
    other = [Ended(each.position, each.task, COMPLETED, 9.0, 9.0, 9.0) for each in rows]
    refused(Finish(held.bundle, held.token, other[:2], [result(rows[1].task)], None))
    refused(Finish(held.bundle, held.token, other, [result(rows[2].task)], TOTALS))
    queue.finish([Finish(held.bundle, held.token, rows[2:], [result(rows[2].task)], TOTALS)], LATER)
    refused(Finish(held.bundle, held.token, other[2:], [result(rows[2].task)], TOTALS))
    refused(Finish(held.bundle, held.token, (), (), TOTALS))
    assert [each.task_id for each in QueueResult.select().order_by(QueueResult.id)] == [rows[0].task, rows[2].task]


def test_two_finishers_at_once_are_one(database: peewee.Database) -> None:
    held = running(40)
    barrier, said = threading.Barrier(2), []

    def end() -> None:
        barrier.wait()
        try:
            finish(held, *[COMPLETED] * 40)
            said.append("written")
        except LeaseLost:
            said.append("lost")
        database.close()

    threads = [threading.Thread(target=end) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert sorted(said) == ["lost", "written"]
    assert states() == {"completed": 40}


def test_tasks_of_another_bundle_or_place_are_not_ended(database: peewee.Database) -> None:
    create_result_tables([QueueResult])
    held, other = running(2), running(1)
    theirs = ended(other.bundle, COMPLETED)[0]
    mine = ended(held.bundle, COMPLETED, COMPLETED)
    refused(Finish(held.bundle, held.token, [mine[0]._replace(task=theirs.task)], (), None))
    refused(Finish(held.bundle, held.token, [mine[0]._replace(position=1)], (), None))


def test_a_bundle_that_was_taken_away_is_not_finished(database: peewee.Database) -> None:
    create_result_tables([QueueResult])
    for take in (expire, lambda held: queue.release(held.bundle, held.token, "stopped", LATER)):
        held = running(2)
        finish(held, COMPLETED, totals=False)
        take(held)
        refused(Finish(held.bundle, held.token, ended(held.bundle, COMPLETED, first=1), (), TOTALS))


def test_results_that_cannot_be_written_leave_the_tasks_as_they_were(database: peewee.Database) -> None:
    create_result_tables([QueueResult])
    held = running(1)
    rows = ended(held.bundle, COMPLETED)
    before = snapshot()
    with pytest.raises(peewee.IntegrityError):
        queue.finish([Finish(held.bundle, held.token, rows, [result(987654)], TOTALS)], LATER)
    assert snapshot() == before


def test_the_database_itself_refuses_to_end_a_task_twice_in_a_bundle(database: peewee.Database) -> None:
    held = running(1)
    execute("UPDATE task_bundle SET time_execute = 1")
    finish(held, COMPLETED)
    for change in ("outcome = 'failed'", "outcome = NULL", "time_execute = 7"):
        with pytest.raises(peewee.DatabaseError, match="a task ends once in a bundle"):
            execute(f"UPDATE task_bundle SET {change}")


# ------------------------------------------------------------------------------------------- released, expired, gone


def test_a_released_bundle_gives_back_what_it_has_not_finished(database: peewee.Database) -> None:
    held = running(3)
    finish(held, COMPLETED, totals=False)
    assert queue.release(held.bundle, "guess", "stopped", LATER) == 0
    assert queue.release(held.bundle, held.token, "the service stopped", LATER) == 2
    bundle = Bundle.get_by_id(held.bundle)
    assert (bundle.state, bundle.error, bundle.ended) == (BundleState.RELEASED, "the service stopped", LATER)
    assert outcomes(held.bundle) == ["completed", "released", "released"]
    assert states() == {"completed": 1, "pending": 2}
    assert queue.release(held.bundle, held.token, "again", LATER) == 0
    assert claim(5).size == 2, "at once: nothing went wrong"


def test_an_expired_bundle_s_task_waits_and_fails_when_its_tries_are_used_up(database: peewee.Database) -> None:
    fill(1)
    for again in range(3):
        held = start(claim())
        assert expire(held, retries=2) == ((1, 0) if again < 2 else (0, 1))
        assert Bundle.get_by_id(held.bundle).state is BundleState.EXPIRED
        assert Bundle.get_by_id(held.bundle).failed == 1
        queue.make_due(MUCH_LATER)
    assert states() == {"failed": 1}
    last = TaskBundle.get(TaskBundle.bundle == held.bundle)
    assert (last.outcome, last.error_class, last.error_message) == (EXPIRED, "ProcessDied", "its process is gone")
    assert (last.error_kind, last.traceback) == (ErrorKind.CRASH, "where it was")
    assert expire(held) == (0, 0)


def test_a_task_that_a_dead_process_had_finished_stays_finished(database: peewee.Database) -> None:
    held = running(3)
    finish(held, COMPLETED, FAILED, totals=False)
    assert expire(held, retries=0) == (0, 1)
    assert outcomes(held.bundle) == ["completed", "failed", "expired"]
    assert states() == {"completed": 1, "failed": 2}
    with pytest.raises(LeaseLost):
        finish(held, COMPLETED, first=2)


def test_the_task_in_hand_alone_is_blamed_and_waits_and_runs_alone(database: peewee.Database) -> None:
    held = running(4)
    tasks = [task.id for task in Bundle.get_by_id(held.bundle).tasks]
    assert expire(held, position=2) == (4, 0)
    assert outcomes(held.bundle) == ["released", "released", "expired", "released"]
    assert claim(10).size == 3, "the others at once"
    queue.make_due(MUCH_LATER)
    assert [task.id for task in Bundle.get_by_id(claim(10).bundle).tasks] == [tasks[2]]


def test_where_nobody_knows_which_it_was_halves_run_apart_until_it_is_alone(database: peewee.Database) -> None:
    tasks = fill(64)
    poison, tries, bundles = tasks[37], 0, 0
    while (found := queue.claim([Pick(None, 100, KEY, 64)], OWNER, "local", START)) or queue.make_due(MUCH_LATER):
        if not found:
            continue
        held, bundles = start(found[0]), bundles + 1
        if poison in [task.id for task in Bundle.get_by_id(held.bundle).tasks]:
            tries += held.size == 1
            expire(held, retries=3)
        else:
            finish(held, *[COMPLETED] * held.size)
    assert tries == 4
    assert bundles == 6 + 6 + 4, "halved six times, each time the other half went well, then it was tried four times"
    assert states() == {"completed": 63, "failed": 1}
    assert Task.get(Task.state == TaskState.FAILED).id == poison
    counted = TaskBundle.select().where(TaskBundle.outcome == EXPIRED)
    assert {row.task_id for row in counted} == {poison}, "nobody else counts a try"


def test_a_death_counts_as_one_failure_of_its_bundle_unless_nobody_is_to_blame(database: peewee.Database) -> None:
    def failed(kind: ErrorKind, position: int | None, done: int) -> int:
        fill(3)
        held = start(claim(3))
        finish(held, *[COMPLETED] * done, totals=False)
        expire(held, kind=kind, position=position)
        Task.update(state="cancelled").execute()
        return int(Bundle.get_by_id(held.bundle).failed)

    assert failed(ErrorKind.CRASH, 1, 1) == 1
    assert failed(ErrorKind.CRASH, 0, 1) == 0, "the task in hand had just ended"
    assert failed(ErrorKind.CRASH, None, 0) == 1, "it was halved"
    assert failed(ErrorKind.INTERRUPTED, None, 0) == failed(ErrorKind.INTERRUPTED, None, 2) == 0


def test_halves_run_at_once_and_halves_of_halves_wait(database: peewee.Database) -> None:
    keys = fill(8)
    expire(start(claim(8)))
    first = claim(8)
    assert (first.size, claim(8).size) == (4, 4)
    expire(start(first))
    assert not backlog.is_due()
    waits = [(task.not_before - LATER).total_seconds() for task in Task.select().where(Task.id << keys[:4])]
    assert len(set(waits)) == 1
    assert 7.5 <= waits[0] <= 12.5
    assert queue.make_due(MUCH_LATER) == 4
    assert claim(8).size == 2


def test_what_went_with_its_service_counts_no_try_but_is_isolated_in_the_end(database: peewee.Database) -> None:
    fill(8)
    sizes = []
    while queue.make_due(MUCH_LATER) or backlog.is_due():
        held = start(claim(8))
        sizes.append(held.size)
        expire(held, retries=0, kind=ErrorKind.INTERRUPTED)
        assert len(sizes) < 200
    assert sizes[:7] == [8, 8, 8, 8, 8, 8, 4], "five times nothing is made of it"
    assert states() == {"failed": 8}
    assert {row.error_kind for row in TaskBundle.select()} == {ErrorKind.INTERRUPTED}


def test_a_bundle_on_its_way_is_expired_too(database: peewee.Database) -> None:
    fill(1)
    claimed = claim()
    assert expire(claimed, retries=0) == (0, 1)
    with pytest.raises(LeaseLost):
        start(claimed)


def test_releases_do_not_count_as_tries(database: peewee.Database) -> None:
    fill(1)
    for _ in range(3):
        held = start(claim())
        queue.release(held.bundle, held.token, "stopped", START)
    held = start(claim())
    assert expire(held, retries=1) == (1, 0)


def raise_at(held: Claimed, kind: ErrorKind, *positions: int) -> None:
    """End a bundle whose tasks at these positions raised, and the others were given back."""
    rows = ended(held.bundle, *[RELEASED] * held.size)
    for at in positions:
        rows[at] = rows[at]._replace(outcome=FAILED, error_class="OSError", error_kind=kind)
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS, (), Retry(2, 10))], START)


@pytest.mark.parametrize("kind", [ErrorKind.RETRY, ErrorKind.RESOURCE, ErrorKind.TIMEOUT])
def test_what_may_pass_is_tried_again_as_often_as_is_allowed(database: peewee.Database, kind: ErrorKind) -> None:
    fill(2)
    for again in range(3):
        raise_at(start(claim()), kind, 0, 1)
        assert states() == ({"pending": 2} if again < 2 else {"failed": 2})
        waits = [task.not_before for task in Task.select().where(Task.state == TaskState.PENDING)]
        assert all(7.5 * 2**again <= (each - START).total_seconds() <= 12.5 * 2**again for each in waits if each)
        queue.make_due(MUCH_LATER)


@pytest.mark.parametrize("kind", [ErrorKind.RETRY, ErrorKind.RESOURCE, ErrorKind.TIMEOUT])
def test_the_one_task_that_took_too_much_runs_alone_from_then_on(database: peewee.Database, kind: ErrorKind) -> None:
    fill(3)
    raise_at(start(claim()), kind, 1)
    queue.make_due(MUCH_LATER)
    sizes = [claim(10).size]
    while found := queue.claim([Pick(None, 100, KEY, 10)], OWNER, "local", START):
        sizes.append(found[0].size)
    assert sizes == ([3] if kind is ErrorKind.RETRY else [2, 1])


@pytest.mark.parametrize("kind", [ErrorKind.PERMANENT, ErrorKind.BUG, None])
def test_what_cannot_pass_is_not_tried_again(database: peewee.Database, kind: ErrorKind | None) -> None:
    held = running(1)
    rows = [each._replace(error_kind=kind) for each in ended(held.bundle, FAILED)]
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS, (), Retry(2, 10))], START)
    assert states() == {"failed": 1}


def test_tries_that_raised_and_tries_that_died_are_counted_apart(database: peewee.Database) -> None:
    fill(1)
    for _ in range(2):
        held = start(claim())
        raised = [each._replace(error_kind=ErrorKind.RETRY) for each in ended(held.bundle, FAILED)]
        queue.finish([Finish(held.bundle, held.token, raised, (), TOTALS, (), Retry(2, 10))], START)
        queue.make_due(MUCH_LATER)
        assert expire(start(claim()), retries=2) == (1, 0)
        queue.make_due(MUCH_LATER)
    assert expire(start(claim()), retries=2) == (0, 1)


def test_several_bundles_end_together_or_not_at_all(database: peewee.Database) -> None:
    fill(1, key="a {1}")
    fill(2, key="a {2}")
    picks = [Pick(None, 100, "a {1}", 5), Pick(None, 100, "a {2}", 5)]
    claimed = queue.claim(picks, OWNER, "local", START)
    token, held = queue.start(claimed, OWNER, CODE, provenance.environment_id(), LATER, START)
    assert [each.token for each in held] == [token] * 2
    assert queue.renew([each.bundle for each in held], token, LATER) == {each.bundle for each in held}
    chunks = [Finish(each.bundle, token, ended(each.bundle, *[COMPLETED] * each.size), (), TOTALS) for each in held]
    queue.release(held[1].bundle, token, "stopped", LATER)
    before = snapshot()
    with pytest.raises(LeaseLost, match=rf"bundle {held[1].bundle} is no longer this process's \(stopped\)"):
        queue.finish(chunks, LATER)
    assert snapshot() == before
    queue.finish(chunks[:1], LATER)
    assert states() == {"completed": 1, "pending": 2}
    assert [(each.completed, each.failed) for each in Bundle.select().order_by(Bundle.id)] == [(1, 0), (0, 0)]


def test_bundles_of_a_claim_that_were_taken_back_are_not_started_and_the_others_are(database: peewee.Database) -> None:
    fill(3)
    claimed = queue.claim([Pick(None, 100, KEY, 1, 3)], OWNER, "local", START)
    queue.release(claimed[1].bundle, claimed[1].token, "stopped", START)
    _, held = queue.start(claimed, OWNER, CODE, provenance.environment_id(), LATER, START)
    assert [each.bundle for each in held] == [claimed[0].bundle, claimed[2].bundle]


def test_the_end_of_a_bundle_keeps_what_it_took_and_where_it_spoke(database: peewee.Database) -> None:
    held = running(3)
    finish(held, COMPLETED, FAILED, totals=False)
    totals = replace(TOTALS, peak_memory=1 << 40, log=("/tmp/log", 10, 20))
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, COMPLETED, first=2), (), totals)], LATER)
    bundle = Bundle.get_by_id(held.bundle)
    assert (bundle.completed, bundle.failed, bundle.peak_memory) == (2, 1, 1 << 40)
    assert (bundle.log, bundle.log_start, bundle.log_end) == ("/tmp/log", 10, 20)


def test_an_interactive_bundle_whose_process_is_gone_fails(database: peewee.Database) -> None:
    held, keys = queue.open_by_hand(by_hand(new_task(identity=None), new_task(identity=None)), START)
    finish(held, COMPLETED, totals=False)
    assert queue.fail_gone(held.bundle, "guess", "process gone", LATER) == 0
    assert queue.fail_gone(held.bundle, held.token, "process gone", LATER) == 1
    assert [Task.get_by_id(key).state for key in keys] == ["completed", "failed"]
    row = TaskBundle.get(TaskBundle.task == keys[1])
    assert (row.outcome, row.error_message) == (FAILED, "process gone")
    assert queue.fail_gone(held.bundle, held.token, "process gone", LATER) == 0


def test_open_bundles_are_told_with_who_holds_them_and_whether_their_lease_ran_out(database: peewee.Database) -> None:
    finish(running(1), COMPLETED)
    fill(1)
    submitted = claim()
    fill(1)
    run_out = start(claim(), lease=START)
    fill(1)
    alive = start(claim(), lease=LATER)
    person, _ = queue.open_by_hand(replace(by_hand(new_task()), owner=OTHER), START)
    found = backlog.open_bundles(START + timedelta(seconds=1))
    assert [(each.bundle, each.state, each.lapsed) for each in found] == [
        (submitted.bundle, BundleState.SUBMITTED, False),
        (run_out.bundle, BundleState.RUNNING, True),
        (alive.bundle, BundleState.RUNNING, False),
        (person.bundle, BundleState.RUNNING, False),
    ]
    assert [each.owner for each in found] == [OWNER, OWNER, OWNER, OTHER]
    assert [(each.executor, each.size) for each in found] == [("local", 1)] * 3 + [("interactive", 1)]
    assert found[1].token == run_out.token


# ----------------------------------------------------------------------------------------------------------- by hand


def test_new_tasks_run_by_hand_are_recorded_as_running_without_a_lease(database: peewee.Database) -> None:
    work = [new_task(identity=None, inputs=(product(f"/{n}"),)) for n in range(3)]
    held, keys = queue.open_by_hand(by_hand(*work), START)
    bundle = Bundle.get_by_id(held.bundle)
    assert (bundle.state, bundle.size, bundle.lease_expires) == (BundleState.RUNNING, 3, None)
    assert (bundle.executor, bundle.name, bundle.bundle_key) == ("interactive", "tests.Thing", KEY)
    assert [task.id for task in bundle.tasks] == list(keys)
    assert [task.input_data_products[0].path for task in bundle.tasks] == ["/0", "/1", "/2"]
    assert states() == {"running": 3}
    assert not backlog.is_due()


def test_recorded_tasks_that_are_not_done_are_run_by_hand(database: peewee.Database) -> None:
    fill(3)
    finish(start(claim()), FAILED, CANCELLED, RELEASED)
    keys = sorted(task.id for task in Task.select())
    held, taken = queue.open_by_hand(by_hand(recorded=(keys[2], keys[0], keys[1])), LATER)
    assert list(taken) == [keys[2], keys[0], keys[1]]
    assert [task.id for task in Bundle.get_by_id(held.bundle).tasks] == list(taken)
    assert states() == {"running": 3}
    finish(held, COMPLETED, COMPLETED, COMPLETED)
    assert states() == {"completed": 3}


@pytest.mark.parametrize("state", ["running", "completed"])
def test_a_task_that_runs_or_is_completed_is_not_taken_by_hand(database: peewee.Database, state: str) -> None:
    key = fill(1)[0]
    held = start(claim())
    if state == "completed":
        finish(held, COMPLETED)
    free = fill(1)[0]
    before = snapshot()
    with pytest.raises(AstraError, match="1 of the 2 tasks are running or completed; nothing was started"):
        queue.open_by_hand(by_hand(recorded=(key, free)), LATER)
    assert snapshot() == before


def test_a_task_with_a_live_twin_is_not_taken_by_hand_and_the_twin_is_named(database: peewee.Database) -> None:
    work = new_task()
    old = queue.enqueue([work], START)[0]
    finish(start(claim()), FAILED)
    twin = queue.enqueue([work], LATER)[0]
    before = snapshot()
    with pytest.raises(AstraError, match=f"task {old} is already queued as task {twin}, which is the same work"):
        queue.open_by_hand(by_hand(recorded=(old,)), LATER)
    assert snapshot() == before
    held, _ = queue.open_by_hand(by_hand(recorded=(twin,)), LATER)
    finish(held, COMPLETED)
    queue.open_by_hand(by_hand(recorded=(old,)), LATER)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_task_that_fails_and_is_enqueued_anew_while_it_is_taken_by_hand_is_not_taken(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = fill(1, identity="same")
    look = opening._with_generations

    def others() -> None:
        finish(start(claim()), FAILED)
        fill(1, identity="same")
        database.close()

    def looking(tasks: Any) -> Any:
        found = look(tasks)
        other = threading.Thread(target=others)
        other.start()
        other.join(30)
        return found

    monkeypatch.setattr(opening, "_with_generations", looking)
    with pytest.raises(AstraError, match="1 of the 1 tasks were changed by others at this moment; nothing was started"):
        queue.open_by_hand(by_hand(recorded=(key,)), LATER)
    assert states() == {"failed": 1, "pending": 1}


def test_two_records_of_the_same_work_are_not_run_together(database: peewee.Database) -> None:
    work = new_task()
    first = queue.enqueue([work], START)[0]
    finish(start(claim()), FAILED)
    second = queue.enqueue([work], LATER)[0]
    finish(start(claim()), FAILED)
    before = snapshot()
    with pytest.raises(AstraError, match="the same work"):
        queue.open_by_hand(by_hand(recorded=(first, second)), LATER)
    assert snapshot() == before


def test_a_task_named_twice_is_told_so(database: peewee.Database) -> None:
    key = fill(1)[0]
    with pytest.raises(AstraError, match=f"task {key} was given twice"):
        queue.open_by_hand(by_hand(recorded=(key, key)), LATER)
    assert states() == {"pending": 1}


# -------------------------------------------------------------------------------------------------------------- cost


def cycle(size: int, at: datetime) -> None:
    """Enqueue, claim, start, renew and finish so many tasks as one bundle."""
    inputs = (product(),)
    queue.enqueue([new_task(inputs=inputs) for _ in range(size)], at)
    assert [each.tasks for each in backlog.keys((None, 100, "thing"), "", 5, size)] == [size]
    held = start(claim(size, at), now=at)
    queue.renew([held.bundle], held.token, at)
    rows: list[Ended] = ended(held.bundle, *[COMPLETED] * size)
    results = [result(each.task) for each in rows]
    queue.finish([Finish(held.bundle, held.token, rows, results, TOTALS)], at)


def by_person(size: int, at: datetime) -> None:
    inputs = (product(),)
    held, _ = queue.open_by_hand(by_hand(*[new_task(identity=None, inputs=inputs) for _ in range(size)]), at)
    finish(held, *[FAILED] * size)
    keys = tuple(task.id for task in Bundle.get_by_id(held.bundle).tasks)
    again, _ = queue.open_by_hand(by_hand(recorded=keys), at)
    expire(again)
    queue.make_due(LATER)
    for task in keys[:1]:
        assert Task.get_by_id(task).state is TaskState.PENDING
    claimed = claim(size, at)
    queue.release(claimed.bundle, claimed.token, "stopped", at)
    start(claim(size, at))


@pytest.mark.parametrize("way", [cycle, by_person])
def test_the_number_of_statements_is_the_same_for_ten_tasks_and_for_a_thousand(
    database: peewee.Database, way: Any
) -> None:
    create_result_tables([QueueResult])
    way(3, START)  # what is made once in each connection
    execute("DELETE FROM queue_result")
    counts = []
    for size in (10, 1000):
        execute("UPDATE task SET state = 'cancelled' WHERE state = 'pending'")
        with statements(database) as seen:
            way(size, START)
        counts.append(len(seen))
    assert counts[0] == counts[1], f"{counts}"
    assert counts[0] < 80


def test_tasks_are_looked_up_by_key_and_by_identity_whatever_the_statistics_say(database: peewee.Database) -> None:
    keys = fill(20)
    execute("ANALYZE task")  # told that it is so small, PostgreSQL would read all of it
    with plans(database) as enqueued:
        fill(5)
    held = start(claim(20))
    raised = [each._replace(error_kind=ErrorKind.RETRY) for each in ended(held.bundle, *[FAILED] * 20)]
    with plans(database) as ending:
        queue.finish([Finish(held.bundle, held.token, raised, (), TOTALS, (), Retry(2, 10))], START)
    with plans(database) as taken:
        queue.open_by_hand(by_hand(recorded=tuple(keys)), LATER)
    looks = [(sql, plan) for sql, plan in (*enqueued, *ending, *taken) if " task " in sql and "max(id)" not in sql]
    assert len(looks) >= 6
    for sql, plan in looks:
        assert not re.search(r"Seq Scan on task\b|SCAN (task|t)\b", plan), f"{sql}\n{plan}"
        assert not re.search(r"\bon (task|taken) |SCAN", in_loops(plan)), f"{sql}\n{plan}"


def test_instants_of_one_bundle_are_in_order(database: peewee.Database) -> None:
    fill(1)
    claimed = claim(now=START)
    held = start(claimed, now=START + timedelta(seconds=1))
    finish(held, COMPLETED)
    bundle = Bundle.get_by_id(held.bundle)
    times = [bundle.created, bundle.started, bundle.ended]
    assert all(earlier < later for earlier, later in pairwise(times))


def chunked(tasks: list[int], size: int, stop_at: int) -> Iterator[list[NewTask | int]]:
    """Yield recorded tasks in chunks, and stop as by Ctrl-C before one of them."""
    for first in range(0, len(tasks), size):
        if first == stop_at:
            raise KeyboardInterrupt
        yield [*tasks[first : first + size]]


def test_recorded_tasks_that_were_not_reached_are_as_they_were(database: peewee.Database) -> None:
    keys = fill(5)
    request = replace(by_hand(recorded=tuple(keys)), chunks=chunked(keys, 2, 4))
    with pytest.raises(KeyboardInterrupt):
        queue.open_by_hand(request, START)
    assert [str(each.state) for each in Task.select().order_by(Task.id)] == ["failed"] * 4 + ["pending"]
    assert Bundle.get().state == "expired"
    held, _ = queue.open_by_hand(by_hand(recorded=tuple(keys)), LATER)
    assert (held.size, states()) == (5, {"running": 5})


def test_a_process_killed_between_two_chunks_leaves_no_task_running(database: peewee.Database) -> None:
    keys = fill(4)
    chunks = iter([[*keys[:2]], [*keys[2:]]])
    request = replace(by_hand(recorded=tuple(keys)), chunks=chunks)

    def killed() -> Iterator[list[NewTask | int]]:
        yield next(chunks)
        bundle = Bundle.get()
        assert queue.fail_gone(bundle.id, bundle.token, "process gone", LATER) == 2
        yield next(chunks)

    with pytest.raises(LeaseLost, match="was ended before it was recorded whole; nothing was run"):
        queue.open_by_hand(replace(request, chunks=killed()), START)
    assert states() == {"failed": 2, "pending": 2}


def test_two_tasks_of_one_work_are_told_in_whatever_chunks_they_are(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHUNK", 1)
    first = fill(1, identity="the same")
    finish(start(claim()), FAILED)
    second = fill(1, identity="the same")
    finish(start(claim()), FAILED)
    with pytest.raises(AstraError, match=f"tasks {first[0]} and {second[0]} record the same work"):
        queue.open_by_hand(by_hand(recorded=(*first, *second)), LATER)
    third = fill(1, identity="the same")
    with pytest.raises(AstraError, match=f"task {first[0]} is already queued as task {third[0]}"):
        queue.open_by_hand(by_hand(recorded=tuple(first)), LATER)
