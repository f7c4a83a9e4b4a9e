"""The commands that pause, resume, cancel, drain and retry, and that list failures and holds, on both databases."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import holds, provenance, queue, steering
from astra.cli import drain, main
from astra.database.astradb import Bundle, Replay, Task
from astra.states import HoldKind, TaskOutcome
from astra.targets import Kind, Target
from astra.work import Finish
from tests.support.clock import START, FakeClock
from tests.support.processes import Daemon, write_config
from tests.support.tasks import TOTALS, by_hand, claim, ended, fill, new_task, running, start

Say = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def config(database_url: str, database: peewee.Database, tmp_path: Path) -> Path:
    rule = {"name": "visits", "filetype": "apVisit", "task": "astra.contrib.spectrum_quality.base.SpectrumQuality"}
    return write_config(tmp_path / "config.toml", {"database": {"url": database_url}, "rules": [rule]})


@pytest.fixture
def say(config: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; return exit status, output and errors."""

    def said(*arguments: object) -> tuple[int, str, str]:
        status = main(["--config", str(config), *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return said


@pytest.fixture
def ask(say: Say) -> Ask:
    """Run a command with --json, expect it to end well, and return its answer."""

    def answer(*arguments: object) -> Any:
        status, output, errors = say(*arguments, "--json")
        assert (status, errors) == (0, "")
        return json.loads(output)

    return answer


def fail(*errors: str, kind: str = "ValueError") -> list[int]:
    """Return tasks that failed in one bundle with these errors of one class."""
    keys = fill(len(errors))
    held = start(claim(len(errors)))
    failed = ended(held.bundle, *[TaskOutcome.FAILED] * len(errors))
    ends = [
        each._replace(error_class=kind, error_message=error)
        for each, error in zip(failed, errors, strict=True)
    ]  # fmt: skip
    queue.finish([Finish(held.bundle, held.token, ends, (), TOTALS)], START)
    return keys


def state(task: int) -> str:
    return str(Task.get_by_id(task).state)


def test_a_component_is_held_by_its_name_and_whoever_comes_second_is_told(say: Say, ask: Ask) -> None:
    held = running(2)
    status, output, _ = say("pause", "component", "Thing", "--reason", "disk full")
    assert (status, output) == (0, "component tests.Thing is held; 1 bundle of it still runs\n")
    status, output, _ = say("pause", "component", "tests.Thing", "--now")
    assert status == 0
    assert output.startswith(f"component tests.Thing is held already, by {steering.who()} since 2")
    assert output.endswith("(disk full); 2 running tasks of 1 bundle given back\n")
    assert Bundle.get_by_id(held.bundle).state == "released"
    (listed,) = ask("holds")
    assert (listed["kind"], listed["target"], listed["who"]) == ("component", "tests.Thing", steering.who())
    assert (listed["reason"], listed["running"], listed["next_probe"]) == ("disk full", 0, None)
    status, output, _ = say("resume", "component", "Thing")
    assert output.startswith("component tests.Thing is resumed; it was held by")
    assert say("resume", "component", "Thing")[:2] == (0, "component tests.Thing was not held\n")
    assert ask("holds") == []
    assert say("holds")[1] == "nothing is held\n"
    assert [each["reason"] for each in ask("holds", "--lifted")] == ["disk full"]


def test_a_component_that_only_a_rule_names_can_be_held_before_it_has_any_task(ask: Ask) -> None:
    (held,) = ask("pause", "component", "SpectrumQuality")
    assert held["target"] == "astra.contrib.spectrum_quality.base.SpectrumQuality"
    assert held["held_before"] is False


def test_what_the_breaker_holds_is_listed_with_its_next_probe_and_resumed(say: Say, ask: Ask) -> None:
    fill(1)
    queue.hold(HoldKind.COMPONENT, "tests.Thing", "circuit breaker", "9 of 10 failed", START, START)
    assert ask("holds")[0]["next_probe"] == "2026-01-02T03:04:05Z"
    assert "it was held by circuit breaker since 2026-01-02" in say("resume", "component", "Thing")[1]


def test_tasks_and_bundles_are_held_and_their_pages_say_so(say: Say, ask: Ask) -> None:
    first, second = fill(2)
    held = start(claim(1))
    assert say("pause", "bundle", held.bundle)[1] == (
        f"bundle {held.bundle}: 1 task held, 1 of them given back unfinished\n"
    )
    assert ask("pause", "task", second) == [{"kind": "task", "target": second, "held": 1, "given_back": 0}]
    ask("pause", "component", "Thing", "--reason", "quiet, please")
    assert [(each["kind"], each["tasks"]) for each in ask("holds")] == [("component", None), ("tasks", 2)]
    shown = ask("show", "task", first)
    assert (shown["not_before"], shown["next"]) == ("9999-12-31T00:00:00Z", f"astra resume task {first}")
    assert len(shown["held"]) == 2
    assert shown["held"][0].endswith("(quiet, please)")
    assert shown["held"][1] == "this task, by itself or with its bundle"
    assert "2 tasks of it, such as" in say("resume", "component", "Thing")[1]
    assert ask("resume", "bundle", held.bundle)[0]["resumed"] == 1
    assert say("resume", "task", second)[1] == f"task {second}: 1 task resumed\n"
    assert ask("show", "task", first)["held"] is None


def test_a_replay_is_cancelled_with_all_that_is_left_of_it(say: Say, ask: Ask) -> None:
    made = Replay.create(who="ada", created=START, verb="tasks", selection={}, planned=3, state="running")
    fill(2, replay=made.id)
    assert say("cancel", "replay", made.id)[1] == (
        f"replay {made.id} is stopped, and 2 waiting tasks and 0 running tasks of 0 bundles cancelled\n"
    )
    assert Replay.get_by_id(made.id).state == "cancelled"
    assert ask("cancel", "replay", made.id) == [
        {"kind": "replay", "target": made.id, "stopped": False, "cancelled": 0, "waiting": 0, "running": 0}
    ]


def test_what_is_cancelled_says_by_whom_and_what_is_run_by_hand_is_left_alone(say: Say, ask: Ask) -> None:
    held = running(2)
    by_person, _ = queue.open_by_hand(by_hand(new_task(identity=None)), START)
    status, output, _ = say("cancel", "component", "Thing", "--reason", "wrong model")
    assert status == 0
    assert output.startswith("component tests.Thing: 0 waiting tasks and 2 running tasks of 1 bundle cancelled; bundle")
    assert f"bundle {by_person.bundle}, run by hand by user on host, process 4242," in output
    shown = ask("show", "bundle", held.bundle)
    assert shown["error"] == f"cancelled by {steering.who()}: wrong model"
    assert shown["outcomes"] == {"cancelled": 2}
    task = shown["tasks"][0]["task"]
    assert ask("show", "task", task)["tries"][0]["error_message"] == shown["error"]
    assert ask("retry", "bundle", held.bundle)["retried"] == 0
    done = ask("retry", "bundle", held.bundle, "--cancelled")
    assert (done["plan"], done["retried"]) == (False, 2)


def test_failures_that_are_alike_are_one_line_and_their_command_retries_them(say: Say, ask: Ask) -> None:
    assert say("failures")[1] == "no task has failed that fits\n"
    one, two, other = fail("chip 1 is 'bad'", "chip 22 is 'bad'", "no flux")
    first, second = ask("failures")
    assert (first["count"], first["error"], first["sample"]) == (2, "ValueError: chip # is 'bad'", two)
    assert second["next"] == "astra retry component tests.Thing --error 'ValueError: no flux'"
    status, output, _ = say("failures", "--limit", 1)
    assert status == 0
    assert output.startswith("tests.Thing: 2 tasks failed, 2026-01-02 03:04:05Z\n  ValueError: chip # is 'bad'\n")
    assert output.endswith("these are the most frequent 1 of 2: --limit shows more\n")
    plan = ask(*shlex.split(first["next"])[1:], "--plan")
    assert (plan["plan"], plan["tasks"]) == (True, [one, two])
    assert state(one) == "failed"
    assert say(*shlex.split(first["next"])[1:])[1] == "2 tasks pending again, 0 left alone\n"
    assert [state(each) for each in (one, two, other)] == ["pending", "pending", "failed"]
    assert [each["count"] for each in ask("failures")] == [1]


def test_an_error_without_a_message_is_its_class_once(say: Say, ask: Ask) -> None:
    (task,) = fail("MemoryError", kind="MemoryError")
    (found,) = ask("failures")
    assert (found["error"], found["count"]) == ("MemoryError", 1)
    assert ask("tasks")[0]["error"] == "MemoryError"
    assert say("show", "task", task)[1].count("MemoryError") == 1
    assert say(*shlex.split(found["next"])[1:])[1] == "1 task pending again, 0 left alone\n"


def test_a_failed_task_shows_every_try_and_the_command_to_run_next(say: Say, ask: Ask) -> None:
    (task,) = fail("chip 1 is bad")
    shown = ask("show", "task", task)
    assert shown["next"] == f"astra retry task {task}"
    assert say("retry", "task", task)[:2] == (0, "1 task pending again, 0 left alone\n")
    status, output, _ = say("retry", "task", task)
    assert (status, output) == (1, f"0 tasks pending again, 1 left alone\n  task {task} is pending\n")
    again = start(claim(1))
    queue.finish([Finish(again.bundle, again.token, ended(again.bundle, TaskOutcome.COMPLETED), (), TOTALS)], START)
    tries = ask("show", "task", task)["tries"]
    assert [(each["bundle"], each["outcome"], each["counts"]) for each in tries] == [
        (again.bundle, "completed", True),
        (tries[1]["bundle"], "failed", False),
    ]
    assert (tries[1]["error_class"], tries[1]["error_message"]) == ("ValueError", "chip 1 is bad")
    assert (tries[1]["host"], tries[1]["began"]) == ("host", "2026-01-02T03:04:05Z")
    assert tries[1]["seconds"] == 1.875


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            ("pause", "component", "Thnig"),
            1,
            "there is no component Thnig in the records or the settings; did you mean",
        ),
        (("failures", "--component", "Thnig"), 1, "there is no component Thnig in the records or the settings; did"),
        (("cancel", "task", "4100"), 1, "there is no task 4100"),
        (("drain", "replay", "4100"), 1, "there is no replay 4100"),
        (("retry", "bundle", "x"), 2, "'x' is no id: a bundle has a whole number below 2^63"),
        (("logs", "task", "x"), 2, "'x' is no id: a task has a whole number below 2^63"),
        (("execute", "bundle", "x"), 2, "'x' is no id: a bundle has a whole number below 2^63"),
        (("drain", "task", "1"), 2, "'task' is not one of"),
        (("pause", "component"), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    say: Say, arguments: tuple[str, ...], status: int, words: str
) -> None:
    fill(1)
    found, output, errors = say(*arguments)
    assert (found, output) == (status, "")
    assert words in errors
    assert holds.standing() == []


# ------------------------------------------------------------------------------------------------------------- drain


def test_a_drain_that_has_nothing_to_wait_for_ends_at_once_and_the_component_stays_held(say: Say) -> None:
    fill(1)
    assert say("drain", "component", "Thing")[:2] == (0, "component tests.Thing is drained and held\n")
    assert [each.reason for each in holds.standing()] == ["drained"]


def test_a_drain_that_takes_too_long_ends_with_status_1_and_goes_on(say: Say) -> None:
    held = running(2)
    status, output, errors = say("drain", "bundle", held.bundle, "--timeout", 0)
    assert (status, output) == (1, f"bundle {held.bundle} still runs; it goes on draining\n")
    assert errors == f"bundle {held.bundle}: 1 bundle with 2 unfinished tasks\n"
    assert Bundle.get_by_id(held.bundle).asked == "drain"


class Ending(FakeClock):
    """A clock on which one more task of a bundle ends with every wait."""

    def __init__(self, claimed: Any) -> None:
        super().__init__()
        self._claimed = claimed
        self._ends = ended(claimed.bundle, *[TaskOutcome.COMPLETED] * claimed.size)

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        chunk, self._ends = self._ends[:1], self._ends[1:]
        last = None if self._ends else TOTALS
        queue.finish([Finish(self._claimed.bundle, self._claimed.token, chunk, (), last)], START)


@pytest.mark.usefixtures("database")
def test_how_much_is_left_is_said_as_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Ending(running(2))
    target = Target(Kind.COMPONENT, "tests.Thing")
    assert drain.wait([target], None, clock) == {}
    assert clock.waits == [1.0, 1.0]
    assert capsys.readouterr().err.splitlines() == [
        f"component tests.Thing: 1 bundle with {left}" for left in ("2 unfinished tasks", "1 unfinished task")
    ]


@pytest.mark.usefixtures("database")
def test_a_drain_waits_no_longer_than_it_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    running(1)
    clock, target = FakeClock(), Target(Kind.COMPONENT, "tests.Thing")
    assert set(drain.wait([target], 2.5, clock)) == {target}
    assert clock.waits == [1.0, 1.0, 0.5]
    assert len(capsys.readouterr().err.splitlines()) == 1


def leave_behind(bundle: int) -> None:
    """Have a bundle be that of a service of this machine that is gone."""
    here = provenance.owner()
    Bundle.update(owner_boot=here.boot, owner_pid=here.pid, owner_start=1, host=here.host).where(
        Bundle.id == bundle
    ).execute()


def test_what_a_service_that_is_gone_left_behind_is_not_waited_for(say: Say) -> None:
    held, other = running(2), running(1)
    leave_behind(held.bundle)
    leave_behind(other.bundle)
    status, output, _ = say("drain", "component", "Thing")
    assert status == 1
    assert output.startswith(f"component tests.Thing is not drained, but held: bundle {held.bundle} and 1 more bundle")
    assert output.endswith(
        "which is gone; start the service, which gives the tasks back, or `astra pause component tests.Thing --now` "
        "does it without one\n"
    )
    status, output, _ = say("drain", "bundle", held.bundle)
    assert status == 1
    assert output.endswith("which is gone; start the service, which gives the tasks back\n")
    assert say("pause", "component", "Thing", "--now")[0] == 0, "as it was told"
    assert say("drain", "component", "Thing")[:2] == (0, "component tests.Thing is drained and held\n")


class TakenBack(FakeClock):
    """A clock on which another service takes a bundle back with the first wait."""

    def __init__(self, claimed: Any) -> None:
        super().__init__()
        self._claimed = claimed

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        queue.release(self._claimed.bundle, self._claimed.token, "its process is gone", START)


@pytest.mark.usefixtures("database")
def test_another_service_may_take_back_what_one_that_is_gone_left_behind() -> None:
    held = running(1)
    leave_behind(held.bundle)
    assert drain.wait([Target(Kind.COMPONENT, "tests.Thing")], None, TakenBack(held)) == {}


def test_a_bundle_that_has_ended_needs_no_drain_and_leaves_nothing_to_hold(say: Say) -> None:
    (task,) = fail("chip 1 is bad")
    bundle = Task.get_by_id(task).__data__["bundle"]
    assert say("drain", "bundle", bundle)[:2] == (0, f"bundle {bundle} has ended already\n")
    status, output, errors = say("pause", "bundle", bundle)
    assert (status, output) == (1, "")
    assert f"bundle {bundle} has ended: nothing of it is left to hold" in errors


def test_what_is_run_by_hand_is_said_to_be_left_to_cancel_alone(say: Say) -> None:
    held, tasks = queue.open_by_hand(by_hand(new_task(identity=None), new_task(identity=None)), START)
    for verb in ("pause", "cancel"):
        status, output, errors = say(verb, "task", tasks[0])
        assert (status, output) == (1, "")
        assert (
            f"task {tasks[0]} runs in bundle {held.bundle} with 1 other, by hand by user on host, process 4242: "
            f"only `astra cancel bundle {held.bundle}` takes it, and them all"
        ) in errors
    for verb in ("pause", "drain"):
        assert f"only `astra cancel bundle {held.bundle}` takes it" in say(verb, "bundle", held.bundle)[2]
    assert say("cancel", "bundle", held.bundle)[0] == 0


@ON_ONE
def test_control_c_ends_the_waiting_and_not_the_draining(config: Path) -> None:
    running(1)
    with Daemon(config, "drain", "component", "Thing", program="astra") as process:
        process.says("1 bundle with 1 unfinished task")
        process.process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "no longer waited for, but still draining: component tests.Thing" in process.output()
        assert "Traceback" not in process.output()
    assert [each.target for each in holds.standing()] == ["tests.Thing"]
