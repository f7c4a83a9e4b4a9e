"""Whose folders are watched: added and left while the service runs, each swept from its beginning."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from astra.config import Watch
from daemon.sweeper import Offer
from daemon.watching import Takers, Watching
from tests.support import fits
from tests.support.processes import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_folder_that_comes_is_watched_and_swept_and_one_that_goes_is_left(
    tmp_path: Path, database: peewee.Database
) -> None:
    watches = tuple(Watch(name=name, path=tmp_path / name, mode="events") for name in ("one", "two"))
    for fiber, each in enumerate(watches, start=1):
        fits.write(each.path / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))
    hints: list[tuple[str, str]] = []
    offers: list[str] = []

    def offer(found: list[Offer]) -> int:
        offers.extend(each.arrival.root for each in found)
        return 0

    watching = Watching(watches, Takers(lambda root, path: hints.append((root, path)), offer), SYSTEM)
    watching.start(SYSTEM.monotonic())
    try:
        assert watching.turn(SYSTEM.monotonic(), 0.0) is None, "nothing is this service's yet"
        for names in ({"one"}, {"one", "two"}, {"two"}):
            watching.follow(frozenset(names))
            offers.clear()
            until(lambda names=names: watching.turn(SYSTEM.monotonic(), 0.0) and set(offers) == names, every=0)
            assert watching.sweeper.roots.keys() == names
        hints.clear()
        for each in watches:
            fits.write(each.path / fits.visit_name(fiber=9), fits.apvisit(FIBERID=9))
        until(lambda: ("two", fits.visit_name(fiber=9)) in hints)
        assert {root for root, _ in hints} == {"two"}
    finally:
        watching.stop()
