"""What a process finds around it, in processes of their own: their streams are taken from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEGIN = """
import os, sys
from pathlib import Path
from astra.clock import SYSTEM
from daemon.executors.account import BundleAccount
from daemon.executors.output import Printed
from daemon.executors.surroundings import Surroundings, high
path, printed = Path(sys.argv[1]), Printed()
account = BundleAccount(path, 1000, printed, Surroundings(), SYSTEM)
account.begin(0)
"""


def said(program: str, log: Path) -> str:
    """Run a program that begins as above, and return what it writes to where the service writes."""
    command = [sys.executable, "-c", BEGIN + program, str(log)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, timeout=60).stderr


def test_what_a_full_disk_does_not_take_is_told_of_once() -> None:
    told = said(
        "for _ in range(99): print('x')\nassert account.end()[1] is None\naccount.begin(1)\naccount.end()",
        Path("/dev/full"),
    )
    assert told == "cannot keep all that a bundle printed in /dev/full: No space left on device\n"


def test_a_log_that_cannot_be_told_of_costs_no_result(tmp_path: Path) -> None:
    told = said(
        "os.close(printed.descriptor)\nassert account.end() == (None, None)\naccount.begin(1)", tmp_path / "log"
    )
    assert "cannot keep what a bundle printed" in told
    assert "Traceback" not in told


def test_the_log_is_none_of_the_first_descriptors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "os.closerange(1, 3)\nos.closerange(4, 100)\naccount.begin(1)\nprint('still there')\naccount.end()"
    assert said(program, log) == ""
    assert log.read_text() == "still there\n"
