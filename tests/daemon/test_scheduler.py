"""Turns of the scheduler on real databases, with an executor whose bundles end when the test says so."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peewee
import psycopg2
import pytest

from astra import backlog, provenance, queue
from astra.config import Settings
from astra.database.astradb import Bundle, TaskBundle
from astra.errors import DatabaseUnavailable
from astra.states import TaskOutcome
from astra.work import ByHand, Claimed, Ended, Finish, NewTask, OpenBundle, Totals
from daemon import scheduler
from daemon.executors import Ending
from daemon.scheduler import Scheduler
from tests.support.clock import FakeClock
from tests.support.records import bundles
from tests.support.site import Site

CODE = provenance.Code("1", "1", None, None, None)
NOTHING = Totals(((None, None),) * 3)


class Hands:
    """An executor that holds what it is given; the test starts and ends it."""

    name = "hands"

    def __init__(self, slots: int = 2) -> None:
        self.places = slots
        self.held: dict[int, Claimed] = {}
        self.endings: list[Ending] = []
        self.started = 0

    def start(self) -> None:
        self.started += 1

    def free(self) -> int:
        return self.places - len(self.held)

    def slots(self) -> int:
        return self.places

    def submit(self, claimed: Claimed, now: float) -> None:
        self.held[claimed.bundle] = claimed

    def turn(self, now: float) -> list[Ending]:
        ended, self.endings = self.endings, []
        for each in ended:
            self.held.pop(each.bundle, None)
        return ended

    def is_mine(self, found: OpenBundle) -> bool:
        return found.bundle in self.held

    def stop(self) -> list[int]:
        held, self.held = list(self.held), {}
        return held


class Rig:
    """A scheduler, its executor, and a clock."""

    def __init__(self, settings: Settings, clock: FakeClock) -> None:
        self.clock, self.hands = clock, Hands()
        self.scheduler = Scheduler(settings, self.hands, clock)
        self.settings = settings

    def enqueue(self, count: int, key: str = "a.B {}", priority: int = 100) -> None:
        tasks = [NewTask("a.B", "1", "{}", key, priority=priority) for _ in range(count)]
        queue.enqueue(tasks, self.clock.now())

    def tick(self) -> scheduler.TickReport:
        return self.scheduler.tick(self.clock.monotonic())

    def run(self, bundle: int, lease: float = 60.0, owner: provenance.Owner | None = None) -> str:
        """Turn a bundle running, as its process does, and return the token."""
        claimed, environment = self.hands.held[bundle], provenance.environment_id()
        until = self.clock.now() + timedelta(seconds=lease)
        return queue.start(claimed, owner or provenance.owner(), CODE, environment, until, self.clock.now())

    def finish(self, bundle: int, token: str) -> None:
        """End a bundle with all its tasks, as its process does."""
        members = TaskBundle.select().where(TaskBundle.bundle == bundle)
        ended = [Ended(row.position, row.task_id, TaskOutcome.COMPLETED, 0.0, 0.0, 0.0) for row in members]
        queue.finish(Finish(bundle, token, ended, (), NOTHING), self.clock.now())


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    scheduler = {"tick": 1, "max_bundle_size": 10, "retries": 1, "backoff": 10}
    return Site(tmp_path, database_url, sections={"scheduler": scheduler}).settings()


@pytest.fixture
def rig(settings: Settings, database: peewee.Database, clock: FakeClock) -> Rig:
    return Rig(settings, clock)


def dead(pid: int = 2**22 - 3) -> provenance.Owner:
    """Return the identity of a process that is gone."""
    assert not Path(f"/proc/{pid}").exists()
    return replace(provenance.owner(), pid=pid, start=1)


def states() -> Counter[str]:
    return Counter(row[0] for row in peewee_rows("SELECT state FROM task"))


def peewee_rows(sql: str) -> list[tuple[str]]:
    from astra.database.connection import run

    return [tuple(row) for row in run(sql)]


def test_pending_tasks_are_shared_out_and_some_kept_for_whoever_is_free_first(rig: Rig) -> None:
    rig.enqueue(6)
    report = rig.tick()
    assert [rig.hands.held[each].size for each in report.submitted] == [3, 2]
    assert states() == Counter(running=5, pending=1)
    assert rig.scheduler.running == 2
    assert report.busy


def test_a_bundle_is_never_larger_than_the_settings_allow(rig: Rig) -> None:
    rig.enqueue(50)
    assert [rig.hands.held[each].size for each in rig.tick().submitted] == [10, 10]
    assert states() == Counter(running=20, pending=30)


def test_different_bundle_keys_never_run_together_and_take_turns(rig: Rig) -> None:
    rig.hands.places = 1
    for key in ("a.B {1}", "a.B {2}"):
        rig.enqueue(25, key)
    served = []
    for _ in range(4):
        [bundle] = rig.tick().submitted
        served.append(Bundle.get_by_id(bundle).bundle_key)
        rig.finish(bundle, rig.run(bundle))
        rig.hands.endings.append(Ending(bundle, None))
    assert served == ["a.B {1}", "a.B {2}"] * 2


def test_what_is_more_urgent_goes_first(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(1, "a.B {late}", priority=200)
    rig.enqueue(1, "a.B {soon}", priority=10)
    [bundle] = rig.tick().submitted
    assert Bundle.get_by_id(bundle).bundle_key == "a.B {soon}"


def test_nothing_is_claimed_while_no_place_is_free_or_the_service_drains(rig: Rig) -> None:
    rig.enqueue(40)
    rig.tick()
    assert rig.tick().submitted == []
    for bundle in list(rig.hands.held):
        rig.finish(bundle, rig.run(bundle))
        rig.hands.endings.append(Ending(bundle, None))
    rig.scheduler.draining = True
    report = rig.tick()
    assert (len(report.ended), report.submitted, rig.scheduler.running) == (2, [], 0)
    assert states() == Counter(completed=20, pending=20)


def test_it_is_idle_only_when_nothing_runs_and_nothing_is_pending(rig: Rig) -> None:
    assert not rig.scheduler.idle, "it has not looked yet"
    rig.tick()
    assert rig.scheduler.idle
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    assert not rig.scheduler.idle
    rig.finish(bundle, rig.run(bundle))
    rig.hands.endings.append(Ending(bundle, None))
    rig.tick()
    assert rig.scheduler.idle


def test_a_bundle_whose_process_died_is_tried_again_after_a_while_and_then_fails(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(1)
    for wait in (10, None):
        [bundle] = rig.tick().submitted
        rig.run(bundle)
        rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", died=True))
        rig.tick()
        assert Bundle.get_by_id(bundle).state == "expired"
        if wait is not None:
            assert (states(), rig.tick().submitted) == (Counter(pending=1), [])
            rig.clock.advance(wait)
    assert states() == Counter(failed=1)
    assert {row.error_message for row in TaskBundle.select()} == {"its process was ended by signal 9"}


def test_a_bundle_that_ended_before_its_process_died_stands(rig: Rig) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.finish(bundle, rig.run(bundle))
    rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", died=True))
    rig.tick()
    assert (states(), bundles()) == (Counter(completed=1), Counter(ended=1))


def test_a_bundle_whose_process_dies_on_the_way_uses_up_its_tries_too(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(1)
    for _ in range(2):
        [bundle] = rig.tick().submitted
        rig.hands.endings.append(Ending(bundle, "its process ended with status 7", died=True))
        rig.tick()
        assert Bundle.get_by_id(bundle).state == "expired"
        rig.clock.advance(10)
    assert states() == Counter(failed=1)


def test_a_bundle_that_could_not_be_started_is_released_and_counts_as_no_try(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(1)
    for _ in range(3):
        [bundle] = rig.tick().submitted
        rig.hands.endings.append(Ending(bundle, "not recorded: the database cannot be used now"))
        rig.scheduler.draining = True
        rig.tick()
        rig.scheduler.draining = False
        assert Bundle.get_by_id(bundle).state == "released"
    assert states() == Counter(pending=1)


@pytest.mark.parametrize("lapsed", [True, False])
def test_what_an_earlier_service_left_running_is_freed(rig: Rig, settings: Settings, lapsed: bool) -> None:
    rig.enqueue(2)
    [bundle, _] = rig.tick().submitted
    rig.run(bundle, lease=60, owner=None if lapsed else dead())
    if lapsed:
        rig.clock.advance(61)
    successor = Rig(settings, rig.clock)
    assert bundle in successor.tick().recovered
    assert Bundle.get_by_id(bundle).error == ("its lease ran out" if lapsed else "its process is gone")


def test_a_bundle_that_lives_elsewhere_is_left_alone(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle)
    assert Rig(settings, rig.clock).tick().recovered == []
    assert Bundle.get_by_id(bundle).state == "running"


def test_what_was_claimed_and_never_handed_over_is_given_back(rig: Rig) -> None:
    rig.enqueue(1)
    picked = backlog.pick()
    assert picked is not None
    queue.claim(picked[1], 10, provenance.owner(), "hands", rig.clock.now())
    report = rig.tick()
    assert len(report.recovered) == 1
    assert len(report.submitted) == 1


def test_the_tasks_of_a_notebook_that_is_gone_fail_and_are_never_run_here(rig: Rig) -> None:
    new = NewTask("a.B", "1", "{}", "a.B {}")
    request = ByHand(new.name, new.bundle_key, 1, (), [[new]], dead(), CODE, provenance.environment_id())
    queue.open_by_hand(request, rig.clock.now())
    report = rig.tick()
    assert (len(report.recovered), report.submitted, states()) == (1, [], Counter(failed=1))
    assert TaskBundle.get().error_message == "process gone"


def test_the_dead_are_looked_for_again_and_again(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle, lease=5)
    successor = Rig(settings, rig.clock)
    assert successor.tick().recovered == []
    rig.clock.advance(6)
    assert successor.tick().recovered == [], "it looked a moment ago"
    rig.clock.advance(10)
    assert successor.tick().recovered == [bundle]


def test_stopping_gives_back_what_was_running_and_what_had_ended_badly(rig: Rig) -> None:
    rig.enqueue(4)
    first, second = rig.tick().submitted
    rig.run(first)
    assert rig.scheduler.stop() == 2
    assert (states(), bundles()) == (Counter(pending=4), Counter(released=2))
    assert rig.scheduler.stop() == 0
    assert second not in rig.hands.held


def test_an_ending_is_kept_until_the_database_has_heard_of_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.enqueue(2)
    submitted = rig.tick().submitted
    for bundle in submitted:
        rig.run(bundle)
        rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", died=True))

    with monkeypatch.context() as patch:
        patch.setattr(backlog, "open_bundles", away)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                rig.tick()
    assert rig.scheduler.running == 2
    assert rig.tick().ended == submitted
    assert (rig.scheduler.running, bundles()) == (0, Counter(expired=2))


def away(*_: object) -> list[OpenBundle]:
    raise DatabaseUnavailable("the database cannot be used now")


def test_a_stop_while_the_database_is_away_ends_all_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    monkeypatch.setattr(backlog, "open_bundles", away)
    assert rig.scheduler.stop() == 1
    assert rig.hands.held == {}
    monkeypatch.undo()
    assert Bundle.get_by_id(bundle).state == "submitted", "the next start frees it: its owner is gone by then"
    assert os.getpid() == Bundle.get_by_id(bundle).owner_pid


def test_the_share_of_a_bundle_is_counted_no_further_than_needed(rig: Rig) -> None:
    for waiting, places in ((1, 2), (5, 2), (7, 3), (19, 2), (100, 3)):
        key = f"a.B {{{waiting}}}"
        rig.hands.places = places
        rig.enqueue(waiting, key)
        limit: Callable[[str], int] = rig.scheduler._bundle_limit
        assert limit(key) == min(10, math.ceil(waiting / places))


def test_of_a_bundle_whose_process_died_the_task_in_hand_alone_is_blamed(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(3)
    for _ in range(2):
        [bundle] = rig.tick().submitted
        rig.run(bundle)
        members = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
        positions = {row.task_id: row.position for row in members.clone()}
        bad = max(positions)
        rig.hands.endings.append(Ending(bundle, "its process was ended by signal 11", True, positions[bad]))
        rig.scheduler.draining = True
        rig.tick()
        rig.scheduler.draining = False
        outcomes = {row.task_id: str(row.outcome) for row in members}
        assert outcomes == {task: "expired" if task == bad else "released" for task in positions}
        rig.clock.advance(10)
    assert states() == Counter(pending=2, failed=1), "its neighbours had no part in it"


def test_a_bundle_that_nobody_will_start_is_given_back_in_the_end(rig: Rig) -> None:
    rig.enqueue(2)
    elsewhere = replace(provenance.owner(), host="another machine", boot="another boot")
    claimed = queue.claim("a.B {}", 10, elsewhere, "hands", rig.clock.now())
    assert claimed is not None
    rig.hands.places = 0
    rig.clock.advance(200)
    rig.tick()
    assert Bundle.get_by_id(claimed.bundle).state == "submitted", "it may yet be started"
    rig.clock.advance(200)
    rig.tick()
    assert Bundle.get_by_id(claimed.bundle).state == "released"
    assert states() == Counter(pending=2)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_task_that_somebody_has_locked_holds_up_no_turn(rig: Rig, database_url: str) -> None:
    rig.enqueue(1)
    other = psycopg2.connect(database_url)
    try:
        other.cursor().execute("SELECT id FROM task FOR UPDATE")
        assert rig.tick().submitted == []
    finally:
        other.close()
    assert len(rig.tick().submitted) == 1


def test_the_log_says_how_the_tasks_of_a_bundle_ended_and_which_failed(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.hands.places = 1
    rig.enqueue(2)
    [bundle] = rig.tick().submitted
    token = rig.run(bundle)
    first, second = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
    times = (0.0, 0.0, 0.0)
    ended = [
        Ended(0, first.task_id, TaskOutcome.COMPLETED, *times),
        Ended(1, second.task_id, TaskOutcome.FAILED, *times, "ValueError", "too low", "Traceback"),
    ]
    queue.finish(Finish(bundle, token, ended, (), NOTHING), rig.clock.now())
    rig.hands.endings.append(Ending(bundle, None))
    with caplog.at_level(logging.INFO, "daemon"):
        rig.tick()
    said = [(record.levelname, str(record.msg)) for record in caplog.records]
    assert said == [
        ("WARNING", f"ended bundle={bundle} seconds=0 completed=1 failed=1"),
        ("WARNING", f'failed task={second.task_id} bundle={bundle} error="ValueError: too low"'),
    ]
