"""Bad input under a running service: every file is told of once for each state it comes to, however often it is met."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import peewee
import pytest

from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.missing import lacking
from tests.support.processes import Daemon, command, until
from tests.support.records import ingestions, states
from tests.support.site import Site

TRACE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}
SECTIONS = {"log": {"level": "info"}, "settle": {"quiet": 0.2, "patience": 2}}
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def name(fiber: int) -> str:
    return fits.visit_name(fiber=fiber)


def as_anybody() -> tuple[str, ...]:
    """Return what a command begins with so that permissions hold for it, which the superuser's rights override."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        lacking("the superuser may read every file, and setpriv is not here, which gives that up")
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")


def sweeps(site: Site) -> int:
    path = site.folder / "state" / "status.json"
    return int(json.loads(path.read_text())["roots"][0]["sweeps"]) if path.exists() else 0


def test_bad_files_of_every_kind_are_told_of_once_and_hold_up_nobody(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    site = Site(tmp_path, database_url, [TRACE], {"mode": "poll", "sweep_every": 0.2}, dict(SECTIONS))
    tree = site.tree
    damaged = dict(enumerate(fits.damaged(fits.apvisit(FIBERID=1)).values(), start=1))
    for fiber, content in damaged.items():
        fits.write(tree / name(fiber), content)
    fits.write(tree / name(50), b"<html>no such file</html>\n" * 200)
    fits.write(tree / name(51), fits.apvisit(FIBERID=51, MJD5="soon"))
    (tree / name(52)).symlink_to(name(52))
    (tree / name(53)).symlink_to("nowhere")
    (tree / name(54)).mkdir()
    os.mkfifo(tree / name(55))
    (tree / "round").symlink_to(tree)
    with open(os.fsencode(tree) + b"/apVisit-r6-5094-55874-\xe9.fits", "wb") as file:
        file.write(b"x")
    with site.daemon() as daemon:
        until(lambda: sum(len(ingestions(name(fiber))) for fiber in (*damaged, 50, 51)) == len(damaged) + 2, timeout=60)
        fits.write(tree / name(90), fits.apvisit(FIBERID=90))
        until(lambda: states() == Counter(completed=1))
        before = sweeps(site)
        until(lambda: sweeps(site) > before + 5)
        said = daemon.output()
        for fiber in (*damaged, 50, 51):
            [(outcome, reason)] = ingestions(name(fiber))
            assert (outcome, bool(reason)) == ("quarantined", True)
            assert Counter(line.split()[2] for line in said.splitlines() if f"{name(fiber)} " in line) in (
                Counter(waiting=1, quarantined=1),
                Counter(quarantined=1),
            )
        assert all(ingestions(name(fiber)) == [] for fiber in (52, 53, 54, 55))
        assert said.count("sweep_problems") <= 2
        assert "Traceback" not in said
        for fiber in damaged:
            (tree / name(fiber)).write_bytes(fits.apvisit(FIBERID=fiber))
        until(lambda: states() == Counter(completed=1 + len(damaged)), timeout=60)
        assert daemon.terminate() == 0


@ON_ONE
def test_what_may_not_be_read_is_told_of_once_and_taken_in_when_it_may(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    site = Site(tmp_path, database_url, [TRACE], {"mode": "poll", "sweep_every": 0.2}, dict(SECTIONS))
    secret = fits.write(site.tree / name(1), fits.apvisit(FIBERID=1))
    closed = fits.write(site.tree / "closed" / name(2), fits.apvisit(FIBERID=2)).parent
    secret.chmod(0)
    closed.chmod(0)
    try:
        with Daemon(site.write(), "run", started=[*as_anybody(), *command("astrad")]) as daemon:
            until(lambda: ingestions(secret))
            daemon.says("sweep_problems")
            before = sweeps(site)
            until(lambda: sweeps(site) > before + 5)
            said = daemon.output()
            assert [outcome for outcome, _ in ingestions(secret)] == ["quarantined"]
            assert said.count(f"/{secret.name} ") == said.count("sweep_problems") == 1
            assert said.count("Permission denied") == 2
            secret.chmod(0o600)
            closed.chmod(0o700)
            until(lambda: states() == Counter(completed=2))
            assert [outcome for outcome, _ in ingestions(secret)] == ["quarantined", "ingested"]
            assert daemon.terminate() == 0
    finally:
        closed.chmod(0o700)
