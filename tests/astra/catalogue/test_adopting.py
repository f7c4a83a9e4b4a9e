"""Catalogue rows become sources: new ones, known ones, and those that headers alone had named."""

from __future__ import annotations

import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra.catalogue.adopting import Adopted
from astra.database.astradb import Source, SourceIdentifier
from astra.database.connection import database as proxy
from astra.database.connection import run
from astra.sky import Star
from tests.support.catalogue import adopt_rows, current_link, edition, link_one, make_products, row, target
from tests.support.components import Trace, Traced

NAME = "2M00005143+5615568"
A = (("tmass", NAME[2:]), ("apogee", NAME))
V25, V31 = "27021599252394686", "63050396092955182"
HERE = Star(10.5, 56.25, 2015.5, 3.0, -4.0)


def everything() -> list[object]:
    """Return all rows of sources and their names."""
    return [
        *Source.select().order_by(Source.id).tuples(),
        *SourceIdentifier.select().order_by(SourceIdentifier.id).tuples(),
    ]


@pytest.mark.usefixtures("database")
def test_a_row_becomes_a_source_with_its_names_and_place() -> None:
    assert adopt_rows(
        [row(("sdss_id", "7"), ("catalogid25", V25), ("catalogid31", V31, 2), A[0], star=HERE)]
    ) == Adopted(1, 0, 0)
    found = Source.get()
    assert (found.sdss_id, found.catalogid, found.designation) == (7, int(V31), A[0][1])
    assert (found.ra, found.dec, found.epoch, found.pmra, found.pmdec) == HERE
    assert (found.provisional, found.healpix, found.catalogue_id) == (False, 16390, edition().id)
    names = SourceIdentifier.select().order_by(SourceIdentifier.id)
    assert {(each.kind, each.value, each.catalogue_version, each.rank) for each in names} == {
        ("sdss_id", "7", "test 1", None),
        ("catalogid25", V25, "test 1", None),
        ("catalogid31", V31, "test 1", 2),
        (*A[0], "test 1", None),
    }


@pytest.mark.usefixtures("database")
def test_the_same_rows_again_change_nothing() -> None:
    rows = [row(("sdss_id", "7"), A[0], star=HERE), row(("sdss_id", "8"), ("catalogid31", V31)), row(A[1])]
    adopt_rows(rows)
    before = everything()
    assert adopt_rows(rows) == Adopted(0, 0, 0)
    assert everything() == before


@pytest.mark.usefixtures("database")
def test_rows_of_one_sdss_id_are_one_source_and_the_first_says_where_it_is() -> None:
    adopt_rows([row(("sdss_id", "7"), ("catalogid25", V25), star=HERE)])
    adopt_rows([row(("sdss_id", "7"), ("catalogid31", V31), star=Star(1.0, 2.0))])
    assert Source.get().ra == HERE.ra
    assert dict(Source.get().identifiers) == {"sdss_id": "7", "catalogid25": V25, "catalogid31": V31}


@pytest.mark.usefixtures("database")
def test_a_new_edition_moves_the_source_and_keeps_the_names_it_had() -> None:
    adopt_rows([row(("sdss_id", "7"), A[0], star=HERE)])
    assert adopt_rows(
        [row(("sdss_id", "7"), ("catalogid31", V31), star=Star(10.6, 56.25, 2016.0, 1.0, 2.0))], "test 2"
    ) == Adopted(0, 1, 0)
    found = Source.get()
    assert (found.ra, found.pmra, found.catalogue_id) == (10.6, 1.0, edition("test 2").id)
    assert dict(found.identifiers) == {"sdss_id": "7", "tmass": A[0][1], "catalogid31": V31}
    assert adopt_rows([row(("sdss_id", "7"))], "test 3") == Adopted(0, 1, 0)
    assert Source.get().ra == 10.6, "an edition without positions leaves the place as it was"


@pytest.mark.usefixtures("database")
def test_a_place_without_a_motion_does_not_replace_one_with() -> None:
    adopt_rows([row(("sdss_id", "7"), star=HERE)])
    adopt_rows([row(("sdss_id", "7"), star=Star(10.6, 56.25, 2000.0))], "test 2")
    found = Source.get()
    assert (found.ra, found.dec, found.epoch, found.pmra, found.pmdec) == HERE


@pytest.mark.usefixtures("database")
def test_blends_of_one_designation_stay_two_sources() -> None:
    adopt_rows([row(("catalogid31", V31), A[0]), row(("catalogid31", "63050396092955183"), A[0])])
    assert Source.select().count() == 2
    adopt_rows([row(A[0])], "test 2")
    assert Source.select().count() == 2, "whose it is, a designation alone does not tell"


@pytest.mark.usefixtures("database")
def test_a_row_that_is_only_a_designation_is_the_one_source_that_has_it() -> None:
    adopt_rows([row(("sdss_id", "7"), A[0])])
    adopt_rows([row(A[0], star=HERE)], "test 2")
    assert Source.get().ra == HERE.ra


@pytest.mark.usefixtures("database")
def test_one_catalogid_of_two_sdss_ids_is_two_sources() -> None:
    adopt_rows([row(("sdss_id", "7"), ("catalogid31", V31, 1)), row(("sdss_id", "8"), ("catalogid31", V31, 2))])
    assert sorted(each.sdss_id for each in Source.select()) == [7, 8]


@pytest.mark.parametrize("name", [("sdss_id", "7"), ("catalogid31", V31), ("gaia_dr3", "4"), A[1]])
def test_a_provisional_source_that_a_row_names_becomes_that_source(
    database: peewee.Database, name: tuple[str, str]
) -> None:
    product = make_products(1)[0]
    old = link_one(product, target(name, *A)).source
    assert adopt_rows([row(name, ("gaia_dr2", "99"), star=HERE)]) == Adopted(0, 1, 0)
    found = Source.get()
    assert (found.id, found.provisional, found.epoch) == (old.id, False, 2015.5)
    given_by = {each.kind: each.catalogue_version for each in SourceIdentifier.select()}
    assert given_by[name[0]] == "test 1"
    assert given_by["gaia_dr2"] == "test 1"
    assert given_by["tmass"] == "", "only a header gave this one"


def test_a_provisional_source_of_another_number_stays_what_it_is(database: peewee.Database) -> None:
    product = make_products(1)[0]
    old = link_one(product, target(("catalogid31", "63050396092955183"), *A)).source
    adopt_rows([row(("catalogid31", V31), A[1])])
    assert Source.get_by_id(old.id).provisional
    assert Source.select().count() == 2


def test_two_sources_that_a_row_shows_to_be_one_are_merged_with_products_names_and_results(
    database: peewee.Database,
) -> None:
    first, second = make_products(2)
    by_gaia = link_one(first, target(("gaia_dr3", "4"))).source
    by_name = link_one(second, target(*A)).source
    Traced(note="a result").execute()
    Trace.update(source=by_name).execute()
    adopt_rows([row(("sdss_id", "7"), ("gaia_dr3", "4"), A[1])])
    link = current_link(second)
    assert link is not None
    assert link.source == by_gaia
    assert link.reason == f"source {by_name.id} was merged into {by_gaia.id}"
    old = Source.get_by_id(by_name.id)
    assert old.merged_into == by_gaia
    assert dict(Source.get_by_id(by_gaia.id).identifiers) == {"sdss_id": "7", "gaia_dr3": "4", **dict(A)}
    assert [each.source for each in Trace.select()] == [by_gaia]


@pytest.mark.usefixtures("database")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.lists(
        st.builds(
            lambda names: row(*{kind: (kind, value) for kind, value in names}.values()),
            st.lists(
                st.tuples(st.sampled_from(["sdss_id", "catalogid31", "gaia_dr3", "tmass"]), st.sampled_from("1234")),
                min_size=1,
            ),
        ),
        max_size=8,
    )
)
def test_rows_that_are_there_already_change_nothing_whatever_they_are(rows: list[object]) -> None:
    for table in ("source_identifier", "source", "catalogue"):
        proxy.execute_sql(f"DELETE FROM {table}")
    for each in rows:
        adopt_rows([each])  # type: ignore[list-item]
    before = everything()
    adopt_rows(rows)  # type: ignore[arg-type]
    assert everything() == before
    own = (
        "SELECT count(*) FROM source_identifier n JOIN source s ON s.id = n.source_id WHERE s.merged_into_id > 0 "
        "AND NOT EXISTS (SELECT 1 FROM source_identifier o WHERE o.source_id = s.merged_into_id "
        "AND o.kind = n.kind AND o.value = n.value)"
    )
    assert run(own) == [(0,)], "a merged source keeps no name that the other lacks"


def test_a_designation_that_is_there_again_and_again_is_one_source(database: peewee.Database) -> None:
    """Found by the test above: whichever comes first, and whatever came to share it, the same row makes nothing new."""
    bare, first, second = row(A[0]), row(("sdss_id", "1"), A[0]), row(("sdss_id", "2"), A[0])
    for rows in ([first, bare, second], [bare, first, second], [first, second, bare]):
        adopt_rows(rows)
        before = everything()
        adopt_rows(rows)
        assert everything() == before
