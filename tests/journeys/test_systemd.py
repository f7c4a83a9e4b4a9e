"""The real unit under a real systemd: started, killed, stopped, hung, and with settings that no restart mends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.processes import until
from tests.support.systemd import ASTRAD_INSIDE, CODE_INSIDE, UNIT, Guest, drop_in

pytestmark = pytest.mark.system

FILES = "/srv/files"
TREE = "/srv/sas"
CONFIG = f"""
[database]
url = "sqlite:////var/lib/astra/astra.sqlite"
[[watch]]
name = "redux"
path = "{TREE}"
[settle]
quiet = 0.2
[scheduler]
tick = 0.05
backoff = 0
[executor]
workers = 1
[output]
root = "/var/lib/astra/output"
[[rules]]
name = "wait"
filetype = "apVisit"
task = "{COMPONENTS}.Waits"
parameters = {{ gate = "/var/lib/astra/gate" }}
"""


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    files = tmp_path / "files"
    for fiber in (1, 2, 3):
        fits.write(files / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))
    lines = ("RestartSec=100ms", "WatchdogSec=3s", "TimeoutAbortSec=1s")
    with Guest(tmp_path / "guest", [UNIT, drop_in(tmp_path, *lines)], {files: FILES}) as guest:
        guest.write("/etc/astra/config.toml", CONFIG)
        guest.run("install", "-d", TREE)
        guest.run("install", "-d", "-o", "astra", "-g", "astra", "/var/lib/astra", "/var/lib/astra/gate")
        guest.run("mkfifo", "-m", "666", "/var/lib/astra/gate/pipe")
        yield guest


def drop(guest: Guest, fiber: int) -> None:
    """Let a visit appear in the watched folder."""
    guest.run("cp", f"{FILES}/{fits.visit_name(fiber=fiber)}", TREE)


def open_gate(guest: Guest) -> None:
    guest.run("bash", "-c", "cd /var/lib/astra/gate && touch open && chmod 666 open && exec 3<>pipe && mv open pipe")


def begun(guest: Guest) -> int:
    """Return how many processes have come to the gate."""
    return len([name for name in guest.run("ls", "/var/lib/astra/gate").split() if name.startswith("started.")])


def status(guest: Guest) -> dict[str, Any]:
    command = f"PYTHONPATH={CODE_INSIDE} {ASTRAD_INSIDE} status --config /etc/astra/config.toml --json"
    shown: dict[str, Any] = json.loads(guest.run("runuser", "-u", "astra", "--", "sh", "-c", command, check=False))
    return shown


def test_it_starts_is_killed_in_mid_bundle_goes_on_and_stops_when_all_is_done(guest: Guest) -> None:
    guest.run("systemctl", "start", UNIT.name)
    assert " started " in guest.journal(UNIT.name), "start returns when the service is ready"
    assert guest.run("ps", "-o", "user=", "-p", guest.show(UNIT.name, "MainPID")) == "astra"
    until(lambda: guest.show(UNIT.name, "StatusText") == "0 bundles running, 0 files on their way")

    drop(guest, 1)
    until(lambda: begun(guest) == 1)
    until(lambda: guest.show(UNIT.name, "StatusText").startswith("1 bundles running"))
    guest.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT.name)
    guest.reaches(UNIT.name, "NRestarts", "1")
    until(lambda: begun(guest) == 2)
    assert "expired bundle=1" in guest.journal(UNIT.name)

    guest.run("systemctl", "stop", "--no-block", UNIT.name)
    until(lambda: "stopping running=1" in guest.journal(UNIT.name))
    open_gate(guest)
    guest.reaches(UNIT.name, "ActiveState", "inactive")
    assert guest.show(UNIT.name, "Result") == "success"
    assert "stopped released=0" in guest.journal(UNIT.name)
    assert guest.run("pgrep", "-u", "astra", check=False) == ""
    assert status(guest)["records"]["tasks"] == {"completed": 1}

    drop(guest, 2)
    guest.run("systemctl", "start", UNIT.name)
    until(lambda: status(guest)["records"]["tasks"] == {"completed": 2})
    assert status(guest)["service"]["alive"]


def test_one_that_hangs_is_ended_by_the_watchdog_and_one_that_works_is_not(guest: Guest) -> None:
    guest.run("systemctl", "start", UNIT.name)
    first = guest.show(UNIT.name, "MainPID")
    drop(guest, 1)
    until(lambda: begun(guest) == 1)
    fed = guest.show(UNIT.name, "WatchdogTimestampMonotonic")
    until(lambda: int(guest.show(UNIT.name, "WatchdogTimestampMonotonic")) > int(fed) + 4_000_000)
    assert (guest.show(UNIT.name, "NRestarts"), guest.show(UNIT.name, "MainPID")) == ("0", first)

    guest.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT.name)
    guest.reaches(UNIT.name, "NRestarts", "1")
    until(lambda: begun(guest) == 2)
    open_gate(guest)
    until(lambda: status(guest)["records"]["tasks"] == {"completed": 1})


def test_settings_that_no_restart_mends_end_it_for_good_and_the_journal_says_which(guest: Guest) -> None:
    guest.write("/etc/astra/config.toml", CONFIG.replace("quiet = 0.2", 'quiet = "soon"'))
    guest.run("systemctl", "start", UNIT.name, check=False)
    guest.reaches(UNIT.name, "ActiveState", "failed")
    assert guest.show(UNIT.name, "ExecMainStatus") == "78"
    assert guest.show(UNIT.name, "NRestarts") == "0"
    assert '[settle] quiet = "soon": must be' in guest.journal(UNIT.name)
    assert "Traceback" not in guest.journal(UNIT.name)
