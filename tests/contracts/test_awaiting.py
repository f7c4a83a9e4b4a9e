"""Tasks that come after other work: never claimed before that is completed, and let go in the very moment it is."""

from __future__ import annotations

import threading
from datetime import timedelta

import peewee
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from astra import backlog, holds, queue
from astra.database.astradb import Task
from astra.database.connection import database as opened
from astra.database.connection import drop_connection, execute, run
from astra.errors import LeaseLost
from astra.queue import awaiting
from astra.states import IS_DUE, TaskOutcome, TaskState
from astra.work import Claimed, Finish, NewTask, Pick
from tests.support.clock import START
from tests.support.tasks import (
    OWNER,
    TOTALS,
    by_hand,
    claim,
    empty_queue,
    ended,
    new_task,
    plans,
    product,
    start,
    statements,
    version_of,
)

COMPLETED, FAILED = TaskOutcome.COMPLETED, TaskOutcome.FAILED
BOTH = frozenset({TaskState.FAILED, TaskState.CANCELLED})
AFTER = {"a": None, "b": "a", "c": "b"}


def work(identity: str, **values: object) -> NewTask:
    return new_task(identity=identity, after=AFTER[identity], **values)


def enqueue(*identities: str) -> list[int]:
    return queue.enqueue([work(each) for each in identities], START)


def end(held: Claimed, *outcomes: TaskOutcome) -> None:
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, *outcomes), (), TOTALS)], START)


def due() -> list[int]:
    return [key for (key,) in run(f"SELECT id FROM task WHERE {IS_DUE} ORDER BY id")]


def test_a_chain_runs_one_after_the_other_and_nothing_makes_it_due_before(database: peewee.Database) -> None:
    a, b, c = enqueue("a", "b", "c")
    assert queue.make_due(START + timedelta(days=365 * 1000)) == 0
    for key in (a, b, c):
        assert due() == [key]
        end(start(claim()), COMPLETED)
    assert enqueue("b")[0] not in (a, b, c)
    assert len(due()) == 1, "what it comes after is done already"


def test_finishing_lets_go_with_the_same_transaction_or_not_at_all(database: peewee.Database) -> None:
    enqueue("a", "b")
    held = start(claim())

    def fail_after() -> None:
        with opened.atomic():
            end(held, COMPLETED)
            assert len(due()) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after()
    assert due() == []
    end(held, COMPLETED)
    assert len(due()) == 1


def test_what_waits_for_a_failure_waits_until_a_retry_of_it_went_well_and_no_drain_waits_for_it(
    database: peewee.Database,
) -> None:
    a, _ = enqueue("a", "b")
    assert backlog.unfinished()
    end(start(claim()), FAILED)
    assert due() == []
    assert not backlog.unfinished()
    assert holds.told_awaited("a", holds.awaited({"a"})) == f"task {a}, which is failed"
    assert holds.told_awaited("z", holds.awaited({"z"})) == "work that was not enqueued"
    assert list(queue.retry([a]).again) == [a]
    end(start(claim()), COMPLETED)
    assert len(due()) == 1


def test_a_repeat_of_what_is_waited_for_lets_go_though_its_identity_is_another(database: peewee.Database) -> None:
    a, b = enqueue("a", "b")
    end(start(claim()), FAILED)
    [second] = queue.enqueue([new_task(identity="a of version 2", repeat_of=a)], START)
    end(start(claim()), FAILED)
    queue.enqueue([new_task(identity="a of version 3", repeat_of=second)], START)
    end(start(claim()), COMPLETED)
    assert due() == [b]
    queue.cancel_pending([b])
    assert enqueue("b") == due(), "and what is enqueued afterwards need not wait"


def test_work_that_is_to_be_done_again_is_waited_for_though_it_was_done(database: peewee.Database) -> None:
    enqueue("a")
    end(start(claim()), COMPLETED)
    b, a = enqueue("b", "a")
    assert due() == [a], "in one call, whatever the order"
    queue.cancel_pending([b])
    [b] = enqueue("b")
    assert due() == [a], "in a later one"
    end(start(claim()), FAILED)
    awaiting.repair_waits()
    assert due() == []
    assert not backlog.unfinished(), "no drain waits for it"
    assert holds.told_awaited("a", holds.awaited({"a"})) == f"task {a}, which is failed"
    assert list(queue.retry([a]).again) == [a]
    awaiting.repair_waits()
    assert due() == [a]
    end(start(claim()), COMPLETED)
    assert due() == [b]


def test_work_done_before_counts_again_where_its_repetition_is_cancelled_or_was_by_hand(
    database: peewee.Database,
) -> None:
    [first] = enqueue("a")
    end(start(claim()), COMPLETED)
    [again] = queue.enqueue([new_task(identity="a of version 2", repeat_of=first)], START)
    [b] = enqueue("b")
    assert due() == [again]
    assert holds.told_awaited("a", holds.awaited({"a"})) == f"task {again}, which is pending"
    queue.cancel_pending([again])
    awaiting.repair_waits()
    assert due() == [b]
    queue.cancel_pending([b])
    queue.open_by_hand(by_hand(new_task(identity=None, repeat_of=first)), START)
    assert enqueue("b") == due()


def test_one_that_is_held_and_let_go_still_waits(database: peewee.Database) -> None:
    a, b = enqueue("a", "b")
    queue.hold_tasks([b])
    assert queue.lift_tasks([b]) == 1
    assert due() == [a]
    queue.hold_tasks([b])
    end(start(claim()), COMPLETED)
    assert due() == [], "a person holds it"
    queue.lift_tasks([b])
    assert due() == [b]


def test_a_new_file_version_cancels_the_waiting_too(database: peewee.Database) -> None:
    given = product()
    queue.enqueue([work("a", inputs=(given,), rule="first"), work("b", inputs=(given,), rule="second")], START)
    version_of(given.data_product, "/data/one.fits")
    assert queue.supersede([given.data_product], START) == 2
    assert {each.state for each in Task.select()} == {TaskState.CANCELLED}
    assert not awaiting.let_go([1])


def test_who_was_missed_is_found_in_slices(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "CHUNK", 2)
    queue.enqueue([new_task(identity=f"done {n}") for n in range(3)], START)
    end(start(claim()), *[COMPLETED] * 3)
    keys = queue.enqueue([new_task(after=f"{word} {n}") for n in range(3) for word in ("done", "never")], START)
    execute("UPDATE task SET not_before = '9999-01-01 00:00:00.000000+00:00' WHERE after IS NOT NULL")
    assert backlog.unfinished(), "a drain must not end before they are found"
    position, turns = awaiting.repair_waits(), 1
    while position is not None:
        position, turns = awaiting.repair_waits(position), turns + 1
    assert due() == keys[::2]
    assert turns == 4
    assert not queue.waits_in_vain()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_enqueue_and_a_finish_that_did_not_see_each_other_are_put_right(database: peewee.Database) -> None:
    enqueue("a")
    held = start(claim())
    enqueued, finished = threading.Event(), threading.Event()

    def enqueue_meanwhile() -> None:
        with opened.atomic():
            enqueue("b")
            enqueued.set()
            assert finished.wait(20)
        drop_connection()

    other = threading.Thread(target=enqueue_meanwhile)
    other.start()
    assert enqueued.wait(20)
    end(held, COMPLETED)
    finished.set()
    other.join()
    assert due() == []
    awaiting.repair_waits()
    assert len(due()) == 1


def test_letting_go_takes_no_more_statements_for_more_tasks_and_nearly_none_where_nothing_waits(
    database: peewee.Database,
) -> None:
    counts = []
    for number in (2, 200):
        names = [f"first {number} {n}" for n in range(number)]
        queue.enqueue([new_task(identity=each) for each in names], START)
        queue.enqueue([new_task(after=each, key="other {}") for each in names], START)
        held = start(claim(number))
        with statements(database) as seen:
            end(held, *[COMPLETED] * number)
        counts.append(len(seen))
        assert len(due()) == number
        held = start(claim(number, key="other {}"))
        with statements(database) as seen:
            end(held, *[COMPLETED] * number)
        assert sum("after" in each for each in seen) == 1
    assert counts[0] == counts[1]


def test_what_waits_is_found_by_its_index(database: peewee.Database) -> None:
    queue.enqueue([new_task(identity="first"), *[new_task(after=f"never {n}") for n in range(2000)]], START)
    queue.enqueue([new_task(after="first")], START)
    held = start(claim(1))
    with plans(database) as seen:
        end(held, COMPLETED)
        awaiting.repair_waits()
    of_waiting = [each for each in seen if "after IS NOT NULL" in each[0]]
    assert len(of_waiting) == 3
    assert all("task_after" in plan for _, plan in of_waiting), of_waiting


class Chain(RuleBasedStateMachine):
    """Three tasks, each after the one before, with whatever people and processes do to them."""

    def __init__(self) -> None:
        super().__init__()
        empty_queue()
        self.open: dict[int, Claimed] = {}
        self.cancelled = False

    @rule(identity=st.sampled_from("abc"))
    def enqueue(self, identity: str) -> None:
        enqueue(identity)

    @precondition(lambda self: due())
    @rule()
    def begin(self) -> None:
        [claimed] = queue.claim([Pick(None, 100, "thing {}", 1)], OWNER, "local", START)
        self.open[claimed.bundle] = start(claimed)

    @precondition(lambda self: self.open)
    @rule(outcome=st.sampled_from([COMPLETED, COMPLETED, FAILED, TaskOutcome.RELEASED]))
    def finish(self, outcome: TaskOutcome) -> None:
        _, held = self.open.popitem()
        try:
            end(held, outcome)
        except LeaseLost:
            assert run("SELECT state FROM bundle WHERE id = ?", (held.bundle,)) == [("released",)]

    @precondition(lambda self: self.open)
    @rule(until=st.sampled_from([None, holds.HELD_UNTIL]))
    def give_back(self, until: object) -> None:
        queue.give_back(next(iter(self.open)), "paused", START, until)  # type: ignore[arg-type]

    @precondition(lambda self: Task.select().exists())
    @rule(data=st.data(), verb=st.sampled_from(["hold", "lift", "cancel", "retry"]))
    def ask(self, data: st.DataObject, verb: str) -> None:
        keys = [data.draw(st.sampled_from([each.id for each in Task.select().order_by(Task.id)]))]
        if verb == "retry":
            queue.retry(keys, BOTH)
        else:
            {"hold": queue.hold_tasks, "lift": queue.lift_tasks, "cancel": queue.cancel_pending}[verb](keys)
            self.cancelled |= verb == "cancel"  # perhaps what was to be done again: the look finds who needs not wait

    @rule()
    def look(self) -> None:
        assert awaiting.repair_waits() is None
        self.cancelled = False

    @invariant()
    def a_task_is_due_as_soon_as_what_it_comes_after_is_completed_and_not_before(self) -> None:
        tasks = [each for each in Task.select().order_by(Task.id) if each.state is not TaskState.CANCELLED]
        was_done = {each.identity for each in tasks if each.state is TaskState.COMPLETED}
        latest = {each.identity: each.state for each in tasks}  # one that lives is the newest of its identity
        for task in tasks:
            if holds.awaits(task.not_before):
                assert self.cancelled or latest.get(task.after) is not TaskState.COMPLETED, task.identity
            elif task.after is not None and not holds.is_held(task.not_before):
                assert task.after in was_done, task.identity


def test_in_any_order_of_events_a_task_runs_only_after_what_it_waits_for(database: peewee.Database) -> None:
    found = settings(
        max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Chain, settings=found)
