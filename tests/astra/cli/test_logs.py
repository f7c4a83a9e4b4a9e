"""`astra logs`: what bundles printed, found from the task or the bundle; and why there is none, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astra import provenance, queue
from astra.cli import main
from astra.clock import SYSTEM
from astra.database.astradb import Bundle, Task, TaskBundle
from astra.states import BundleState, TaskOutcome, TaskState
from tests.support.processes import write_config

Say = Callable[..., tuple[int, str, str]]
NOW = SYSTEM.now


@pytest.fixture
def say(database_url: str, database: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; return exit status, output and errors."""
    config = write_config(tmp_path / "config.toml", {"database": {"url": database_url}, "log": {"keep": 7}})

    def said(*arguments: object) -> tuple[int, str, str]:
        status = main(["--config", str(config), *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return said


@pytest.fixture
def task(database: object) -> int:
    """A task that has not run yet."""
    made = Task.create(
        name="x.Y", parameters={}, version="1", component_version="1", state=TaskState.COMPLETED, priority=1,
        bundle_key="x.Y {}", created=NOW(),
    )  # fmt: skip
    return int(made.id)


def bundle(task: int, text: str = "", folder: Path | None = None, **other: Any) -> int:
    """Record a bundle that the task was in, with what it printed, written behind what others did."""
    given = {"state": BundleState.ENDED, "executor": "local", "host": provenance.host(), **other}
    made = Bundle.create(
        name="x.Y", bundle_key="x.Y {}", size=1, token="t", owner_boot="b", owner_pid=1, owner_start=1, user="u",
        created=NOW(), started=NOW(), **given,
    )  # fmt: skip
    TaskBundle.create(bundle=made.id, position=0, task=task, outcome=TaskOutcome.COMPLETED)
    if folder is not None:
        path = folder / "all.log"
        with path.open("ab") as file:
            start = file.tell()
            end = start + file.write(text.encode())
        queue.note_log(made.id, str(path), start, end)
    return int(made.id)


def test_a_task_has_the_log_of_its_latest_bundle_that_printed(say: Say, task: int, tmp_path: Path) -> None:
    bundle(task, "the first try\n", tmp_path)
    latest = bundle(task, "the second try", tmp_path)
    bundle(task)
    assert say("logs", "task", task) == (0, "the second try\n", "")
    assert say("logs", "bundle", latest) == (0, "the second try\n", "")


def test_all_tries_are_told_apart(say: Say, task: int, tmp_path: Path) -> None:
    first = bundle(task, "the first try\n", tmp_path)
    second = bundle(task, "the second try\n", tmp_path)
    status, output, _ = say("logs", "task", task, "--all")
    heading, text, other, last = output.splitlines()
    assert (status, text, last) == (0, "the first try", "the second try")
    assert heading.startswith(f"== bundle {first}, started 20")
    assert heading.endswith("Z, completed")
    assert other.startswith(f"== bundle {second}, ")


def test_programs_are_told_more(say: Say, task: int, tmp_path: Path) -> None:
    key = bundle(task, "a\n", tmp_path)
    [told] = json.loads(say("logs", "task", task, "--json")[1])
    assert (told["bundle"], told["text"], told["outcome"], told["start"], told["end"]) == (
        key,
        "a\n",
        "completed",
        0,
        2,
    )


def test_bytes_that_are_no_text_are_printed_all_the_same(say: Say, task: int, tmp_path: Path) -> None:
    key = bundle(task, "ab\n", tmp_path)
    (tmp_path / "all.log").write_bytes(b"a\xff\n")
    assert say("logs", "bundle", key) == (0, "a�\n", "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "task 1 was in no bundle yet: it has not run"),
        ({}, "task 1 printed nothing"),
        ({"state": BundleState.RUNNING}, "bundle 1 is running: its log can be read when it has ended"),
        ({"executor": "interactive"}, "task 1 was run by hand: what it printed went to whoever ran it"),
    ],
)
def test_why_there_is_no_log_is_said(say: Say, task: int, given: dict[str, Any] | None, words: str) -> None:
    if given is not None:
        bundle(task, **given)
    assert say("logs", "task", task) == (1, "", f"astra: {words}\n")


def test_a_log_of_another_machine_is_named(say: Say, task: int, tmp_path: Path) -> None:
    key = bundle(task, "a\n", tmp_path, host="elsewhere")
    assert say("logs", "task", task)[1] == "a\n", "on a disk that both machines have it can be read"
    (tmp_path / "all.log").unlink()
    words = f"astra: bundle {key}: its log lies on elsewhere in {tmp_path}/all.log\n"
    assert say("logs", "task", task) == (1, "", words)


def test_a_log_that_was_deleted_is_told_of_and_the_others_are_printed(say: Say, task: int, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    key = bundle(task, "old\n", tmp_path / "old")
    (tmp_path / "old" / "all.log").unlink()
    words = f"bundle {key}: its log {tmp_path}/old/all.log is deleted; [log] keep is 7 days"
    assert say("logs", "bundle", key) == (1, "", f"astra: {words}\n")
    bundle(task, "new\n", tmp_path)
    status, output, _ = say("logs", "task", task, "--all")
    assert (status, output.splitlines()[1], output.splitlines()[3]) == (0, words, "new")


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["task", "99"], "astra: there is no task 99\n", 1),
        (["bundle", "99"], "astra: there is no bundle 99\n", 1),
        (["bundle", "1", "--all"], "--all is for a task: a bundle has one log", 2),
        (["task", "x"], "'x' is no id: a task has a whole number below 2^63", 2),
    ],
)
def test_what_is_asked_wrongly_is_refused(say: Say, words: list[str], said: str, status: int) -> None:
    done = say("logs", *words)
    assert (done[0], done[1]) == (status, "")
    assert said in done[2]
