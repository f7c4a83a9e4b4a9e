"""What a product is linked to depends on it and on the records: not on the batch it came in, nor on who was first.

Each of these was found in review by breaking the linker as it was.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import peewee
import pytest

from astra import relinking
from astra.catalogue.rows import CatalogueRow
from astra.database.astradb import Source, SourceDataProduct
from astra.database.connection import execute, run
from astra.products.base import Target
from tests.support.catalogue import adopt_rows, claim, current_link, link, make_products, row, target

NAME = "2M00005143+5615568"
A = (("tmass", NAME[2:]), ("apogee", NAME))
C1, C2, C25 = "63050396092955182", "63050396092955183", "27021599252394686"


def unplaced(*names: tuple[str, str]) -> Target:
    return target(*names, ra=None, dec=None)


def linked(product: int) -> tuple[int | None, str, str | None]:
    """Return sdss_id of the source, method and conflict of a product's link."""
    found = current_link(product)
    assert found is not None
    return found.source.sdss_id, found.method, found.conflict


@pytest.fixture
def products(database: peewee.Database) -> list[int]:
    return make_products(9)


@pytest.fixture
def said(products: list[int], monkeypatch: pytest.MonkeyPatch) -> dict[int, Target]:
    """What products say, also when they are looked at again: these have no headers to be read."""
    for key in products:
        execute("UPDATE data_product SET metadata = ? WHERE id = ?", (json.dumps({"key": key}), key))
    targets: dict[int, Target] = {}
    monkeypatch.setattr(relinking, "_target", lambda release, filetype, kept: targets[json.loads(kept)["key"]])
    return targets


def take(said: dict[int, Target], *pairs: tuple[int, Target]) -> None:
    """Link products in one batch."""
    said.update(pairs)
    link(*[claim(product, what) for product, what in pairs])


def test_a_decision_does_not_depend_on_what_else_is_in_the_batch(products: list[int]) -> None:
    adopt_rows([row(("sdss_id", "1"), ("catalogid31", C1)), row(("catalogid31", C2))])
    own, other = unplaced(("sdss_id", "1"), ("catalogid31", C2)), unplaced(("sdss_id", "1"), ("gaia_dr3", "5"))
    link(claim(1, own))
    link(claim(2, own), claim(3, other))
    assert linked(1) == linked(2)
    assert linked(1)[:2] == (1, "sdss_id")
    assert f"catalogid31 {C2} names source" in (linked(1)[2] or "")


def test_a_sdss_id_goes_before_a_catalogid_that_the_catalogue_lacks(products: list[int]) -> None:
    adopt_rows([row(("sdss_id", "1"), ("catalogid31", C1))])
    link(claim(1, unplaced(("sdss_id", "1"), ("catalogid31", C2))))
    assert linked(1)[:2] == (1, "sdss_id")
    assert f"has catalogid31 {C1}, not {C2}" in (linked(1)[2] or "")


def test_sources_of_two_numbers_are_never_merged_by_a_name(products: list[int]) -> None:
    adopt_rows([row(("sdss_id", "1"), ("gaia_dr3", "11"))])
    link(claim(1, unplaced(("gaia_dr3", "22"), A[1])))
    link(claim(2, unplaced(("sdss_id", "1"), A[1])))
    first, second = current_link(1), current_link(2)
    assert first is not None
    assert second is not None
    assert first.source != second.source
    assert "apogee" in (second.conflict or "")


def test_a_wrong_number_in_one_header_does_not_push_out_the_right_ones(products: list[int]) -> None:
    adopt_rows([row(("sdss_id", "1"), A[0])])
    link(claim(1, unplaced(("catalogid31", C2), *A)))
    for product in (2, 3):
        link(claim(product, unplaced(("catalogid31", C1), *A)))
    assert [linked(product)[0] for product in (1, 2, 3)] == [1, 1, 1]


def test_a_conflict_stands_as_long_as_what_made_it(products: list[int], said: dict[int, Target]) -> None:
    take(said, (1, unplaced(("catalogid31", C1), *A)))
    take(said, (2, unplaced(("catalogid31", C2), *A)))
    before = linked(2)
    assert before[2]
    adopt_rows([row(("sdss_id", "99"))])
    relinking.relink()
    assert linked(2) == before
    assert linked(1)[2], "the other side is told as well, once it is looked at"


def test_rows_of_one_chunk_come_together_as_those_of_several_do(products: list[int]) -> None:
    rows = [row(("gaia_dr3", "9")), row(("catalogid31", C1)), row(("gaia_dr3", "9"), ("catalogid31", C1))]
    adopt_rows(rows)
    assert Source.select().where(Source.merged_into.is_null()).count() == 1


def test_products_of_one_batch_come_together_as_those_of_several_do(products: list[int]) -> None:
    link(claim(1, unplaced(("gaia_dr3", "9"))), claim(2, unplaced(A[1])), claim(3, unplaced(("gaia_dr3", "9"), A[1])))
    assert len({current_link(product).source_id for product in (1, 2, 3)}) == 1  # type: ignore[union-attr]


def test_a_catalogid_of_a_header_is_found_in_a_flat_table(products: list[int]) -> None:
    link(claim(1, unplaced(("catalogid31", C1), *A)))
    adopt_rows([row(("sdss_id", "5"), ("catalogid25", C25)), row(("sdss_id", "5"), ("catalogid31", C1))])
    link(claim(2, unplaced(("catalogid31", C1), *A)))
    first, second = current_link(1), current_link(2)
    assert first is not None
    assert second is not None
    assert first.source == second.source
    assert second.source.sdss_id == 5


def test_a_row_may_name_a_source_that_becomes_another_in_its_chunk(products: list[int]) -> None:
    adopt_rows([row(("sdss_id", "1"), A[0]), row(("gaia_dr3", "9"))])
    adopt_rows([row(("gaia_dr3", "9"), A[0]), row(("sdss_id", "1"), ("gaia_dr3", "9"))])
    assert Source.select().where(Source.merged_into.is_null()).count() == 1


def test_the_columns_of_a_source_tell_what_it_got_by_a_merge(products: list[int]) -> None:
    link(claim(1, unplaced(A[1])), claim(2, unplaced(("sdss_id", "5"), A[0])))
    link(claim(3, unplaced(("sdss_id", "5"), *A)))
    [source] = Source.select().where(Source.merged_into.is_null())
    assert (source.sdss_id, source.designation) == (5, A[0][1])


def test_what_contradicts_itself_comes_to_rest(products: list[int], said: dict[int, Target]) -> None:
    """Three numbers of one kind beside one of another: each look once wrote all links anew, without end."""
    take(said, *[(at, unplaced(("catalogid31", C1), ("gaia_dr3", str(at)))) for at in range(1, 5)])
    adopt_rows([row(("sdss_id", "99"))])
    relinking.relink()
    relinking.relink()
    count = SourceDataProduct.select().count()
    assert relinking.relink().changed == 0
    assert SourceDataProduct.select().count() == count < 20


Object = dict[str, str]


def sky(generator: random.Random) -> tuple[list[Target], list[list[CatalogueRow]]]:
    """Return products of three objects, and editions that each know some of their names, all in one of them."""
    objects: list[Object] = [
        {
            "sdss_id": str(100 + at),
            "catalogid31": str((7 << 53) + at),
            "gaia_dr3": str(900 + at),
            "tmass": f"0000514{at}+5615568",
        }
        for at in range(1, 4)
    ]
    targets = []
    for each in objects:
        for _ in range(2):
            kinds = [kind for kind in ("sdss_id", "catalogid31", "gaia_dr3") if generator.random() < 0.4]
            names = [(kind, each[kind]) for kind in (*kinds, "tmass")]
            targets.append(unplaced(*names, ("apogee", f"2M{each['tmass']}")))
    editions = [("sdss_id", "tmass"), ("sdss_id", "catalogid31"), ("sdss_id", "catalogid31", "gaia_dr3", "tmass")]
    return targets, [[row(*[(kind, each[kind]) for kind in kinds]) for each in objects] for kinds in editions]


@pytest.mark.parametrize("seed", range(12))
def test_products_of_one_object_end_on_one_source_in_whatever_order_all_comes(
    products: list[int], said: dict[int, Target], seed: int
) -> None:
    generator = random.Random(seed)
    targets, editions = sky(generator)
    said.update(zip(products, targets, strict=False))
    steps = [("product", at) for at in range(len(targets))] + [("edition", at) for at in range(len(editions))]
    generator.shuffle(steps)
    for what, at in steps:
        if what == "product":
            link(claim(products[at], targets[at]))
        else:
            adopt_rows(editions[at], f"edition {at}")
        if generator.random() < 0.3:
            relinking.relink()
    while relinking.relink(conditions=relinking.EVERYTHING).changed:
        pass
    sources = [current_link(product).source_id for product in products[: len(targets)]]  # type: ignore[union-attr]
    assert sources[::2] == sources[1::2]
    assert len(set(sources)) == 3
    chains: Sequence[tuple[int]] = run(
        "SELECT count(*) FROM source_data_product WHERE superseded_by_id IS NULL GROUP BY data_product_id"
    )
    assert {count for (count,) in chains} == {1}
    assert {linked(product)[2] for product in products[: len(targets)]} == {None}
