"""What people cancel, on both databases: what waits and what runs, and nothing of anybody else."""

from __future__ import annotations

import peewee
import pytest

from astra import queue, replay, steering
from astra.database.astradb import Bundle, Task, TaskBundle
from astra.errors import AstraError, LeaseLost
from astra.queue import holding
from astra.states import TaskOutcome
from astra.targets import Kind, Target
from astra.work import Finish
from tests.support.clock import START
from tests.support.steered import ADA, LATER, THING, a_replay, members, of_bundle, of_task, outcomes, states
from tests.support.tasks import TOTALS, by_hand, claim, ended, fill, new_task, running, start, statements

pytestmark = pytest.mark.usefixtures("database")


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
