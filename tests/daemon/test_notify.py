"""Telling systemd, on a socket of the test's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from daemon.notify import notify, watchdog_interval


@pytest.mark.parametrize("abstract", [False, True])
def test_fields_arrive_one_a_line(tmp_path: Path, abstract: bool) -> None:
    name = f"@astra-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0"))
        receiver.settimeout(5)
        assert notify("READY=1", "STATUS=all quiet", environ={"NOTIFY_SOCKET": name})
        assert receiver.recv(1000) == b"READY=1\nSTATUS=all quiet"


def test_without_a_listener_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", environ={})
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_listener_that_does_not_read_never_blocks_the_service(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        sent = [notify("WATCHDOG=1" * 1000, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}) for _ in range(2000)]
    assert not sent[-1]


def test_the_watchdog_is_fed_twice_in_its_limit_and_only_by_its_own_process() -> None:
    assert watchdog_interval({"WATCHDOG_USEC": "30000000"}) == 15
    assert watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15
    assert watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_interval({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_interval({}) is None
