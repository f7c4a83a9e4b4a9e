"""What people do to the queue: hold, give back, cancel, retry; each verb on both databases, and who loses by it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import peewee
import pytest

from astra import holds, queue, replay, steering, targets
from astra.database.astradb import Bundle, Hold, Replay, Task, TaskBundle
from astra.database.connection import database as opened
from astra.database.connection import run
from astra.errors import AstraError, LeaseLost
from astra.queue import holding
from astra.states import HoldKind, TaskOutcome, TaskState
from astra.steering import By
from astra.targets import Kind, Target
from astra.work import Finish, Pick
from tests.support.clock import START
from tests.support.tasks import (
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

LATER = START + timedelta(hours=1)
COMPONENT = HoldKind.COMPONENT
ADA = By("ada@host", "disk full", START)
THING = Target(Kind.COMPONENT, "tests.Thing")
BOTH = frozenset({TaskState.FAILED, TaskState.CANCELLED})

pytestmark = pytest.mark.usefixtures("database")


def states(*keys: int) -> list[str]:
    return [str(Task.get_by_id(key).state) for key in keys]


def of_bundle(bundle: int) -> Target:
    return Target(Kind.BUNDLE, str(bundle))


def of_task(task: int) -> Target:
    return Target(Kind.TASK, str(task))


def members(bundle: int) -> list[int]:
    return [each.id for each in Bundle.get_by_id(bundle).tasks]


def outcomes(bundle: int) -> list[str | None]:
    rows = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
    return [each.outcome and str(each.outcome) for each in rows]


def fail(count: int, **values: Any) -> list[int]:
    """Return so many tasks that failed in one bundle."""
    keys = fill(count, **values)
    [claimed] = queue.claim([Pick(values.get("replay"), 100, "thing {}", count)], OWNER, "local", START)
    held = start(claimed)
    queue.finish(
        [Finish(held.bundle, held.token, ended(held.bundle, *[TaskOutcome.FAILED] * count), (), TOTALS)], START
    )
    return keys


def a_replay(state: str = "running") -> int:
    made = Replay.create(who="ada", created=START, verb="tasks", selection={}, planned=3, state=state)
    return int(made.id)


# ------------------------------------------------------------------------------------------------------------- holds


def test_a_hold_is_one_row_and_a_second_one_leaves_it_as_it_is() -> None:
    assert queue.hold(COMPONENT, "tests.Thing", "ada@host", "disk full", START)
    assert not queue.hold(COMPONENT, "tests.Thing", "bob@host", "me too", LATER)
    assert queue.hold(HoldKind.REPLAY, "3", "bob@host", "", LATER)
    assert [(each.kind, each.target, each.who, each.created) for each in holds.standing()] == [
        ("component", "tests.Thing", "ada@host", START),
        ("replay", "3", "bob@host", LATER),
    ]


def test_what_is_lifted_stands_in_the_record_and_can_be_held_again() -> None:
    queue.hold(COMPONENT, "tests.Thing", "ada@host", "", START)
    lifted = queue.lift(COMPONENT, "tests.Thing", LATER)
    assert lifted is not None
    assert (lifted.who, lifted.lifted) == ("ada@host", LATER)
    assert queue.lift(COMPONENT, "tests.Thing", LATER) is None
    assert holds.standing() == []
    assert queue.hold(COMPONENT, "tests.Thing", "bob@host", "", LATER)
    assert [each.who for each in holds.standing()] == ["bob@host"]
    assert [each.who for each in holds.lifted(10)] == ["ada@host"]


def test_a_persons_hold_takes_the_place_of_the_breakers_and_outlasts_its_probe() -> None:
    queue.hold(COMPONENT, "tests.Thing", "breaker", "9 of 10 failed", START, LATER)
    breakers = holds.standing()[0]
    assert queue.hold(COMPONENT, "tests.Thing", "ada@host", "I look into it", START)
    assert not queue.hold(COMPONENT, "tests.Thing", "breaker", "again", START, LATER)
    assert queue.lift(COMPONENT, "tests.Thing", LATER, breakers.id) is None
    assert not queue.probe(breakers.id, 7, LATER + timedelta(hours=1), LATER)
    assert [(each.who, each.probe_at) for each in holds.standing()] == [("ada@host", None)]


def test_one_scheduler_alone_takes_the_turn_to_probe() -> None:
    queue.hold(COMPONENT, "tests.Thing", "breaker", "9 of 10 failed", START, LATER)
    key, again = holds.standing()[0].id, LATER + timedelta(hours=1)
    assert not queue.probe(key, 7, again, START), "it is not due"
    assert [queue.probe(key, 7, again, LATER) for _ in range(2)] == [True, False]
    assert [(each.probe_at, each.probes) for each in Hold.select()] == [(again, 1)]
    assert queue.lift(COMPONENT, "tests.Thing", LATER, key) is not None


# --------------------------------------------------------------------------------------------------------- give back


@pytest.mark.parametrize("begun", [True, False])
def test_who_ran_a_bundle_that_was_given_back_writes_nothing(begun: bool) -> None:
    fill(3)
    held = claim(3)
    if begun:
        held = start(held)
        queue.finish([Finish(held.bundle, held.token, ended(held.bundle, TaskOutcome.COMPLETED), (), None)], START)
    first, *others = members(held.bundle)
    done = steering.give_back(THING, ADA)
    assert (done.running, done.bundles) == (2 if begun else 3, 1)
    assert states(first, *others) == ["completed" if begun else "pending", "pending", "pending"]
    bundle = Bundle.get_by_id(held.bundle)
    assert (bundle.state, bundle.error, bundle.ended) == ("released", "paused by ada@host: disk full", START)
    assert not queue.renew([held.bundle], held.token, LATER)
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * 3)[1:]
    with pytest.raises(LeaseLost):
        queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS)], LATER)
    with pytest.raises(LeaseLost):
        start(held)
    assert states(*others) == ["pending", "pending"]
    assert outcomes(held.bundle)[1:] == ["released", "released"]
    assert claim(3).size == len(others) + (not begun)


def test_what_is_run_by_hand_is_not_given_back() -> None:
    held, _ = queue.open_by_hand(by_hand(new_task(identity=None)), START)
    assert queue.give_back(held.bundle, "paused", START) == 0
    done = steering.give_back(THING, ADA)
    assert (done.running, [each.bundle for each in done.by_hand]) == (0, [held.bundle])
    assert not queue.ask(held.bundle, holds.DRAIN)
    for verb in (steering.hold_work, steering.drain):
        with pytest.raises(AstraError, match=f"bundle {held.bundle} is run by hand by user on host, process 4242"):
            verb(of_bundle(held.bundle), ADA)
    assert Bundle.get_by_id(held.bundle).state == "running"


def test_no_scheduler_can_take_the_tasks_of_a_bundle_before_they_are_held() -> None:
    held = running(2)
    assert queue.give_back(held.bundle, "paused", START, holds.HELD_UNTIL) == 2
    assert holds.tasks_by_component() == [("tests.Thing", 2, members(held.bundle)[0])]


def test_a_held_bundle_s_tasks_wait_until_they_are_resumed() -> None:
    held = running(3)
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, TaskOutcome.COMPLETED), (), None)], START)
    first, *others = members(held.bundle)
    assert steering.hold_work(of_bundle(held.bundle), ADA).running == 2
    assert steering.hold_work(of_bundle(held.bundle), ADA).waiting == 2, "again, it changes nothing"
    assert queue.make_due(START + timedelta(days=365_000)) == 0
    assert [Task.get_by_id(each).not_before for each in others] == [holds.HELD_UNTIL] * 2
    assert holds.tasks_by_component() == [("tests.Thing", 2, others[0])]
    (other,) = fill(1)
    assert members(claim(10).bundle) == [other]
    assert steering.let_go(of_bundle(held.bundle)) == 2
    assert steering.let_go(of_bundle(held.bundle)) == 0
    assert members(claim(10).bundle) == others
    assert states(first) == ["completed"]


def test_single_tasks_are_held_where_nobody_else_is_touched_by_it() -> None:
    waiting = fill(2)
    assert steering.hold_work(of_task(waiting[0]), ADA).waiting == 1
    assert members(claim(10).bundle) == waiting[1:]
    assert steering.hold_work(of_task(waiting[1]), ADA).running == 1, "it was alone in its bundle"
    held = running(3)
    task = members(held.bundle)[1]
    with pytest.raises(AstraError, match=rf"task {task} runs in bundle {held.bundle} with 2 others: .*pause bundle"):
        steering.hold_work(of_task(task), ADA)
    (over,) = fail(1)
    with pytest.raises(AstraError, match=f"task {over} is failed: nothing of it is left to hold"):
        steering.hold_work(of_task(over), ADA)
    assert steering.let_go(of_task(waiting[0])) == 1


# ------------------------------------------------------------------------------------------------------------ cancel


def test_a_running_bundle_that_another_process_cancels_loses_its_fence() -> None:
    held = running(3)
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, TaskOutcome.COMPLETED), (), None)], START)
    assert steering.cancel(of_bundle(held.bundle), ADA).running == 2
    assert states(*members(held.bundle)) == ["completed", "cancelled", "cancelled"]
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * 3)
    with pytest.raises(LeaseLost):
        queue.finish([Finish(held.bundle, held.token, rows[1:], (), TOTALS)], LATER)
    assert states(*members(held.bundle)) == ["completed", "cancelled", "cancelled"]
    assert outcomes(held.bundle) == ["completed", "cancelled", "cancelled"]
    told = [each.error_message for each in TaskBundle.select().order_by(TaskBundle.position)]
    assert told == [None, *["cancelled by ada@host: disk full"] * 2]
    bundle = Bundle.get_by_id(held.bundle)
    assert (bundle.state, bundle.error, bundle.ended) == ("released", "cancelled by ada@host: disk full", START)
    assert queue.cancel_running(held.bundle, "again", LATER) == 0


def test_a_cancelled_component_s_waiting_and_running_tasks_are_cancelled_and_nobody_else_s() -> None:
    held = running(2)
    waiting = fill(2)
    steering.hold_work(of_task(waiting[1]), ADA)
    other = queue.enqueue([new_task("other {}")._replace(name="tests.Other")], START)
    by_person, _ = queue.open_by_hand(by_hand(new_task(identity=None)), START)
    done = steering.cancel(THING, ADA)
    assert (done.waiting, done.running, done.bundles) == (2, 2, 1)
    assert [each.bundle for each in done.by_hand] == [by_person.bundle]
    assert states(*members(held.bundle), *waiting, *other) == ["cancelled"] * 4 + ["pending"]
    assert Task.get_by_id(waiting[1]).not_before is None
    done = steering.cancel(THING, ADA)
    assert (done.waiting, done.running) == (0, 0)
    assert steering.cancel(of_bundle(by_person.bundle), ADA).running == 1, "named itself, it is"


def test_a_replay_is_cancelled_alone_and_its_neighbours_in_a_bundle_run_again() -> None:
    number = a_replay()
    mine, others = fill(2, replay=number), fill(2)
    waiting = fill(1, key="else {}", replay=number)
    held, _ = queue.open_by_hand(by_hand(recorded=(*mine, *others)), START)
    Bundle.update(executor="local").execute()  # one that holds both
    assert replay.cancel(number)
    assert not replay.cancel(number)
    done = steering.cancel(Target(Kind.REPLAY, str(number)), ADA)
    assert (done.waiting, done.running) == (1, 2)
    assert states(*mine, *waiting, *others) == ["cancelled"] * 3 + ["pending"] * 2
    assert outcomes(held.bundle) == ["cancelled"] * 2 + ["released"] * 2
    assert members(claim(10).bundle) == others


def test_a_single_task_is_cancelled_unless_it_would_take_others_with_it() -> None:
    (waiting,) = fill(1)
    assert steering.cancel(of_task(waiting), ADA).waiting == 1
    assert steering.cancel(of_task(waiting), ADA).waiting == 0
    alone = running(1)
    assert steering.cancel(of_task(members(alone.bundle)[0]), ADA).running == 1
    held = running(3)
    task = members(held.bundle)[0]
    with pytest.raises(
        AstraError, match=rf"in bundle {held.bundle} with 2 others: `astra cancel bundle {held.bundle}`"
    ):
        steering.cancel(of_task(task), ADA)
    assert states(task) == ["running"]
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, TaskOutcome.COMPLETED), (), None)], START)
    with pytest.raises(AstraError, match=f"task {task} is completed: there is nothing left of it to cancel"):
        steering.cancel(of_task(task), ADA)


def test_a_bundle_that_has_ended_stands_for_its_tasks_that_wait_to_be_tried_again() -> None:
    held = running(2)
    queue.release(held.bundle, held.token, "the service stopped", START)
    one, two = members(held.bundle)
    again = start(claim(1))
    assert members(again.bundle) == [one]
    queue.release(again.bundle, again.token, "the service stopped", START)
    assert steering.cancel(of_bundle(held.bundle), ADA).waiting == 1
    assert states(one, two) == ["pending", "cancelled"], "one was in a later bundle"


def test_many_are_cancelled_in_chunks_each_a_transaction(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "CHUNK", 4)
    keys = fill(10)
    with statements(database) as seen:
        assert queue.cancel_pending(keys) == 10
    assert sum(each.startswith("UPDATE task") for each in seen) == 3
    assert set(states(*keys)) == {"cancelled"}


# ------------------------------------------------------------------------------------------------------------- drain


def test_a_bundle_is_asked_to_drain_while_it_is_open() -> None:
    held = running(2)
    steering.drain(of_bundle(held.bundle), ADA)
    assert Bundle.get_by_id(held.bundle).asked == "drain"
    assert [each.unfinished for each in steering.running(of_bundle(held.bundle))] == [2]
    queue.release(held.bundle, held.token, "drained", START)
    assert steering.running(of_bundle(held.bundle)) == []
    assert not queue.ask(held.bundle, holds.DRAIN)
    steering.drain(of_bundle(held.bundle), ADA)


def test_a_component_is_held_while_it_is_drained() -> None:
    held = running(2)
    steering.drain(THING, ADA)
    assert [each.target for each in holds.standing()] == ["tests.Thing"]
    assert [each.bundle for each in steering.running(THING)] == [held.bundle]
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, *[TaskOutcome.COMPLETED] * 2), (), TOTALS)], START)
    assert steering.running(THING) == []


# ------------------------------------------------------------------------------------------------------------- retry


def test_a_retried_task_is_the_task_it_was_and_its_tries_count_no_more() -> None:
    keys = fail(3)
    bundle = Task.get_by_id(keys[0]).__data__["bundle"]
    Task.update(cohort=7, not_before=LATER).where(Task.id == keys[0]).execute()
    plan = queue.plan_retry(keys)
    assert (list(plan.again), states(*keys)) == (keys, ["failed"] * 3)
    assert list(queue.retry(keys).again) == keys
    task = Task.get_by_id(keys[0])
    assert (task.state, task.not_before, task.cohort, task.tries_after) == ("pending", None, None, bundle)
    again = queue.retry(keys)
    assert (list(again.again), again.alone) == ([], 3)
    assert again.left[0].reason == f"task {keys[0]} is pending"
    assert members(claim(10).bundle) == keys
    assert outcomes(bundle) == ["failed"] * 3


def test_cancelled_tasks_are_retried_where_it_is_said() -> None:
    failed, (cancelled,) = fail(1), fill(1)
    queue.cancel_pending([cancelled])
    done = queue.retry([*failed, cancelled])
    assert (list(done.again), done.left[0].reason) == (
        failed,
        f"task {cancelled} is cancelled; --cancelled means it too",
    )
    assert list(queue.retry([cancelled], BOTH).again) == [cancelled]
    assert Task.get_by_id(cancelled).tries_after == 0, "it was never in a bundle"


def test_of_the_same_work_the_newest_is_retried_and_none_beside_a_live_twin() -> None:
    old, new = fail(1, identity="same"), fail(1, identity="same")
    done = queue.retry([*old, *new])
    assert list(done.again) == new
    assert done.left[0].reason == f"task {old[0]} was enqueued again as task {new[0]}, which stands for it"
    done = queue.retry(old)
    assert (list(done.again), [each.reason for each in done.left]) == (
        [],
        [f"task {old[0]} is queued as task {new[0]}, which is the same work"],
    )
    assert states(*old, *new) == ["failed", "pending"]


def test_what_others_do_or_was_run_by_hand_is_left_alone() -> None:
    given = product("/data/one.fits")
    superseded, by_rule = fail(1, inputs=(given,)), fail(1, inputs=(given,), rule="visits")
    current = fail(1, inputs=(product("/data/two.fits"),))
    version_of(given.data_product, "/data/one.fits")
    held, keys = queue.open_by_hand(by_hand(new_task(identity=None)), START)
    queue.fail_gone(held.bundle, held.token, "process gone", START)
    done = queue.retry([*superseded, *by_rule, *current, *keys])
    assert list(done.again) == current
    reasons = {each.task: each.reason for each in done.left}
    assert "newer version: `astra replay tasks` enqueues it on that" in reasons[superseded[0]]
    assert "newer version: the task of that version does the work" in reasons[by_rule[0]]
    assert f"`astra execute task {keys[0]}` runs it again" in reasons[keys[0]]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_twin_that_is_enqueued_while_a_retry_looks_is_seen_by_its_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fail(2)
    twin = new_task(identity=Task.get_by_id(keys[0]).identity)
    enqueued: list[int] = []
    look = holding._retryable

    def somebody() -> None:
        enqueued.extend(queue.enqueue([twin], START))
        opened.close()

    def looking(*given: Any) -> list[tuple[int, int]]:
        found = look(*given)
        if not enqueued:
            other = threading.Thread(target=somebody)
            other.start()
            other.join(30)
        return found

    monkeypatch.setattr(holding, "_retryable", looking)
    done = queue.retry(keys)
    assert list(done.again) == keys[1:]
    assert done.left[0].reason == f"task {keys[0]} is queued as task {enqueued[0]}, which is the same work"
    assert states(*keys) == ["failed", "pending"]


def between_look_and_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[list[int]], None]) -> None:
    """Have somebody else act whenever a retry has looked, told the keys that it is to change."""
    look = holding._retryable

    def elsewhere(keys: list[int]) -> None:
        act(keys)
        opened.close()

    def looking(*given: Any) -> Any:
        found = look(*given)
        other = threading.Thread(target=elsewhere, args=([row[0] for row in found],))
        other.start()
        other.join(30)
        return found

    monkeypatch.setattr(holding, "_retryable", looking)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_tasks_that_others_change_at_every_look_are_left_out_of_a_retry_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = fail(9)

    def change(seen: list[int]) -> None:
        Task.update(state="pending").where(Task.id == seen[0]).execute()

    between_look_and_write(monkeypatch, change)
    done = queue.retry(keys)
    assert list(done.again) == keys[1:]
    assert [each.reason for each in done.left] == [f"task {keys[0]} was changed by somebody else at this moment"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_retry_comes_to_an_end_though_its_work_is_enqueued_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fail(9)

    def enqueue(seen: list[int]) -> None:
        if seen and seen[0] != keys[-1]:
            queue.enqueue([new_task(identity=Task.get_by_id(seen[0]).identity)], START)

    between_look_and_write(monkeypatch, enqueue)
    done = queue.retry(keys)
    assert list(done.again) == keys[-1:]
    assert (done.alone, [each.task for each in done.left]) == (8, keys[:-1])
    assert all("is queued as task" in each.reason for each in done.left)


def test_a_retry_looks_each_task_up_by_its_key(database: peewee.Database) -> None:
    keys = fail(20)
    with plans(database) as seen:
        assert len(queue.retry(keys).again) == 20
    looks = [(sql, plan) for sql, plan in seen if " task " in sql]
    assert len(looks) >= 2
    for sql, plan in looks:
        assert "Seq Scan on task" not in plan
        assert not re.search(r"\bon (task|retried) |task_identity|SCAN", in_loops(plan)), f"{sql}\n{plan}"


def test_many_are_retried_in_chunks_and_the_names_of_those_left_alone_are_bounded(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "CHUNK", 4)
    monkeypatch.setattr(holding, "_LEFT_KEPT", 2)
    keys = fail(10)
    with statements(database) as seen:
        assert len(queue.retry(keys).again) == 10
    assert sum(each.startswith("UPDATE task") for each in seen) == 3
    done = queue.retry(keys)
    assert (done.alone, len(done.left)) == (10, 2)


# ----------------------------------------------------------------------------------------------------------- targets


def test_what_is_meant_is_found_by_name_and_what_is_not_there_is_said() -> None:
    fill(1)
    queue.enqueue([new_task("b {}")._replace(name="other.Thing")], START)
    running(1, key="c {}")
    assert targets.find(Kind.COMPONENT, "tests.Thing") == THING
    assert targets.find(Kind.COMPONENT, "Rare", ["pack.Rare"]).name == "pack.Rare"
    with pytest.raises(AstraError, match=r"Thing may be other\.Thing or tests\.Thing: give the whole path"):
        targets.find(Kind.COMPONENT, "Thing")
    with pytest.raises(AstraError, match=r"no component Thnig in the records or the settings; did you mean Thing\?"):
        targets.find(Kind.COMPONENT, "Thnig")
    for kind in (Kind.BUNDLE, Kind.TASK, Kind.REPLAY):
        with pytest.raises(AstraError, match=f"there is no {kind} 4100"):
            targets.find(kind, "4100")


def test_the_failed_tasks_of_a_component_a_replay_and_a_bundle_are_found() -> None:
    number = a_replay()
    mine, others = fail(2, replay=number), fail(1)
    (again,) = fill(1)
    queue.cancel_pending([again])
    failed = [TaskState.FAILED]
    assert sorted(targets.ended(THING, failed)) == [*mine, *others]
    assert sorted(targets.ended(THING, BOTH)) == [*mine, *others, again]
    assert sorted(targets.ended(Target(Kind.REPLAY, str(number)), failed)) == mine
    bundle = Task.get_by_id(others[0]).__data__["bundle"]
    assert list(targets.ended(of_bundle(bundle), failed)) == others
    queue.retry(others)
    claim(1)
    assert list(targets.ended(of_bundle(bundle), failed)) == []
    assert run("SELECT count(*) FROM task WHERE state = 'failed'")[0][0] == 2
