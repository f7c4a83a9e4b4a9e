"""Failed and cancelled tasks run again, on both databases: which ones, and what is left alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import peewee
import pytest

from astra import queue
from astra.database.astradb import Task
from astra.database.connection import database as opened
from astra.queue import holding
from tests.support.clock import START
from tests.support.steered import BOTH, LATER, fail, members, outcomes, states
from tests.support.tasks import by_hand, claim, fill, in_loops, new_task, plans, product, statements, version_of

pytestmark = pytest.mark.usefixtures("database")


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
