"""Turns of the intake on real files: settled, examined and recorded; waited for, refused, kept in hand."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import ingest, rules
from astra.components import component_class
from astra.errors import DatabaseUnavailable
from astra.products import product_types
from astra.signature import Signature
from astra.states import IngestionOutcome
from daemon.intake import Intake
from daemon.settler import Arrival
from daemon.sweeper import Offer
from tests.support import fits
from tests.support.clock import FakeClock
from tests.support.components import COMPONENTS
from tests.support.records import ingestions, outcomes, states
from tests.support.site import Site

RULE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}


class Rig:
    """An intake whose clock follows the files' own times: now is a little after the newest of them."""

    def __init__(self, site: Site, clock: FakeClock) -> None:
        settings = site.settings()
        compiled = rules.compile_rules(settings.rules, component_class, product_types())
        self.site, self.clock = site, clock
        self.intake = Intake(settings, compiled, clock)

    def write(self, content: bytes, fiber: int = 88) -> Path:
        path = fits.write(self.site.tree / fits.visit_name(fiber=fiber), content)
        stamp = self.clock.now().timestamp()
        os.utime(path, (stamp, stamp))
        return path

    def hint(self, path: Path) -> None:
        self.intake.hint("redux", path.name)

    def offer(self, path: Path, backfill: bool = False) -> None:
        self.intake.offer([Offer(Arrival("redux", path.name), Signature.of(path.stat()), backfill)])

    def turn(self, after: float = 0.0) -> list[tuple[str, str]]:
        """Let time pass, take a turn, and return the name and outcome of what was recorded."""
        self.clock.advance(after)
        recorded = self.intake.turn(self.clock.monotonic())
        return [(Path(each.file.path).name, str(each.outcome)) for each in recorded]


@pytest.fixture
def clock() -> FakeClock:
    """A clock of today: the change times of files are the system's, and cannot be set."""
    from astra.clock import SYSTEM

    return FakeClock(SYSTEM.now() + timedelta(seconds=1))


@pytest.fixture
def rig(tmp_path: Path, database_url: str, database: peewee.Database, clock: FakeClock) -> Rig:
    sections = {"settle": {"quiet": 5, "patience": 100}}
    return Rig(Site(tmp_path, database_url, [RULE], {"backfill": False}, sections), clock)


def visit(fiber: int = 88) -> bytes:
    return fits.apvisit(FIBERID=fiber)


def test_a_file_is_recorded_when_it_has_been_still_and_its_task_is_enqueued(rig: Rig) -> None:
    path = rig.write(visit())
    rig.hint(path)
    assert rig.turn() == []
    assert rig.intake.waiting == 1
    assert rig.turn(4.9) == []
    assert rig.turn(1) == [(path.name, "ingested")]
    assert (rig.intake.waiting, states()) == (0, Counter(pending=1))
    assert (rig.intake.counts.ingested, rig.intake.counts.tasks) == (1, 1)
    assert len(rig.intake.lags) == 1


def test_a_second_offer_of_what_is_recorded_changes_nothing(rig: Rig) -> None:
    path = rig.write(visit())
    for _ in range(2):
        rig.hint(path)
        rig.turn()
        rig.turn(6)
    assert (outcomes(), states()) == (Counter(ingested=1), Counter(pending=1))
    assert rig.intake.counts.ingested == 1


def test_what_lay_there_before_the_root_was_watched_calls_no_rule_unless_the_settings_say_so(rig: Rig) -> None:
    old, new = rig.write(visit(1), 1), rig.write(visit(2), 2)
    rig.clock.advance(60)
    rig.offer(old, backfill=True)
    rig.offer(new)
    assert sorted(rig.turn()) == sorted([(new.name, "ingested"), (old.name, "ingested")])
    assert (states(old.name), states(new.name)) == (Counter(), Counter(pending=1))


def test_a_file_that_is_not_whole_is_waited_for_as_long_as_the_patience_lasts(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    path = rig.write(visit()[:-1])
    rig.hint(path)
    rig.turn()
    with caplog.at_level(logging.INFO, "daemon"):
        for _ in range(11):
            assert rig.turn(8) == []
        for _ in range(3):
            rig.turn(8)
    assert [outcome for outcome, _ in ingestions(path)] == ["quarantined"]
    assert rig.intake.waiting == 0
    said = [str(record.msg).split()[0] for record in caplog.records]
    assert said == ["waiting", "quarantined"], "said once, however often it was looked at"


def test_a_file_that_grows_in_steps_is_said_to_be_waited_for_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = visit()
    with caplog.at_level(logging.INFO, "daemon"):
        for end in (*fits.hdu_ends(content)[:5], len(content)):
            rig.hint(rig.write(content[:end]))
            rig.turn()
            rig.turn(6)
    assert [str(record.msg).split()[0] for record in caplog.records] == ["waiting", "ingested"]


def test_a_file_that_becomes_whole_while_it_is_waited_for_is_ingested(rig: Rig) -> None:
    path = rig.write(visit()[:-1])
    rig.hint(path)
    rig.turn()
    rig.turn(6)
    rig.write(visit())
    rig.hint(path)
    rig.turn()
    assert rig.turn(6) == [(path.name, "ingested")]
    assert outcomes() == Counter(ingested=1)


def test_what_can_never_become_whole_is_quarantined_at_once(rig: Rig) -> None:
    path = rig.write(b"no FITS file at all " * 400)
    rig.hint(path)
    rig.turn()
    assert rig.turn(6) == [(path.name, "quarantined")]
    assert rig.intake.counts.quarantined == 1


def test_a_file_that_is_gone_is_forgotten(rig: Rig) -> None:
    path = rig.write(visit())
    rig.hint(path)
    rig.turn()
    path.unlink()
    assert rig.turn(6) == []
    assert (rig.intake.waiting, outcomes()) == (0, Counter())


def test_a_path_that_cannot_be_looked_at_holds_up_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    loop, good = rig.site.tree / fits.visit_name(fiber=1), rig.write(visit(2), 2)
    loop.symlink_to(loop)
    rig.hint(loop)
    rig.hint(good)
    rig.turn()
    with caplog.at_level(logging.WARNING, "daemon"):
        assert rig.turn(6) == [(good.name, "ingested")]
    assert rig.intake.waiting == 0
    assert [str(record.msg).split()[0] for record in caplog.records] == ["unreadable"]


def test_a_file_that_no_product_type_knows_is_dropped(rig: Rig) -> None:
    path = fits.write(rig.site.tree / "apVisitSum-5094-55874.fits", visit())
    rig.clock.advance(60)
    rig.offer(path)
    assert rig.turn() == []
    assert (rig.intake.waiting, outcomes()) == (0, Counter())


def test_what_the_database_could_not_take_is_kept_in_hand_and_recorded_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = rig.write(visit())
    rig.hint(path)
    rig.turn()

    def away(*_: object) -> None:
        raise DatabaseUnavailable("the database cannot be used now")

    with caplog.at_level(logging.INFO, "daemon"):
        with monkeypatch.context() as patch:
            patch.setattr(ingest, "record", away)
            assert rig.turn(6) == []
            assert (rig.intake.waiting, rig.intake.settled, rig.intake.ready) == (1, 1, False)
            assert rig.intake.trouble == "the database cannot be used now"
            assert rig.turn(0.6) == []
        assert rig.turn(0.1) == [], "it is asked again after a growing while"
        assert rig.turn(2) == [(path.name, "ingested")]
    assert rig.intake.trouble is None
    said = [str(record.msg).split()[0] for record in caplog.records]
    assert said == ["database_away", "database_back", "ingested"]


def test_a_crash_before_the_record_is_healed_by_the_next_offer(rig: Rig, clock: FakeClock) -> None:
    path = rig.write(visit())
    rig.hint(path)
    rig.turn()
    again = Rig(rig.site, clock)
    again.clock.advance(60)
    again.offer(path)
    assert again.turn() == [(path.name, "ingested")]


def test_a_whole_batch_is_recorded_in_one_turn_and_the_rest_in_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "CHUNK", 4)
    for fiber in range(1, 11):
        rig.offer(rig.write(visit(fiber), fiber))
    rig.turn()
    rig.clock.advance(60)
    assert [len(rig.turn()) for _ in range(4)] == [4, 4, 2, 0]
    assert rig.intake.counts.ingested == 10


def test_a_copy_is_counted_as_a_duplicate(rig: Rig) -> None:
    path = rig.write(visit())
    copy = fits.write(rig.site.tree / "copy" / path.name, visit())
    rig.clock.advance(60)
    rig.offer(path)
    rig.turn()
    rig.intake.offer([Offer(Arrival("redux", f"copy/{copy.name}"), Signature.of(copy.stat()), False)])
    assert rig.turn() == [(path.name, str(IngestionOutcome.DUPLICATE))]
    assert (rig.intake.counts.duplicate, rig.intake.counts.tasks) == (1, 1)


def test_a_file_that_changes_after_it_has_settled_is_waited_for_anew(rig: Rig, clock: FakeClock) -> None:
    path = rig.write(visit())
    rig.offer(path)
    clock.advance(6)
    rig.intake.settler.observe(
        Arrival("redux", path.name), Signature.of(path.stat()), rig.intake._instant(clock.monotonic())
    )
    assert rig.intake.ready, "it has settled, and waits for its turn"
    path.write_bytes(fits.apvisit(FIBERID=88, SNR=7.0))
    stamp = clock.now().timestamp()
    os.utime(path, (stamp, stamp))
    assert rig.turn() == []
    assert rig.turn(after=1) == []
    assert rig.turn(after=60) == [(path.name, "ingested")]
    assert len(ingestions(path)) == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ESHUTDOWN, errno.EUCLEAN, errno.ENOENT], ids=errno.errorcode.get)
def test_what_the_disk_does_not_let_us_read_is_never_quarantined_and_holds_up_no_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path, good = rig.write(visit()), rig.write(visit(89), 89)
    real = os.open

    def failing(name: str, *arguments: int) -> int:
        if str(name).endswith(path.name):
            raise OSError(number, os.strerror(number))
        return real(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        rig.offer(path)
        rig.offer(good)
        recorded = [each for after in (6, 200, 5000) for each in rig.turn(after)]
        assert recorded == [(good.name, "ingested")]
        assert (rig.intake.waiting, rig.intake.out_of_reach) == (0, 1), "a drain need not wait for it"
        assert rig.intake.load == 0, "nor sweeps of other folders, for days perhaps"
    assert rig.turn(after=120) == [(path.name, "ingested")]
    assert rig.intake.out_of_reach == 0


def test_arrivals_that_cannot_be_kept_ask_for_a_sweep(rig: Rig) -> None:
    rig.intake.settler.bound = 1
    for fiber in range(1, 9):
        rig.hint(rig.write(visit(fiber), fiber))
    rig.turn()
    assert rig.intake.counts.overfull > 0
    assert rig.intake.overfull == {"redux"}


def test_what_a_sweep_found_and_cannot_be_kept_asks_for_another(rig: Rig) -> None:
    rig.intake.settler.bound = 1
    for fiber in range(1, 9):
        rig.offer(rig.write(visit(fiber), fiber))
    assert (rig.intake.counts.overfull, rig.intake.overfull) == (3, {"redux"})


def test_a_file_that_cannot_be_recorded_sinks_only_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [rig.write(visit(fiber), fiber) for fiber in range(1, 8)]
    bad, record = paths[3].name, ingest.record

    def poisoned(batch: Sequence[Any], *arguments: Any) -> Any:
        if any(each.file.path == bad for each in batch):
            raise ZeroDivisionError("an error that nobody foresaw")
        return record(batch, *arguments)

    monkeypatch.setattr(ingest, "record", poisoned)
    for path in paths:
        rig.offer(path)
    recorded = []
    with caplog.at_level(logging.ERROR, "daemon"):
        for _ in range(20):
            try:
                recorded += rig.turn(after=6)
            except ZeroDivisionError:
                rig.intake.failed()
    assert sorted(name for name, _ in recorded) == sorted(path.name for path in paths if path.name != bad)
    assert [str(each.msg).split()[0] for each in caplog.records] == ["not_recorded"]
    assert rig.intake.waiting == 0


def test_stamps_that_no_column_holds_stop_nobody(rig: Rig) -> None:
    future = rig.write(visit(1), 1)
    os.utime(future, ns=(0, 12_000_000_000 * 10**9))
    good = rig.write(visit(2), 2)
    rig.offer(future)
    rig.offer(good)
    recorded = [each for after in (6, 6, 6) for each in rig.turn(after)]
    assert sorted(recorded) == sorted([(future.name, "ingested"), (good.name, "ingested")])
    rig.offer(future)
    rig.turn(after=6)
    assert len(ingestions(future)) == 1, "it is known as it is"
