"""The queue's two state machines, walked at random beside a model: every legal change happens, no other one does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import peewee
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from astra import queue
from astra.database.astradb import TaskBundle
from astra.database.connection import run
from astra.errors import AstraError, LeaseLost
from astra.states import ErrorKind, TaskOutcome
from astra.work import Claimed, Expiry, Finish, Pick, Retry
from tests.support.clock import START
from tests.support.tasks import OWNER, TOTALS, by_hand, empty_queue, ended, new_task, start

KEY = "thing {}"
RETRIES = 1
LATER = START + timedelta(hours=2)
AFTER = {"completed": "completed", "failed": "failed", "released": "pending", "cancelled": "cancelled"}


@dataclass
class ModelTask:
    identity: str | None
    state: str
    due: bool = True
    died: int = 0
    cohort: object = None

    @property
    def is_live(self) -> bool:
        return self.state in ("pending", "running")


@dataclass
class ModelBundle:
    state: str
    tokens: list[str]
    tasks: list[int]
    interactive: bool = False
    outcomes: dict[int, str] = field(default_factory=dict)

    def unfinished(self) -> list[int]:
        return [task for at, task in enumerate(self.tasks) if at not in self.outcomes]


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        empty_queue()
        self.tasks: dict[int, ModelTask] = {}
        self.bundles: dict[int, ModelBundle] = {}

    # ------------------------------------------------------------------------------------------------------- rules

    @rule(identities=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6))
    def enqueue(self, identities: list[str]) -> None:
        keys = queue.enqueue([new_task(identity=each) for each in identities], START)
        for identity, key in zip(identities, keys, strict=True):
            live = [each for each, task in self.tasks.items() if task.identity == identity and task.is_live]
            if live:
                assert key == live[0]
            else:
                assert key not in self.tasks
                self.tasks[key] = ModelTask(identity, "pending")

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        ready = sorted(key for key, task in self.tasks.items() if task.state == "pending" and task.due)
        taken = queue.claim([Pick(None, 100, KEY, limit)], OWNER, "local", START)
        assert bool(taken) == bool(ready)
        for claimed in taken:
            keys = [row[0] for row in run("SELECT task_id FROM task_bundle WHERE bundle_id = ?", (claimed.bundle,))]
            together = [key for key in ready if self.tasks[key].cohort == self.tasks[ready[0]].cohort]
            assert sorted(keys) == together[: len(keys)], "the oldest, and of one cohort"
            assert 1 <= claimed.size == len(keys) <= limit
            self.bundles[claimed.bundle] = ModelBundle("submitted", [claimed.token], sorted(keys))
            self._move(keys, "running")

    @rule()
    def make_due(self) -> None:
        waiting = [task for task in self.tasks.values() if task.state == "pending" and not task.due]
        assert queue.make_due(LATER) == len(waiting)
        for task in waiting:
            task.due = True

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        number, bundle, token = self._any_bundle(data)
        try:
            held = start(Claimed(number, len(bundle.tasks), token))
        except LeaseLost:
            assert bundle.state != "submitted" or token != bundle.tokens[-1]
            return
        assert bundle.state == "submitted"
        assert token == bundle.tokens[-1]
        bundle.state = "running"
        bundle.tokens.append(held.token)

    @precondition(lambda self: self.bundles)
    @rule(data=st.data(), last=st.booleans())
    def finish(self, data: st.DataObject, last: bool) -> None:
        number, bundle, token = self._any_bundle(data)
        places = data.draw(st.lists(st.sampled_from(range(len(bundle.tasks))), unique=True), "places")
        words = data.draw(st.lists(st.sampled_from(sorted(AFTER)), min_size=len(places), max_size=len(places)), "ends")
        all_rows = ended(number, *[TaskOutcome.COMPLETED] * len(bundle.tasks))
        rows = [all_rows[at]._replace(outcome=TaskOutcome(word)) for at, word in zip(places, words, strict=True)]
        legal = bundle.state == "running" and token == bundle.tokens[-1] and not set(places) & set(bundle.outcomes)
        last = last and set(places) | set(bundle.outcomes) == set(range(len(bundle.tasks)))
        try:
            queue.finish([Finish(number, token, rows, (), TOTALS if last else None)], START)
        except LeaseLost:
            assert not legal
            return
        assert legal
        for at, word in zip(places, words, strict=True):
            bundle.outcomes[at] = word
            self.tasks[bundle.tasks[at]].state = AFTER[word]
        if last:
            bundle.state = "ended"

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        number, bundle, token = self._any_bundle(data)
        held = {number} if bundle.state == "running" and token == bundle.tokens[-1] else set()
        assert queue.renew([number], token, START) == held

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number, bundle, token = self._any_bundle(data)
        given = queue.release(number, token, "stopped", START)
        tasks = self._take_back(bundle, token, "released", "released")
        assert given == len(tasks)
        self._move(tasks, "pending")

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        number, bundle, token = self._any_bundle(data)
        position = data.draw(st.sampled_from([None, *range(len(bundle.tasks))]), "in hand")
        why = (ErrorKind.CRASH, "died", Retry(RETRIES, 10.0), position)
        waiting, failed = queue.expire(Expiry(number, token, *why), START)
        before = dict(bundle.outcomes)
        tasks = self._take_back(bundle, token, "expired", "released")
        self._move(tasks, "pending")
        if len(tasks) == 1:
            position = bundle.tasks.index(tasks[0])
        if position is None:
            due = not any(self.tasks[key].cohort for key in tasks)  # the first halving is free
            for at, key in enumerate(tasks):
                self.tasks[key].due, self.tasks[key].cohort = due, (number, at < len(tasks) // 2)
        elif tasks and position not in before:
            bundle.outcomes[position] = "expired"
            self._blame(bundle.tasks[position])
        states = Counter(self.tasks[key].state for key in tasks)
        assert (waiting, failed) == (states["pending"], states["failed"])

    def _blame(self, key: int) -> None:
        task = self.tasks[key]
        task.died += 1
        if task.died > RETRIES:
            task.state = "failed"
        else:
            task.due, task.cohort = False, ("alone", key)

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def fail_gone(self, data: st.DataObject) -> None:
        number, bundle, token = self._any_bundle(data)
        if bundle.interactive:
            failed = queue.fail_gone(number, token, "process gone", START)
            tasks = self._take_back(bundle, token, "expired", "failed")
            assert failed == len(tasks)
            self._move(tasks, "failed")

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def by_hand(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.sampled_from(sorted(self.tasks)), min_size=1, max_size=3), "recorded")
        tasks = [self.tasks[key] for key in keys]
        others = [task for key, task in self.tasks.items() if key not in keys and task.is_live]
        identities = [task.identity for task in tasks]
        legal = (
            len(set(keys)) == len(keys)
            and all(task.state in ("pending", "failed", "cancelled") for task in tasks)
            and len(set(identities)) == len(identities)
            and not {task.identity for task in others} & set(identities)
        )
        try:
            held, taken = queue.open_by_hand(by_hand(recorded=tuple(keys)), START)
        except AstraError:
            assert not legal
            return
        assert legal
        assert list(taken) == keys
        self.bundles[held.bundle] = ModelBundle("running", [held.token], keys, interactive=True)
        self._move(keys, "running")
        for task in tasks:
            task.due = True

    # ------------------------------------------------------------------------------------------------------ the model

    def _any_bundle(self, data: st.DataObject) -> tuple[int, ModelBundle, str]:
        number = data.draw(st.sampled_from(sorted(self.bundles)), "bundle")
        bundle = self.bundles[number]
        return number, bundle, data.draw(st.sampled_from([*bundle.tokens[::-1], "guess"]), "token")

    def _take_back(self, bundle: ModelBundle, token: str, state: str, outcome: str) -> list[int]:
        if bundle.state not in ("submitted", "running") or token != bundle.tokens[-1]:
            return []
        tasks = bundle.unfinished()
        bundle.state = state
        bundle.outcomes |= {at: outcome for at in range(len(bundle.tasks)) if at not in bundle.outcomes}
        return tasks

    def _move(self, keys: list[int], state: str) -> None:
        for key in keys:
            self.tasks[key].state = state

    @invariant()
    def the_database_holds_what_the_model_says(self) -> None:
        found = {
            key: (state, not_before is None) for key, state, not_before in run("SELECT id, state, not_before FROM task")
        }
        assert found == {key: (task.state, task.due) for key, task in self.tasks.items()}
        assert dict(run("SELECT id, state FROM bundle")) == {key: each.state for key, each in self.bundles.items()}
        ends: dict[int, dict[int, Any]] = {}
        for row in TaskBundle.select().where(TaskBundle.outcome.is_null(False)):
            ends.setdefault(row.bundle_id, {})[row.position] = row.outcome
        assert ends == {key: each.outcomes for key, each in self.bundles.items() if each.outcomes}

    @invariant()
    def live_work_is_there_once_and_what_runs_runs_in_one_open_bundle(self) -> None:
        live = Counter(task.identity for task in self.tasks.values() if task.is_live)
        assert all(number == 1 for number in live.values())
        open_states = ("submitted", "running")
        held = [key for each in self.bundles.values() if each.state in open_states for key in each.unfinished()]
        assert sorted(held) == sorted(key for key, task in self.tasks.items() if task.state == "running")


def test_any_walk_through_the_queue_makes_legal_changes_only(database: peewee.Database) -> None:
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
