"""A small sky as the survey knows it, with all that makes finding an object hard, and words to ask for its objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import psycopg2

from astra.catalogue.survey import SurveyCatalogue, SurveyObject
from astra.identifiers import Identifier
from astra.products.base import Target
from astra.sky import Epochs
from tests.support.catalogdb import FIRST, Known, make_catalogdb
from tests.support.postgres import Server

INDEXES = {
    "q3c": "(q3c_ang2ipix(ra, dec))",
    "dec": '("dec")',
    "ra and dec": '("ra", "dec")',
}
RADIUS = 3.0  # arcseconds
NOW = Epochs(2024.0, 2025.0)
ARCSECOND = 1.0 / 3600.0  # in degrees

C21, C25, C31 = FIRST["catalogid21"], FIRST["catalogid25"], FIRST["catalogid31"]

ALONE = Known(
    ra=120.0,
    dec=-30.0,
    pmra=3.5,
    pmdec=-2.25,
    sdss_ids={54_392_544: 1},
    catalogids={"catalogid21": 4_204_681_993, "catalogid25": C25 + 9_007_199, "catalogid31": C31 + 1},
    gaia_dr3=5_605_188_041_829_381_377,
    gaia_dr2=5_605_188_041_829_381_378,
    tmass="08000000-3000000",
)
# where v0.1 had it, one second of arc further north
OLD_PLACE = Known(ra=120.0, dec=-30.0 + ARCSECOND, catalogids={"catalogid21": 4_204_681_993})
# a name in no cross-match but v0.5, for which it is not the best match
NOT_BEST = Known(
    ra=121.0, dec=-30.0, catalogids={"catalogid25": C25 + 2}, gaia_dr3=111, tmass="08040000-3000000", best=False
)
BEST = Known(ra=121.01, dec=-30.0, sdss_ids={45: 1}, catalogids={"catalogid31": C31 + 45}, gaia_dr3=111)
WITHOUT_SDSS_ID = Known(ra=122.0, dec=-30.0, catalogids={"catalogid31": C31 + 3}, gaia_dr3=333)
ONLY_OLD = Known(ra=123.0, dec=-30.0, sdss_ids={44: 1}, catalogids={"catalogid21": 44_000})
# one catalogid, two sdss_ids: the second is preferred
SHARED = (
    Known(ra=130.0, dec=10.0, sdss_ids={501: 2}, catalogids={"catalogid25": C25 + 50, "catalogid31": C31 + 51}),
    Known(
        ra=130.0, dec=10.0 + ARCSECOND, sdss_ids={500: 1}, catalogids={"catalogid25": C25 + 50, "catalogid31": C31 + 52}
    ),
)
# a pair too near for 2MASS, and a third star that v0.5 took for the second of them
BLEND = (
    Known(ra=140.0, dec=10.0, sdss_ids={601: 1}, catalogids={"catalogid31": C31 + 61}, tmass="09200000+1000000"),
    Known(
        ra=140.0,
        dec=10.0 + ARCSECOND,
        sdss_ids={602: 1},
        catalogids={"catalogid31": C31 + 62, "catalogid25": C25 + 62},
        gaia_dr3=6_602,
        tmass="09200000+1000000",
    ),
    Known(
        ra=140.0,
        dec=10.0 + 9 * ARCSECOND,
        sdss_ids={603: 2},
        catalogids={"catalogid25": C25 + 62, "catalogid31": C31 + 63},
    ),
)
LARGEST = Known(
    ra=150.0,
    dec=10.0,
    sdss_ids={(1 << 63) - 1: 1},
    catalogids={"catalogid31": C31 + (1 << 53) - 1},
    gaia_dr3=(1 << 62) + 1,
)
# what stands for no id is no name: these have nothing in common
NOUGHT = (
    Known(ra=160.0, dec=10.0, sdss_ids={0: 1}, catalogids={"catalogid21": 0, "catalogid25": -999}, gaia_dr3=777),
    Known(ra=160.0, dec=10.0, sdss_ids={-1: 1}, catalogids={"catalogid31": C31 + 70}, gaia_dr3=0),
    Known(ra=161.0, dec=10.0, sdss_ids={-1: 1}, catalogids={"catalogid31": C31 + 71}, gaia_dr3=0),
    Known(ra=162.0, dec=10.0, sdss_ids={702: 1}, catalogids={"catalogid21": 0, "catalogid31": C31 + 72}),
    Known(ra=163.0, dec=10.0, sdss_ids={703: 1}, catalogids={"catalogid21": 0, "catalogid31": C31 + 73}),
)
FAST = Known(ra=170.0, dec=4.7, pmra=-802.8, pmdec=10_362.5, sdss_ids={801: 1}, catalogids={"catalogid31": C31 + 81})
# just slower than those that are looked for among the fast
BRISK = Known(ra=175.0, dec=5.0, pmra=0.0, pmdec=499.0, sdss_ids={802: 1}, catalogids={"catalogid31": C31 + 82})
STILL = Known(ra=176.0, dec=5.0, sdss_ids={803: 1}, catalogids={"catalogid31": C31 + 83})
HALF_KNOWN = Known(
    ra=177.0, dec=5.0, pmra=9_000.0, pmdec=math.nan, sdss_ids={804: 1}, catalogids={"catalogid31": C31 + 84}
)
EDGES = tuple(
    Known(ra=ra, dec=dec, sdss_ids={900 + at: 1}, catalogids={"catalogid31": C31 + 90 + at})
    for at, (ra, dec) in enumerate(
        [(0.0, 0.0), (359.9999, 0.0), (0.0001, 60.0), (359.9999, 89.0), (90.0, 89.9999), (270.0, 89.9999), (0.0, -90.0)]
    )
)  # fmt: skip
SKY = (
    OLD_PLACE, ALONE, NOT_BEST, BEST, WITHOUT_SDSS_ID, ONLY_OLD, *SHARED, *BLEND, LARGEST, *NOUGHT, FAST, BRISK, STILL,
    HALF_KNOWN, *EDGES,
)  # fmt: skip


def make(server: Server, objects: Sequence[Known], index: str) -> str:
    """Make a database with the catalogue on a server; return its name."""
    name = server.create()
    if index == "q3c":
        change(server.url(name), "CREATE EXTENSION q3c")
    make_catalogdb(server.url(name), objects, INDEXES[index])
    return name


def change(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def opened(server: Server, objects: Sequence[Known], index: str) -> Iterator[SurveyCatalogue]:
    """Make a catalogue that lacks nothing, and give it for as long as it lasts."""
    name = make(server, objects, index)
    catalogue = SurveyCatalogue(server.url(name), RADIUS)
    assert catalogue.problems() == []
    yield catalogue
    catalogue.close()
    server.drop(name)


def called(**names: object) -> Target:
    """Return what a file without a position says of its object."""
    return Target(tuple(Identifier(kind, str(value)) for kind, value in names.items()), None, None, NOW)


def placed(ra: float, dec: float, epochs: Epochs = NOW) -> Target:
    """Return what a file without a name says of its object."""
    return Target((), ra, dec, epochs)


def sdss_ids(found: Sequence[SurveyObject]) -> list[str]:
    return [each.row.names[0].value if each.row.names[0].kind == "sdss_id" else "none" for each in found]


def names(found: SurveyObject) -> set[str]:
    return {f"{name.kind} {name.value}" for name in found.row.names}
