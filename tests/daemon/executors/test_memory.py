"""What processes hold in memory, measured on real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from astra import provenance
from astra.clock import SYSTEM
from daemon.executors import memory
from daemon.executors.memory import MEGABYTE, Family
from tests.support.processes import stranger, until

FORKED = """
import os, signal
held = b"x" * 100_000_000
os.fork()
os.write(1, f"{os.getpid()}\\n".encode())
signal.pause()
"""
ORPHANED = """
import os, signal, sys
if os.fork() == 0:
    if os.fork() == 0:
        held = b"x" * 100_000_000
        print("holds", flush=True)
        signal.pause()
    sys.stdin.readline()
    os._exit(0)
os.wait()
print("the one between is gone", flush=True)
signal.pause()
"""

RENAMED = """
import ctypes, signal
held = b"x" * 100_000_000
ctypes.CDLL(None).prctl(15, "\u0437\u0432\u0451\u0437\u0434\u044b\u044b\u044b".encode()[:15], 0, 0, 0)
print("has another name", flush=True)
signal.pause()
"""
APART = """
import signal, subprocess
print(subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True).pid, flush=True)
signal.pause()
"""


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program as the leader of its session; end it, and what it started, at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_a_process_shares_with_its_copy_is_counted_once() -> None:
    with running(FORKED) as process:
        assert {heard(process), heard(process)} > {str(process.pid)}
        family = Family(process.pid)
        assert family.resident() > 200 * MEGABYTE
        assert 100 * MEGABYTE < family.proportional() < 150 * MEGABYTE


def test_a_program_that_lost_its_parent_is_still_counted() -> None:
    with running(ORPHANED) as process:
        family = Family(process.pid)
        assert heard(process) == "holds"
        assert family.resident() > 100 * MEGABYTE
        assert process.stdin is not None
        process.stdin.write("\n")
        assert heard(process) == "the one between is gone"
        assert family.resident() > 100 * MEGABYTE
        assert Family(process.pid).resident() < 50 * MEGABYTE, "who has not seen it before does not know of it"


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    with running(FORKED) as process:
        heard(process)
    assert Family(process.pid).resident() == Family(process.pid).proportional() == 0
    assert memory.peak(process.pid) is None


def test_the_peak_of_a_process_is_forgotten_when_that_is_asked_for() -> None:
    held = b"x" * (100 * MEGABYTE)
    high = memory.peak(os.getpid())
    del held
    memory.forget_peak()
    low = memory.peak(os.getpid())
    assert high is not None
    assert low is not None
    assert low < high - 50 * MEGABYTE


def test_a_process_may_have_any_bytes_for_its_name() -> None:
    with running(RENAMED) as process:
        assert heard(process) == "has another name"
        assert Family(process.pid).resident() > 100 * MEGABYTE
        assert (memory.peak(process.pid) or 0) > 100 * MEGABYTE
        assert provenance.owner(process.pid).start > 0


def test_what_leads_a_session_of_its_own_is_found_and_told_from_a_stranger() -> None:
    with running(APART) as process:
        child = int(heard(process))
        family = Family(process.pid)
        members = family.members()
        assert members.keys() == {process.pid, child}
        memory.send({child: members[child] - 1}, signal.SIGKILL)
        assert memory.lives(child, members[child]), "its number alone does not make it the same process"
        memory.send(members, signal.SIGKILL)
        until(lambda: not memory.lives(child, members[child]))


def test_a_session_is_not_signalled_when_its_number_is_a_strangers() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
    family = Family(process.pid)
    process.communicate()
    began = SYSTEM.monotonic()
    until(lambda: SYSTEM.monotonic() > began + 0.02, every=0.01)  # processes are told apart by hundredths of a second
    other = stranger(process.pid)
    family.signal(signal.SIGKILL)
    assert (family.members(), other.poll()) == ({}, None)
    Family(other.pid).signal(signal.SIGTERM)
    assert other.wait() == -signal.SIGTERM
