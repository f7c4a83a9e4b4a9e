"""The survey's catalogue on servers that lack some of its tables, columns, rights or indexes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from astra.catalogue.survey import SurveyCatalogue
from astra.errors import CatalogueUnavailable
from tests.support.postgres import Server
from tests.support.surveysky import C25, C31, SKY, called, change, make, names, placed, sdss_ids

SAYS = {
    "version": "editions are named by the cross-match's number",
    "catalog_to_gaia_dr3_source": "no object is found by its Gaia DR3 id",
    "catalog_to_gaia_dr2_source": "no object is found by its Gaia DR2 id",
    "catalog_to_twomass_psc": "no object is found by its 2MASS designation",
    "twomass_psc": "no object is found by its 2MASS designation",
    "catalog": "no object has a position, and none is found by one",
}


@pytest.mark.parametrize("table", SAYS)
def test_a_mirror_that_lacks_a_table_is_used_as_far_as_it_goes(
    own: str, reopen: Callable[[str], SurveyCatalogue], table: str
) -> None:
    everything = reopen(own).fetch([called(sdss_id=54_392_544)])[0]
    change(own, f"DROP TABLE catalogdb.{table}")
    catalogue = reopen(own)
    assert catalogue.problems() == [f"catalogdb.{table} is missing or may not be read: {SAYS[table]}"]
    (found,) = catalogue.fetch(
        [called(sdss_id=54_392_544), placed(0.0, 45.0), called(gaia_dr2=1, tmass="0" * 8 + "+0000000")]
    )
    without = {
        "catalog_to_gaia_dr3_source": "gaia_dr3",
        "catalog_to_gaia_dr2_source": "gaia_dr2",
        "twomass_psc": "tmass",
    }
    lost = without.get(table.removeprefix("catalog_to_") if "twomass" in table else table)
    assert [name for name in everything.row.names if name.kind != lost] == list(found.row.names)
    assert found.row.star == (None if table == "catalog" else everything.row.star)
    assert found.version == ("catalogdb cross-match 31" if table == "version" else "catalogdb 1.0.0")


def test_sdss_ids_are_read_from_the_table_by_columns_where_the_other_is_missing(
    own: str, reopen: Callable[[str], SurveyCatalogue]
) -> None:
    change(own, "DROP TABLE catalogdb.sdss_id_flat")
    catalogue = reopen(own)
    (said,) = catalogue.problems()
    assert "has no rank" in said
    for target in (called(sdss_id=500), called(catalogid25=C25 + 50), called(catalogid31=C31 + 51)):
        found = catalogue.fetch([target])
        assert [names(each) for each in found] == [
            {"sdss_id 500", f"catalogid25 {C25 + 50}", f"catalogid31 {C31 + 52}"},
            {"sdss_id 501", f"catalogid25 {C25 + 50}", f"catalogid31 {C31 + 51}"},
        ]
        assert {name.rank for each in found for name in each.row.names} == {None}
    change(own, "DROP TABLE catalogdb.sdss_id_stacked")
    catalogue = reopen(own)
    assert "no object has an sdss_id" in catalogue.problems()[0]
    assert [names(each) for each in catalogue.fetch([called(catalogid25=C25 + 50, sdss_id=500)])] == [
        {f"catalogid25 {C25 + 50}"}
    ]


def test_without_ranks_an_object_has_none(own: str, reopen: Callable[[str], SurveyCatalogue]) -> None:
    change(own, "ALTER TABLE catalogdb.sdss_id_flat DROP COLUMN rank")
    catalogue = reopen(own)
    assert "has no rank" in catalogue.problems()[0]
    found = catalogue.fetch([called(catalogid25=C25 + 50)])
    assert sdss_ids(found) == ["500", "501"]
    assert {name.rank for each in found for name in each.row.names} == {None}


def test_a_table_that_may_not_be_read_is_done_without(own: str, reopen: Callable[[str], SurveyCatalogue]) -> None:
    change(
        own,
        "DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT USAGE ON SCHEMA catalogdb TO guest",
        "GRANT SELECT ON ALL TABLES IN SCHEMA catalogdb TO guest",
        "REVOKE SELECT ON catalogdb.catalog_to_gaia_dr3_source FROM guest",
    )
    catalogue = reopen(own.replace("//postgres@", "//guest@"))
    assert catalogue.problems() == [
        "catalogdb.catalog_to_gaia_dr3_source is missing or may not be read: no object is found by its Gaia DR3 id"
    ]
    assert sdss_ids(catalogue.fetch([called(gaia_dr3=333), called(sdss_id=44)])) == ["44"]


def test_a_catalogue_without_an_index_of_positions_is_searched_and_complained_of(
    own: str, reopen: Callable[[str], SurveyCatalogue]
) -> None:
    change(own, "DROP INDEX catalogdb.catalog_dec_idx")
    catalogue = reopen(own)
    assert catalogue.problems() == [
        "catalogdb.catalog has no index of positions (q3c, or on dec): each look at the sky reads all of it"
    ]
    assert sdss_ids(catalogue.fetch([placed(0.0, 0.0)])) == ["900", "901"]


def test_the_extension_without_its_index_is_not_used(
    q3c_server: Server, reopen: Callable[[str], SurveyCatalogue]
) -> None:
    name = make(q3c_server, SKY, "dec")
    change(q3c_server.url(name), "CREATE EXTENSION q3c")
    catalogue = reopen(q3c_server.url(name))
    assert "positions by ranges of ra and dec" in catalogue.describe()
    change(q3c_server.url(name), "CREATE INDEX ON catalogdb.catalog (q3c_ang2ipix(ra, dec))")
    other = reopen(q3c_server.url(name))
    assert "positions by q3c" in other.describe()
    assert other.fetch([placed(0.0, 0.0)]) == catalogue.fetch([placed(0.0, 0.0)]) != []


def test_a_database_without_the_schema_is_not_taken_for_an_empty_sky(
    pg_server: Server, reopen: Callable[[str], SurveyCatalogue]
) -> None:
    name = pg_server.create()
    catalogue = reopen(pg_server.url(name))
    with pytest.raises(CatalogueUnavailable, match="no table of its schema catalogdb may be read"):
        catalogue.fetch([called(sdss_id=44)])
    assert len(catalogue.problems()) == 7
    pg_server.drop(name)


def test_a_server_is_described_without_its_password(own: str, reopen: Callable[[str], SurveyCatalogue]) -> None:
    described = reopen(own.replace("//postgres@", "//postgres:s3cret@")).describe()
    assert "8 of 8 tables" in described
    assert "s3cret" not in described
