"""The oracle of the kill tests: silent where records and files agree, and it sees every way in which they may not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import peewee
import pytest

from astra.database.connection import execute
from tests.support import fits, oracle
from tests.support.components import COMPONENTS
from tests.support.front import Ahead, Front
from tests.support.oracle import Kind
from tests.support.site import Site

RULE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}
PRODUCT = "release, filetype, kwargs, path, metadata, current_ingestion_id, created"
TASK = "name, version, component_version, parameters, state, priority, bundle_key, rule, created"


def visit(fiber: int) -> bytes:
    return fits.apvisit(PLATE="3000", FIBERID=fiber, OBJID=f"2M0000{fiber:04d}+0000000")


def place(tree: Path, fiber: int) -> Path:
    return tree / fits.visit_name(plate=3000, fiber=fiber)


@pytest.fixture
def tree(tmp_path: Path, database_url: str, database: peewee.Database) -> Path:
    """A tree of two files that have been taken in."""
    site = Site(tmp_path, database_url, [RULE], sections={"settle": {"quiet": 0.0}})
    for fiber in (1, 2):
        fits.write(place(site.tree, fiber), visit(fiber))
    with Front(site.settings(), Ahead(3.0)) as front:
        front.run_until_done()
    return site.tree


def sql(*statements: str) -> Callable[[Path], None]:
    def run(_: Path) -> None:
        for each in statements:
            execute(each)

    return run


def touched(tree: Path) -> None:
    os.utime(place(tree, 1), (1_600_000_000, 1_600_000_000))


def moved(tree: Path) -> None:
    (tree / "elsewhere").mkdir()
    shutil.move(place(tree, 1), tree / "elsewhere")


def never_whole(tree: Path) -> None:
    place(tree, 1).unlink()


DAMAGE: tuple[tuple[Callable[[Path], None], set[Kind]], ...] = (
    (lambda tree: None, set()),
    (lambda tree: fits.write(place(tree, 3), visit(3)) and None, {Kind.MISSING}),
    (sql("UPDATE data_product SET current_ingestion_id = NULL"), {Kind.MISSING, Kind.GHOST, Kind.NO_TASK}),
    (touched, {Kind.STALE}),
    (moved, {Kind.STALE, Kind.MISSING}),
    (never_whole, {Kind.GHOST}),
    (
        sql(
            "DROP INDEX data_product_identity",
            f"INSERT INTO data_product ({PRODUCT}, identity) SELECT {PRODUCT}, identity FROM data_product WHERE id = 1",
        ),
        {Kind.DOUBLE, Kind.WRONG_LINK, Kind.NO_TASK},
    ),
    (sql("UPDATE source_data_product SET source_id = (SELECT max(source_id) FROM source_data_product)"),
     {Kind.WRONG_LINK, Kind.GHOST}),
    (sql("UPDATE task SET state = 'cancelled'"), {Kind.NO_TASK}),
    (
        sql("DROP INDEX task_identity", f"INSERT INTO task ({TASK}, identity) SELECT {TASK}, identity FROM task"),
        {Kind.DOUBLED_TASK},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("damage", "seen"), DAMAGE)
def test_the_oracle_says_what_is_wrong_and_nothing_else(
    tree: Path, damage: Callable[[Path], None], seen: set[Kind]
) -> None:
    damage(tree)
    assert oracle.kinds(oracle.violations(tree)) == seen


def test_every_kind_of_violation_is_seen() -> None:
    assert set().union(*(seen for _, seen in DAMAGE)) == set(Kind)
