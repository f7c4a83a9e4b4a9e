"""When the unconfirmed are looked for again."""

from __future__ import annotations

import logging
from pathlib import Path

import peewee
import pytest

from astra import relinking, taking_in
from astra.catalogue.consulting import LOCAL, Linking
from astra.catalogue.survey import SurveyCatalogue
from astra.database.astradb import Catalogue, SourceDataProduct
from astra.errors import DatabaseUnavailable
from astra.taking_in import Terms
from daemon.relinker import Relinker
from tests.support import fits
from tests.support.catalogue import NOW, adopt_rows, row
from tests.support.clock import FakeClock

NAMES = tuple(f"2M0000{at:02d}43+5615568" for at in range(51, 56))


@pytest.fixture(autouse=True)
def products(database: peewee.Database, tmp_path: Path) -> None:
    """A visit of each of five objects."""
    for fiber, name in enumerate(NAMES, 1):
        cards = {"OBJID": name, "RA": 15 * float(name[6:10]) / 360_000, "DEC": 56.265797, "FIBERID": fiber}
        fits.write(tmp_path / fits.visit_name(fiber=fiber), fits.apvisit(12, **cards))
    list(taking_in.take_in([tmp_path], Terms(patience=0)))


def load(*names: str) -> None:
    """Load an edition that has objects of these names."""
    adopt_rows([row(("sdss_id", name[6:10]), ("tmass", name[2:])) for name in names], f"of {len(names)}")
    Catalogue.update(loaded=NOW).execute()


def confirmed() -> int:
    return int(SourceDataProduct.select().where(SourceDataProduct.method == "tmass").count())


def turn_until_idle(relinker: Relinker, clock: FakeClock) -> int:
    """Let it take turns until there is nothing more to do at once; return how many."""
    turns = 1
    while relinker.turn(clock.monotonic()):
        turns += 1
    return turns


def test_nothing_is_done_without_reason(clock: FakeClock) -> None:
    relinker = Relinker(LOCAL, clock)
    assert not relinker.turn(clock.monotonic())
    relinker.request()
    assert turn_until_idle(relinker, clock) == 1, "there is no catalogue"


def test_what_is_asked_for_is_begun_by_whoever_takes_the_turn_then(clock: FakeClock) -> None:
    taken: list[str] = []

    def is_anothers() -> bool:
        taken.append("another's")
        return False

    def is_ours() -> bool:
        if not taken[1:]:
            taken.append("away")
            raise DatabaseUnavailable("the database cannot be used now")
        taken.append("ours")
        return True

    load(*NAMES)
    relinker = Relinker(LOCAL, clock)
    turn_until_idle(relinker, clock)
    load(*NAMES[:2])
    relinker.request(is_anothers)
    assert (relinker.busy, taken) == (True, []), "a run that ends by itself waits for it"
    assert not relinker.turn(clock.monotonic())
    assert (relinker.busy, confirmed()) == (False, 5)
    relinker.request(is_ours)
    with pytest.raises(DatabaseUnavailable):
        relinker.turn(clock.monotonic())
    assert relinker.busy
    turn_until_idle(relinker, clock)
    assert (relinker.busy, taken) == (False, ["another's", "away", "ours"])


def test_an_edition_that_was_loaded_is_noticed_within_seconds(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    relinker = Relinker(LOCAL, clock)
    turn_until_idle(relinker, clock)
    load(*NAMES[:2])
    assert not relinker.turn(clock.monotonic())
    assert confirmed() == 0
    clock.pause(10)
    turn_until_idle(relinker, clock)
    assert confirmed() == 2
    assert [each.message for each in caplog.records if each.message.startswith("relinked")] == [
        "relinked looked=5 changed=2"
    ]
    assert not relinking.is_due()


def test_a_turn_looks_at_one_chunk(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relinking, "CHUNK", 2)
    load(*NAMES)
    relinker = Relinker(LOCAL, clock)
    assert relinker.turn(clock.monotonic())
    assert confirmed() == 2
    turn_until_idle(relinker, clock)
    assert confirmed() == 5


def test_what_the_calendar_asks_for_is_done_though_nothing_is_new(clock: FakeClock) -> None:
    load(*NAMES[:1])
    relinker = Relinker(LOCAL, clock)
    turn_until_idle(relinker, clock)
    assert turn_until_idle(relinker, clock) == 1
    relinker.request()
    assert turn_until_idle(relinker, clock) > 1


def test_while_the_survey_is_away_that_is_told_once_and_the_local_catalogue_serves(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = Linking(3.0, SurveyCatalogue("postgresql://nobody@/none?host=/nonexistent", 3.0, clock))
    relinker = Relinker(away, clock)
    load(*NAMES[:1])
    for _ in range(3):
        turn_until_idle(relinker, clock)
        clock.pause(10)
    told = [each.message.split()[0] for each in caplog.records]
    assert told == ["catalogue_away", "relinked"] or told == ["relinked", "catalogue_away"]
    assert confirmed() == 1
    assert relinking.is_due(away), "until the survey has been asked"
    assert not relinking.is_due(LOCAL), "who does not ask it has nothing to wait for"
