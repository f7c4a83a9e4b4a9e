"""What no catalogue had is looked for again: from files taken in to links that a catalogue confirms."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest

from astra import relinking, taking_in
from astra.database.astradb import Catalogue, DataProduct, Source, SourceDataProduct
from astra.sky import Star
from astra.taking_in import Terms
from tests.support import fits
from tests.support.catalogue import NOW, adopt_rows, current_link, row

OBJECTS = ("2M00005143+5615568", "2M00005243+5615568", "2M00005343+5615568")


@pytest.fixture
def products(database: peewee.Database, tmp_path: Path) -> list[DataProduct]:
    """Two visits of the first object, one of each of the others."""
    for fiber, name in enumerate((*OBJECTS, OBJECTS[0]), 1):
        cards = {"OBJID": name, "RA": 15 * float(name[6:10]) / 360_000, "DEC": 56.265797, "FIBERID": fiber}
        fits.write(tmp_path / fits.visit_name(fiber=fiber), fits.apvisit(12, **cards))
    list(taking_in.take_in([tmp_path], Terms(patience=0)))
    return list(DataProduct.select().order_by(DataProduct.id))


def methods() -> list[str]:
    """Return how each product is linked now, in order."""
    links = SourceDataProduct.select().where(SourceDataProduct.superseded_by.is_null())
    return [each.method for each in links.order_by(SourceDataProduct.data_product)]


def test_what_headers_alone_knew_is_confirmed_and_the_old_link_stands(products: list[DataProduct]) -> None:
    assert methods() == ["header"] * 4
    old = current_link(products[0].id)
    adopt_rows([row(("sdss_id", "7"), ("tmass", OBJECTS[0][2:]), star=Star(0.2143, 56.265))])
    done = relinking.relink()
    assert (done.looked, done.changed, done.survey_away) == (4, 2, None)
    assert methods() == ["tmass", "header", "header", "tmass"]
    link = current_link(products[0].id)
    assert link is not None
    assert old is not None
    assert (link.source.sdss_id, link.catalogue_version) == (7, "test 1")
    assert SourceDataProduct.get_by_id(old.id).superseded_by_id == link.id
    assert Source.get_by_id(old.source.id).merged_into == link.source
    assert [each.id for each in link.source.data_products] == [products[0].id, products[3].id]


def test_a_provisional_source_whose_number_the_catalogue_has_keeps_its_key(products: list[DataProduct]) -> None:
    old = current_link(products[0].id)
    assert old is not None
    adopt_rows([row(("sdss_id", "7"), ("tmass", OBJECTS[0][2:]), ("apogee", OBJECTS[0]))])
    relinking.relink()
    link = current_link(products[0].id)
    assert link is not None
    assert (link.source, link.method) == (old.source, "tmass")
    assert not link.source.provisional


def test_a_second_look_changes_nothing(products: list[DataProduct]) -> None:
    adopt_rows([row(("sdss_id", "7"), ("tmass", OBJECTS[0][2:]))])
    relinking.relink()
    before = list(SourceDataProduct.select().order_by(SourceDataProduct.id).tuples())
    done = relinking.relink()
    assert (done.looked, done.changed) == (2, 0), "only what is unconfirmed is looked at"
    assert list(SourceDataProduct.select().order_by(SourceDataProduct.id).tuples()) == before


def test_what_an_edition_speaks_against_is_looked_at_again_though_it_was_confirmed(
    products: list[DataProduct],
) -> None:
    adopt_rows([row(("gaia_dr3", "5"), ("tmass", OBJECTS[0][2:]))])
    relinking.relink()
    assert relinking.relink().looked == 2
    adopt_rows([row(("sdss_id", "7"), ("tmass", OBJECTS[0][2:]), star=Star(0.2143, 56.265))], "test 2")
    assert relinking.relink().changed >= 2, "two sources have the designation now"
    assert methods() == ["cone", "header", "header", "cone"]
    link = current_link(products[0].id)
    assert link is not None
    assert f"apogee {OBJECTS[0]} names source" in (link.conflict or ""), "its products were the other source's before"


def test_what_is_confirmed_is_looked_at_when_everything_is_asked_for(products: list[DataProduct]) -> None:
    adopt_rows([row(("sdss_id", str(at)), ("tmass", name[2:])) for at, name in enumerate(OBJECTS, 7)])
    assert relinking.relink().looked == 4
    assert relinking.relink().looked == 0
    assert relinking.relink(conditions=relinking.EVERYTHING).looked == 4


def test_a_conflict_is_looked_at_again_and_may_be_solved(products: list[DataProduct]) -> None:
    name = ("tmass", OBJECTS[0][2:])
    adopt_rows([row(("sdss_id", "7"), name), row(("sdss_id", "8"), name)])
    relinking.relink()
    link = current_link(products[0].id)
    assert link is not None
    assert "none of them is clearly the nearest" in (link.conflict or "")
    here = Star(products[0].metadata["ra"], products[0].metadata["dec"])
    adopt_rows([row(("sdss_id", "7"), star=here), row(("sdss_id", "8"), star=Star(0.3, 56.3))], "test 2")
    relinking.relink()
    link = current_link(products[0].id)
    assert link is not None
    assert (link.source.sdss_id, link.method, link.candidates, link.conflict) == (7, "tmass", 2, None)


def test_it_goes_on_from_chunk_to_chunk(products: list[DataProduct], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relinking, "CHUNK", 1)
    adopt_rows([row(("sdss_id", str(at)), ("tmass", name[2:])) for at, name in enumerate(OBJECTS, 7)])
    assert relinking.relink().changed == 4
    assert methods() == ["tmass"] * 4
    assert Source.select().where(Source.provisional & Source.merged_into.is_null()).count() == 0


def test_it_is_due_when_an_edition_was_loaded_and_no_more_afterwards(products: list[DataProduct]) -> None:
    assert not relinking.is_due()
    adopt_rows([row(("sdss_id", "7"))])
    assert not relinking.is_due(), "an edition that is not whole yet"
    Catalogue.update(loaded=NOW).execute()
    assert relinking.is_due()
    relinking.relink()
    assert not relinking.is_due()


def test_without_any_catalogue_nothing_is_looked_at(products: list[DataProduct]) -> None:
    assert relinking.relink().looked == 0
