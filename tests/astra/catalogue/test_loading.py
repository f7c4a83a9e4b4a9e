"""A file becomes an edition, once; interrupted, it is completed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from astra.catalogue import loading, tables
from astra.catalogue.rows import CatalogueRow
from astra.database.astradb import Catalogue, Source, SourceIdentifier
from astra.errors import AstraError

pytestmark = pytest.mark.usefixtures("database")

IDS = (54345, 9007199254740993, 9223372036854775807)


def table_file(path: Path, *ids: int) -> Path:
    """Write a table of so many sdss_ids."""
    path.write_text("sdss_id,ra,dec\n" + "".join(f"{each},{at}.5,-{at}.25\n" for at, each in enumerate(ids, 1)))
    return path


def records() -> list[tuple[object, ...]]:
    """Return every row that a catalogue makes."""
    return [
        row for model in (Catalogue, Source, SourceIdentifier) for row in model.select().order_by(model.id).tuples()
    ]


def load(path: Path, version: str | None = None) -> loading.Loaded:
    return loading.load(path, tables.read(path), version)


def test_a_file_becomes_an_edition_of_its_name(tmp_path: Path) -> None:
    path = table_file(tmp_path / "mine-v1.csv", *IDS, 0, -999)
    told: list[int] = []
    loaded = loading.load(path, tables.read(path), told=told.append)
    assert (loaded.version, loaded.rows, loaded.left_out, loaded.made, loaded.before) == ("mine-v1", 3, 2, 3, False)
    assert sum(told) == 3
    row = Catalogue.get()
    assert (row.version, row.origin, row.rows, row.left_out, row.relinked) == ("mine-v1", str(path), 3, 2, None)
    assert row.loaded is not None
    assert [each.sdss_id for each in Source.select().order_by(Source.sdss_id)] == sorted(IDS)


def test_the_same_file_again_under_any_name_changes_nothing(tmp_path: Path) -> None:
    first = table_file(tmp_path / "one.csv", *IDS)
    load(first)
    before = records()
    again = load(table_file(tmp_path / "copy.csv", *IDS))
    assert (again.before, again.version, again.rows) == (True, "one", 3)
    assert records() == before


def test_another_file_of_the_same_name_is_another_edition(tmp_path: Path) -> None:
    load(table_file(tmp_path / "stars.csv", *IDS))
    second = load(table_file(tmp_path / "stars.csv", *IDS, 7))
    assert (second.version, second.made, second.changed) == ("stars.2", 1, 3)
    assert load(table_file(tmp_path / "stars.csv", 8)).version == "stars.3"


def test_a_version_that_is_another_file_s_is_refused(tmp_path: Path) -> None:
    load(table_file(tmp_path / "a.csv", 1), "v1")
    with pytest.raises(AstraError, match=r"b.csv as version 'v1': that is .*a.csv; give it another"):
        load(table_file(tmp_path / "b.csv", 2), "v1")
    with pytest.raises(AstraError, match="loaded already, as version 'v1'"):
        load(tmp_path / "a.csv", "v2")


class Interrupted(Exception):
    """What a test raises in the middle of a load."""


def test_an_interrupted_load_is_completed_and_nothing_comes_twice(tmp_path: Path) -> None:
    path = table_file(tmp_path / "stars.csv", *range(1, 40))
    table = tables.read(path)

    class Stops:
        sha256, left_out = table.sha256, table.left_out

        def chunks(self) -> Iterator[list[CatalogueRow]]:
            chunks = table.chunks(size=10)
            yield next(chunks)
            yield next(chunks)
            raise Interrupted

    with pytest.raises(Interrupted):
        loading.load(path, Stops())
    assert Source.select().count() == 20
    assert Catalogue.get().loaded is None
    loaded = load(path)
    assert (loaded.version, loaded.rows, loaded.made, loaded.before) == ("stars", 39, 19, False)
    assert Source.select().count() == SourceIdentifier.select().count() == 39
    assert Catalogue.get().loaded is not None


def test_an_interrupted_load_can_be_seen(tmp_path: Path, database: peewee.Database) -> None:
    path = table_file(tmp_path / "stars.csv", 1)
    loading._edition(path, "0" * 64, None, loading.SYSTEM)
    assert [(each.version, each.rows, each.loaded) for each in Catalogue.select()] == [("stars", 0, None)]
