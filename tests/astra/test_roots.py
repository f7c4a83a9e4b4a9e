"""Watched folders by name: a tree that moved to another path is the same tree."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import peewee
import pytest

from astra import roots
from astra.database.astradb import DataProduct, Ingestion, WatchedRoot
from astra.roots import end_backfill, open_root
from astra.states import IngestionOutcome
from tests.support.clock import START


def product(root: str, path: str, shown: str) -> int:
    made = DataProduct.create(
        release="", filetype="full", kwargs={}, identity=f"{root}:{path}", path=shown, metadata={}, created=START
    )
    version = Ingestion.create(
        root=root, path=path, size=1, mtime_ns=1, ctime_ns=1, inode=1, outcome=IngestionOutcome.INGESTED,
        data_product=made, started=START, duration=0.0,
    )  # fmt: skip
    DataProduct.update(current_ingestion=version.id).where(DataProduct.id == made.id).execute()
    return int(made.id)


def test_a_root_is_watched_since_it_was_first_opened(database: peewee.Database) -> None:
    assert open_root("sas", Path("/sas"), START) == START
    assert open_root("sas", Path("/sas"), START + timedelta(days=1)) == START
    assert open_root("other", Path("/other"), START + timedelta(days=2)) == START + timedelta(days=2)


def test_what_is_found_after_the_back_fill_was_seen_whole_is_new(database: peewee.Database) -> None:
    open_root("sas", Path("/sas"), START)
    end_backfill("sas", START + timedelta(hours=1))
    end_backfill("sas", START + timedelta(hours=2))
    assert open_root("sas", Path("/sas"), START + timedelta(days=1)) is None
    assert WatchedRoot.get_by_id("sas").backfilled == START + timedelta(hours=1)


def test_a_large_root_moves_in_chunks(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "CHUNK", 2)
    open_root("sas", Path("/sas"), START)
    keys = [product("sas", f"{number}.fits", f"/sas/{number}.fits") for number in range(5)]
    open_root("sas", Path("/new"), START)
    assert [DataProduct.get_by_id(key).path for key in keys] == [f"/new/{number}.fits" for number in range(5)]


def test_the_paths_of_a_root_that_moved_follow_it_and_no_others(database: peewee.Database) -> None:
    open_root("sas", Path("/sas"), START)
    inside, outside = product("sas", "50%/a?.fits", "/sas/50%/a?.fits"), product("other", "b.fits", "/other/b.fits")
    for folder, shown in (("/mnt/new", "/mnt/new/50%/a?.fits"), ("/", "/50%/a?.fits"), ("/sas", "/sas/50%/a?.fits")):
        assert open_root("sas", Path(folder), START + timedelta(days=1)) == START
        assert WatchedRoot.get_by_id("sas").path == folder
        assert DataProduct.get_by_id(inside).path == shown
    assert DataProduct.get_by_id(outside).path == "/other/b.fits"
