"""The proof that nothing is missed: every way in which the disk and the ledger can differ is told, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import peewee
import pytest

from astra import taking_in
from astra.clock import SYSTEM
from astra.database.astradb import Ingestion
from astra.errors import UnreadableFile
from astra.ingest import Root
from astra.taking_in import Terms
from astra.verifying import Verified, Wait, verify, verify_bytes
from tests.support import fits
from tests.support.clock import FakeClock
from tests.support.processes import run, run_json
from tests.support.site import Site

WAIT = Wait(quiet=5, patience=600)


@pytest.fixture
def clock() -> FakeClock:
    """The present, standing still: files have the stamps that the system gives them."""
    return FakeClock(SYSTEM.now())


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "sas").mkdir()
    return Root("redux", tmp_path / "sas", None)


def put(root: Root, fiber: int, content: bytes | None = None) -> Path:
    """Write a visit."""
    path = root.folder / str(fiber) / fits.visit_name(fiber=fiber)
    fits.write(path, fits.apvisit(FIBERID=fiber) if content is None else content)
    return path


def take(root: Root, clock: FakeClock) -> None:
    list(taking_in.take_in([root.folder], Terms((root,), patience=0.0), clock))


def told(found: Verified) -> tuple[int, int, int, int, int]:
    return found.files, found.known, found.counts["lacking"], found.on_their_way, found.missing


def test_what_was_taken_in_is_known_and_what_was_not_lacks(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    paths = [put(root, fiber) for fiber in (1, 2, 3)]
    take(root, clock)
    clock.advance(3600)
    found = verify(root, WAIT, clock)
    assert (told(found), found.proven, found.outcomes) == ((3, 3, 0, 0, 0), True, {"ingested": 3})
    late = put(root, 4)
    os.utime(paths[0], ns=(1, 1))
    found = verify(root, WAIT, clock)
    assert told(found) == (4, 2, 2, 0, 0)
    assert sorted(found.lacking) == sorted(os.path.relpath(each, root.folder) for each in (paths[0], late))
    assert not found.proven
    assert Ingestion.select().count() == 3, "nothing is written"


def test_a_file_on_its_way_does_not_lack(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    put(root, 1)
    put(root, 2, fits.apvisit(FIBERID=2)[:-2880])
    for later, lacking, on_their_way in ((0, 0, 2), (60, 1, 1), (3600, 2, 0)):
        clock.advance(later)
        found = verify(root, WAIT, clock)
        assert (found.counts["lacking"], found.on_their_way) == (lacking, on_their_way), later


def test_a_file_that_is_quarantined_or_gone_or_none_of_ours_does_not_lack(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, 1, b"SIMPLE  = not a spectrum")
    gone = put(root, 2)
    clock.advance(3600)
    take(root, clock)
    gone.unlink()
    fits.write(root.folder / "plots" / fits.visit_name(fiber=3), b"a picture of a visit")
    found = verify(root, WAIT, clock)
    assert (told(found), found.not_ours) == ((2, 1, 0, 0, 1), 1)
    assert found.outcomes == {"quarantined": 1}
    assert found.proven


def test_what_cannot_be_seen_is_not_proven(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    (root.folder / fits.visit_name()).mkdir()
    found = verify(root, WAIT, clock)
    assert (found.counts["unseen"], found.proven) == (1, False)
    with pytest.raises(UnreadableFile):
        verify(Root("away", root.folder / "away", None), WAIT, clock)


def test_bytes_that_changed_behind_their_stamps_are_told(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    paths = [put(root, fiber) for fiber in (1, 2)]
    take(root, clock)
    found = verify(root, WAIT, clock)
    verify_bytes(root, found)
    assert (found.checked, found.counts["altered"]) == (2, 0)
    assert Ingestion.select().where(Ingestion.sha256.is_null()).count() == 0, "recorded for the next time"
    Ingestion.update(sha256="of other bytes").where(Ingestion.path.endswith(paths[1].name)).execute()
    found = verify(root, WAIT, clock)
    verify_bytes(root, found)
    assert (found.checked, found.altered) == (2, [os.path.relpath(paths[1], root.folder)])
    assert not found.proven


def test_the_command_tells_what_lacks_by_its_exit_status(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    site = Site(tmp_path, database_url, sections={"settle": {"quiet": 0}})
    config = site.write()
    fits.write(site.tree / fits.visit_name(), fits.apvisit())
    before = run("astra", "verify", config=config)
    assert before.returncode == 1
    assert fits.visit_name() in before.stdout
    assert run("astra", "ingest", str(site.tree), config=config).returncode == 0
    [row] = run_json("astra", "verify", "--deep", config=config)
    assert (row["files"], row["known"], row["lacking"], row["checked"], row["proven"]) == (1, 1, [], 1, True)
    wrong = run("astra", "verify", "--root", "redox", config=config)
    assert (wrong.returncode, "there is no watched folder named redox; there are redux" in wrong.stderr) == (2, True)
