"""The guard of a real process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from astra.clock import SYSTEM
from astra.inhand import InHand
from astra.settings import Own
from astra.states import ErrorKind
from daemon.executors.guard import Bounds, Guard, Watched
from daemon.executors.output import Printed
from daemon.executors.stacks import Stacks
from tests.support.processes import until

LIMITS = Own(max_bundle_size=1, max_wait=1, target=1, timeout=0.5, task_timeout=None, memory=None)


def test_what_goes_wrong_with_a_look_ends_no_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    printed = Printed()
    printed.close()  # whoever asks it raises
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        guard = Guard(Watched(process, InHand(), Stacks(), printed, tmp_path / "log"), Bounds(5, 1000), SYSTEM)
        guard.ready()
        guard.watch(LIMITS, [1])
        until(lambda: process.poll() is not None)
        guard.end()
    assert guard.verdict is not None
    assert guard.verdict.kind is ErrorKind.TIMEOUT
    assert [each.getMessage().split()[0] for each in caplog.records] == ["guard_stumbled"]
