"""From identifiers to sources, and the links between data products and sources."""

from __future__ import annotations

from datetime import UTC, datetime

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import known, sources
from astra.database.astradb import DataProduct, Source, SourceDataProduct, SourceIdentifier
from astra.database.connection import alone, execute
from astra.known import Row
from astra.sources import Claim

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
A = (("apogee", "2M00005143+5615568"), ("tmass", "00005143+5615568"))
B = (("apogee", "2M00005243+5615568"), ("tmass", "00005243+5615568"))
BIG = "9223372036854775807"


@pytest.fixture
def products(database: peewee.Database) -> list[int]:
    """The keys of five data products."""
    with alone(1):
        execute(
            "INSERT INTO ingestion (id, root, path, size, mtime_ns, ctime_ns, inode, outcome, started, duration) "
            "VALUES (1, 'r', 'p', 1, 1, 1, 1, 'ingested', '2026-01-01 00:00:00.000000+00:00', 0)"
        )
        known.make(
            [Row(key, "dr17", "apVisit", "{}", f"product {key}", f"/{key}", "{}", 1) for key in range(1, 6)], NOW
        )
    return list(range(1, 6))


def link(*claims: Claim) -> dict[int, int | None]:
    with alone(1):
        return sources.link(claims, NOW)


def claim(product: int, *identifiers: tuple[str, str]) -> Claim:
    current = SourceDataProduct.get_or_none(
        (SourceDataProduct.data_product == product) & SourceDataProduct.superseded_by.is_null()
    )
    linked = (current.id, current.source_id) if current else (None, None)
    return Claim(product, identifiers, 10.5, 56.25, *linked)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("sdss_id", "0"), ("sdss_id", "-1"), ("sdss_id", "-999"), ("sdss_id", "9223372036854775808"),
        ("sdss_id", "1.0"), ("sdss_id", ""), ("catalogid31", "nan"), ("gaia_dr3", "007"),
        ("tmass", "2M00005143+5615568"), ("tmass", "-"),
        ("apogee", ""), ("apogee", "-"), ("apogee", "2M"), ("apogee", "2MNone"), ("apogee", "None"), ("apogee", "nan"),
        ("apogee", "00005143+5615568"), ("apogee", "10.5 +56.25"), ("apogee", "VESTA\0"), ("apogee", " VESTA"),
        ("coordinates", "10.5+56.25"),
    ],
)  # fmt: skip
def test_sentinels_and_bare_coordinates_are_no_identifiers(kind: str, value: str) -> None:
    assert not sources.valid(kind, value)


@pytest.mark.parametrize("identifier", [*A, ("apogee", "VESTA"), ("sdss_id", "1"), ("catalogid31", BIG)])
def test_names_and_numbers_of_objects_are_identifiers(identifier: tuple[str, str]) -> None:
    assert sources.valid(*identifier)


@given(st.integers(1, (1 << 63) - 1))
def test_every_positive_64_bit_number_is_an_identifier(number: int) -> None:
    assert sources.valid("gaia_dr3", str(number))


def test_the_first_product_of_an_object_makes_a_provisional_source(products: list[int]) -> None:
    found = link(claim(1, ("sdss_id", "54345"), ("catalogid31", BIG), *A))
    source = Source.get()
    assert found == {1: source.id}
    assert (source.sdss_id, source.catalogid, source.designation) == (54345, int(BIG), "00005143+5615568")
    assert (source.ra, source.dec, source.provisional) == (10.5, 56.25, True)
    assert source.healpix is not None
    assert source.identifiers == {"sdss_id": "54345", "catalogid31": BIG, "apogee": A[0][1], "tmass": A[1][1]}
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
    assert set(Source.get().identifiers) == {"apogee", "tmass", "sdss_id", "gaia_dr3"}


def test_a_confirmed_source_is_found_and_left_as_it_is(products: list[int]) -> None:
    first = link(claim(1, *A))
    execute("UPDATE source SET provisional = ?", (False,))
    assert link(claim(2, ("gaia_dr3", "99"), *A))[2] == first[1]
    assert set(Source.get().identifiers) == {"apogee", "tmass"}


def test_identifiers_of_two_sources_give_the_first_in_the_chain_and_say_so(products: list[int]) -> None:
    first = link(claim(1, ("sdss_id", "54345")), claim(2, *A))
    found = link(claim(3, ("sdss_id", "54345"), *A))
    assert found[3] == first[1]
    reason = SourceDataProduct.get(SourceDataProduct.data_product == 3).reason
    assert f"source {first[2]}" in reason
    assert SourceIdentifier.select().where(SourceIdentifier.kind == "apogee").get().source_id == first[2]


def test_two_objects_of_one_name_but_two_survey_numbers_are_two_sources(products: list[int]) -> None:
    first = link(claim(1, ("sdss_id", "5"), *A))
    second = link(claim(2, ("sdss_id", "6"), *A))
    assert first[1] != second[2]
    assert "which has sdss_id 5" in SourceDataProduct.get(SourceDataProduct.data_product == 2).reason


def test_a_merged_source_stands_for_the_one_it_was_merged_into(products: list[int]) -> None:
    found = link(claim(1, *A), claim(2, *B), claim(3, ("apogee", "VESTA")))
    execute("UPDATE source SET merged_into_id = ? WHERE id = ?", (found[2], found[1]))
    execute("UPDATE source SET merged_into_id = ? WHERE id = ?", (found[3], found[2]))
    assert link(claim(4, *A))[4] == found[3]


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
    fields = sources._fields(sources._Known(1, provisional=True, claim=Claim(1, A, ra, dec, None, None)))
    assert fields[3:] == (None, None, None) or (0 <= ra <= 360 and -90 <= dec <= 90)
