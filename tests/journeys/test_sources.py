"""Real files and a catalogue of their objects, with all that makes finding them hard: each finds its source.

The catalogue is loaded from a file before the files are taken in, or after them, or it is the survey's own database:
the links must say the same, on both databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import peewee
import pytest
from astropy.table import MaskedColumn, Table

from astra import relinking, taking_in
from astra.catalogue import loading, tables
from astra.catalogue.consulting import LOCAL, Linking
from astra.catalogue.survey import SurveyCatalogue
from astra.database.astradb import DataProduct, Source, SourceDataProduct
from astra.headers import read
from astra.identifiers import CATALOGIDS
from astra.sources import RADIUS
from astra.taking_in import Terms
from tests.support import fits
from tests.support.catalogdb import FIRST, Known, make_catalogdb
from tests.support.postgres import Server
from tests.support.realdata import RealFile

ARCSECOND = 1 / 3600
V21 = 4_000_000_000
C25, C31 = FIRST["catalogid25"], FIRST["catalogid31"]
SINCE_2MASS = 15.5  # years from the middle of its epochs to those of the survey's catalogue
FAST = 3000.0  # mas/yr

Link = tuple[int | None, str, int | None, bool]  # sdss_id, method, candidates, whether it is in conflict
Entry = Callable[[str, float, float, int], list[Known]]


def known(name: str, ra: float, dec: float, number: int, **other: object) -> Known:
    """Return an object under all its names; the catalogids of v0.5 and v1 are above 2^53."""
    return replace(
        Known(
            ra=ra,
            dec=dec,
            sdss_ids={54_000_000 + number: 1},
            catalogids={
                "catalogid21": 4_000_000_000 + number,
                "catalogid25": C25 + number,
                "catalogid31": C31 + number,
            },
            gaia_dr3=5_900_000_000_000_000_000 + number,
            tmass=name.removeprefix("2M"),
        ),
        **other,  # type: ignore[arg-type]
    )


def plain(name: str, ra: float, dec: float, number: int) -> list[Known]:
    return [known(name, ra, dec, number)]


def beside(north: float, number: int, like: Known, **other: object) -> Known:
    """Return another object so many arcseconds north of one, with a number 1000 higher."""
    return known(f"2M{like.tmass}", like.ra, like.dec + north * ARCSECOND, number + 1000, **other)


def blend(name: str, ra: float, dec: float, number: int) -> list[Known]:
    own = known(name, ra, dec, number)
    return [own, beside(1.0, number, own, tmass=None)]


def two_of_one_designation(name: str, ra: float, dec: float, number: int) -> list[Known]:
    own = known(name, ra, dec, number)
    return [own, beside(1.0, number, own)]


def two_alike(name: str, ra: float, dec: float, number: int) -> list[Known]:
    own = known(name, ra, dec - 0.5 * ARCSECOND, number)
    return [own, beside(1.0, number, own)]


def fast(name: str, ra: float, dec: float, number: int) -> list[Known]:
    there = dec + FAST / 1000 * SINCE_2MASS * ARCSECOND
    return [known(name, ra, there, number, pmra=0.0, pmdec=FAST, tmass=None)]


def fast_with_another_in_its_old_place(name: str, ra: float, dec: float, number: int) -> list[Known]:
    own = known(name, ra, dec, number)
    return [*fast(name, ra, dec, number), beside(2.5, number, own, tmass=None, pmra=0.0, pmdec=0.0)]


def without_a_designation(name: str, ra: float, dec: float, number: int) -> list[Known]:
    return [known(name, ra, dec + 0.3 * ARCSECOND, number, tmass=None)]


def two_alike_in_the_cone(name: str, ra: float, dec: float, number: int) -> list[Known]:
    own = known(name, ra, dec - 0.5 * ARCSECOND, number, tmass=None)
    return [own, beside(1.0, number, own, tmass=None)]


def unknown(name: str, ra: float, dec: float, number: int) -> list[Known]:
    return [known(name, ra, dec + 60 * ARCSECOND, number, tmass=None)]


def no_number(name: str, ra: float, dec: float, number: int) -> list[Known]:
    nothing = {"catalogid21": 0, "catalogid25": -999}
    return [Known(ra=ra, dec=dec, sdss_ids={0: 1}, catalogids=nothing), Known(ra=ra, dec=dec, sdss_ids={-1: 1})]


# What the catalogue has of one real object after another, and how its files are then linked; the rest are `plain`.
HARD: Mapping[Entry, tuple[str, int | None, bool]] = {
    plain: ("tmass", 1, False),
    blend: ("tmass", 1, False),
    two_of_one_designation: ("tmass", 2, False),
    two_alike: ("header", None, True),
    fast: ("cone", 1, False),
    fast_with_another_in_its_old_place: ("cone", 2, False),
    without_a_designation: ("cone", 1, False),
    two_alike_in_the_cone: ("header", None, True),
    unknown: ("header", None, False),
    no_number: ("header", None, False),
}


@dataclass(frozen=True)
class Sky:
    """The catalogue's objects, and what each object's files must be linked to: by object name."""

    objects: Sequence[Known]
    expected: Mapping[str, Link]


@pytest.fixture(scope="session")
def sky(real_files: list[RealFile]) -> Sky:
    """A catalogue of the objects of the real spectra, made from their headers."""
    spectra = [each for each in real_files if each.filetype.startswith(("apStar", "apVisit"))]
    places = {}
    for each in spectra:
        header = read(str(each.path), frozenset({"OBJID", "RA", "DEC"}))
        places.setdefault(header.text("OBJID"), (header.number("RA"), header.number("DEC")))
    objects: list[Known] = []
    expected: dict[str, Link] = {}
    entries = [*HARD, *[plain] * (len(places) - len(HARD))]
    for number, ((name, (ra, dec)), entry) in enumerate(zip(sorted(places.items()), entries, strict=True), 1):
        objects += entry(name, ra, dec, number)
        method, candidates, conflict = HARD[entry]
        expected[name] = (None if method == "header" else 54_000_000 + number, method, candidates, conflict)
    for name, (cards, link) in SDSS5.items():
        number = 500 + int(cards["FIBERID"])
        objects.append(known(name, cards["RA"], cards["DEC"], number, tmass=None))
        expected[name] = link
    return Sky(objects, expected)


def sdss5(fiber: int, sdss_id: int, method: str, **cards: object) -> tuple[str, tuple[dict[str, object], Link]]:
    """Return a visit of SDSS-V, which can only be synthetic here, and how it must be linked."""
    name = f"2M1{fiber}000000+1000000"
    ra = 15.0 * int(name[2:4])
    return name, ({"OBJID": name, "RA": ra, "DEC": 10.0, "FIBERID": fiber, **cards}, (sdss_id, method, 1, False))


SDSS5 = dict(
    [
        sdss5(1, 54_000_501, "sdss_id", SDSSID=54_000_501, CATID=C31 + 501),
        sdss5(2, 54_000_502, "catalogid31", CATID=C31 + 502),
        sdss5(3, 54_000_503, "catalogid25", CATID=C25 + 503),
        sdss5(4, 54_000_504, "catalogid21", CATID=V21 + 504),
        sdss5(5, 54_000_505, "gaia_dr3", GSRCID=5_900_000_000_000_000_505, GRELEASE="dr3"),
        sdss5(6, 54_000_506, "cone", CATID=0, SDSSID=-999),
    ]
)


def catalogue_file(path: Path, sky: Sky) -> Path:
    """Write the catalogue as a table, a row for each object and sdss_id."""
    rows = [(each, sdss_id, rank) for each in sky.objects for sdss_id, rank in each.sdss_ids.items()]
    table = Table()
    table["sdss_id"] = np.array([sdss_id for _, sdss_id, _ in rows], dtype=np.int64)
    table["rank"] = np.array([rank for _, _, rank in rows], dtype=np.int16)
    for kind in CATALOGIDS:
        table[kind] = np.array([each.catalogids.get(kind, -999) for each, _, _ in rows], dtype=np.int64)
    table["gaia_dr3_source_id"] = np.array([each.gaia_dr3 or -9999 for each, _, _ in rows], dtype=np.int64)
    table["tmass"] = [each.tmass or "" for each, _, _ in rows]
    table["epoch"] = 2015.5
    for column in ("ra", "dec", "pmra", "pmdec"):
        values = [getattr(each, column) for each, _, _ in rows]
        table[column] = MaskedColumn([np.nan if value is None else value for value in values], dtype=np.float64)
    table.write(path)
    return path


@pytest.fixture(scope="session")
def survey(pg_server: Server, sky: Sky) -> Iterator[Linking]:
    """The survey's own database, with the catalogue in it."""
    name = pg_server.create()
    make_catalogdb(pg_server.url(name), sky.objects)
    found = SurveyCatalogue(pg_server.url(name), RADIUS)
    yield Linking(RADIUS, found)
    found.close()
    pg_server.drop(name)


@pytest.fixture
def tree(sas_tree: dict[Path, RealFile], tmp_path: Path) -> Path:
    """The real files in their tree, and the synthetic ones of SDSS-V beside them."""
    for cards, _ in SDSS5.values():
        name = f"apVisit-1.3-apo25m-5094-55874-{cards['FIBERID']:03d}.fits"
        fits.write(tmp_path / "sdss5" / name, fits.apvisit(12, **cards))
    return tmp_path


def load(path: Path, sky: Sky) -> None:
    loading.load(tables.read(catalogue_file(path, sky)))


def take_in(tree: Path, linking: Linking = LOCAL) -> None:
    taken = list(taking_in.take_in([tree], Terms(patience=0, linking=linking)))
    assert sum(each.data_product is not None for each in taken) == 70 + len(SDSS5)


def found() -> dict[str, set[Link]]:
    """Return how the files of each object are linked."""
    links: dict[str, set[Link]] = {}
    current = SourceDataProduct.superseded_by.is_null()
    for each in SourceDataProduct.select().where(current):
        source = each.source
        sdss_id = None if source.provisional else source.sdss_id
        candidates = None if each.method == "header" else each.candidates
        link = (sdss_id, each.method, candidates, each.conflict is not None)
        links.setdefault(each.data_product.metadata["object"], set()).add(link)
    return links


def objects_of_sources() -> dict[int, set[str]]:
    """Return which objects' files each source has."""
    names: dict[int, set[str]] = {}
    for each in DataProduct.select():
        names.setdefault(each.source.id, set()).add(each.metadata["object"])
    return names


def check(sky: Sky) -> None:
    assert found() == {name: {link} for name, link in sky.expected.items()}
    names = objects_of_sources()
    assert len(names) == len(sky.expected), "the files of one object share a source, whatever their release"
    assert all(len(each) == 1 for each in names.values())


@pytest.mark.usefixtures("database")
def test_files_find_what_was_loaded_before_them(tree: Path, sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> None:
    load(tmp_path_factory.mktemp("catalogue") / "sky.fits", sky)
    take_in(tree)
    check(sky)


@pytest.mark.usefixtures("database")
def test_files_find_what_is_loaded_after_them(tree: Path, sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> None:
    take_in(tree)
    assert all(each.provisional for each in Source.select())
    load(tmp_path_factory.mktemp("catalogue") / "sky.fits", sky)
    relinking.relink()
    check(sky)
    assert relinking.relink().changed == 0


@pytest.mark.usefixtures("database")
def test_files_find_what_the_survey_has(tree: Path, sky: Sky, survey: Linking) -> None:
    take_in(tree, survey)
    check(sky)


@pytest.mark.usefixtures("database")
def test_files_find_later_what_the_survey_has(tree: Path, sky: Sky, survey: Linking) -> None:
    take_in(tree)
    relinking.relink(survey)
    check(sky)


@pytest.mark.usefixtures("database")
def test_files_that_come_while_the_survey_is_away_are_taken_in_and_linked_later(
    tree: Path, sky: Sky, survey: Linking, database: peewee.Database
) -> None:
    away = Linking(RADIUS, SurveyCatalogue("postgresql://nobody@/none?host=/nonexistent", RADIUS))
    take_in(tree, away)
    assert all(each.provisional for each in Source.select())
    assert relinking.is_due(away)
    assert relinking.relink(away).survey_away is not None
    assert relinking.is_due(survey), "as long as the survey could not be asked"
    assert relinking.relink(survey).survey_away is None
    assert not relinking.is_due(survey)
    check(sky)


@pytest.mark.usefixtures("database")
def test_what_a_local_catalogue_linked_while_the_survey_was_away_is_still_looked_for_in_it(
    tree: Path, sky: Sky, survey: Linking, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Found in review: they were confirmed by then, so nobody looked again, and the debt was written off unasked."""
    take_in(tree, away := Linking(RADIUS, SurveyCatalogue("postgresql://nobody@/none?host=/nonexistent", RADIUS)))
    gaia = tmp_path_factory.mktemp("catalogue") / "gaia.csv"
    rows = [f"{1_000 + at},{each.ra},{each.dec}\n" for at, each in enumerate(sky.objects)]
    gaia.write_text("source_id,ra,dec\n" + "".join(rows))
    loading.load(tables.read(str(gaia), gaia="dr2", epoch=2015.5))
    relinking.relink(away)
    assert any(link[1] == "cone" for links in found().values() for link in links)
    assert relinking.is_due(survey)
    relinking.relink(survey)
    designated = {name for name, link in sky.expected.items() if link[1] == "tmass"}
    assert {name: {link[:2] for link in links} for name, links in found().items() if name in designated} == {
        name: {sky.expected[name][:2]} for name in designated
    }
