"""What people hold and let go, give back and drain; each verb on both databases, and who loses by it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from astra import holds, queue, steering, targets
from astra.database.astradb import Bundle, Hold, Task
from astra.database.connection import database as opened
from astra.database.connection import drop_connection, execute, run
from astra.errors import AstraError, LeaseLost
from astra.states import HoldKind, TaskOutcome, TaskState
from astra.targets import Kind, Target
from astra.work import Finish
from tests.support.clock import START
from tests.support.processes import until
from tests.support.steered import (
    ADA,
    BOTH,
    COMPONENT,
    LATER,
    THING,
    a_replay,
    fail,
    members,
    of_bundle,
    of_task,
    outcomes,
    states,
)
from tests.support.tasks import TOTALS, by_hand, claim, ended, fill, new_task, product, running, start, version_of

pytestmark = pytest.mark.usefixtures("database")


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
    assert [queue.probe(key, bundle, again, LATER) for bundle in (8, 9)] == [True, False]
    assert [(each.probe_at, each.probes, each.probe_bundle) for each in Hold.select()] == [(again, 1, 8)]
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


# ------------------------------------------------------------------------------------------- two at the same moment


@pytest.mark.parametrize("verb", ["supersede", "hold_tasks", "lift_tasks", "cancel_pending"])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_who_change_the_same_tasks_come_to_them_in_one_order(verb: str) -> None:
    """Else each would come to wait for the other: PostgreSQL comes to rows as they lie, or as a plan finds them."""
    given = product()
    keys = fill(40, inputs=(given,), rule="a")
    queue.hold_tasks(keys[5:])
    queue.hold_tasks(keys)  # those of the lowest keys lie behind all others by now
    version_of(given.data_product, "/data/one.fits")
    change = partial(queue.supersede, [given.data_product], START) if verb == "supersede" else None
    other = threading.Thread(target=_change, args=(change or partial(getattr(queue, verb), keys),))
    with opened.atomic():
        execute("UPDATE task SET priority = 1 WHERE id = ?", (keys[0],))
        other.start()
        until(lambda: run("SELECT 1 FROM pg_locks WHERE NOT granted"))
        execute("UPDATE task SET priority = 1")
    other.join()
    assert Task.select().where(Task.priority == 1).count() == 40


def _change(verb: Callable[[], object]) -> None:
    verb()
    drop_connection()
