"""Turns of the scheduler on real databases, with an executor whose bundles end when the test says so."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest

from astra import backlog, provenance, queue
from astra.config import Own, Settings
from astra.database.astradb import Bundle, Hold, Task, TaskBundle
from astra.database.connection import database as opened
from astra.database.connection import execute
from astra.errors import DatabaseUnavailable
from astra.queue import awaiting
from astra.states import BundleState, ErrorKind, HoldKind, TaskOutcome, TaskState
from astra.work import ByHand, Claimed, Ended, Finish, Load, NewTask, OpenBundle, Pick, Retry, Totals
from daemon import scheduler
from daemon.executors import Ending, Span
from daemon.executors.local import SPAN
from daemon.scheduler import Scheduler
from tests.support.clock import FakeClock
from tests.support.records import bundles
from tests.support.site import Site

CODE = provenance.Code("1", "1", None, None, None)
NOTHING = Totals(((None, None),) * 3)
QUICK = Totals(((0.0, 0.0), (0.001, 0.0), (0.0, 0.0)))
SLOW = Totals(((0.0, 0.0), (10.0, 0.0), (0.0, 0.0)))


class Hands:
    """An executor that holds what it is given; the test starts and ends it."""

    name = "hands"
    outlives = False

    def __init__(self, slots: int = 2) -> None:
        self.places = slots
        self.held: dict[int, Claimed] = {}
        self.loads: list[Load] = []
        self.endings: list[Ending] = []
        self.told: list[str] = []
        self.started = 0
        self.unwelcome: set[str] = set()
        self.waits = False

    def start(self) -> None:
        self.started += 1

    def free(self) -> int:
        return self.places - sum(any(each.bundle in self.held for each in load.bundles) for load in self.loads)

    def passed_over(self, now: float) -> set[str]:
        return self.unwelcome

    def slots(self) -> int:
        return self.places

    def submit(self, load: Load, now: float) -> None:
        self.loads.append(load)
        self.held |= {each.bundle: each for each in load.bundles}

    def span(self, own: Own) -> Span:
        return SPAN

    def adopt(self, found: Sequence[OpenBundle], now: float) -> list[int]:
        waiting = [each for each in found if each.state is BundleState.SUBMITTED and each.external_name]
        mine = [each for each in waiting if self.outlives and each.bundle not in self.held]
        self.held |= {each.bundle: Claimed(each.bundle, each.size, each.token) for each in mine}
        return [each.bundle for each in mine]

    def state(self) -> dict[str, Any]:
        return {}

    def turn(self, now: float) -> list[Ending]:
        ended, self.endings = self.endings, []
        for each in ended:
            self.held.pop(each.bundle, None)
        return ended

    def is_mine(self, found: OpenBundle) -> bool:
        return found.bundle in self.held

    def unrecorded(self) -> int:
        return len(self.held) if self.waits else 0

    def drain(self) -> None:
        self.told.append("drain")

    def drain_bundle(self, bundle: int) -> None:
        self.told.append(f"drain {bundle}")

    def drop(self, bundles: Collection[int]) -> None:
        self.told.append(f"drop {sorted(bundles)}")
        for each in bundles:
            self.held.pop(each, None)

    def stop(self) -> list[int]:
        if self.outlives:
            return []
        held, self.held = list(self.held), {}
        return held


class OutlivingHands(Hands):
    """An executor whose bundles go on without the service."""

    outlives = True


class Rig:
    """A scheduler, its executor, and a clock."""

    def __init__(self, settings: Settings, clock: FakeClock, hands: Hands | None = None) -> None:
        self.clock, self.hands = clock, hands or Hands()
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
        return queue.start([claimed], owner or provenance.owner(), CODE, environment, until, self.clock.now())[0]

    def finish(self, bundle: int, token: str, totals: Totals = SLOW) -> None:
        """End a bundle with all its tasks, as its process does."""
        members = TaskBundle.select().where(TaskBundle.bundle == bundle)
        ended = [Ended(row.position, row.task_id, TaskOutcome.COMPLETED, 0.0, 0.0, 0.0) for row in members]
        queue.finish([Finish(bundle, token, ended, (), totals)], self.clock.now())


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
        rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", ErrorKind.CRASH))
        rig.tick()
        assert Bundle.get_by_id(bundle).state == "expired"
        if wait is not None:
            assert (states(), rig.tick().submitted) == (Counter(pending=1), [])
            rig.clock.advance(1.25 * wait)
    assert states() == Counter(failed=1)
    assert {row.error_message for row in TaskBundle.select()} == {"its process was ended by signal 9"}


def test_a_bundle_that_ended_before_its_process_died_stands(rig: Rig) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.finish(bundle, rig.run(bundle))
    rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", ErrorKind.CRASH))
    rig.tick()
    assert (states(), bundles()) == (Counter(completed=1), Counter(ended=1))


def test_a_bundle_whose_process_dies_on_the_way_uses_up_its_tries_too(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(1)
    for _ in range(2):
        [bundle] = rig.tick().submitted
        rig.hands.endings.append(Ending(bundle, "its process ended with status 7", ErrorKind.CRASH))
        rig.tick()
        assert Bundle.get_by_id(bundle).state == "expired"
        rig.clock.advance(13)
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


def test_while_processes_cannot_use_the_database_less_and_less_is_handed_over(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "daemon")
    rig.hands.places = 1
    rig.enqueue(3)
    handed = []
    for turn in range(100):  # as a service does that is woken by each ending
        for bundle in rig.tick().submitted:
            handed.append(turn)
            rig.hands.endings.append(Ending(bundle, "too many clients", away=True))
        rig.clock.advance(0.1)
    assert len(handed) == 5
    assert handed[-1] - handed[-2] > 3 * (handed[2] - handed[1])
    assert [str(each.msg) for each in caplog.records if "again_in" in str(each.msg)][1].count("again_in=1 ") == 1
    assert not rig.scheduler.idle, "a run that ends by itself waits for them"
    rig.clock.advance(60)
    [bundle] = rig.tick().submitted
    rig.finish(bundle, rig.run(bundle))
    rig.hands.endings.append(Ending(bundle, None))
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.hands.endings.append(Ending(bundle, "too many clients", away=True))
    rig.tick()
    rig.clock.advance(0.6)
    assert rig.tick().submitted, "what went well ended the pause"


def elsewhere() -> provenance.Owner:
    """Return the identity of a process of which this machine can tell nothing."""
    return replace(provenance.owner(), host="another machine", boot="another boot")


def wait(rig: Rig, seconds: int) -> list[int]:
    """Let time pass, a turn every five seconds; return the bundles that were taken from others meanwhile."""
    recovered = []
    for _ in range(0, seconds, 5):
        rig.clock.advance(5)
        recovered += rig.tick().recovered
    return recovered


def test_what_an_earlier_service_left_running_is_freed_at_once(rig: Rig, settings: Settings) -> None:
    rig.enqueue(2)
    [bundle, _] = rig.tick().submitted
    rig.run(bundle, owner=dead())
    assert bundle in Rig(settings, rig.clock).tick().recovered
    assert Bundle.get_by_id(bundle).error == "its process is gone"


def test_a_lease_that_runs_out_tells_of_a_lost_machine(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle, lease=70, owner=elsewhere())
    successor = Rig(settings, rig.clock)
    assert wait(successor, 65) == []
    assert wait(successor, 30) == [bundle]
    assert Bundle.get_by_id(bundle).error == "its lease ran out"


def test_a_process_that_lives_here_keeps_its_bundle_whatever_its_lease_says(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle, lease=5)
    assert wait(Rig(settings, rig.clock), 200) == []


def test_after_the_database_was_away_the_others_have_a_lease_s_time_to_renew(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle, lease=100, owner=elsewhere())
    successor = Rig(settings, rig.clock)
    wait(successor, 80)
    rig.clock.advance(100)
    assert wait(successor, 55) == [], "it may just be renewing"
    assert wait(successor, 30) == [bundle]


def test_a_bundle_that_lives_elsewhere_is_left_alone(rig: Rig, settings: Settings) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    rig.run(bundle)
    assert Rig(settings, rig.clock).tick().recovered == []
    assert Bundle.get_by_id(bundle).state == "running"


def test_what_was_claimed_and_never_handed_over_is_given_back(rig: Rig) -> None:
    rig.enqueue(1)
    queue.claim([Pick(None, 100, "a.B {}", 10)], provenance.owner(), "hands", rig.clock.now())
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
    rig.run(bundle)
    successor = Rig(settings, rig.clock)
    assert successor.tick().recovered == []
    with opened.atomic():
        execute("UPDATE bundle SET owner_pid = ?, owner_start = 1", (dead().pid,))
    rig.clock.advance(4)
    assert successor.tick().recovered == [], "it looked a moment ago"
    rig.clock.advance(2)
    assert successor.tick().recovered == [bundle]


def test_all_that_wait_for_what_is_done_are_let_go_long_before_the_next_look_at_the_dead(
    settings: Settings, database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "CHUNK", 2)
    rig = Rig(settings, clock, Hands(slots=0))
    queue.enqueue(
        [NewTask("a.B", "1", f"{n}", "a.B {}", identity=f"{n}", after="first") for n in range(9)], clock.now()
    )
    queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}", identity="first")], clock.now())
    execute("UPDATE task SET state = 'completed' WHERE identity = 'first'")  # by one who did not see that they wait
    for turn in range(5):
        assert Task.select().where(Task.not_before.is_null(False)).count() == max(0, 9 - 2 * turn)
        rig.tick()
        clock.advance(0.5)
    assert not Task.select().where(Task.not_before.is_null(False)).exists()


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
        rig.hands.endings.append(Ending(bundle, "its process was ended by signal 9", ErrorKind.CRASH))

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


def test_a_stop_while_the_database_is_away_ends_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    monkeypatch.setattr(backlog, "open_bundles", away)
    with caplog.at_level(logging.INFO, "daemon"):
        assert [rig.scheduler.stop(), rig.scheduler.stop()] == [0, 0], "none was released"
    assert rig.hands.held == {}
    said = [str(each.msg).partition(" reason")[0] for each in caplog.records]
    assert said == ["not_released bundles=1"], "once, and nothing of no bundles"
    monkeypatch.undo()
    assert Bundle.get_by_id(bundle).state == "submitted", "the next start frees it: its owner is gone by then"
    assert os.getpid() == Bundle.get_by_id(bundle).owner_pid


def test_a_stop_waits_for_what_runs_and_not_for_what_waits_for_the_database_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "daemon")
    rig.enqueue(4)
    first, _ = rig.tick().submitted

    def turn(seconds: float) -> float:
        rig.clock.advance(seconds)
        with suppress(DatabaseUnavailable):
            rig.tick()
        return rig.scheduler.unrecorded_for(rig.clock.monotonic())

    rig.hands.waits = True
    assert turn(5) == 0.0, "the database is here again"
    monkeypatch.setattr(backlog, "open_bundles", away)
    monkeypatch.setattr(queue, "make_due", away)
    rig.hands.waits = False
    rig.hands.endings.append(Ending(first, "its process was ended by signal 9", ErrorKind.CRASH))
    assert [turn(5), turn(5)] == [0.0, 0.0], "the second bundle runs"
    rig.hands.waits = True
    assert [turn(5), turn(5), turn(5)] == [0.0, 5.0, 10.0]
    assert [str(each.msg) for each in caplog.records] == ["unrecorded bundles=2 waits=10"]
    monkeypatch.undo()
    assert turn(5) == 0.0


def test_of_a_bundle_whose_process_died_the_task_in_hand_alone_is_blamed(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(3)
    [bundle] = rig.tick().submitted
    rig.run(bundle)
    told = (ErrorKind.CRASH, 1, "Current thread", 1 << 30)
    rig.hands.endings.append(Ending(bundle, "its process was ended by signal 11", *told))
    [others] = rig.tick().submitted
    members = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
    assert [str(row.outcome) for row in members] == ["released", "expired", "released"]
    assert (members[1].traceback, members[1].error_kind) == ("Current thread", ErrorKind.CRASH)
    assert Bundle.get_by_id(bundle).peak_memory == 1 << 30
    assert rig.hands.held[others].size == 2
    rig.finish(others, rig.run(others))
    rig.hands.endings.append(Ending(others, None))
    rig.clock.advance(13)
    [alone] = rig.tick().submitted
    rig.run(alone)
    rig.hands.endings.append(Ending(alone, "its process was ended by signal 11", ErrorKind.CRASH))
    rig.tick()
    assert states() == Counter(completed=2, failed=1), "its neighbours had no part in it"


def test_a_bundle_that_nobody_will_start_is_given_back_in_the_end(rig: Rig) -> None:
    rig.enqueue(2)
    [claimed] = queue.claim([Pick(None, 100, "a.B {}", 10)], elsewhere(), "hands", rig.clock.now())
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
        other.rollback()
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
    queue.finish([Finish(bundle, token, ended, (), NOTHING)], rig.clock.now())
    rig.hands.endings.append(Ending(bundle, None))
    with caplog.at_level(logging.INFO, "daemon"):
        rig.tick()
    said = [(record.levelname, str(record.msg)) for record in caplog.records]
    assert said == [
        ("WARNING", f"ended bundle={bundle} seconds=0 completed=1 failed=1"),
        ("WARNING", f'failed task={second.task_id} bundle={bundle} error="ValueError: too low"'),
    ]


# ------------------------------------------------------------------------------------- holds, the breaker, many at once


def fail(rig: Rig, bundle: int, kind: ErrorKind = ErrorKind.BUG) -> None:
    """End a bundle all of whose tasks raised."""
    token = rig.run(bundle)
    members = TaskBundle.select().where(TaskBundle.bundle == bundle)
    told = ("ValueError", "bad", None, kind)
    ended = [Ended(row.position, row.task_id, TaskOutcome.FAILED, 0.0, 0.5, 0.0, *told) for row in members]
    queue.finish([Finish(bundle, token, ended, (), NOTHING)], rig.clock.now())
    rig.hands.endings.append(Ending(bundle, None))


def succeed(rig: Rig, bundle: int, totals: Totals = SLOW) -> None:
    rig.finish(bundle, rig.run(bundle), totals)
    rig.hands.endings.append(Ending(bundle, None))


def test_what_is_held_back_is_not_claimed_until_it_is_let_go_on(rig: Rig) -> None:
    rig.enqueue(2)
    rig.enqueue(2, "other.Thing {}")
    queue.hold(HoldKind.COMPONENT, "a.B", "me", "the disk is full", rig.clock.now())
    keys = [rig.hands.held[each].key for each in rig.tick().submitted]
    assert set(keys) == {"other.Thing {}"}
    assert not rig.scheduler.idle or rig.scheduler.running
    queue.lift(HoldKind.COMPONENT, "a.B", rig.clock.now())
    rig.hands.places = 9
    assert {rig.hands.held[each].key for each in rig.tick().submitted} == {"a.B {}"}


def test_a_component_that_fails_too_often_is_paused_once_and_tried_with_one_bundle_later(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.hands.places = 1
    rig.enqueue(80)
    caplog.set_level(logging.INFO, "daemon")
    while submitted := rig.tick().submitted:
        fail(rig, submitted[0])
    assert states() == Counter(failed=20, pending=60), "so many failures there must be at least"
    [hold] = Hold.select()
    assert (hold.target, hold.who, hold.lifted) == ("a.B", "the circuit breaker", None)
    assert hold.reason == "20 of its latest 20 tasks failed"
    rig.clock.advance(299)
    assert rig.tick().submitted == []
    rig.clock.advance(2)
    [bundle] = rig.tick().submitted
    fail(rig, bundle)
    assert rig.tick().submitted == []
    rig.clock.advance(590)
    assert rig.tick().submitted == [], "the pause is twice as long now"
    rig.clock.advance(20)
    [bundle] = rig.tick().submitted
    succeed(rig, bundle)
    assert len(rig.tick().submitted) == 1, "it goes on"
    assert Hold.get().lifted is not None
    said = [str(record.msg).split()[0] for record in caplog.records]
    assert [said.count(f"component_{word}") for word in ("paused", "tried", "resumed")] == [1, 2, 1]


def test_after_it_was_let_go_on_older_failures_do_not_pause_a_component_again(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(200)
    while submitted := rig.tick().submitted:
        fail(rig, submitted[0])
    queue.lift(HoldKind.COMPONENT, "a.B", rig.clock.now())
    rig.clock.advance(1)
    [bundle] = rig.tick().submitted
    fail(rig, bundle)
    assert len(rig.tick().submitted) == 1


def test_a_component_most_of_whose_tasks_complete_goes_on(rig: Rig) -> None:
    rig.hands.places = 1
    rig.enqueue(200)
    for turn in range(12):
        [bundle] = rig.tick().submitted
        (fail if turn % 2 else succeed)(rig, bundle)
    assert not Hold.select().exists()


def test_short_bundles_of_a_known_component_are_handed_over_together(rig: Rig) -> None:
    rig.hands.places = 1
    for number in range(250):
        rig.enqueue(1, f"a.B {{{number}}}")
    [first] = rig.tick().submitted
    succeed(rig, first, QUICK)
    submitted = rig.tick().submitted
    assert len(submitted) == 100
    load = rig.hands.loads[-1]
    assert [each.bundle for each in load.bundles] == submitted
    assert (load.lease, load.retry) == (60, Retry(1, 10))
    for each in submitted:
        succeed(rig, each, QUICK)
    assert len(rig.tick().submitted) == 100
    assert states() == Counter(completed=101, running=100, pending=49)


def test_what_a_person_asks_of_a_running_bundle_reaches_its_process(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "daemon")
    rig.enqueue(4)
    first, second = rig.tick().submitted
    token = rig.run(first)
    with opened.atomic():
        execute("UPDATE bundle SET asked = 'drain' WHERE id = ?", (first,))
    rig.tick()
    assert rig.hands.told == [f"drain {first}"]
    queue.release(first, token, "given back by somebody", rig.clock.now())
    rig.tick()
    assert rig.hands.told[1:] == [f"drop [{first}]"]
    assert rig.scheduler.running == 1 + len(rig.hands.held) - 1
    assert second in rig.hands.held
    queue.cancel_running(second, "cancelled by somebody", rig.clock.now())
    rig.tick()
    assert [str(each.msg) for each in caplog.records] == [
        f'taken_away bundle={first} reason="given back by somebody"',
        f'cancelled bundle={second} tasks=1 reason="cancelled by somebody"',
    ]


def test_to_wind_up_lets_no_further_task_be_begun(rig: Rig) -> None:
    rig.enqueue(4)
    rig.tick()
    rig.scheduler.wind_up()
    assert rig.hands.told == ["drain"]


def test_bundles_that_were_on_their_way_do_not_let_a_paused_component_go_on(rig: Rig) -> None:
    rig.enqueue(40, "a.B {1}")
    rig.enqueue(40, "a.B {2}")
    first, second = rig.tick().submitted
    queue.hold(HoldKind.COMPONENT, "a.B", "the circuit breaker", "bad", rig.clock.now(), rig.clock.now())
    succeed(rig, first)
    [probe] = rig.tick().submitted
    assert Hold.get().probe_bundle == probe
    succeed(rig, second)
    assert rig.tick().submitted == []
    assert Hold.get().lifted is None
    succeed(rig, probe)
    assert len(rig.tick().submitted) == 2
    assert Hold.get().lifted is not None


def test_a_component_of_short_bundles_is_judged_by_its_latest_tasks(rig: Rig) -> None:
    rig.hands.places = 1
    for number in range(60):
        rig.enqueue(1, f"a.B {{{number:02}}}")
    turns = 0
    while submitted := rig.tick().submitted:
        (fail if turns % 5 else succeed)(rig, submitted[0])
        turns += 1
    assert turns == 25, "four of five fail: it is enough to see as many failures as there must be"


def hand_over(rig: Rig, name: str = "astra-b1-x_0") -> int:
    """Have one bundle handed to a system outside, under a name; return it."""
    rig.enqueue(1)
    [bundle] = rig.tick().submitted
    assert queue.note_name([rig.hands.held[bundle]], name, provenance.owner())
    return bundle


def gone() -> provenance.Owner:
    """A process of this machine that is no more."""
    return replace(provenance.owner(), start=1)


def test_what_goes_on_without_the_service_is_neither_waited_for_nor_given_back(
    settings: Settings, database: peewee.Database, clock: FakeClock
) -> None:
    rig = Rig(settings, clock, OutlivingHands())
    bundle = hand_over(rig)
    assert (rig.scheduler.running, rig.scheduler.ending_with_service) == (1, 0)
    assert rig.scheduler.stop() == 0
    assert Bundle.get_by_id(bundle).state is BundleState.SUBMITTED


def test_the_next_service_looks_after_what_was_handed_over(
    settings: Settings, database: peewee.Database, clock: FakeClock
) -> None:
    bundle = hand_over(Rig(settings, clock, OutlivingHands()))
    Bundle.update(owner_start=gone().start).execute()
    rig = Rig(settings, clock, OutlivingHands())
    assert rig.tick().recovered == []
    assert (Bundle.get_by_id(bundle).state, rig.scheduler.running) == (BundleState.SUBMITTED, 1)
    rig.hands.endings.append(Ending(bundle, "its job was cancelled", cancelled=True))
    assert rig.tick().ended == [bundle]
    assert {task.state for task in Task.select()} == {TaskState.CANCELLED}
    assert {row.error_message for row in TaskBundle.select()} == {"its job was cancelled"}


def test_what_waits_in_another_executor_is_left_to_it(
    settings: Settings, database: peewee.Database, clock: FakeClock
) -> None:
    bundle = hand_over(Rig(settings, clock, OutlivingHands()))
    Bundle.update(owner_start=gone().start, executor="slurm").execute()
    rig = Rig(settings, clock)
    clock.advance(3600)
    assert rig.tick().recovered == []
    assert Bundle.get_by_id(bundle).state is BundleState.SUBMITTED


def test_a_job_that_lost_its_lease_is_ended_where_it_may_go_on(
    settings: Settings, database: peewee.Database, clock: FakeClock
) -> None:
    rig = Rig(settings, clock, OutlivingHands())
    bundle = hand_over(rig)
    rig.run(bundle, owner=gone())
    rig.hands.held.clear()  # the executor no longer vouches for it
    clock.advance(60)
    assert rig.tick().recovered == [bundle]
    assert rig.hands.told == [f"drop [{bundle}]"]
    assert rig.scheduler.running == 1, "what was claimed anew, and no longer what was lost"


def test_what_waits_outside_is_never_taken_for_stranded(
    settings: Settings, database: peewee.Database, clock: FakeClock
) -> None:
    bundle = hand_over(Rig(settings, clock, OutlivingHands()))
    other = provenance.owner(os.getppid())
    Bundle.update(owner_pid=other.pid, owner_start=other.start).execute()
    hands = OutlivingHands()
    rig = Rig(settings, clock, hands)
    hands.adopt = lambda found, now: []  # type: ignore[method-assign]  # it is another service's, which lives
    clock.advance(3600)
    assert rig.tick().recovered == []
    assert Bundle.get_by_id(bundle).state is BundleState.SUBMITTED


def test_a_component_that_the_executor_does_not_want_waits(rig: Rig) -> None:
    rig.enqueue(1)
    rig.hands.unwelcome = {"a.B"}
    assert rig.tick().submitted == []
    rig.hands.unwelcome = set()
    assert len(rig.tick().submitted) == 1


def test_who_waits_for_what_is_done_is_found_and_run(rig: Rig) -> None:
    queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}", identity="first")], rig.clock.now())
    [first] = rig.tick().submitted
    queue.enqueue([NewTask("a.B", "1", '{"x":1}', "a.B {}", after="first")], rig.clock.now())
    token = rig.run(first)
    missed = "UPDATE task SET not_before = ? WHERE after IS NOT NULL"
    execute(missed, ("9999-12-31 00:00:00.000000+00:00",))  # neither sees the other: held, for a moment
    rig.finish(first, token)
    execute(missed, ("9999-01-01 00:00:00.000000+00:00",))
    assert rig.tick().submitted == []
    rig.clock.advance(16)
    assert rig.tick().submitted
