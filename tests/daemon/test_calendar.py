"""The calendar of several services on one database: one of them does what falls due, once for each time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import peewee
import pytest

from astra.clock import SYSTEM
from astra.config import Schedule
from astra.database.astradb import Task
from astra.database.connection import changed, close_database, open_database
from astra.database.migrate import migrate
from astra.errors import DatabaseUnavailable
from daemon.calendar import Calendar, Duty
from tests.support.components import COMPONENTS
from tests.support.postgres import PrivateServer
from tests.support.processes import until

NIGHTLY = Schedule(name="nightly", cron="0 12 * * *", task=f"{COMPONENTS}.Traced", parameters={"note": "x"})
NOON = datetime(2025, 11, 26, 12, tzinfo=UTC)


def calendar(*duties: Duty, entries: tuple[Schedule, ...] = (NIGHTLY,)) -> Calendar:
    return Calendar(entries, duties, SYSTEM, lambda: None)


def end_all() -> None:
    """Have all tasks completed, so that none stands in the way of another of the same work."""
    changed("UPDATE task SET state = 'completed'")


def test_five_services_enqueue_an_entry_once_for_each_of_its_times(
    database: peewee.Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "daemon")
    services = [calendar() for _ in range(5)]
    for day in range(2):
        for each in services:
            each._fall_due(NIGHTLY, NOON + timedelta(days=day))
        for each in services:
            each.enqueue_due()
            end_all()
    assert Task.select().count() == 2
    assert [str(record.msg) for record in caplog.records] == ["scheduled schedule=nightly tasks=1"] * 2
    services[0]._fall_due(NIGHTLY, NOON)
    services[0].enqueue_due()
    assert Task.select().count() == 2, "by a service that comes too late, or whose clock was set back"
    assert str(caplog.records[-1].msg).startswith("turn_skipped schedule=nightly due=")
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_clock_that_was_once_ahead_silences_no_entry(database: peewee.Database) -> None:
    service, now = calendar(), SYSTEM.now()
    for due in (now + timedelta(days=3650), now - timedelta(minutes=2), now - timedelta(minutes=1)):
        service._fall_due(NIGHTLY, due)
        service.enqueue_due()
        end_all()
    assert Task.select().count() == 3


def test_a_clock_that_is_somewhat_ahead_takes_a_turn_for_all(database: peewee.Database) -> None:
    due = SYSTEM.now() + timedelta(minutes=30)  # the others come to it in half an hour
    for _ in range(2):
        service = calendar()
        service._fall_due(NIGHTLY, due)
        service.enqueue_due()
        end_all()
    assert Task.select().count() == 1


def test_what_only_shares_its_name_has_a_turn_of_its_own(database: peewee.Database) -> None:
    other = Schedule(name="nightly", cron="0 12 * * *", task=f"{COMPONENTS}.Traced", parameters={"note": "y"})
    for each in (NIGHTLY, other):
        service = calendar()
        service._fall_due(each, NOON)
        service.enqueue_due()
    assert Task.select().count() == 2


def test_a_duty_is_done_by_each_and_whoever_begins_it_first_takes_the_turn(database: peewee.Database) -> None:
    begun: list[Callable[[], bool]] = []
    for _ in range(2):
        duty = Duty("relink", "0 0 * * *", begun.append)
        service = calendar(duty)
        service._fall_due(duty, NOON)
        service.enqueue_due()
    assert changed("DELETE FROM calendar_turn") == 0, "what is asked for is not begun"
    first, second = begun
    assert (second(), first()) == (True, False)


@pytest.fixture
def away(own_server: PrivateServer) -> Iterator[ExitStack]:
    """A database whose server is stopped; leaving it starts that again."""
    open_database(own_server.url(own_server.create()))
    migrate()
    own_server.stop()
    with ExitStack() as stack:
        stack.callback(close_database)
        stack.callback(own_server.start)
        yield stack


def test_what_falls_due_while_the_database_is_away_is_done_when_it_is_back(
    away: ExitStack, own_server: PrivateServer
) -> None:
    service = calendar()
    service._fall_due(NIGHTLY, NOON)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            service.enqueue_due()
    away.pop_all()
    own_server.start()
    service.enqueue_due()
    assert Task.select().count() == 1
    close_database()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_entry_falls_due_at_its_nominal_time(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.date import DateTrigger

    past = datetime(2026, 1, 1, 12, tzinfo=UTC)  # as after a machine that slept
    monkeypatch.setattr(CronTrigger, "from_crontab", lambda cron, timezone: DateTrigger(past))
    service = calendar()
    with service.running():
        until(lambda: not service._due.empty())
    assert service._due.get_nowait() == (NIGHTLY, past)
