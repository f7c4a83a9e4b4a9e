"""Each step of the chain, with what lies beside it: blends, fast stars, contradictions."""

from __future__ import annotations

from collections.abc import Sequence

import peewee
import pytest

from astra.catalogue.rows import CatalogueRow
from astra.database.astradb import Source, SourceDataProduct
from astra.products.base import Target
from astra.sky import Epochs, Star
from astra.sources.chain import CHAIN
from tests.support.catalogue import adopt_rows, link_one, make_products, row, target

NAME = "2M00005143+5615568"
A = (("tmass", NAME[2:]), ("apogee", NAME))
RA, DEC = 10.5, 56.25
ARCSECOND = 1 / 3600
V21, V25, V31 = "5696405012", "27021599252394686", "63050396092955182"
WIDE = Epochs(1997.4, 2016.0)


@pytest.fixture
def product(database: peewee.Database) -> int:
    return make_products(1)[0]


def beside(arcseconds: float, **motion: float) -> Star:
    """Return a star so far north of the header's position."""
    return Star(RA, DEC + arcseconds * ARCSECOND, motion.get("epoch", 2015.5), motion.get("pmra"), motion.get("pmdec"))


Case = tuple[str, Sequence[CatalogueRow], Target, str, int]
CASES: Sequence[Case] = (
    ("sdss_id before all",
     [row(("sdss_id", "7"), A[0], star=beside(0.1)), row(("sdss_id", "8"), A[0], star=beside(0.0))],
     target(("sdss_id", "7"), *A), "sdss_id", 1),
    ("catalogid of v1", [row(("sdss_id", "7"), ("catalogid31", V31))],
     target(("catalogid31", V31)), "catalogid31", 1),
    ("catalogid of v0.5", [row(("sdss_id", "7"), ("catalogid25", V25))],
     target(("catalogid25", V25)), "catalogid25", 1),
    ("catalogid of v0.1", [row(("sdss_id", "7"), ("catalogid21", V21))],
     target(("catalogid21", V21)), "catalogid21", 1),
    ("lowest rank of one catalogid",
     [row(("sdss_id", "7"), ("catalogid31", V31, 1)), row(("sdss_id", "8"), ("catalogid31", V31, 2))],
     target(("catalogid31", V31), *A), "catalogid31", 2),
    ("Gaia DR3", [row(("sdss_id", "7"), ("gaia_dr3", "4"))], target(("gaia_dr3", "4"), *A), "gaia_dr3", 1),
    ("Gaia DR2", [row(("sdss_id", "7"), ("gaia_dr2", "4"))], target(("gaia_dr2", "4"), *A), "gaia_dr2", 1),
    ("designation", [row(("sdss_id", "7"), A[0])], target(*A), "tmass", 1),
    ("the nearer of two of one designation",
     [row(("sdss_id", "7"), A[0], star=beside(0.1)), row(("sdss_id", "8"), A[0], star=beside(-1.0))],
     target(*A), "tmass", 2),
    ("the object's own name", [row(("sdss_id", "7"), A[1])], target(*A), "apogee", 1),
    ("cone", [row(("sdss_id", "7"), star=beside(0.4))], target(*A), "cone", 1),
    ("the nearer of two in the cone",
     [row(("sdss_id", "7"), star=beside(0.1)), row(("sdss_id", "8"), star=beside(1.1))], target(*A), "cone", 2),
    ("a fast star, whose place was another when it was named",
     [row(("sdss_id", "7"), star=beside(15.0 * 5.0, epoch=2015.5, pmra=0.0, pmdec=5000.0)),
      row(("sdss_id", "8"), star=beside(2.5))],
     target(*A), "cone", 2),
    ("a star of medium motion", [row(("sdss_id", "7"), star=beside(6.0, epoch=2015.5, pmra=0.0, pmdec=400.0))],
     target(*A), "cone", 1),
    ("a position of either time", [row(("sdss_id", "7"), star=beside(0.0, epoch=2015.5, pmra=0.0, pmdec=5000.0))],
     target(*A, epochs=WIDE), "cone", 1),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_each_step_finds_the_source_it_should(product: int, case: Case) -> None:
    _, rows, what, method, candidates = case
    adopt_rows(rows, "v7")
    found = link_one(product, what)
    assert (found.method, found.candidates, found.conflict) == (method, candidates, None)
    assert found.source.sdss_id == 7
    assert not found.source.provisional
    assert found.catalogue_version == "v7"
    assert (found.separation is None) == (found.source.ra is None)


def test_the_methods_of_the_chain_are_those_that_were_tried() -> None:
    assert {step.method for step in CHAIN} == {method for _, _, _, method, _ in CASES}


UNDECIDED: Sequence[tuple[str, Sequence[CatalogueRow], Target, str]] = (
    ("two of one designation, as near as each other",
     [row(("sdss_id", "7"), A[0], star=beside(0.5)), row(("sdss_id", "8"), A[0], star=beside(-0.5))], target(*A),
     "none of them is clearly the nearest"),
    ("two of one designation, no position",
     [row(("sdss_id", "7"), A[0]), row(("sdss_id", "8"), A[0])], target(*A), "none of them is clearly the nearest"),
    ("two in the cone, as near as each other",
     [row(("sdss_id", "7"), star=beside(0.5)), row(("sdss_id", "8"), star=beside(-0.5))], target(*A),
     'its position, within 3"'),
    ("two sdss_ids of one catalogid and rank",
     [row(("sdss_id", "7"), ("catalogid31", V31)), row(("sdss_id", "8"), ("catalogid31", V31))],
     target(("catalogid31", V31), *A), f"catalogid31 {V31} is that of the sources"),
    ("a designation whose catalogid is another",
     [row(("catalogid31", V31), A[0], star=beside(0.0))], target(("catalogid31", "63050396092955183"), *A),
     f"which has catalogid31 {V31}"),
    ("a position that is not that of the name", [row(("sdss_id", "7"), star=beside(0.0))],
     target(*A, doubt="its RA and DEC are elsewhere"), "its RA and DEC are elsewhere"),
)  # fmt: skip


@pytest.mark.parametrize("case", UNDECIDED, ids=[case[0] for case in UNDECIDED])
def test_what_would_be_a_guess_is_a_conflict_and_stays_with_the_name(
    product: int, case: tuple[str, Sequence[CatalogueRow], Target, str]
) -> None:
    _, rows, what, conflict = case
    adopt_rows(rows)
    found = link_one(product, what)
    assert conflict in (found.conflict or "")
    assert (found.method, found.source.provisional) == ("header", True)


def test_a_name_and_a_number_of_two_objects_give_the_number_s_and_say_so(product: int) -> None:
    adopt_rows([row(("sdss_id", "7"), star=beside(0.0)), row(("sdss_id", "8"), A[0], star=beside(0.1))])
    found = link_one(product, target(("sdss_id", "7"), *A))
    other = Source.get(Source.sdss_id == 8)
    assert (found.source.sdss_id, found.method) == (7, "sdss_id")
    assert f"tmass {A[0][1]} names source {other.id}" in (found.conflict or "")


def test_a_source_far_from_the_file_s_position_is_a_conflict(product: int) -> None:
    adopt_rows([row(("sdss_id", "7"), star=beside(60.0))])
    found = link_one(product, target(("sdss_id", "7"), *A))
    assert found.source.sdss_id == 7
    assert "its position is 60.0 arcseconds from that of source" in (found.conflict or "")
    assert found.separation == pytest.approx(60.0, abs=1e-6)


def test_an_object_of_another_number_in_its_place_is_another_and_no_conflict(product: int) -> None:
    adopt_rows([row(("sdss_id", "7"), star=beside(0.0))])
    found = link_one(product, target(("sdss_id", "9"), *A))
    assert (found.method, found.source.sdss_id, found.source.provisional, found.conflict) == ("header", 9, True, None)


@pytest.mark.parametrize("value", ["0", "-1", "-999", str(1 << 63)])
def test_a_number_that_is_no_key_finds_nothing(product: int, value: str) -> None:
    adopt_rows([row(("sdss_id", "7"), star=Star(200.0, 0.0))])
    found = link_one(product, target(("catalogid31", value), ra=None, dec=None))
    assert (found.source, found.method, found.candidates) == (None, "none", None)
    assert value in (found.reason or "")


def test_nothing_is_looked_for_by_a_bare_position(product: int) -> None:
    adopt_rows([row(("sdss_id", "7"), star=beside(0.0))])
    assert link_one(product, target(("apogee", "2MNone"))).source is None


def test_a_name_that_a_header_gave_to_a_catalogued_source_finds_it(database: peewee.Database) -> None:
    first, second, third = make_products(3)
    adopt_rows([row(("sdss_id", "7"), ("catalogid31", V31))])  # no position, no designation
    link_one(first, target(("catalogid31", V31), *A, ra=None, dec=None))
    found = link_one(second, target(*A, ra=None, dec=None))
    assert (found.source.sdss_id, found.method, found.catalogue_version) == (7, "header", "")
    assert link_one(third, target(A[0])).source.sdss_id == 7


def test_the_old_products_of_a_name_follow_when_a_header_ties_it_to_a_number(database: peewee.Database) -> None:
    first, second = make_products(2)
    old = link_one(first, target(*A, ra=None, dec=None))
    adopt_rows([row(("sdss_id", "7"), ("catalogid31", V31))])
    new = link_one(second, target(("catalogid31", V31), *A, ra=None, dec=None))
    moved = SourceDataProduct.get((SourceDataProduct.data_product == first) & SourceDataProduct.superseded_by.is_null())
    assert moved.source == new.source != old.source
    assert Source.get_by_id(old.source.id).merged_into == new.source
    assert SourceDataProduct.get_by_id(old.id).superseded_by_id == moved.id
