"""What takes too long or too much is stopped, told of with its stack, and followed by another process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from astra import backlog
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.states import ErrorKind
from daemon.executors import Ending
from tests.support.components import COMPONENTS, HoldsInterpreter, StartsPrograms, Traced, Waits, waiting
from tests.support.misbehaving import (
    EndsInItsWay,
    HangsAt,
    Hogs,
    HogsApart,
    HogsElsewhere,
    IgnoresTerm,
    Renames,
    Segfaults,
)
from tests.support.processes import lives, until
from tests.support.rig import Rig

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ONE_SECOND = pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "task_timeout": 1}}])
ALL_OF_IT = pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "timeout": 1}}])
LITTLE = pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "memory": 200}}])


def children(gate: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in gate.glob("child.*")]


def unlapsed(rig: Rig, bundle: int) -> Ending:
    """Wait for the end of a bundle, and see that its lease never ran out before."""
    lapsed: list[int] = []

    def ended() -> list[Ending]:
        endings = rig.turn()
        lapsed.extend(each.bundle for each in backlog.open_bundles(SYSTEM.now()) if each.lapsed)
        return endings

    [ending] = until(ended)
    assert (ending.bundle, lapsed) == (bundle, [])
    return ending


@ONE_SECOND
def test_a_task_that_hangs_is_stopped_and_its_stack_is_told(rig: Rig, gate: Path) -> None:
    ending = rig.run(HangsAt(gate=str(gate), note=["a", "b", "bad", "c"]))
    assert ending.trouble == "stopped: task at position 2 was in hand for longer than 1 s"
    assert (ending.kind, ending.position) == (ErrorKind.TIMEOUT, 2)
    assert "in stuck_in_this_function" in str(ending.stack)
    [pid] = waiting(gate)
    assert not lives(pid)
    rig.ready_again()
    assert rig.run(Traced()).trouble is None


@ONE_SECOND
def test_a_bundle_of_one_that_does_not_iterate_is_a_task_in_hand(rig: Rig, gate: Path) -> None:
    ending = rig.run(Waits(gate=str(gate)))
    assert ending.trouble == "stopped: task at position 0 was in hand for longer than 1 s"
    assert (ending.kind, ending.position) == (ErrorKind.TIMEOUT, None)


@ONE_SECOND
def test_no_name_of_a_process_lets_it_escape_its_limits(rig: Rig, gate: Path) -> None:
    ending = rig.run(Renames(gate=str(gate), note="bad"))
    assert (ending.kind, ending.position) == (ErrorKind.TIMEOUT, 0)


@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "timeout": 2, "task_timeout": 1}}])
def test_what_is_no_single_tasks_is_bounded_by_the_bundles_time(rig: Rig, gate: Path) -> None:
    ending = rig.run(Waits(gate=str(gate), note=["a", "b"]))
    assert (ending.trouble, ending.kind) == ("stopped: it ran longer than 2 s", ErrorKind.TIMEOUT)
    assert "in pre_execute" in str(ending.stack)


@pytest.mark.parametrize(
    "sections",
    [{"executor": {"workers": 1, "timeout": 0.001}, "components": [{"task": f"{COMPONENTS}.Waits", "timeout": 1.5}]}],
)
def test_a_component_has_limits_of_its_own(rig: Rig, gate: Path) -> None:
    assert rig.run(Waits(gate=str(gate))).trouble == "stopped: it ran longer than 1.5 s"


@ALL_OF_IT
def test_what_runs_too_long_is_stopped_while_nobody_looks_after_the_executor(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Waits(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    until(lambda: not lives(pid))
    assert rig.ending(bundle).kind is ErrorKind.TIMEOUT


@ALL_OF_IT
def test_the_programs_of_a_component_that_is_stopped_are_ended_too(rig: Rig, gate: Path) -> None:
    assert rig.run(StartsPrograms(gate=str(gate))).kind is ErrorKind.TIMEOUT
    [child] = children(gate)
    until(lambda: not lives(child))


@pytest.mark.parametrize(
    "sections", [{"executor": {"workers": 1, "timeout": 1, "grace": 2}, "scheduler": {"lease": 1, "tick": 0.05}}]
)
def test_who_will_not_end_is_ended_after_the_grace_and_keeps_its_lease_until_then(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(IgnoresTerm(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    began = SYSTEM.monotonic()
    assert unlapsed(rig, bundle).kind is ErrorKind.TIMEOUT
    assert SYSTEM.monotonic() - began > 2
    assert not any(map(lives, [pid, *children(gate)]))


@pytest.mark.parametrize("sections", [{"executor": {"workers": 1, "timeout": 1, "grace": 60}}])
def test_who_ends_when_asked_is_not_waited_for(rig: Rig, gate: Path) -> None:
    ending = rig.run(EndsInItsWay(gate=str(gate)))
    assert (ending.trouble, ending.kind) == ("stopped: it ran longer than 1 s", ErrorKind.TIMEOUT)
    assert (gate / "ended").exists()


@pytest.mark.parametrize(
    "sections", [{"executor": {"workers": 1, "task_timeout": 3}, "scheduler": {"lease": 1, "tick": 0.05}}]
)
def test_who_lets_no_other_thread_run_keeps_the_lease_and_is_stopped_with_its_stack(rig: Rig) -> None:
    ending = unlapsed(rig, rig.submit(HoldsInterpreter(seconds=600)))
    assert ending.kind is ErrorKind.TIMEOUT
    assert "components.py" in str(ending.stack)
    assert "in execute" in str(ending.stack)


@LITTLE
@pytest.mark.parametrize("component", [Hogs, HogsElsewhere, HogsApart])
def test_what_holds_too_much_memory_is_stopped(rig: Rig, gate: Path, component: type[TaskInstance]) -> None:
    ending = rig.run(component(gate=str(gate), note=["a", "bad"]))
    assert (ending.kind, ending.position) == (ErrorKind.RESOURCE, 1)
    held = re.fullmatch(r"stopped: it held (\d+) MB, more than the 200 MB allowed", str(ending.trouble))
    assert held
    assert 200 < int(held[1]) < 500
    assert ending.peak_memory
    assert ending.peak_memory > 200e6
    assert "stuck_in_this_function" in str(ending.stack)
    assert not any(map(lives, children(gate)))


@LITTLE
def test_what_holds_less_is_left_alone(rig: Rig, gate: Path) -> None:
    assert rig.run(Traced(note=["a", "b"])).trouble is None


def test_a_fault_is_told_with_the_stack_at_which_it_came(rig: Rig) -> None:
    ending = rig.run(Segfaults(note=["a", "bad", "c"]))
    assert (ending.trouble, ending.kind) == ("its process was ended by signal 11", ErrorKind.CRASH)
    assert ending.position == 1
    assert "in reads_nowhere" in str(ending.stack)
    rig.ready_again()
    assert rig.run(Segfaults(note="good")).trouble is None
