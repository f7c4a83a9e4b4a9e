"""The bar of a long bundle: shown late, and only to somebody who waits."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from astra.progress import LATE, Progress
from tests.support.clock import FakeClock
from tests.support.processes import environment

SCRIPT = """
from astra import progress
from astra.base import Parameter, TaskInstance
progress.LATE = 0

class Counts(TaskInstance):
    n = Parameter()
    def execute(self):
        return sum(1 for _ in self.iterable())

print(Counts(n=list(range(50))).execute())
"""


def test_a_bar_tells_tasks_rate_and_time_left_and_leaves_nothing(clock: FakeClock) -> None:
    screen = io.StringIO()
    progress = Progress("Counts", 200, clock, Console(file=screen, force_terminal=True, width=100))
    progress.begin()
    progress.step(1)
    clock.advance(LATE - 0.1)
    progress.step(50)
    assert screen.getvalue() == "", "nobody has waited yet"
    for done in (60, 80, 100):
        clock.advance(1)
        progress.step(done)
    progress.close()
    shown = screen.getvalue()
    assert "Counts" in shown
    assert "100/200" in shown
    assert "tasks/s" in shown
    progress.close()


def run(folder: Path, stderr: int) -> subprocess.CompletedProcess[str]:
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "TERM": "xterm"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder, env=environment(**own), stdout=subprocess.PIPE, stderr=stderr, text=True, check=True,
    )  # fmt: skip


def test_a_terminal_is_shown_a_bar_and_anything_else_is_not(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    assert run(tmp_path, theirs).stdout == "50\n"
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "Counts" in shown
    assert "/50" in shown
    done = run(tmp_path, subprocess.PIPE)
    assert (done.stdout, done.stderr) == ("50\n", "")
