"""The survey's own catalogue while the service runs: asked, away, back; and an edition loaded meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astra.database.astradb import SourceDataProduct
from astra.database.connection import available, close_database, open_database
from tests.support import fits
from tests.support.catalogdb import FIRST, Known, make_catalogdb
from tests.support.postgres import PrivateServer
from tests.support.processes import run, until
from tests.support.site import Site

pytestmark = pytest.mark.system

NAMES = {fiber: f"2M0000{50 + fiber}43+5615568" for fiber in range(1, 5)}


@pytest.fixture
def site(database_url: str, own_server: PrivateServer, tmp_path: Path) -> Iterator[Site]:
    """A service that asks a survey which knows the objects of the fibres 1, 2 and 3."""
    survey = own_server.url(own_server.create())
    make_catalogdb(survey, [known(fiber) for fiber in (1, 2, 3)])
    yield Site(tmp_path, database_url, sections={"catalog": {"url": survey}})
    close_database()


def known(fiber: int) -> Known:
    catalogids = {"catalogid31": FIRST["catalogid31"] + fiber}
    return Known(ra=place(fiber), dec=56.265797, sdss_ids={fiber: 1}, catalogids=catalogids, tmass=NAMES[fiber][2:])


def place(fiber: int) -> float:
    return 15 * float(NAMES[fiber][6:10]) / 360_000


def visit(site: Site, fiber: int) -> None:
    cards = {"OBJID": NAMES[fiber], "RA": place(fiber), "DEC": 56.265797, "FIBERID": fiber}
    fits.write(site.tree / fits.visit_name(fiber=fiber), fits.apvisit(12, **cards))


def methods() -> dict[int, str]:
    """Return how the visit of each fibre is linked now."""
    with available():
        links = SourceDataProduct.select().where(SourceDataProduct.superseded_by.is_null())
        return {each.data_product.metadata["fiber"]: each.method for each in links}


def test_files_are_taken_in_whatever_the_survey_does_and_linked_as_soon_as_it_can_be_asked(
    site: Site, own_server: PrivateServer
) -> None:
    with site.daemon() as daemon:
        daemon.says(" started ")
        open_database(site.url)
        visit(site, 1)
        until(lambda: methods() == {1: "tmass"})

        own_server.stop("immediate")
        visit(site, 2)
        visit(site, 4)
        until(lambda: methods() == {1: "tmass", 2: "header", 4: "header"}, timeout=60)
        daemon.says("catalogue_away")

        own_server.start()
        until(lambda: methods() == {1: "tmass", 2: "tmass", 4: "header"}, timeout=90)
        daemon.says("catalogue_back")
        visit(site, 3)
        until(lambda: methods().get(3) == "tmass", timeout=60)

        (site.folder / "more.csv").write_text(f"sdss_id,tmass_id\n4,{NAMES[4][2:]}\n")
        loaded = run("astra", "catalog", "load", "--no-relink", "more.csv", config=site.write())
        assert loaded.returncode == 0, loaded.stderr
        until(lambda: methods().get(4) == "tmass", timeout=60)
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0
