"""A file becomes an edition, once; interrupted, it is completed."""

from __future__ import annotations

from pathlib import Path

import pytest

from astra.catalogue import loading, tables
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
    return loading.load(tables.read(path), version)


def test_a_file_becomes_an_edition_of_its_name(tmp_path: Path) -> None:
    path = table_file(tmp_path / "mine-v1.csv", *IDS, 0, -999)
    told: list[tuple[str, int]] = []
    loaded = loading.load(tables.read(path), told=lambda stage, rows: told.append((stage, rows)))
    assert (loaded.version, loaded.rows, loaded.left_out, loaded.made, loaded.before) == ("mine-v1", 3, 2, 3, False)
    assert told == [("checked", 3), ("loaded", 3)]
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
    assert (second.version, second.made, second.changed) == ("stars (2)", 1, 3)
    assert load(table_file(tmp_path / "stars.csv", 8)).version == "stars (3)"


def test_a_version_that_is_another_file_s_is_refused(tmp_path: Path) -> None:
    load(table_file(tmp_path / "a.csv", 1), "v1")
    with pytest.raises(AstraError, match=r"b.csv as version 'v1': that is .*a.csv; give it another name with --as"):
        load(table_file(tmp_path / "b.csv", 2), "v1")
    with pytest.raises(AstraError, match="loaded already, as version 'v1'"):
        load(tmp_path / "a.csv", "v2")


class Interrupted(Exception):
    """What a test raises in the middle of a load."""


def test_an_interrupted_load_is_completed_and_nothing_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHUNK", 10)
    path = table_file(tmp_path / "stars.csv", *range(1, 40))
    done = []

    def interrupt(stage: str, rows: int) -> None:
        done.extend([stage] * rows)
        if done.count("loaded") == 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        loading.load(tables.read(path), told=interrupt)
    assert Source.select().count() == 20
    assert (Catalogue.get().rows, Catalogue.get().loaded) == (20, None)
    loaded = load(path)
    assert (loaded.version, loaded.rows, loaded.made, loaded.before) == ("stars", 39, 19, False)
    assert Source.select().count() == SourceIdentifier.select().count() == 39
    assert Catalogue.get().loaded is not None


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    path = table_file(tmp_path / "stars.csv", *range(1, 20_000))
    with path.open("a") as file:
        file.write("1.5,1,2\n")
    with pytest.raises(AstraError, match=r"1\.5"):
        load(path)
    assert records() == []


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("mwmAllStar-0.6.0.fits", "mwmAllStar-0.6.0"), ("mwmAllStar-0.7.1.csv.gz", "mwmAllStar-0.7.1"),
        ("gaia", "gaia"), ("allStar-r12-l33.FITS", "allStar-r12-l33"),
    ],
)  # fmt: skip
def test_an_edition_keeps_the_number_in_its_file_s_name(name: str, version: str) -> None:
    assert loading._unused(Path(name), None) == version


@pytest.mark.parametrize("version", ["", " ", "two\nlines"])
def test_a_version_that_is_no_name_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(AstraError, match="a version has a name of one line"):
        load(table_file(tmp_path / "a.csv", 1), version)


def test_the_same_file_read_in_another_way_is_refused_and_both_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gaia.csv"
    path.write_text("source_id,ra,dec\n5900000000000000001,10,20\n")
    loading.load(tables.read(path, gaia="dr2", epoch=2015.5))
    reading = Catalogue.get().reading
    assert reading["columns"] == {"source_id": "gaia_dr2", "ra": "ra", "dec": "dec"}
    with pytest.raises(AstraError, match=r"was read with --gaia dr2 .* given with --gaia dr3 now: nothing was changed"):
        loading.load(tables.read(path, gaia="dr3", epoch=2015.5))
