"""Each safeguard is needed: without it a crash at one place leaves wrong records, and with it none does.

One process dies at a named point, a second one makes a clean pass, and the oracle compares the records with the files.
A broken variant of the product leaves violations of the kind that its safeguard is there against; the sound product,
killed at the same point with the same files, leaves none.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import peewee
import pytest

from tests.support import fits, oracle
from tests.support.components import COMPONENTS
from tests.support.crashes import At, Deed, Plan, lay_ready
from tests.support.nursery import Nursery, log_of
from tests.support.oracle import Kind
from tests.support.site import Site

RULE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}
Meanwhile = Callable[[Path], None]
AHEAD = 3.0  # beyond the time within which stamps are too fresh to be trusted


def visit(fiber: int, snr: float = 10.0) -> bytes:
    return fits.apvisit(PLATE="3000", FIBERID=fiber, OBJID=f"2M0000{fiber:04d}+0000000", SNR=snr)


def place(tree: Path, fiber: int) -> Path:
    return tree / "night1" / fits.visit_name(plate=3000, fiber=fiber)


def nothing(tree: Path) -> None:
    """Nothing happens to the tree."""


def two_files(tree: Path) -> None:
    for fiber in (1, 2):
        fits.write(place(tree, fiber), visit(fiber))


def one_rewritten_while_it_is_read(tree: Path) -> None:
    fits.write(place(tree, 1), visit(1, snr=10.0))
    lay_ready(place(tree, 1), visit(1, snr=20.0))


def one_that_comes_while_it_is_watched(tree: Path) -> None:
    lay_ready(place(tree, 1), visit(1))


def one_whole_and_one_short_of_an_hdu(tree: Path) -> None:
    fits.write(place(tree, 1), visit(1))
    fits.write(place(tree, 2), visit(2)[: fits.hdu_ends(visit(2))[-2]])


def its_writer_gives_up(tree: Path) -> None:
    place(tree, 2).unlink()


class Case(NamedTuple):
    """A broken variant: the files it meets, where it dies, what is wrong then; `meanwhile` is before the clean pass."""

    variant: str
    files: Callable[[Path], None]
    at: Sequence[At]
    wrong: Collection[Kind]
    meanwhile: Meanwhile = nothing


TORN = (At("read", 1, Deed.WRITE), At("recorded"))
CASES = (
    Case("marked_before_rows", two_files, [At("before products")], {Kind.MISSING}),
    Case("no_unique_key", two_files, [At("recorded")], {Kind.DOUBLE, Kind.DOUBLED_TASK}),
    Case("signature_after_read", one_rewritten_while_it_is_read, TORN, {Kind.STALE}),
    Case("lost_transaction", two_files, [At("ledger written")], {Kind.WRONG_LINK, Kind.NO_TASK}),
    Case(
        "event_taken_unsettled",
        one_whole_and_one_short_of_an_hdu,
        [At("turned", 10)],
        {Kind.GHOST},
        its_writer_gives_up,
    ),
    Case(
        "event_trusted_alone",
        one_that_comes_while_it_is_watched,
        [At("watching", 1, Deed.WRITE), At("hinted")],
        {Kind.MISSING},
    ),
)


class Crash(NamedTuple):
    """A site, and the nursery of the processes that die on it."""

    site: Site
    nursery: Nursery

    def leaves(self, variant: Sequence[str], at: Sequence[At], meanwhile: Meanwhile = nothing) -> set[Kind]:
        """Let the product, or a broken variant, die at a point, then make a clean pass; return what is wrong then."""
        written = [oracle.content_of(visit(fiber)) for fiber in (1, 2)]
        config, tree = self.site.write(), self.site.tree
        assert self.nursery.front(Plan(at, variant, str(tree)), config) == -signal.SIGKILL, log_of(config).read_text()
        meanwhile(tree)
        done = self.nursery.front(Plan(variant=variant, ahead=AHEAD), config, until_done=True)
        assert done == 0, log_of(config).read_text()
        return oracle.kinds(oracle.violations(tree, written))


@pytest.fixture
def crash(tmp_path: Path, database_url: str, database: peewee.Database, nursery: Nursery) -> Crash:
    return Crash(Site(tmp_path, database_url, [RULE], sections={"settle": {"quiet": 0.02}}), nursery)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.variant)
def test_a_broken_variant_is_caught_by_a_crash_point_of_its_own(crash: Crash, case: Case) -> None:
    case.files(crash.site.tree)
    assert crash.leaves([case.variant], case.at, case.meanwhile) == case.wrong


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.variant)
def test_the_sound_product_killed_there_leaves_nothing_wrong(crash: Crash, case: Case) -> None:
    case.files(crash.site.tree)
    assert crash.leaves([], case.at, case.meanwhile) == set()


@pytest.mark.parametrize("gone", [("signed_late", "not_compared"), ("signed_late", "never_racy")], ids=" and ".join)
def test_a_torn_read_is_healed_while_one_of_its_safeguards_is_left(crash: Crash, gone: tuple[str, ...]) -> None:
    one_rewritten_while_it_is_read(crash.site.tree)
    assert crash.leaves(gone, TORN) == set()
