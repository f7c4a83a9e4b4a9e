"""Fifty thousand old files are on their way when tonight's visit is written: it comes in before all but a few of them.

The old files are empty and bear the names of visits; each is examined, refused and recorded as quarantined, which takes
the way of every file. What is asserted is how many of them were recorded meanwhile, not how long that took.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from tests.support import fits
from tests.support.front import Front
from tests.support.processes import until
from tests.support.records import ingestions, outcomes
from tests.support.site import Site

pytestmark = [pytest.mark.system, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
OLD, FOLDERS = 50_000, 100
FEW = 6_000  # a dozen batches: those of the quiet wait, and what a slow machine needs
LONG_AGO = 1.4e9


@pytest.fixture(scope="module")
def archive() -> Iterator[Path]:
    """A folder with the old files: in memory where there is such a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for number in range(FOLDERS):
            (Path(folder) / f"{number}").mkdir()
        for number in range(OLD):
            name = fits.visit_name(plate=1000 + number // 300, fiber=number % 300 + 1)
            os.close(os.open(f"{folder}/{number % FOLDERS}/{name}", os.O_WRONLY | os.O_CREAT))
        yield Path(folder)


@pytest.fixture
def site(archive: Path, tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    """A site that watches the archive, and hears of it by `hint` and `look` alone."""
    watch = {"path": str(archive), "mode": "poll"}
    return Site(tmp_path, database_url, watch=watch, sections={"settle": {"patience": 0.3}})


@pytest.fixture
def visit(archive: Path) -> Iterator[Path]:
    """Where tonight's visit is to be written: in a folder of its own, which is not there yet."""
    folder = archive / "tonight"
    yield folder / fits.visit_name(plate=9999)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def date(archive: Path, stamp: float) -> None:
    """Give the old files their modification time."""
    for path in archive.glob("*/*"):
        os.utime(path, (stamp, stamp))


def taken() -> int:
    """Return how many of the old files are recorded."""
    return outcomes()["quarantined"]


def turn_until(front: Front, done: Callable[[], object]) -> None:
    until(lambda: front.turn() and done(), timeout=60, every=0)


def taken_before(front: Front, visit: Path, tell: Callable[[], None]) -> int:
    """Write the visit and have it told of; return how many old files were recorded before it was."""
    turn_until(front, lambda: taken() >= FEW)  # by then as many as are kept wait their turn
    before = taken()
    fits.write(visit, fits.apvisit(PLATE="9999"))
    tell()
    turn_until(front, lambda: ingestions(visit))
    assert ingestions(visit) == [("ingested", None)]
    assert taken() < OLD
    return taken() - before


def test_a_visit_that_an_event_tells_of_does_not_wait_for_the_files_that_a_first_sweep_finds(
    site: Site, archive: Path, visit: Path
) -> None:
    date(archive, LONG_AGO)
    with Front(site.settings(), SYSTEM) as front:
        assert taken_before(front, visit, lambda: front.hint("redux", f"tonight/{visit.name}")) <= FEW


def test_a_visit_whose_event_was_lost_is_found_by_a_look_while_the_first_sweep_goes_on(
    site: Site, archive: Path, visit: Path
) -> None:
    date(archive, LONG_AGO)
    with Front(site.settings(), SYSTEM) as front:
        assert taken_before(front, visit, lambda: front.look("redux")) <= FEW


def test_a_visit_does_not_wait_for_files_that_lay_there_before_the_root_was_watched_though_they_look_new(
    site: Site, archive: Path, visit: Path
) -> None:
    date(archive, SYSTEM.now().timestamp() - 3600)
    with Front(site.settings(), SYSTEM) as front:
        assert taken_before(front, visit, lambda: front.hint("redux", f"tonight/{visit.name}")) <= FEW


def test_a_visit_does_not_wait_for_old_files_that_are_copied_in_with_their_times(
    site: Site, archive: Path, visit: Path
) -> None:
    date(archive, LONG_AGO)
    with Front(site.settings(), SYSTEM) as front:
        for path in archive.glob("*/*"):
            front.hint("redux", f"{path.parent.name}/{path.name}")
        assert taken_before(front, visit, lambda: front.hint("redux", f"tonight/{visit.name}")) <= FEW
