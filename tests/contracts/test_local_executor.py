"""What the local executor does with its processes, seen from inside: run, tell how it ended, stop."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import peewee
import pytest

from astra import backlog, queue
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.astradb import Bundle, TaskBundle
from astra.database.connection import run
from astra.states import BundleState, ErrorKind, TaskOutcome, TaskState
from astra.work import Claimed, Load, NewTask
from daemon import executors
from daemon.executors import Ending
from daemon.executors.local import LocalExecutor
from daemon.executors.output import Printed
from daemon.executors.supervisor import Supervisor
from tests.support.components import (
    BadRow,
    Exits,
    HoldsInterpreter,
    Killed,
    KilledAt,
    LeavesChild,
    LeavesTable,
    Raises,
    ReadsAndPrints,
    StartsPrograms,
    Trace,
    Traced,
    Waits,
    open_gate,
    waiting,
)
from tests.support.processes import lives, until
from tests.support.rig import Rig, settings, tasks

# what does not differ between the databases is tried on one
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@ON_ONE
def test_one_process_runs_one_bundle_after_another(rig: Rig) -> None:
    for _ in range(3):
        assert rig.run(Traced()).trouble is None
    assert len({row.pid for row in Trace.select()}) == 1


@ON_ONE
def test_what_ended_wakes_whoever_asked(rig: Rig) -> None:
    rig.submit(Traced())
    until(lambda: any(rig.turn() for _ in range(1)))
    assert rig.woken.is_set()


def test_a_task_that_raises_sinks_only_itself(rig: Rig) -> None:
    ending = rig.run(Raises(note=["good", "bad", "better"]))
    assert ending.trouble is None
    assert tasks() == [(TaskState.PENDING, None), (TaskState.FAILED, "this one is bad"), (TaskState.PENDING, None)]


@ON_ONE
@pytest.mark.parametrize(
    ("component", "trouble"),
    [(Exits, "its process ended with status 3"), (Killed, "its process was ended by signal 9")],
)
def test_a_process_that_dies_is_told_and_followed_by_another(
    rig: Rig, component: type[TaskInstance], trouble: str
) -> None:
    ending = rig.run(component())
    assert (ending.trouble, ending.kind) == (trouble, ErrorKind.CRASH)
    assert Bundle.get_by_id(ending.bundle).state is BundleState.RUNNING, "the scheduler alone takes it back"
    rig.ready_again()
    assert rig.run(Traced()).trouble is None


@ON_ONE
def test_a_bundle_for_which_the_last_idle_process_has_just_died_is_given_back_at_once(rig: Rig) -> None:
    Traced().enqueue()
    assert isinstance(rig.executor, LocalExecutor)
    [own] = [each._process for each in rig.executor._supervisors]
    assert own is not None
    assert rig.executor.free() == 1
    [claimed] = rig.claim()
    own.kill()
    rig.executor.submit(Load((claimed,), 60.0), SYSTEM.monotonic())
    ending = rig.ending(claimed.bundle)
    assert (ending.trouble, ending.kind) == ("given back: the process that was to run it has died", None)


@ON_ONE
def test_a_load_that_could_not_be_handed_over_is_nobody_s(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Printed) -> None:
        raise OSError("no locks available")

    Traced().enqueue()
    [claimed] = rig.claim()
    monkeypatch.setattr(Printed, "forget", refuse)
    with pytest.raises(OSError, match="no locks"):
        rig.executor.submit(Load((claimed,), 60.0), SYSTEM.monotonic())
    [found] = backlog.open_bundles(SYSTEM.now())
    assert not rig.executor.is_mine(found), "or nobody would ever take it back"
    assert rig.executor.free() == 1


@ON_ONE
def test_a_load_that_is_not_started_in_time_is_told_of_once_with_where_its_process_is(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.executors.stacks.START_SECONDS", 0.2)
    monkeypatch.setenv("ASTRA_TEST_PIPE", str(pipe := tmp_path / "pipe"))
    os.mkfifo(pipe)
    rig.executor.stop()
    rig.executor.start()
    assert rig.run(Traced()).trouble is None  # so that it listens
    rig.ready_again()
    name = "tests.support.slow_import.Slow"
    queue.enqueue([NewTask(name, "1", "{}", f"{name} {{}}")], SYSTEM.now())
    [bundle] = rig.hand_over(*rig.claim())
    said = until(lambda: [rig.turn(), [each for each in caplog.messages if each.startswith("not_started")]][1])
    with pipe.open("wb"):
        pass
    assert rig.ending(bundle).trouble is None
    assert all(each in said[0] for each in (f"bundle={bundle}", "listens=True", "worker.py"))
    assert [each for each in caplog.messages if each.startswith("not_started")] == said


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_process_that_does_not_come_to_rest_is_replaced(
    rig: Rig, gate: Path, database: peewee.Database, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = rig.submit(LeavesTable(gate=str(gate)))
    until(lambda: waiting(gate))
    with database.atomic():
        [(table,)] = run("SELECT CAST(CAST(oid AS regclass) AS TEXT) FROM pg_class WHERE relname = 'left_behind'")
        run(f"LOCK TABLE {table} IN ACCESS SHARE MODE; SELECT 1")  # so its connection cannot be cleared
        open_gate(gate)
        assert rig.ending(bundle).trouble is None
        began = SYSTEM.monotonic()
        for seconds in range(30):
            assert rig.executor.turn(began + seconds) == []
        assert "did not come to rest" in caplog.text
        rig.ready_again()
    assert rig.run(Traced()).trouble is None


@ON_ONE
@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "timeout": 4}}])
def test_a_bundle_that_runs_too_long_is_stopped(rig: Rig, gate: Path) -> None:
    ending = rig.run(Waits(gate=str(gate)))
    assert (ending.trouble, ending.kind) == ("stopped: it ran longer than 4 s", ErrorKind.TIMEOUT)
    [pid] = waiting(gate)
    assert not lives(pid)
    rig.ready_again()
    assert rig.run(Traced()).trouble is None


@ON_ONE
def test_a_component_that_is_not_there_fails_its_tasks_and_says_so(rig: Rig) -> None:
    queue.enqueue([NewTask("nowhere.Nothing", "1", "{}", "nowhere.Nothing {}")], SYSTEM.now())
    [bundle] = rig.hand_over(*rig.claim())
    assert rig.ending(bundle).trouble is None
    assert [state for state, _ in tasks()] == [TaskState.FAILED]
    assert "there is no component nowhere.Nothing" in str(tasks()[0][1])


@ON_ONE
def test_a_component_whose_import_ends_the_process_is_told_as_a_death(rig: Rig) -> None:
    name = "tests.support.deadly.Nothing"
    queue.enqueue([NewTask(name, "1", "{}", f"{name} {{}}")], SYSTEM.now())
    [bundle] = rig.hand_over(*rig.claim())
    ending = rig.ending(bundle)
    assert (ending.trouble, ending.kind) == ("its process ended with status 7", ErrorKind.CRASH)
    assert Bundle.get_by_id(bundle).state is BundleState.SUBMITTED


@ON_ONE
def test_an_input_that_has_changed_sinks_only_its_own_task(rig: Rig, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dat" for number in range(3)]
    for path in paths:
        path.write_bytes(b"as it was")
    Traced(input_data_products=[str(path) for path in paths]).enqueue()
    paths[1].write_bytes(b"as it is now")
    [bundle] = rig.hand_over(*rig.claim())
    assert rig.ending(bundle).trouble is None
    assert [state for state, _ in tasks()] == [TaskState.PENDING, TaskState.FAILED, TaskState.PENDING]
    assert "input changed" in str(tasks()[1][1])


@ON_ONE
def test_a_component_that_no_longer_takes_its_parameters_fails_its_tasks(rig: Rig) -> None:
    name = f"{Waits.__module__}.Waits"
    queue.enqueue([NewTask(name, "0", "{}", f"{name} {{}}")], SYSTEM.now())
    [bundle] = rig.hand_over(*rig.claim())
    assert rig.ending(bundle).trouble is None
    assert [state for state, _ in tasks()] == [TaskState.FAILED]


def test_a_result_that_its_table_refuses_fails_its_task_at_once(rig: Rig) -> None:
    assert rig.run(BadRow()).trouble is None
    assert [state for state, _ in tasks()] == [TaskState.FAILED]
    assert Trace.select().count() == 0


@ON_ONE
@pytest.mark.parametrize("sections", [{"scheduler": {"lease": 1, "tick": 0.05}}])
def test_a_component_that_lets_no_other_thread_run_keeps_its_lease(rig: Rig) -> None:
    bundle = rig.submit(HoldsInterpreter(seconds=1.8))
    lapsed = []

    def ended() -> list[Ending]:
        endings = rig.turn()
        lapsed.extend(each.bundle for each in backlog.open_bundles(SYSTEM.now()) if each.lapsed)
        return endings

    assert until(ended) == [Ending(bundle, None)]
    assert lapsed == []
    assert tasks() == [(TaskState.COMPLETED, None)]


@ON_ONE
@pytest.mark.parametrize("sections", [{"scheduler": {"lease": 1, "tick": 0.05}}])
def test_a_lease_ends_where_nobody_renews_it(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    until(lambda: [each.bundle for each in backlog.open_bundles(SYSTEM.now()) if each.lapsed] == [bundle])
    open_gate(gate)


@ON_ONE
def test_what_a_component_reads_and_prints_stays_out_of_the_way(rig: Rig) -> None:
    assert rig.run(ReadsAndPrints()).trouble is None
    assert tasks() == [(TaskState.COMPLETED, None)]
    assert rig.run(Traced()).trouble is None


@ON_ONE
def test_a_bundle_that_was_taken_back_before_it_started_is_not_run(rig: Rig) -> None:
    Traced().enqueue()
    [claimed] = rig.claim()
    queue.release(claimed.bundle, claimed.token, "changed my mind", SYSTEM.now())
    rig.hand_over(claimed)
    trouble = rig.ending(claimed.bundle).trouble
    assert trouble == f"bundle {claimed.bundle} was taken back before it started; nothing was run"
    assert tasks() == [(TaskState.PENDING, None)]
    assert Trace.select().count() == 0


@ON_ONE
def test_a_bundle_that_another_took_over_writes_nothing(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    found = until(lambda: [each for each in backlog.open_bundles(SYSTEM.now()) if each.state is BundleState.RUNNING])
    until(lambda: waiting(gate))
    queue.release(bundle, found[0].token, "another took over", SYSTEM.now())
    open_gate(gate)
    assert "no longer this process's" in str(rig.ending(bundle).trouble)
    assert (tasks()[0][0], Trace.select().count()) == (TaskState.PENDING, 0)


@ON_ONE
def test_a_process_that_does_not_notice_that_its_bundle_was_taken_over_is_ended(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    assert rig.turn() == []
    [found] = backlog.open_bundles(SYSTEM.now())
    queue.release(bundle, found.token, "another took over", SYSTEM.now())
    now = SYSTEM.monotonic()
    assert rig.executor.turn(now + rig.settings.scheduler.lease) == []
    assert lives(pid), "its own word may be on its way"
    taken = rig.executor.turn(now + rig.settings.scheduler.lease + 6)
    assert taken == [Ending(bundle, "stopped: its bundle had been taken over")]
    assert not lives(pid)


@ON_ONE
def test_it_knows_its_own_bundles(rig: Rig, gate: Path) -> None:
    rig.submit(Waits(gate=str(gate)))
    until(lambda: waiting(gate))
    [mine] = backlog.open_bundles(SYSTEM.now())
    assert rig.executor.is_mine(mine)
    assert not rig.executor.is_mine(replace(mine, bundle=mine.bundle + 1))
    open_gate(gate)
    rig.ending(mine.bundle)
    assert not rig.executor.is_mine(mine)


@ON_ONE
def test_stop_ends_every_process_and_tells_what_was_running(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    assert rig.executor.stop() == [bundle]
    assert not lives(pid)
    assert rig.executor.free() == 0
    assert rig.executor.stop() == []
    assert TaskBundle.get(TaskBundle.bundle == bundle).outcome is None, "the scheduler alone gives it back"


@ON_ONE
def test_stop_ends_the_programs_that_a_component_started(rig: Rig, gate: Path) -> None:
    rig.submit(StartsPrograms(gate=str(gate)))
    [child] = until(lambda: [int(path.suffix[1:]) for path in gate.glob("child.*")])
    assert lives(child)
    rig.executor.stop()
    until(lambda: not lives(child))


@ON_ONE
@pytest.mark.parametrize("workers", [2])
def test_several_bundles_run_at_the_same_time(
    tmp_path: Path, database: peewee.Database, database_url: str, gate: Path, workers: int
) -> None:
    migrate.create_result_tables([Trace])
    rig = Rig(settings(tmp_path, database_url, {"executor": {"workers": workers}}), "local")
    try:
        Waits(gate=str(gate), note=["a", "b"]).enqueue()
        bundles = []
        for _ in range(workers):
            bundles += rig.hand_over(*rig.claim(limit=1))
        until(lambda: len(waiting(gate)) == workers)
        assert rig.executor.free() == 0
        open_gate(gate)
        ended: list[Ending] = []
        until(lambda: ended.extend(rig.turn()) or len(ended) == workers)
        assert sorted(each.bundle for each in ended) == bundles
        outcomes = {row.outcome for row in TaskBundle.select()}
        assert outcomes == {TaskOutcome.COMPLETED}
    finally:
        rig.executor.stop()


def test_a_process_that_cannot_even_start_is_not_started_in_a_tight_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usable = settings(tmp_path, f"sqlite:///{tmp_path / 'astra.sqlite'}")
    broken = replace(usable, database=replace(usable.database, url="nonsense://"))
    supervisor = Supervisor(broken, SYSTEM, lambda: None)
    supervisor.start()

    def deaths() -> int:
        return sum("worker_died" in str(record.msg) for record in caplog.records)

    try:
        with caplog.at_level(logging.WARNING, "daemon"):
            until(lambda: supervisor.turn(0.0) or deaths() == 2)
            supervisor.turn(0.9)
            assert not supervisor.idle
            supervisor.turn(1.0)
            until(lambda: supervisor.turn(1.0) or deaths() == 3)
            supervisor.turn(2.9)
            assert not supervisor.idle
    finally:
        supervisor.stop()


def test_no_bundle_is_to_blame_for_a_process_that_cannot_even_start(tmp_path: Path) -> None:
    usable = settings(tmp_path, f"sqlite:///{tmp_path / 'astra.sqlite'}")
    supervisor = Supervisor(replace(usable, database=replace(usable.database, url="nonsense://")), SYSTEM, lambda: None)
    supervisor.start()
    try:
        supervisor.submit(Load((Claimed(1, 1, "token", "x.Y {}"),), 60.0), 0.0)
        words = "given back: its process never came to listen: its process ended with status 1"
        assert until(lambda: supervisor.turn(0.0)) == [Ending(1, words)]
    finally:
        supervisor.stop()


def test_an_unknown_executor_is_refused_with_those_there_are(tmp_path: Path) -> None:
    usable = settings(tmp_path, f"sqlite:///{tmp_path / 'astra.sqlite'}")
    unknown = replace(usable, executor=replace(usable.executor, name="cloud"))
    with pytest.raises(Exception, match="'cloud' is not known; there are: local"):
        executors.build(unknown, SYSTEM, lambda: None)


@ON_ONE
def test_a_process_that_died_tells_which_task_it_had_in_hand(rig: Rig) -> None:
    ending = rig.run(KilledAt(note=["a", "b", "bad", "c"]))
    assert (ending.kind, ending.position) == (ErrorKind.CRASH, 2)
    assert rig.run(Traced(note="next")).trouble is None


@ON_ONE
def test_a_child_that_lives_on_does_not_hide_that_its_parent_died(rig: Rig, gate: Path) -> None:
    ending = rig.run(LeavesChild(gate=str(gate)))
    assert (ending.kind, ending.trouble) == (ErrorKind.CRASH, "its process was ended by signal 9")
    until(lambda: not any(map(lives, waiting(gate))))  # and it is ended too
