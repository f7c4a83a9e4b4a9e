"""`astra execute` and `astra repeat`: recorded work run again, in this process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import peewee
import pytest

from astra.database.astradb import Task, TaskBundle
from tests.support.components import Raises, Traced
from tests.support.processes import command, environment, run, run_json
from tests.support.records import count, traces
from tests.support.site import Site


@pytest.fixture
def config(tmp_path: Path, database_url: str, database: peewee.Database) -> Path:
    return Site(tmp_path, database_url).write()


def asked(config: Path, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command("astra"), *arguments], cwd=config.parent, env=environment(ASTRA_CONFIG=str(config)),
        input=answers, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_what_is_pending_is_run_as_the_task_it_is_and_what_is_done_as_a_new_one(config: Path) -> None:
    [task] = Traced(note="x").enqueue()
    [ran] = run_json("astra", "execute", "task", str(task.id), config=config)
    assert (ran["task"], ran["state"], ran["repeat_of"], ran["results"]) == (task.id, "completed", None, 1)
    [again] = run_json("astra", "execute", "bundle", str(ran["bundle"]), config=config)
    assert (again["repeat_of"], again["state"]) == (task.id, "completed")
    assert len(traces()) == 2


def test_what_fails_says_so_and_where_to_look(config: Path) -> None:
    [task] = Raises(note="bad").enqueue()
    done = run("astra", "execute", "task", str(task.id), config=config)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"astra: it failed: RuntimeError: this one is bad; `astra show task {task.id}` has the traceback, "
        f"`astra execute task {task.id} --debug` goes there"
    ]
    assert Task.get_by_id(task.id).state == "failed"


@pytest.mark.parametrize("record", [False, True])
def test_the_debugger_opens_where_it_failed_and_nothing_is_recorded_unless_asked(config: Path, record: bool) -> None:
    [task] = Raises(note="bad").enqueue()
    before = count("bundle")
    words = ["execute", "task", str(task.id), "--debug", *(["--record"] if record else [])]
    done = asked(config, *words, answers='p "note is " + parameters["note"]\nq\n')
    assert done.returncode == 1
    assert "note is bad" in done.stdout, done.stderr
    assert "RuntimeError: this one is bad" in done.stderr
    after = (count("bundle") - before, str(Task.get_by_id(task.id).state))
    assert after == ((1, "failed") if record else (0, "pending"))


def test_a_debugged_task_that_does_not_fail_says_so(config: Path) -> None:
    [task] = Traced().enqueue()
    done = asked(config, "execute", "task", str(task.id), "--debug")
    assert (done.returncode, done.stdout) == (0, "it did not fail; nothing was recorded\n")
    assert (TaskBundle.select().count(), traces()) == (0, [])


def test_repeating_tells_what_was_compared_and_what_differs(config: Path) -> None:
    Traced(note=["a", "b"]).enqueue()
    run("astra", "execute", "task", "1", config=config)
    done = run("astra", "repeat", "task", "1", config=config)
    assert done.returncode == 1, "another process has another number"
    assert "1 tasks run again, 1 recorded rows compared: 1 values differ" in done.stdout
    told = asked(config, "repeat", "task", "1", "--json", "--rtol", "1").stdout
    assert '"column": "pid"' in told
    assert len(traces()) == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["execute", "task", "99"], 1, "there is no task 99"),
        (["execute", "bundle", "99"], 1, "there is no bundle 99"),
        (["execute", "task", "x"], 2, "'x' is no id"),
        (["execute", "task", "1", "--record"], 2, "--record goes with --debug"),
        (["repeat", "task", "1"], 1, "task 1 is not completed"),
    ],
)
def test_what_cannot_be_run_again_is_answered_in_a_sentence(
    config: Path, words: list[str], status: int, said: str
) -> None:
    Traced().enqueue()
    done = asked(config, *words)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
