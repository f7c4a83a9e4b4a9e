"""The objects of the survey's catalogue by their names, and how few statements that takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from astra.catalogue.rows import CatalogueName
from astra.catalogue.survey import SurveyCatalogue
from astra.errors import CatalogueUnavailable
from astra.products.base import Target
from astra.sky import Star
from tests.support.clock import FakeClock
from tests.support.surveysky import ARCSECOND, C25, C31, NOW, RADIUS, called, change, names, placed, sdss_ids


@pytest.mark.parametrize(
    "target",
    [
        called(sdss_id=54_392_544),
        called(catalogid31=C31 + 1),
        called(catalogid25=C25 + 9_007_199),
        called(catalogid21=4_204_681_993),
        called(gaia_dr3=5_605_188_041_829_381_377),
        called(gaia_dr2=5_605_188_041_829_381_378),
        called(tmass="08000000-3000000"),
        placed(120.0, -30.0),
    ],
    ids=["sdss_id", "catalogid31", "catalogid25", "catalogid21", "gaia_dr3", "gaia_dr2", "tmass", "position"],
)
def test_an_object_is_found_by_each_of_its_names_and_comes_with_all_of_them(
    survey: SurveyCatalogue, target: Target
) -> None:
    (found,) = survey.fetch([target])
    assert found.row.names == (
        CatalogueName("sdss_id", "54392544"),
        CatalogueName("catalogid31", str(C31 + 1), 1),
        CatalogueName("catalogid25", str(C25 + 9_007_199), 1),
        CatalogueName("catalogid21", "4204681993", 1),
        CatalogueName("gaia_dr3", "5605188041829381377"),
        CatalogueName("gaia_dr2", "5605188041829381378"),
        CatalogueName("tmass", "08000000-3000000"),
    )


def test_an_object_is_placed_and_dated_by_the_latest_of_its_cross_matches(survey: SurveyCatalogue) -> None:
    (alone,), (old,) = survey.fetch([called(catalogid21=4_204_681_993)]), survey.fetch([called(sdss_id=44)])
    assert alone.row.star == Star(120.0, -30.0, 2015.5, 3.5, -2.25)
    assert (alone.version, old.version) == ("catalogdb 1.0.0", "catalogdb 0.1.0")


def test_an_object_is_found_where_an_earlier_cross_match_had_it(survey: SurveyCatalogue) -> None:
    assert sdss_ids(survey.fetch([placed(120.0, -30.0 + 3.9 * ARCSECOND)])) == ["54392544"]
    assert survey.fetch([placed(120.0, -30.0 + 4.1 * ARCSECOND)]) == []


def test_a_name_that_is_not_the_best_match_counts_for_nothing(survey: SurveyCatalogue) -> None:
    assert survey.fetch([called(tmass="08040000-3000000")]) == []
    best = {"sdss_id 45", f"catalogid31 {C31 + 45}", "gaia_dr3 111"}
    assert [names(each) for each in survey.fetch([called(gaia_dr3=111)])] == [best]
    assert [names(each) for each in survey.fetch([called(sdss_id=45)])] == [best]
    assert [names(each) for each in survey.fetch([called(catalogid25=C25 + 2)])] == [{f"catalogid25 {C25 + 2}"}]


def test_an_object_without_an_sdss_id_is_a_row_too(survey: SurveyCatalogue) -> None:
    (found,) = survey.fetch([called(gaia_dr3=333)])
    assert found.row.names == (CatalogueName("catalogid31", str(C31 + 3)), CatalogueName("gaia_dr3", "333"))
    assert found.row.star == Star(122.0, -30.0, 2015.5)


def test_all_sdss_ids_of_one_catalogid_come_with_their_ranks(survey: SurveyCatalogue) -> None:
    found = survey.fetch([called(catalogid25=C25 + 50)])
    assert [names(each) for each in found] == [
        {"sdss_id 500", f"catalogid25 {C25 + 50}", f"catalogid31 {C31 + 52}"},
        {"sdss_id 501", f"catalogid25 {C25 + 50}", f"catalogid31 {C31 + 51}"},
    ]
    shared = [name for each in found for name in each.row.names if name.value == str(C25 + 50)]
    assert [name.rank for name in shared] == [1, 2]


@pytest.mark.parametrize("sdss_id", [601, 602, 603])
def test_with_an_object_come_all_that_share_a_name_with_it_and_all_that_share_one_with_those(
    survey: SurveyCatalogue, sdss_id: int
) -> None:
    # 601 and 602 are one source for 2MASS, 602 and 603 one catalogid in v0.5
    found = survey.fetch([called(sdss_id=sdss_id)])
    assert sdss_ids(found) == ["601", "602", "603"]
    assert [sum(name.value == "09200000+1000000" for name in each.row.names) for each in found] == [1, 1, 1]


def test_ids_above_2_to_the_53_come_bit_for_bit(survey: SurveyCatalogue) -> None:
    (found,) = survey.fetch([called(catalogid31=C31 + (1 << 53) - 1)])
    assert names(found) == {
        "sdss_id 9223372036854775807",
        f"catalogid31 {(8 << 53) - 1}",
        "gaia_dr3 4611686018427387905",
    }
    assert survey.fetch([called(catalogid31=C31 + (1 << 53) - 2)]) == []
    assert survey.fetch([called(gaia_dr3=1 << 62)]) == []


def test_catalogids_of_nought_and_below_are_neither_looked_for_nor_returned(survey: SurveyCatalogue) -> None:
    nought = called(catalogid21=0, catalogid25=-999, sdss_id=0)
    assert survey.fetch([nought, called(sdss_id=-1), called(gaia_dr3=777)]) == []
    (found,) = survey.fetch([nought, placed(160.0, 10.0)])
    assert names(found) == {f"catalogid31 {C31 + 70}"}
    (found,) = survey.fetch([called(sdss_id=702)])
    assert names(found) == {"sdss_id 702", f"catalogid31 {C31 + 72}"}
    first, second = survey.fetch([called(catalogid31=C31 + 70), called(catalogid31=C31 + 71)])
    assert (names(first), names(second)) == ({f"catalogid31 {C31 + 70}"}, {f"catalogid31 {C31 + 71}"})


def test_names_that_cannot_name_an_object_are_not_asked_for(survey: SurveyCatalogue) -> None:
    strange = called(tmass="2MNone", gaia_dr3="nan", catalogid31=1 << 63, apogee="VESTA", gaia_dr2="-1")
    assert survey.fetch([strange]) == []


def test_each_object_comes_once_whoever_asks_for_it(survey: SurveyCatalogue) -> None:
    found = survey.fetch([called(sdss_id=44), called(catalogid21=44_000), placed(123.0, -30.0), called(sdss_id=44)])
    assert sdss_ids(found) == ["44"]


def test_nothing_is_found_for_nothing(survey: SurveyCatalogue) -> None:
    assert survey.fetch([]) == []
    assert survey.fetch([Target((), None, None, NOW), Target((), math.nan, 0.0, NOW), placed(0.0, 91.0)]) == []


def test_ten_thousand_targets_cost_as_many_statements_as_one(survey: SurveyCatalogue, statements: list[str]) -> None:
    mixed = called(sdss_id=44, catalogid31=C31 + 1, gaia_dr3=333, gaia_dr2=1, tmass="09200000+1000000")
    survey.fetch([mixed._replace(ra=0.0, dec=0.0)])
    for_one = statements.copy()
    many = [placed(at / 28.0, at / 60.0 - 80.0) for at in range(5_000)]
    many += [called(sdss_id=at, gaia_dr3=at, tmass=f"{at:08}+0000000") for at in range(5_000)]
    statements.clear()
    found = survey.fetch(many)
    assert {"44", "601", "801"} <= set(sdss_ids(found))
    assert statements == for_one
    assert len(for_one) == 5


def test_of_an_sdss_id_that_is_told_twice_of_a_catalogid_the_lower_rank_counts(
    own: str, reopen: Callable[[str], SurveyCatalogue]
) -> None:
    change(
        own,
        "INSERT INTO catalogdb.sdss_id_flat (sdss_id, catalogid, version_id, rank) "
        "VALUES (44, 44000, 21, 0), (44, 44000, 21, 3), (44, 44000, 21, NULL), (-1, 44000, 21, 1)",
    )
    (found,) = reopen(own).fetch([called(sdss_id=44)])
    assert found.row.names == (CatalogueName("sdss_id", "44"), CatalogueName("catalogid21", "44000", 0))


def test_what_the_server_has_is_asked_once_and_again_after_it_was_away(
    own: str, reopen: Callable[[str], SurveyCatalogue], statements: list[str]
) -> None:
    catalogue = reopen(own)
    assert statements == []
    for _ in range(3):
        assert sdss_ids(catalogue.fetch([called(sdss_id=44)])) == ["44"]
    assert sum("to_regclass" in each for each in statements) == 1
    change(own, "DROP TABLE catalogdb.catalog_to_gaia_dr2_source")
    with pytest.raises(CatalogueUnavailable, match="catalog_to_gaia_dr2_source"):
        catalogue.fetch([called(sdss_id=44)])


def test_a_table_that_is_dropped_meanwhile_is_done_without_after_the_pause(own: str, clock: FakeClock) -> None:
    catalogue = SurveyCatalogue(own, RADIUS, clock)
    assert catalogue.problems() == []
    change(own, "DROP TABLE catalogdb.catalog_to_gaia_dr2_source")
    with pytest.raises(CatalogueUnavailable, match="catalog_to_gaia_dr2_source"):
        catalogue.fetch([called(sdss_id=44)])
    clock.advance(5)
    assert sdss_ids(catalogue.fetch([called(sdss_id=44)])) == ["44"]
    catalogue.close()
