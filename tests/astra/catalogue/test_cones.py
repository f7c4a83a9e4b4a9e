"""The objects of the survey's catalogue by where they are: motion, edges of the sky, every kind of index."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from astra.catalogue.survey import SurveyCatalogue
from astra.identifiers import Identifier
from astra.products.base import Target
from astra.sky import Epochs, Star, closest
from tests.support.catalogdb import Known
from tests.support.postgres import Server
from tests.support.surveysky import ARCSECOND, C31, INDEXES, SKY, called, make, opened, placed, sdss_ids


def test_a_star_is_found_where_it_was_when_the_file_was_made(survey: SurveyCatalogue) -> None:
    def ahead(years: float) -> tuple[float, float]:
        return 170.0 - 0.8028 * years * ARCSECOND / math.cos(math.radians(4.7)), 4.7 + 10.3625 * years * ARCSECOND

    early, late = Epochs(1995.5, 1996.5), Epochs(2035.0, 2036.0)
    assert sdss_ids(survey.fetch([placed(*ahead(-20.0), early)])) == ["801"]
    assert sdss_ids(survey.fetch([placed(*ahead(20.0), late)])) == ["801"]
    assert survey.fetch([placed(*ahead(20.0), early), placed(*ahead(-20.0), late)]) == []
    assert survey.fetch([placed(170.0, 4.7, late)]) == []


def test_a_star_just_too_slow_for_the_wide_search_is_found_all_the_same(survey: SurveyCatalogue) -> None:
    late = Epochs(2035.5, 2035.5)
    assert sdss_ids(survey.fetch([placed(175.0, 5.0 + (0.499 * 20 + 2.9) * ARCSECOND, late)])) == ["802"]
    assert survey.fetch([placed(175.0, 5.0 + (0.499 * 20 + 3.1) * ARCSECOND, late)]) == []


def test_a_star_whose_motion_is_not_known_stays_where_it_is(survey: SurveyCatalogue) -> None:
    late = Epochs(2035.5, 2035.5)
    found = survey.fetch([placed(176.0, 5.0, late), placed(177.0, 5.0, late)])
    assert [each.row.star for each in found] == [Star(176.0, 5.0, 2015.5), Star(177.0, 5.0, 2015.5)]


def test_a_fast_star_is_looked_for_around_a_target_whose_names_nobody_knows(survey: SurveyCatalogue) -> None:
    target = placed(170.0, 4.7 + 20 * 10.3625 * ARCSECOND, Epochs(2035.5, 2035.5))._replace(
        identifiers=(Identifier("gaia_dr3", "987654321"), Identifier("tmass", "11200000+0442000"))
    )
    assert sdss_ids(survey.fetch([called(sdss_id=44), target._replace(ra=target.ra - 16 * ARCSECOND)])) == ["44", "801"]


def test_no_fast_star_is_looked_for_around_a_target_that_is_known_by_name(survey: SurveyCatalogue) -> None:
    # that takes long in dense fields, and is hardly ever needed
    place = placed(170.0, 4.7 + 20 * 10.3625 * ARCSECOND, Epochs(2035.5, 2035.5))._replace(ra=170.0 - 16 * ARCSECOND)
    assert sdss_ids(survey.fetch([place, called(sdss_id=44)])) == ["44", "801"]
    assert sdss_ids(survey.fetch([place._replace(identifiers=called(sdss_id=44).identifiers)])) == ["44"]


def test_neighbours_of_a_target_that_is_known_by_name_come_with_it(survey: SurveyCatalogue) -> None:
    target = called(gaia_dr3=333)._replace(ra=176.0, dec=5.0)
    assert sdss_ids(survey.fetch([target])) == ["803", "none"]


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        (0.0, 0.0, ["900", "901"]),
        (360.0, 0.0, ["900", "901"]),
        (-0.0001, 0.0, ["900", "901"]),
        (720.0, 0.0, ["900", "901"]),
        (359.9996, 60.0, ["902"]),
        (0.003, 89.0, ["903"]),
        (0.0, 90.0, ["904", "905"]),
        (180.0, 89.99995, ["904", "905"]),
        (180.0, -89.9995, ["906"]),
    ],
)
def test_the_sky_has_no_edges(survey: SurveyCatalogue, ra: float, dec: float, expected: list[str]) -> None:
    assert sdss_ids(survey.fetch([placed(ra, dec)])) == expected


def test_the_radius_is_a_setting(pg_server: Server) -> None:
    name = make(pg_server, SKY, "dec")
    wide, narrow = (SurveyCatalogue(pg_server.url(name), radius) for radius in (60.0, 0.5))
    target = placed(176.0, 5.0 + 59 * ARCSECOND)
    assert (sdss_ids(wide.fetch([target])), narrow.fetch([target])) == (["803"], [])
    assert narrow.fetch([placed(176.0, 5.0 + 0.6 * ARCSECOND)]) == []
    wide.close()
    narrow.close()
    pg_server.drop(name)


def star(known: Known) -> Star:
    return Star(known.ra, known.dec, 2015.5, known.pmra, known.pmdec)


def crowd(seed: int) -> tuple[list[Known], list[Target]]:
    """Return fields where catalogues are hard to search, full of stars of all speeds, and targets in them."""
    chance = random.Random(seed)
    fields = [(0.0, 0.0), (359.99, 45.0), (180.0, 89.995), (10.0, -89.999), (83.6, -5.4)]
    stars, targets = [], []
    for at in range(600):
        ra, dec = fields[at % len(fields)]
        ra = (ra + chance.uniform(-40, 40) * ARCSECOND / math.cos(math.radians(dec))) % 360.0
        dec = max(-90.0, min(90.0, dec + chance.uniform(-40, 40) * ARCSECOND))
        speed, turn = 10 ** chance.uniform(0, 4.02), chance.uniform(0, math.tau)
        moving = at % 7 != 0
        stars.append(
            Known(
                ra=ra,
                dec=dec,
                pmra=round(speed * math.cos(turn)) if moving else None,
                pmdec=round(speed * math.sin(turn)) if moving else None,
                catalogids={"catalogid31": C31 + at},
            )
        )
        year = chance.uniform(1996.0, 2036.0)
        targets.append(placed(ra, dec, Epochs(year, year + chance.choice([0.0, 1.0, 20.0]))))
    return stars, targets


@pytest.mark.parametrize("index", INDEXES)
def test_the_same_is_found_by_every_index_and_by_looking_at_every_star(
    request: pytest.FixtureRequest, index: str
) -> None:
    stars, targets = crowd(20_260_102)
    expected = []
    for target in targets:
        assert target.ra is not None
        assert target.dec is not None
        expected.append(
            {
                str(each.catalogids["catalogid31"])
                for each in stars
                if closest(target.ra, target.dec, target.epochs, star(each)) <= 3.0
            }
        )
    assert Counter(map(len, expected)).keys() >= {0, 1, 2, 3}
    server = request.getfixturevalue("q3c_server" if index == "q3c" else "pg_server")
    with opened(server, stars, index) as catalogue:
        for target, wanted in zip(targets[:200], expected, strict=False):
            assert {each.row.names[0].value for each in catalogue.fetch([target])} == wanted
        assert {each.row.names[0].value for each in catalogue.fetch(targets)} == set.union(*expected)
