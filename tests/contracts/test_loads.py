"""Several bundles handed over at once, and what a process keeps from one to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import backlog, queue
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.astradb import Bundle, Task, TaskBundle
from astra.database.connection import run
from astra.states import BundleState, ErrorKind, TaskState
from daemon.executors import Ending
from tests.support.components import KilledAt, Trace, Traced, Waits, open_gate, waiting
from tests.support.misbehaving import HogsApart, Keeps, Lingers
from tests.support.processes import lives, until
from tests.support.rig import Rig, settings, tasks

GONE = "tests.support.exits_on_import.Any"
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def load_of(rig: Rig, instance: TaskInstance) -> list[int]:
    """Enqueue an instance and hand it over as a load of one bundle for each task."""
    instance.enqueue()
    return rig.hand_over(*rig.claim(limit=1, times=instance.bundle_size))


def notes() -> list[str]:
    return [row.note for row in Trace.select().order_by(Trace.id)]


def test_the_bundles_of_a_load_run_one_after_another_in_one_process(rig: Rig) -> None:
    bundles = load_of(rig, Traced(note=["a", "b", "c"]))
    assert rig.endings(bundles) == [Ending(each, None) for each in bundles]
    assert [row.state for row in Bundle.select()] == [BundleState.ENDED] * 3
    assert notes() == ["a", "b", "c"]
    assert len({row.pid for row in Trace.select()}) == 1


def test_the_bundle_in_hand_is_to_blame_for_a_death_and_the_others_are_not(rig: Rig) -> None:
    bundles = load_of(rig, KilledAt(note=["good", "bad", "better"]))
    first, second, third = rig.endings(bundles)
    assert (second.kind, second.position) == (ErrorKind.CRASH, 0)
    given_back = "given back: its process ended, which had another bundle in hand"
    assert third == Ending(bundles[2], given_back)
    # the ends of short bundles are written together: what was not written yet is done again
    assert first == Ending(bundles[0], None if tasks()[0][0] is TaskState.COMPLETED else given_back)
    assert [state for state, _ in tasks()[1:]] == [TaskState.RUNNING] * 2
    rig.ready_again()
    assert rig.run(Traced(note="next")).trouble is None


@ON_ONE
def test_a_load_is_held_by_the_process_that_renews_it(rig: Rig, gate: Path) -> None:
    bundles = load_of(rig, Waits(gate=str(gate), note=["a", "b"]))
    until(lambda: waiting(gate))
    held = list(Bundle.select().order_by(Bundle.id))
    assert [each.state for each in held] == [BundleState.RUNNING] * 2, "all of it starts before the first runs"
    assert {each.owner_pid for each in held} == {os.getpid()}
    assert len({each.token for each in held}) == 1
    open_gate(gate)
    rig.endings(bundles)


@pytest.mark.parametrize("sections", [{"scheduler": {"lease": 1, "tick": 0.05}}])
def test_the_leases_of_all_bundles_of_a_load_are_renewed(rig: Rig, gate: Path) -> None:
    load_of(rig, Waits(gate=str(gate), note=["a", "b", "c"]))
    until(lambda: waiting(gate))
    began, lapsed = SYSTEM.monotonic(), set()

    def two_leases_later() -> bool:
        rig.turn()
        lapsed.update(each.bundle for each in backlog.open_bundles(SYSTEM.now()) if each.lapsed)
        return SYSTEM.monotonic() - began > 2

    until(two_leases_later)
    assert lapsed == set()


def test_a_bundle_taken_back_before_the_start_is_left_out(rig: Rig) -> None:
    Traced(note=["a", "b"]).enqueue()
    claimed = rig.claim(limit=1, times=2)
    queue.release(claimed[1].bundle, claimed[1].token, "changed my mind", SYSTEM.now())
    bundles = rig.hand_over(*claimed)
    words = f"bundle {bundles[1]} was taken back before it started; nothing was run"
    assert rig.endings(bundles) == [Ending(bundles[0], None), Ending(bundles[1], words, ErrorKind.RETRY)]
    assert notes() == ["a"]


@ON_ONE
@pytest.mark.parametrize("which", ["all", "its bundle", "another bundle"])
def test_a_process_is_told_to_begin_no_further_task_until_its_next_load(rig: Rig, gate: Path, which: str) -> None:
    bundle = rig.submit(Waits(gate=str(gate), note=["a", "b"]))
    until(lambda: waiting(gate))
    if which == "all":
        rig.executor.drain()
    else:
        rig.executor.drain_bundle(bundle if which == "its bundle" else bundle + 1)
    open_gate(gate)
    assert rig.ending(bundle).trouble is None
    assert notes() == (["a", "b"] if which == "another bundle" else [])
    rig.run(Waits(gate=str(gate), note="c"))
    assert notes() == ["a", "b", "c"]


@ON_ONE
def test_what_a_person_cancelled_is_ended_and_not_told_of(rig: Rig, gate: Path) -> None:
    first, second = load_of(rig, Waits(gate=str(gate), note=["a", "b"]))
    [pid] = until(lambda: waiting(gate))
    rig.executor.drop({first, 99})
    assert not lives(pid)
    words = "given back: its process was ended, for another bundle of it had been taken away"
    assert rig.turn() == [Ending(second, words)]
    rig.ready_again()
    assert rig.run(Traced(note="next")).trouble is None


@ON_ONE
def test_what_is_ended_is_ended_with_what_left_its_session(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(HogsApart(gate=str(gate), note="bad"))
    [child] = until(lambda: [int(path.suffix[1:]) for path in gate.glob("child.*")])
    rig.executor.drop({bundle})
    until(lambda: not lives(child))


@ON_ONE
def test_a_module_that_exits_when_it_is_imported_fails_its_tasks_and_ends_no_process(rig: Rig) -> None:
    Traced().enqueue()
    run("UPDATE task SET name = ?, bundle_key = ?", (GONE, GONE))
    [bundle] = rig.hand_over(*rig.claim())
    assert rig.ending(bundle) == Ending(bundle, None)
    [(state, error)] = tasks()
    assert state is TaskState.FAILED
    assert error == f"the component {GONE} cannot be imported: it raises SystemExit: no such model"
    row = Bundle.get_by_id(bundle)
    assert Path(row.log).read_bytes()[row.log_start : row.log_end] == b"printed by the import\n"


@ON_ONE
def test_a_bundle_of_which_nobody_was_told_yet_is_among_those_that_were_stopped(rig: Rig, gate: Path) -> None:
    first, second = load_of(rig, Waits(gate=str(gate), note=["a", "b"]))
    until(lambda: waiting(gate))
    rig.executor.drop({first})
    assert rig.executor.stop() == [second]


@ON_ONE
def test_what_is_cancelled_elsewhere_ends_nothing_here(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    until(lambda: waiting(gate))
    rig.executor.drop({bundle + 1})
    open_gate(gate)
    assert rig.ending(bundle) == Ending(bundle, None)


# ------------------------------------------------------------------------------------- from one load to the next


@ON_ONE
@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "recycle_bundles": 2}}])
def test_a_process_is_replaced_after_so_many_bundles(rig: Rig) -> None:
    for _ in range(5):
        assert rig.run(Traced()).trouble is None
    pids = [row.pid for row in Trace.select().order_by(Trace.id)]
    assert [pids[0] == pids[1], pids[1] == pids[2], pids[2] == pids[3], pids[3] == pids[4]] == [True, False] * 2
    until(lambda: rig.turn() == [] and not any(map(lives, pids[:4])))


@ON_ONE
@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "recycle_bundles": 1, "grace": 0.5}}])
def test_a_process_that_does_not_make_room_by_itself_is_ended(rig: Rig, gate: Path) -> None:
    assert rig.run(Lingers(gate=str(gate))).trouble is None
    [row] = Trace.select()
    until(lambda: rig.turn() == [] and not lives(row.pid))


@ON_ONE
@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "recycle_memory": 250}}])
def test_a_process_that_holds_much_memory_is_replaced(rig: Rig) -> None:
    for megabytes in (0, 300, 0):
        assert rig.run(Keeps(model="m", megabytes=megabytes)).trouble is None
    first, large, last = [row.pid for row in Trace.select().order_by(Trace.id)]
    assert first == large != last


def test_what_is_costly_to_load_is_kept_for_the_next_bundle_of_its_key(rig: Rig) -> None:
    for model in ("giants", "giants", "dwarfs", "giants"):
        assert rig.run(Keeps(model=model)).trouble is None
    assert notes() == ["giants: loaded", "giants: kept giants", "dwarfs: loaded", "giants: loaded"]


@ON_ONE
@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "recycle_memory": 250}}])
def test_what_another_key_kept_is_given_back_before_the_next_one_runs(rig: Rig) -> None:
    for model in ("large", ""):
        Keeps(model=model, megabytes=300).enqueue()
    rig.endings(rig.hand_over(*reversed(rig.claim())))
    rig.run(Keeps(model="small"))
    assert notes() == ["large: loaded", "small: loaded"]
    assert len({row.pid for row in Trace.select()}) == 1, "nothing is held any more, so the process is not replaced"


@ON_ONE
def test_a_key_goes_to_the_process_that_ran_it_and_a_new_one_to_a_new_process(
    tmp_path: Path, database: peewee.Database, database_url: str
) -> None:
    migrate.create_result_tables([Trace])
    sections: dict[str, dict[str, Any]] = {"executor": {"workers": 3}}
    rig = Rig(settings(tmp_path, database_url, sections), "local")
    try:
        for model in ("giants", "dwarfs", "giants", "dwarfs", "dwarfs"):
            rig.ready_again(3)  # one that has ended its bundle says a moment later that it has nothing left to do
            assert rig.run(Keeps(model=model)).trouble is None
    finally:
        rig.executor.stop()
    assert [note.partition(" ")[2] for note in notes()] == ["loaded", "loaded", "kept giants", *["kept dwarfs"] * 2]
    assert len({row.pid for row in Trace.select()}) == 2
    assert Task.select().count() == TaskBundle.select().count() == 5
