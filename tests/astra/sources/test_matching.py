"""From identifiers to sources, and the links between data products and sources."""

from __future__ import annotations

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.database.astradb import DataProduct, Source, SourceDataProduct
from astra.sources import matching
from tests.support import catalogue
from tests.support.catalogue import claim as claim_of
from tests.support.catalogue import link, make_products, target

A = (("apogee", "2M00005143+5615568"), ("tmass", "00005143+5615568"))
B = (("apogee", "2M00005243+5615568"), ("tmass", "00005243+5615568"))
BIG = "9223372036854775807"


@pytest.fixture
def products(database: peewee.Database) -> list[int]:
    """The keys of nine data products."""
    return make_products(9)


def claim(product: int, *identifiers: tuple[str, str]) -> catalogue.Claim:
    return claim_of(product, target(*identifiers))


def test_the_first_product_of_an_object_makes_a_provisional_source(products: list[int]) -> None:
    found = link(claim(1, ("sdss_id", "54345"), ("catalogid31", BIG), *A))
    source = Source.get()
    assert found == {1: source.id}
    assert (source.sdss_id, source.catalogid, source.designation) == (54345, int(BIG), "00005143+5615568")
    assert (source.ra, source.dec, source.provisional) == (10.5, 56.25, True)
    assert source.healpix is not None
    assert dict(source.identifiers) == {"sdss_id": "54345", "catalogid31": BIG, "apogee": A[0][1], "tmass": A[1][1]}
    row = SourceDataProduct.get()
    assert (row.method, row.source_id, row.reason) == ("header", source.id, None)


def test_products_of_one_name_share_a_source_within_and_across_batches(products: list[int]) -> None:
    first = link(claim(1, *A), claim(2, *B), claim(3, *A))
    second = link(claim(4, *A), claim(5, ("tmass", A[1][1])))
    assert first[1] == first[3] == second[4] == second[5] != first[2]
    assert Source.select().count() == 2


def test_a_provisional_source_gets_the_identifiers_it_lacks(products: list[int]) -> None:
    first = link(claim(1, *A))
    second = link(claim(2, ("sdss_id", "54345"), ("gaia_dr3", "99"), *A))
    assert first[1] == second[2]
    assert Source.get().sdss_id == 54345
    assert set(dict(Source.get().identifiers)) == {"apogee", "tmass", "sdss_id", "gaia_dr3"}


def test_two_provisional_sources_that_one_header_names_become_one(products: list[int]) -> None:
    first = link(claim(1, ("sdss_id", "54345")), claim(2, *A))
    found = link(claim(3, ("sdss_id", "54345"), *A))
    assert found[3] == first[1]
    old = Source.get_by_id(first[2])
    assert old.merged_into_id == first[1]
    assert dict(Source.get_by_id(first[1]).identifiers) == {"sdss_id": "54345", **dict(A)}
    moved = catalogue.current_link(2)
    assert moved is not None
    assert (moved.source_id, moved.reason) == (first[1], f"source {old.id} was merged into {first[1]}")


def test_two_objects_of_one_name_but_two_survey_numbers_are_two_sources(products: list[int]) -> None:
    first = link(claim(1, ("sdss_id", "5"), *A))
    second = link(claim(2, ("sdss_id", "6"), *A))
    assert first[1] != second[2]
    conflict = SourceDataProduct.get(SourceDataProduct.data_product == 2).conflict
    assert f"apogee {A[0][1]} names source {first[1]}, which has sdss_id 5" in conflict
    assert link(claim(3, A[1]))[3] == first[1]
    conflict = SourceDataProduct.get(SourceDataProduct.data_product == 3).conflict
    assert conflict == f"tmass {A[1][1]} names source {second[2]}"


def test_no_valid_identifier_gives_no_source_and_the_reason(products: list[int]) -> None:
    assert link(claim(1, ("apogee", "2MNone"), ("sdss_id", "0")))[1] is None
    row = SourceDataProduct.get()
    assert (row.source_id, row.method) == (None, "none")
    assert "apogee '2MNone'" in row.reason
    assert Source.select().count() == 0


def test_an_unchanged_link_gets_no_new_row_and_another_source_does(products: list[int]) -> None:
    link(claim(1, *A))
    link(claim(1, *A))
    assert SourceDataProduct.select().count() == 1
    second = link(claim(1, *B))
    old, new = SourceDataProduct.select().order_by(SourceDataProduct.id)
    assert (old.superseded_by_id, new.superseded_by_id, new.source_id) == (new.id, None, second[1])
    assert DataProduct.get_by_id(1).source.id == second[1]


@given(ra=st.floats(), dec=st.floats())
def test_an_impossible_position_never_reaches_the_source(ra: float, dec: float) -> None:
    place = matching._place(target(*A, ra=ra, dec=dec))
    assert place == (None, None, None) or (0 <= ra <= 360 and -90 <= dec <= 90)
