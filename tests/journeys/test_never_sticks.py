"""Components that hang, hog, crash and raise, in a service that goes on: nothing sticks, and only the guilty suffer."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from astra.base import TaskInstance
from astra.database import migrate
from astra.database.astradb import Bundle, Task, TaskBundle
from astra.states import ErrorKind, TaskOutcome
from tests.support.components import COMPONENTS, Exits, KilledAt, Trace, Traced, Waits, make_gate, open_gate, waiting
from tests.support.misbehaving import (
    FailsUntilMended,
    HangsAt,
    Hogs,
    PoisonedTogether,
    RaisesOnce,
    Segfaults,
)
from tests.support.processes import Daemon, run_json, until
from tests.support.site import Site

MISBEHAVING = "tests.support.misbehaving"
SECTIONS: dict[str, Any] = {
    "scheduler": {"retries": 1, "backoff": 0, "max_bundle_size": 64, "breaker_least": 9, "breaker_pause": 0.5},
    "executor": {"workers": 2, "grace": 0.2},
    "components": [
        {"task": f"{MISBEHAVING}.HangsAt", "task_timeout": 0.5},
        {"task": f"{MISBEHAVING}.Hogs", "memory": 250},
        {"task": f"{COMPONENTS}.Exits", "max_bundle_size": 1},
    ],
}


def settle(tasks: Sequence[Task]) -> Counter[str]:
    """Wait until tasks have ended, and return their states."""
    keys = [task.id for task in tasks]

    def ended() -> Counter[str] | None:
        found = Counter(str(row.state) for row in Task.select(Task.state).where(Task.id << keys))
        return None if {"pending", "running"} & set(found) else found

    found = until(ended, timeout=60)
    assert found is not None
    return found


def tries(task: Task) -> list[TaskBundle]:
    return list(TaskBundle.select().where(TaskBundle.task == task.id).order_by(TaskBundle.bundle))


def the_bad(tasks: Sequence[Task]) -> Task:
    [found] = [task for task in tasks if task.parameters["note"] == "bad"]
    return found


@pytest.fixture(autouse=True)
def table(request: pytest.FixtureRequest, live: Site) -> None:
    if "database" not in request.fixturenames:  # a test with a database of its own makes its own table there
        migrate.create_result_tables([Trace])


def among_good_ones(instance: type[TaskInstance], count: int, **values: Any) -> Sequence[Task]:
    """Enqueue one bad task among good ones."""
    return instance(note=["bad" if at == count // 2 else f"good {at}" for at in range(count)], **values).enqueue()


def test_a_task_that_hangs_is_stopped_with_its_stack_and_the_others_go_on(live: Site, tmp_path: Path) -> None:
    tasks = among_good_ones(HangsAt, 5, gate=str(make_gate(tmp_path / "gate")))
    assert settle(tasks) == {"completed": 4, "failed": 1}
    for each in tries(the_bad(tasks)):
        assert (each.outcome, each.error_kind) == (TaskOutcome.EXPIRED, ErrorKind.TIMEOUT)
        assert "was in hand for longer than 0.5 s" in each.error_message
        assert "stuck_in_this_function" in each.traceback
    assert len(tries(the_bad(tasks))) == 2


def test_a_hog_is_stopped_and_what_it_held_is_recorded(live: Site, tmp_path: Path) -> None:
    tasks = among_good_ones(Hogs, 3, gate=str(make_gate(tmp_path / "gate")))
    assert settle(tasks) == {"completed": 2, "failed": 1}
    last = tries(the_bad(tasks))[-1]
    assert (last.outcome, last.error_kind) == (TaskOutcome.EXPIRED, ErrorKind.RESOURCE)
    assert "more than the 250 MB allowed" in last.error_message
    assert Bundle.get_by_id(last.bundle_id).peak_memory > 250e6


def test_a_segmentation_fault_is_told_with_its_stack(live: Site) -> None:
    tasks = among_good_ones(Segfaults, 4)
    assert settle(tasks) == {"completed": 3, "failed": 1}
    last = tries(the_bad(tasks))[-1]
    assert (last.error_kind, "signal 11" in last.error_message) == (ErrorKind.CRASH, True)
    assert "reads_nowhere" in last.traceback


def test_a_component_that_ends_its_process_is_tried_again_and_fails(live: Site) -> None:
    tasks = Exits(note=["a", "b"]).enqueue()
    assert settle(tasks) == {"failed": 2}
    assert [each.error_message for each in tries(tasks[0])] == ["its process ended with status 3"] * 2


@pytest.mark.parametrize("component", [KilledAt, PoisonedTogether])
def test_a_poison_task_in_a_bundle_of_64_takes_nobody_along(live: Site, component: type[TaskInstance]) -> None:
    tasks = among_good_ones(component, 64)
    assert settle(tasks) == {"completed": 63, "failed": 1}
    bad = the_bad(tasks)
    assert [each.outcome for each in tries(bad)].count(TaskOutcome.EXPIRED) == 2
    keys = [task.id for task in tasks]
    expired = TaskBundle.select().where((TaskBundle.task << keys) & (TaskBundle.outcome == TaskOutcome.EXPIRED))
    assert {each.task_id for each in expired} == {bad.id}, "nobody else counts a try"
    assert Trace.select().where(Trace.task << keys).count() == 63


def test_what_may_pass_is_tried_again_and_what_cannot_is_not(live: Site, tmp_path: Path) -> None:
    kinds = ("retry", "resource", "timeout", "permanent", "bug")
    tasks = {kind: RaisesOnce(where=str(tmp_path), note=kind).enqueue()[0] for kind in kinds}
    settle(list(tasks.values()))
    ended = {kind: str(Task.get_by_id(task.id).state) for kind, task in tasks.items()}
    passed = dict.fromkeys(("retry", "resource", "timeout"), "completed")
    assert ended == {**passed, "permanent": "failed", "bug": "failed"}
    for kind, task in tasks.items():
        [raised] = [each for each in tries(task) if each.outcome == TaskOutcome.FAILED]
        assert str(raised.error_kind) == kind


def test_the_breaker_pauses_a_component_says_so_once_and_lets_it_go_on(live: Site, tmp_path: Path) -> None:
    name = FailsUntilMended.component_name()
    tasks = [FailsUntilMended(where=str(tmp_path / "a"), note=str(number)).enqueue()[0] for number in range(9)]
    assert settle(tasks) == {"failed": 9}

    def held() -> list[dict[str, Any]]:
        found = run_json("astra", "holds", config=live.folder / "config.toml")
        return [each for each in found if each["target"] == name]

    [hold] = until(held)
    assert "9 of its latest 9 tasks failed" in hold["reason"]
    others = Traced(note=["goes on"]).enqueue()
    assert settle(others) == {"completed": 1}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mended").touch()
    waits = FailsUntilMended(where=str(tmp_path / "a"), note=["x", "y", "z"]).enqueue()
    assert settle(waits) == {"completed": 3}
    assert not held()
    assert live.running is not None
    said = live.running.output()
    assert [said.count(f"component_{word} component={name}") for word in ("paused", "resumed")] == [1, 1]


@pytest.mark.parametrize("live", ["sqlite"], indirect=True)  # which it has no need of
def test_what_ran_when_the_service_was_killed_runs_again_at_once_after_the_next_start(
    tmp_path: Path, database: Any, database_url: str
) -> None:
    site = Site(tmp_path, database_url)
    site.sections = {"scheduler": {"backoff": 600, "lease": 600}}
    gate = make_gate(site.gate)
    migrate.create_result_tables([Trace])
    with site.daemon() as first:
        tasks = Waits(gate=str(gate), note=["a", "b"]).enqueue()
        until(lambda: waiting(gate))
        os.kill(first.pid, signal.SIGKILL)
    with site.daemon() as second:
        until(lambda: len(waiting(gate)) == 2)
        open_gate(gate)
        assert settle(tasks) == {"completed": 2}
        assert_quiet_end(second)
    interrupted, done = tries(tasks[0])
    assert (interrupted.outcome, interrupted.error_kind) == (TaskOutcome.RELEASED, ErrorKind.INTERRUPTED)
    assert done.outcome == TaskOutcome.COMPLETED


def assert_quiet_end(daemon: Daemon) -> None:
    assert daemon.terminate() == 0, daemon.output()
