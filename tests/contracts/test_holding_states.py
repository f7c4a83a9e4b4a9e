"""What people ask of the queue, at random and beside a model: only what they named changes, and only as it may."""

from __future__ import annotations

from dataclasses import dataclass

import peewee
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from astra import holds, queue, steering
from astra.database.connection import run
from astra.errors import AstraError, LeaseLost
from astra.queue.holding import FAILED
from astra.states import TaskOutcome, TaskState
from astra.steering import By
from astra.targets import Kind, Target
from astra.work import Claimed, Finish
from tests.support.clock import START
from tests.support.tasks import TOTALS, claim, empty_queue, ended, new_task, start

ADA = By("ada@host", "", START)
BOTH = frozenset({TaskState.FAILED, TaskState.CANCELLED})


@dataclass
class ModelTask:
    identity: str
    state: str = "pending"
    held: bool = False
    bundle: int | None = None

    @property
    def is_live(self) -> bool:
        return self.state in ("pending", "running")


@dataclass
class ModelBundle:
    held: Claimed
    tasks: list[int]
    is_open: bool = True


class Steered(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        empty_queue()
        self.tasks: dict[int, ModelTask] = {}
        self.bundles: dict[int, ModelBundle] = {}

    @rule(identities=st.lists(st.sampled_from("abcde"), min_size=1, max_size=5))
    def enqueue(self, identities: list[str]) -> None:
        keys = queue.enqueue([new_task(identity=each) for each in identities], START)
        for identity, key in zip(identities, keys, strict=True):
            self.tasks.setdefault(key, ModelTask(identity))

    @precondition(lambda self: any(task.state == "pending" and not task.held for task in self.tasks.values()))
    @rule(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        ready = sorted(key for key, task in self.tasks.items() if task.state == "pending" and not task.held)[:limit]
        held = start(claim(limit))
        self.bundles[held.bundle] = ModelBundle(held, ready)
        for key in ready:
            self.tasks[key].state, self.tasks[key].bundle = "running", held.bundle

    @precondition(lambda self: self.bundles)
    @rule(data=st.data(), outcome=st.sampled_from([TaskOutcome.COMPLETED, TaskOutcome.FAILED]))
    def finish(self, data: st.DataObject, outcome: TaskOutcome) -> None:
        number, bundle = self._bundle(data)
        rows = ended(number, *[outcome] * len(bundle.tasks))
        try:
            queue.finish([Finish(number, bundle.held.token, rows, (), TOTALS)], START)
        except LeaseLost:
            assert not bundle.is_open
            return
        self._close(bundle, str(outcome))

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def pause_bundle(self, data: st.DataObject) -> None:
        number, bundle = self._bundle(data)
        try:
            steering.hold_work(Target(Kind.BUNDLE, str(number)), ADA)
        except AstraError:
            assert not bundle.is_open
            assert not self._waiting(number)
            return
        self._close(bundle, "pending")
        assert self._waiting(number)
        for key in self._waiting(number):
            self.tasks[key].held = True

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number, bundle = self._bundle(data)
        assert queue.give_back(number, "paused", START) == len(self._close(bundle, "pending"))

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def resume_bundle(self, data: st.DataObject) -> None:
        number, _ = self._bundle(data)
        self._let_go(Target(Kind.BUNDLE, str(number)), self._waiting(number))

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def cancel_bundle(self, data: st.DataObject) -> None:
        number, bundle = self._bundle(data)
        done = steering.cancel(Target(Kind.BUNDLE, str(number)), ADA)
        taken, waiting = self._close(bundle, "cancelled"), self._waiting(number)
        assert (done.running, done.waiting) == (len(taken), len(waiting))
        self._cancel(waiting)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), verb=st.sampled_from([steering.cancel, steering.hold_work]))
    def take_task(self, data: st.DataObject, verb: object) -> None:
        key = data.draw(st.sampled_from(sorted(self.tasks)), "task")
        task = self.tasks[key]
        others = [each for each in self.tasks.values() if each.state == "running" and each.bundle == task.bundle]
        is_cancel = verb is steering.cancel
        legal = task.state == "pending" or (task.state == "running" and len(others) == 1)
        try:
            (steering.cancel if is_cancel else steering.hold_work)(Target(Kind.TASK, str(key)), ADA)
        except AstraError:
            assert not legal
            return
        assert legal or (is_cancel and task.state == "cancelled")
        if task.state == "running" and task.bundle is not None:
            self._close(self.bundles[task.bundle], "pending")
        if is_cancel:
            self._cancel([key])
        else:
            task.held = True

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def resume_task(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tasks)), "task")
        self._let_go(Target(Kind.TASK, str(key)), [key] if self.tasks[key].state == "pending" else [])

    @rule()
    def cancel_component(self) -> None:
        if self.tasks:
            steering.cancel(Target(Kind.COMPONENT, "tests.Thing"), ADA)
            for bundle in self.bundles.values():
                self._close(bundle, "cancelled")
            self._cancel([key for key, task in self.tasks.items() if task.state == "pending"])

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), states=st.sampled_from([FAILED, BOTH]))
    def retry(self, data: st.DataObject, states: frozenset[TaskState]) -> None:
        keys = data.draw(st.lists(st.sampled_from(sorted(self.tasks)), unique=True, min_size=1), "tasks")
        expected = []
        for key in sorted(keys):
            task = self.tasks[key]
            same = [other for other, each in self.tasks.items() if each.identity == task.identity]
            live = any(self.tasks[other].is_live for other in same)
            if task.state in states and not live and key == max(same):
                expected.append(key)
        assert list(queue.plan_retry(keys, states).again) == expected
        done = queue.retry(keys, states)
        assert (list(done.again), done.alone) == (expected, len(keys) - len(expected))
        for key in expected:
            self.tasks[key].state = "pending"

    # ------------------------------------------------------------------------------------------------------ the model

    def _bundle(self, data: st.DataObject) -> tuple[int, ModelBundle]:
        number = data.draw(st.sampled_from(sorted(self.bundles)), "bundle")
        return number, self.bundles[number]

    def _close(self, bundle: ModelBundle, state: str) -> list[int]:
        taken = bundle.tasks if bundle.is_open else []
        bundle.is_open = False
        for key in taken:
            self.tasks[key].state = state
        return taken

    def _waiting(self, bundle: int) -> list[int]:
        return [key for key, task in self.tasks.items() if task.state == "pending" and task.bundle == bundle]

    def _let_go(self, target: Target, keys: list[int]) -> None:
        assert steering.let_go(target) == sum(self.tasks[key].held for key in keys)
        for key in keys:
            self.tasks[key].held = False

    def _cancel(self, keys: list[int]) -> None:
        for key in keys:
            self.tasks[key].state, self.tasks[key].held = "cancelled", False

    @invariant()
    def the_database_holds_what_the_model_says(self) -> None:
        found = {key: (state, bundle) for key, state, bundle in run("SELECT id, state, bundle_id FROM task")}
        assert found == {key: (task.state, task.bundle) for key, task in self.tasks.items()}
        held = {row[0] for row in run("SELECT id FROM task WHERE not_before IS NOT NULL")}
        assert held == {key for key, task in self.tasks.items() if task.held}
        assert sum(count for _, count, _ in holds.tasks_by_component()) == len(held)
        open_ones = {row[0] for row in run("SELECT id FROM bundle WHERE state IN ('submitted', 'running')")}
        assert open_ones == {key for key, each in self.bundles.items() if each.is_open}
        assert not run("SELECT 1 FROM task_bundle m JOIN bundle b ON b.id = m.bundle_id "
                       "WHERE (m.outcome IS NULL) <> (b.state IN ('submitted', 'running'))")  # fmt: skip


def test_any_walk_of_people_through_the_queue_makes_legal_changes_only(database: peewee.Database) -> None:
    run_state_machine_as_test(
        Steered,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
