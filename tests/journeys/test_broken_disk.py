"""System calls that fail for real under a running service: a broken disk is waited for, a broken file is set aside."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support import fits
from tests.support.disks import LOOKING, OPENING, failing
from tests.support.processes import until
from tests.support.records import ingestions
from tests.support.site import Site

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("live", ["sqlite"], indirect=True),  # no database is asked what a disk says
]
WATCH = {"mode": "poll", "sweep_every": 0.3}
PASSING = (errno.EIO, errno.ESTALE, errno.ESHUTDOWN, errno.EUCLEAN, errno.ENOENT)
plates = count(3000)


@pytest.fixture
def place(live: Site) -> Path:
    """Where a visit is to be written: in a folder of its own, which is there."""
    plate = next(plates)
    folder = live.tree / f"night-{plate}"
    folder.mkdir(parents=True)
    return folder / fits.visit_name(plate=plate)


@pytest.fixture
def pid(live: Site) -> Iterator[int]:
    """The process id of the service, which must have said nothing that nobody foresaw."""
    assert live.running is not None
    yield live.running.pid
    assert "Traceback" not in live.running.output()


def write(place: Path) -> None:
    fits.write(place, fits.apvisit(PLATE=str(int(place.name.split("-")[2]))))


def root(site: Site) -> dict[str, Any]:
    """Return what the service says of its root."""
    found: dict[str, Any] = json.loads((site.folder / "state" / "status.json").read_text())["roots"][0]
    return found


def several_sweeps(site: Site) -> None:
    before = root(site)["sweeps"]
    until(lambda: root(site)["sweeps"] >= before + 4)


def lines(site: Site, *words: str) -> list[str]:
    """Return the lines of the log, those for debugging apart, that hold all these words."""
    assert site.running is not None
    said = site.running.output().splitlines()
    return [line for line in said if " debug " not in line and all(word in line for word in words)]


@pytest.mark.parametrize("number", PASSING, ids=errno.errorcode.get)
def test_a_file_that_the_disk_does_not_let_us_open_is_waited_for_and_said_once(
    live: Site, pid: int, place: Path, number: int
) -> None:
    with failing(pid, place, OPENING, number):
        write(place)
        until(lambda: lines(live, "waiting", place.name))
        several_sweeps(live)
        assert ingestions(place) == []
        assert len(lines(live, place.name)) == 1
    until(lambda: ingestions(place))
    assert ingestions(place) == [("ingested", None)]
    assert len(lines(live, place.name)) == 2


def test_a_file_that_may_not_be_opened_is_set_aside_at_once_until_it_changes(live: Site, pid: int, place: Path) -> None:
    with failing(pid, place, OPENING, errno.EACCES):
        write(place)
        until(lambda: ingestions(place))
        several_sweeps(live)
    [(outcome, reason)] = ingestions(place)
    assert (outcome, "Permission denied" in str(reason)) == ("quarantined", True)
    assert len(lines(live, place.name)) == 1
    place.chmod(0o640)  # as who mends it would
    until(lambda: len(ingestions(place)) == 2)
    assert ingestions(place)[1] == ("ingested", None)


@pytest.mark.parametrize("number", [*PASSING, errno.EACCES], ids=errno.errorcode.get)
def test_a_file_that_cannot_be_looked_at_is_told_by_the_sweep_and_taken_in_when_it_can(
    live: Site, pid: int, place: Path, number: int
) -> None:
    with failing(pid, place, LOOKING, number):
        write(place)
        until(lambda: root(live)["problems"])
        several_sweeps(live)
        assert ingestions(place) == []
        assert len(lines(live, place.name)) <= 1
    until(lambda: ingestions(place))
    assert ingestions(place) == [("ingested", None)]
    until(lambda: not root(live)["problems"])


@pytest.mark.parametrize("number", [*PASSING, errno.EACCES], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_read_is_a_problem_and_its_files_come_when_it_can(
    live: Site, pid: int, place: Path, number: int
) -> None:
    with failing(pid, place.parent, OPENING, number):
        write(place)
        until(lambda: root(live)["problems"])
        several_sweeps(live)
        assert ingestions(place) == []
        assert len(lines(live, "sweep_problems", place.parent.name)) == 1
    until(lambda: ingestions(place))
    assert ingestions(place) == [("ingested", None)]


@pytest.mark.parametrize("calls", [OPENING, LOOKING], ids=["scandir", "stat"])
@pytest.mark.parametrize("number", PASSING[:3], ids=errno.errorcode.get)
def test_a_root_that_cannot_be_read_is_an_outage_said_once_and_over_by_itself(
    live: Site, pid: int, place: Path, number: int, calls: tuple[str, ...]
) -> None:
    outs, backs = len(lines(live, "root_out")), len(lines(live, "root_back"))
    with failing(pid, live.tree, calls, number):
        write(place)
        until(lambda: root(live)["outage"])
        until(lambda: len(lines(live, "root_out")) == outs + 1)
        assert ingestions(place) == []
    until(lambda: len(lines(live, "root_back")) == backs + 1)
    until(lambda: ingestions(place))
    assert ingestions(place) == [("ingested", None)]
    assert len(lines(live, "root_out")) == outs + 1
