"""What ran where: told truly, looked up once, and nothing guessed."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import linecache
import os
import subprocess
import sys
from pathlib import Path

import peewee
import pytest

from astra import provenance
from astra.base import TaskInstance
from astra.database.astradb import Environment
from astra.provenance import astra_version, code_of, environment_id, host, is_dead, owner


def test_this_process_is_known_to_be_alive() -> None:
    me = owner()
    assert me.pid == os.getpid()
    assert me.start > 0
    assert me.host == host()
    assert not is_dead(me.boot, me.pid, me.start, me.host)
    assert owner(os.getppid()).pid == os.getppid()


def test_a_process_that_ended_is_dead_and_so_is_one_not_yet_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = owner(process.pid)
    assert not is_dead(other.boot, other.pid, other.start, other.host)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(other.boot, other.pid, other.start, other.host), "it is still in the table of processes"
    process.communicate()
    assert is_dead(other.boot, other.pid, other.start, other.host)


def test_a_process_number_used_again_is_another_process() -> None:
    me = owner()
    assert is_dead(me.boot, me.pid, me.start - 1, me.host)


def test_a_container_of_the_same_boot_cannot_tell_who_lives_in_another() -> None:
    me = owner()
    assert " pid:[" in me.boot
    elsewhere = f"{me.boot.partition(' ')[0]} pid:[1]"
    assert not is_dead(elsewhere, 999_999_999, 1, me.host)


def test_after_a_new_boot_all_are_dead_but_another_machine_s_are_its_own_to_judge() -> None:
    me = owner()
    assert is_dead("another boot", me.pid, me.start, me.host)
    assert not is_dead("another boot", me.pid, me.start, "another machine")


def test_the_version_is_the_installed_one() -> None:
    assert astra_version() == importlib.metadata.version("sdss-astra")


class Versioned(TaskInstance):
    version = "2.5"


def test_a_component_s_code_is_told_by_its_version_and_a_digest_of_its_source() -> None:
    code = code_of(Versioned)
    assert (code.version, code.component_version) == (astra_version(), "2.5")
    assert code.source_sha256 == hashlib.sha256(inspect.getsource(Versioned).encode()).hexdigest()
    assert code_of(Versioned) is code


def test_a_class_defined_anew_is_another_code() -> None:
    first = type("Cell", (TaskInstance,), {"version": "1"})
    second = type("Cell", (TaskInstance,), {"version": "2"})
    assert (code_of(first).component_version, code_of(second).component_version) == ("1", "2")
    assert code_of(first).source_sha256 is None, "there is no file to read it from"


def test_a_class_typed_into_a_notebook_has_its_cell_s_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = "x = 1\n", "y = 2\n"
    text = "class Typed(TaskInstance):\n    def execute(self):\n        return 1\n"
    for number, cell in enumerate((before + text + after, before + text.replace("1\n", "2\n"))):
        name = f"<cell {number}>"
        lines = cell.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, name, (len(cell), None, lines, name))  # as IPython does
        names = {"__name__": "__main__", "TaskInstance": TaskInstance}
        exec(compile(cell, name, "exec"), names)
        own = "".join(lines[1:4])
        assert own.startswith("class Typed")
        found = code_of(names["Typed"])  # type: ignore[arg-type]
        assert found.source_sha256 == hashlib.sha256(own.encode()).hexdigest()
        assert found.git_commit is None


def test_the_commit_and_whether_it_was_changed_are_those_of_the_component_s_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *settings, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    file = tmp_path / "in_a_repository.py"
    file.write_text("from astra.base import TaskInstance\nclass Thing(TaskInstance):\n    pass\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.syspath_prepend(tmp_path)
    component = importlib.import_module("in_a_repository").Thing
    found = code_of(component)
    assert (found.git_commit, found.git_dirty) == (git("rev-parse", "HEAD"), False)
    file.write_text(file.read_text() + "# changed\n")
    provenance._git.cache_clear()
    assert provenance._look_at(component).git_dirty is True
    del sys.modules["in_a_repository"]


def test_code_outside_any_repository_has_no_commit(tmp_path: Path) -> None:
    assert provenance._git(str(tmp_path)) == (None, None)


def test_an_environment_that_was_stored_in_a_transaction_that_failed_is_stored_anew(database: peewee.Database) -> None:
    with database.atomic() as transaction:
        environment_id()
        transaction.rollback()
    key = environment_id()
    assert Environment.get().id == key


def test_an_environment_is_stored_once(database: peewee.Database) -> None:
    first = environment_id()
    assert environment_id() == first
    row = Environment.get()
    assert Environment.select().count() == 1
    assert row.python.startswith(sys.version.split()[0])
    assert row.packages["peewee"] == importlib.metadata.version("peewee")
