"""The service in this process: its loops survive what goes wrong, tell systemd, keep the calendar, and end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database import notices
from astra.database.connection import drop_connection
from astra.errors import ConfigurationError, DatabaseUnavailable
from daemon import listener, service
from daemon.gatherer import Gatherer
from daemon.intake import Intake
from daemon.listener import Listener
from daemon.scheduler import Scheduler, TickReport
from daemon.service import Service, Until
from tests.support import fits
from tests.support.clock import FakeClock
from tests.support.components import COMPONENTS
from tests.support.processes import until
from tests.support.records import outcomes, states
from tests.support.site import Site

TRACED = f"{COMPONENTS}.Traced"
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    site = Site(tmp_path, database_url, [{"name": "trace", "filetype": "apVisit", "task": TRACED}])
    fits.write(site.tree / fits.visit_name(), fits.apvisit())
    return site


def drain(site: Site) -> int:
    """Run the service to its end, and open the database again, which it closes."""
    from astra.database.connection import open_database

    status = Service(site.settings(), SYSTEM, Until.DRAINED).run()
    open_database(site.url)
    return status


def test_it_runs_to_its_end_and_leaves_the_signals_as_they_were(site: Site) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert drain(site) == 0
    assert (outcomes(), states()) == (Counter(ingested=1), Counter(completed=1))
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


@ON_ONE
def test_how_it_went_is_asked_of_its_own_database_and_of_no_other(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("ASTRA_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path / "sas")
    fits.write(site.tree / fits.visit_name(fiber=7), b"no spectrum " * 500)
    assert drain(site) == 1
    assert not (tmp_path / "home").exists(), "the user's own database was opened"


@ON_ONE
def test_a_run_that_leaves_tasks_which_wait_for_what_failed_says_so_at_last(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.rules = [
        {"name": "bad", "filetype": "apVisit", "task": f"{COMPONENTS}.Raises", "parameters": {"note": "bad"}},
        {"name": "good", "filetype": "apVisit", "task": TRACED, "after": "bad"},
    ]
    with caplog.at_level(logging.INFO, "daemon"):
        assert drain(site) == 1
    said = [str(record.msg) for record in caplog.records]
    assert said[-1] == 'left_waiting tasks=1 reason="they come after work that is not done"'
    assert states() == Counter(failed=1, pending=1)


@ON_ONE
@pytest.mark.parametrize(("part", "method"), [(Intake, "turn"), (Scheduler, "tick")])
def test_a_turn_that_fails_is_logged_and_the_next_one_goes_on(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: type[Any],
    method: str,
) -> None:
    taken: Callable[..., Any] = getattr(part, method)
    failures = iter([RuntimeError("something nobody thought of")])

    def turn(self: Any, now: float) -> Any:
        for error in failures:
            raise error
        return taken(self, now)

    monkeypatch.setattr(part, method, turn)
    with caplog.at_level(logging.ERROR, "daemon"):
        assert drain(site) == 0
    [record] = [record for record in caplog.records if record.exc_info]
    assert "something nobody thought of" in caplog.text
    assert "tries again" in record.getMessage() or "goes on in" in record.getMessage()
    assert states() == Counter(completed=1)


@ON_ONE
def test_what_cannot_be_gathered_holds_up_no_other_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, left = Gatherer.turn, iter(range(60))

    def turn(self: Gatherer) -> bool:
        if not states()["completed"] and next(left, None) is not None:
            raise RuntimeError("something nobody thought of")
        return taken(self)

    monkeypatch.setattr(Gatherer, "turn", turn)
    assert drain(site) == 0
    assert next(left, None) is not None, "the task was done only when it went well again"


@ON_ONE
def test_an_outage_that_only_the_scheduler_meets_is_told_once_and_its_end_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken, left = (
        Scheduler.tick,
        iter(range(20)),
    )  # turns of 0.05 s; the other loop turns every 0.25 s, and asks nothing

    def tick(self: Scheduler, now: float) -> TickReport:
        if next(left, None) is not None:
            raise DatabaseUnavailable("it is away")
        return taken(self, now)

    monkeypatch.setattr(Scheduler, "tick", tick)
    with caplog.at_level(logging.INFO, "daemon"):
        assert drain(site) == 0
    said = [str(record.msg).split()[0] for record in caplog.records]
    assert [each for each in said if each.startswith("database_")] == ["database_away", "database_back"]
    assert said.count("sweep_forced") == 2, "one after the outage, and one to see that nothing is left"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What systemd hears, and a watchdog that wants to hear often."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        found: list[str] = []

        def listen() -> None:  # all the time: the kernel keeps ten messages and drops the next
            while (said := listener.recv(65536).decode()) != "the end":
                found.extend(said.splitlines())

        listening = threading.Thread(target=listen)
        listening.start()

        def heard() -> list[str]:
            if listening.is_alive():
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"the end", str(path))
                listening.join()
            return found

        yield heard
        heard()


@ON_ONE
def test_systemd_hears_that_it_is_ready_alive_and_stopping_in_this_order(
    site: Site, systemd: Callable[[], list[str]]
) -> None:
    assert drain(site) == 0
    heard = systemd()
    assert heard[:2] == ["READY=1", "STATUS=watching 1 folders"]
    assert heard.index("READY=1") < heard.index("WATCHDOG=1") < heard.index("STOPPING=1")
    assert heard.count("WATCHDOG=1") >= 3
    assert any(line.startswith("STATUS=0 bundles running") for line in heard)


@ON_ONE
def test_a_status_file_that_cannot_be_written_is_told_of_once_until_it_can(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.service._STATUS_EVERY", 0.0)
    place = site.folder / "state" / "status.json"
    place.mkdir(parents=True)  # nothing can take its place
    with caplog.at_level(logging.INFO, "daemon"):
        assert drain(site) == 0
    said = [str(record.msg).split()[0] for record in caplog.records]
    assert said.count("status_not_written") == 1
    assert not list(place.parent.glob("status.[0-9]*")), "nothing is left beside it"


@ON_ONE
def test_what_falls_due_is_enqueued_and_runs(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.schedule = [{"name": "nightly", "cron": "0 12 * * *", "task": TRACED, "parameters": {"note": "x"}}]
    settings = site.settings()
    service = Service(settings, SYSTEM, Until.DRAINED)
    service._calendar._fall_due(settings.schedule[0], SYSTEM.now())
    with caplog.at_level(logging.INFO, "daemon"):
        assert service.run() == 0
    assert "scheduled schedule=nightly tasks=1" in [str(record.msg) for record in caplog.records]


@ON_ONE
def test_a_step_of_the_wall_clock_reschedules_the_calendar(
    site: Site, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    site.schedule = [{"name": "nightly", "cron": "0 12 * * *", "task": TRACED}]
    service = Service(site.settings(), clock)
    with service._calendar.running(), caplog.at_level(logging.WARNING, "daemon"):
        asked: list[str] = []
        service._calendar._reschedule.append(lambda: asked.append("rescheduled"))
        for seconds, step in ((3600, 0), (1, 3), (1, -86400), (60, 0)):
            clock.advance(seconds)
            clock.step_wall(step)
            service._calendar.enqueue_due()
    assert asked == ["rescheduled"], "neither time that passes nor a second's correction is a step"
    assert [str(record.msg).split()[0] for record in caplog.records] == ["clock_stepped"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_folder_whose_intake_hangs_goes_to_a_service_that_stands_by(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(service, "_HUNG_SECONDS", 0.2)
    on_the_disk, taken = threading.Event(), Intake.turn

    def given_up() -> list[str]:
        return [str(each.msg) for each in caplog.records if str(each.msg).startswith("root_given_up")]

    def turn(intake: Intake, now: float) -> int:
        on_the_disk.wait(20)
        return taken(intake, now)

    def stand_by() -> None:
        try:
            until(lambda: notices.watchers(["redux"]))
            other = Listener(["redux"], 0.5, SYSTEM, lambda: None)
            with other.running():
                until(lambda: other.mine == {"redux"} and given_up())
        finally:
            drop_connection()
            on_the_disk.set()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Intake, "turn", turn)
    beside = threading.Thread(target=stand_by)
    beside.start()
    assert Service(site.settings(), SYSTEM).run() == 0
    beside.join()
    [said] = given_up()
    assert "the intake has not turned for" in said


@ON_ONE
def test_a_calendar_entry_that_cannot_be_made_stops_the_start(site: Site) -> None:
    site.schedule = [{"name": "nightly", "cron": "0 12 * * *", "task": f"{COMPONENTS}.Waits"}]
    with pytest.raises(ConfigurationError, match=r"\[\[schedule\]\] 'nightly': .*Waits cannot be made .* gate"):
        Service(site.settings(), SYSTEM, Until.DRAINED).run()


@ON_ONE
def test_a_folder_on_a_network_file_system_is_polled_without_being_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.watching.choose_mode", lambda watch: ("poll", "nfs4 does not tell of other hosts"))
    service = Service(site.settings(), SYSTEM)
    service._listener.mine = frozenset({"redux"})
    service._build(())
    assert service._watching.sweeper.roots["redux"].polled
