"""The log of a process: cut to size, and deleted when it is old."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.executors.output import Part, Printed, cut, log_file, prune

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)


def test_what_is_left_out_is_counted_however_often_it_is_cut(tmp_path: Path) -> None:
    file, printed = opened(tmp_path / "log"), Printed()
    os.write(file, b"of another bundle\n")
    printed.set(Part(0, 18, 0))
    for letter in (b"a", b"b", b"c"):
        os.write(file, letter * 1000)
        cut(file, printed, 1000)
    os.write(file, b"the end")
    text = (tmp_path / "log").read_bytes().decode()
    beginning, notice, end = text.split("\n", 1)[1].split("\n")
    assert text.startswith("of another bundle\n")
    assert beginning == "a" * 500
    told = int(notice.split()[0].strip("[").replace(",", ""))
    assert told == 3000 - 500 - end.count("c")
    assert end.endswith("the end")


def test_a_part_that_is_small_is_left_as_it_is(tmp_path: Path) -> None:
    file, printed = opened(tmp_path / "log"), Printed()
    cut(file, printed, 10)
    printed.set(Part(0, 0, 0))
    os.write(file, b"x" * 10)
    cut(file, printed, 10)
    assert (tmp_path / "log").read_bytes() == b"x" * 10


def test_the_same_part_is_seen_by_all_who_have_the_descriptor() -> None:
    printed = Printed()
    assert printed.get() is None
    other = Printed(os.dup(printed.descriptor))
    other.set(Part(3, 17, 5))
    assert printed.get() == Part(3, 17, 5)
    for each in (printed, other):
        each.close()


def aged(path: Path, days: float) -> Path:
    path.touch()
    when = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (when, when))
    return path


def test_old_logs_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    old = aged(tmp_path / "2026-01-01-node7-4194305-77.log", 31)
    kept = [
        aged(tmp_path / "2026-01-01-node7-4194306-77.log", 29),
        aged(tmp_path / "somebody's own.log", 31),
        aged(tmp_path / "2026-01-01-node7-4194305-77.txt", 31),
    ]
    assert prune(tmp_path, 30, NOW) == 1
    assert not old.exists()
    assert all(each.exists() for each in kept)


def test_the_log_of_a_process_that_lives_stays_however_old(tmp_path: Path) -> None:
    mine = aged(log_file(tmp_path, os.getpid(), NOW), 400)
    assert mine.name.startswith("2026-03-04-")
    assert prune(tmp_path, 30, NOW) == 0
    assert mine.exists()


@pytest.mark.parametrize("days", [0.5, 30])
def test_a_folder_that_is_not_there_holds_nothing_old(tmp_path: Path, days: float) -> None:
    assert prune(tmp_path / "nowhere", days, NOW) == 0


HOLDS = """
import sys
from daemon.executors.output import Printed
with Printed(int(sys.argv[1])).held() as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_who_cuts_waits_for_who_begins_a_part_in_another_process() -> None:
    printed = Printed()
    command = [sys.executable, "-c", HOLDS, str(printed.descriptor)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, pass_fds=[printed.descriptor], text=True, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with printed.held(wait=False) as held:
            assert not held
        other.communicate()
    with printed.held(wait=False) as held:
        assert held
        with printed.held(wait=False) as again:
            assert not again, "a thread of this process neither"


def test_the_end_is_kept_however_often_it_is_cut(tmp_path: Path) -> None:
    file, printed = opened(tmp_path / "log"), Printed()
    printed.set(Part(0, 0, 0))
    for number in range(1000):
        os.write(file, b"line %03d\n" % number)
        cut(file, printed, 180, 90)
    cut(file, printed, 180)
    first, _, last = (tmp_path / "log").read_text().partition("\n[")
    assert first.splitlines() == [f"line {number:03}" for number in range(10)]
    assert last.splitlines()[1:] == [f"line {number:03}" for number in range(990, 1000)]
    assert last.startswith("8,820 bytes are left out here")
