"""Files used by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import peewee
import pytest

from astra import ingest, known, noting, taking_in
from astra.database.astradb import DataProduct, Ingestion, SourceDataProduct
from astra.errors import UnreadableFile
from astra.ingest import Root
from astra.noting import Noted
from astra.states import IngestionOutcome
from astra.taking_in import Terms
from tests.support import fits
from tests.support.clock import FakeClock


def note(path: Path, clock: FakeClock) -> Noted:
    return noting.note([path], clock)[0]


def test_a_plain_file_is_known_by_its_path(database: peewee.Database, tmp_path: Path, clock: FakeClock) -> None:
    path = fits.write(tmp_path / "table.csv", b"1,2,3")
    noted = note(path, clock)
    product = DataProduct.get()
    assert noted.identity == product.identity == f"full:{path}"
    assert (product.filetype, product.release, product.kwargs, product.metadata) == (
        "full",
        "",
        {"full": str(path)},
        {},
    )
    assert (product.current_ingestion_id, product.path) == (noted.ingestion, str(path))
    row = Ingestion.get()
    assert (row.outcome, row.root, row.path) == (IngestionOutcome.NOTED, "", str(path))
    assert noted.signature == f"5:{path.stat().st_mtime_ns}:"
    assert known.current_inputs([product.id]) == {product.id: noted.as_input()}


def test_an_unchanged_file_is_noted_once_and_a_changed_one_again(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    path = fits.write(tmp_path / "table.csv", b"1,2,3")
    first = note(path, clock)
    assert note(path, clock) == first
    fits.write(path, b"1,2,3,4")
    second = note(path, clock)
    assert second.data_product == first.data_product
    assert second.ingestion != first.ingestion
    assert Ingestion.get_by_id(second.ingestion).supersedes_id == first.ingestion
    assert known.current_inputs([first.data_product]) == {first.data_product: second.as_input()}


def test_a_whole_file_of_a_known_type_is_that_product_with_its_source(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    path = fits.write(tmp_path / fits.visit_name(), fits.apvisit())
    noted = note(path, clock)
    product = DataProduct.get()
    assert (product.filetype, product.current_ingestion_id) == ("apVisit", noted.ingestion)
    assert dict(product.source.identifiers)["apogee"] == "2M00005143+5615568"
    assert noted.signature.endswith(Ingestion.get().header_sha256)


def test_a_noted_file_is_still_ingested_and_then_used_as_it_is(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    path = fits.write(tmp_path / fits.visit_name(), fits.apvisit())
    noted = note(path, clock)
    root = Root("watched", tmp_path, None)
    taken = next(iter(taking_in.take_in([path], Terms((root,)), clock)))
    assert taken.outcome is IngestionOutcome.INGESTED
    assert taken.data_product == noted.data_product
    assert DataProduct.get().current_ingestion_id == taken.ingestion
    assert SourceDataProduct.select().count() == 1
    assert note(path, clock).ingestion == taken.ingestion


def test_a_private_copy_that_was_noted_first_never_makes_the_real_file_a_duplicate(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    mine = fits.write(tmp_path / "mine" / fits.visit_name(), fits.apvisit())
    real = fits.write(tmp_path / "watched" / fits.visit_name(), fits.apvisit())
    note(mine, clock)
    taken = next(iter(taking_in.take_in([real], Terms((Root("w", tmp_path / "watched", None),)), clock)))
    assert taken.outcome is IngestionOutcome.INGESTED
    assert DataProduct.get().path == str(real)


def test_a_copy_with_the_same_content_is_the_product_and_one_with_other_content_a_plain_file(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    real = fits.write(tmp_path / "watched" / fits.visit_name(), fits.apvisit())
    taken = next(iter(taking_in.take_in([real], Terms(), clock)))
    (tmp_path / "mine").mkdir()
    same = Path(shutil.copy2(real, tmp_path / "mine"))
    other = fits.write(tmp_path / "other" / fits.visit_name(), fits.apvisit(SNR=3.0))
    one, two = noting.note([same, other], clock)
    assert (one.data_product, one.ingestion) == (taken.data_product, taken.ingestion)
    assert two.identity == f"full:{other}"
    assert DataProduct.get_by_id(two.data_product).source == DataProduct.get_by_id(one.data_product).source
    assert DataProduct.get_by_id(one.data_product).current_ingestion_id == taken.ingestion


def test_a_rewritten_product_is_noted_without_becoming_current(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    path = fits.write(tmp_path / fits.visit_name(), fits.apvisit())
    taken = next(iter(taking_in.take_in([path], Terms(), clock)))
    fits.write(path, fits.apvisit(SNR=3.0))
    os.utime(path, (1, 1))
    noted = note(path, clock)
    assert noted.ingestion != taken.ingestion
    assert DataProduct.get().current_ingestion_id == taken.ingestion
    assert note(path, clock).ingestion == noted.ingestion


def test_a_rewritten_product_that_is_known_below_a_link_is_the_same_product(
    database: peewee.Database, tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    root = ingest.Root("sas", tmp_path / "link", None)
    path = fits.write(tmp_path / "link" / fits.visit_name(), fits.apvisit())
    found = ingest.examine(root, path.name, clock)
    assert not isinstance(found, ingest.NotOurs)
    [taken] = ingest.record([found], (), clock)
    fits.write(path, fits.apvisit(SNR=3.0))
    assert note(path, clock).data_product == taken.data_product


def test_a_file_that_is_not_whole_is_a_plain_file(database: peewee.Database, tmp_path: Path, clock: FakeClock) -> None:
    path = fits.write(tmp_path / fits.visit_name(), fits.apvisit()[:-1])
    assert note(path, clock).identity == f"full:{path}"


@pytest.mark.parametrize("name", ["gone.fits", ""])
def test_a_missing_file_or_a_folder_is_refused_and_nothing_recorded(
    database: peewee.Database, tmp_path: Path, clock: FakeClock, name: str
) -> None:
    there = fits.write(tmp_path / "there.csv", b"1")
    with pytest.raises(UnreadableFile, match="nothing was recorded"):
        noting.note([there, tmp_path / name], clock)
    assert Ingestion.select().count() == 0


def test_every_path_gets_its_answer_in_order_and_statements_do_not_grow(
    database: peewee.Database, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [fits.write(tmp_path / f"{n}.csv", b"1") for n in range(40)]
    counted: list[str] = []
    plain = database.execute_sql
    monkeypatch.setattr(database, "execute_sql", lambda sql, *rest: counted.append(sql) or plain(sql, *rest))
    one = len([noting.note(paths[:1], clock), counted][1])
    counted.clear()
    found = noting.note([*paths, paths[3]], clock)
    assert len(counted) == one
    assert [each.path for each in found] == [str(path) for path in [*paths, paths[3]]]
    assert found[3] == found[-1]


def test_the_inputs_of_unknown_data_products_are_left_out(database: peewee.Database) -> None:
    assert known.current_inputs([17]) == {}
