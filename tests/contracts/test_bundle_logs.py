"""What bundles print and log, and how much memory they take, is kept and found again; also of those that died."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from astra.database.astradb import Bundle
from astra.states import ErrorKind, TaskState
from tests.support.components import ReadsAndPrints, Trace, Traced, waiting
from tests.support.components import open_gate as open_the_gate
from tests.support.misbehaving import UPSETS, Hogs, Looks, Noisy, Prints, PrintsMuch, Repeats, Upsets
from tests.support.processes import lives, until
from tests.support.rig import Rig, tasks

ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ONE_MEGABYTE = pytest.mark.parametrize("sections", [{"log": {"most": 1}}])


def text(bundle: int) -> str:
    """Return what a bundle printed, as its record tells."""
    row = Bundle.get_by_id(bundle)
    content = Path(row.log).read_bytes() if row.log else b""
    return content[row.log_start : row.log_end].decode()


def folder(rig: Rig) -> Path:
    return rig.settings.bundle_logs


def test_each_bundle_has_what_it_printed_and_logged(rig: Rig) -> None:
    first = rig.run(Prints(note="one"))
    second = rig.run(Prints(note=["two", "three"]))
    printed, logged = text(first.bundle).splitlines()
    assert printed == "printed one"
    assert logged.endswith("info    tests.support.misbehaving: logged one")
    assert [line.split()[-1] for line in text(second.bundle).splitlines()] == ["two", "two", "three", "three"]
    assert len(list(folder(rig).iterdir())) == 1, "one file, whatever the number of bundles"


@ON_ONE
def test_a_bundle_that_prints_nothing_has_no_log_and_leaves_no_file(rig: Rig) -> None:
    ending = rig.run(Traced())
    assert Bundle.get_by_id(ending.bundle).log is None
    assert len(list(folder(rig).iterdir())) == 1
    rig.executor.stop()
    assert list(folder(rig).iterdir()) == []


@ON_ONE
def test_what_programs_print_and_what_is_written_past_python_is_kept(rig: Rig) -> None:
    ending = rig.run(ReadsAndPrints())
    assert text(ending.bundle) == "printed by the component\nwritten by the component\n"


def test_the_log_of_a_bundle_whose_process_died_is_found(rig: Rig) -> None:
    before = rig.run(Prints(note="before"))
    ending = rig.run(Prints(note=["one", "exits"]))
    assert ending.kind is ErrorKind.CRASH
    assert [line.split()[-1] for line in text(ending.bundle).splitlines()] == ["one", "one", "exits", "exits"]
    assert "before" in text(before.bundle)


@ON_ONE
@ONE_MEGABYTE
def test_of_a_noisy_bundle_the_beginning_and_the_end_are_kept(rig: Rig, gate: Path) -> None:
    open_the_gate(gate)
    ending = rig.run(Noisy(gate=str(gate)))
    kept = text(ending.bundle)
    assert len(kept) < 1_100_000
    assert kept.startswith("the first line\n")
    assert "bytes are left out here: a bundle's log is kept to 1,000,000 bytes]\n" in kept
    assert kept.endswith("\nthe last line\n")


@ON_ONE
@ONE_MEGABYTE
@pytest.mark.parametrize("how", ["dies", "is dropped", "is stopped"])
def test_of_a_noisy_bundle_that_is_ended_both_are_kept_as_well(rig: Rig, gate: Path, how: str) -> None:
    bundle = rig.submit(Noisy(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    if how == "dies":
        os.kill(pid, signal.SIGKILL)
        rig.ending(bundle)
    elif how == "is dropped":
        rig.executor.drop({bundle})
    else:
        assert rig.executor.stop() == [bundle]
    kept = text(bundle)
    assert len(kept) < 1_100_000
    assert kept.startswith("the first line\n")
    assert kept.endswith("\nthe last line\n")


@ON_ONE
@ONE_MEGABYTE
def test_a_noisy_bundle_is_bounded_while_it_runs(rig: Rig, gate: Path) -> None:
    bundle = rig.submit(Noisy(gate=str(gate)))
    [pid] = until(lambda: waiting(gate))
    [file] = folder(rig).iterdir()
    until(lambda: file.stat().st_size < 1_600_000)
    assert lives(pid)
    open_the_gate(gate)
    rig.ending(bundle)
    assert text(bundle).startswith("the first line\n")
    assert len([word for word in text(bundle).split("\n") if "left out" in word]) == 1


@ON_ONE
@ONE_MEGABYTE
def test_no_bundle_has_what_another_printed_however_noisy_they_are(rig: Rig) -> None:
    Repeats(note=list("abcdefghijkl")).enqueue()
    bundles = rig.hand_over(*rig.claim(limit=1, times=12))
    rig.endings(bundles)
    for bundle, letter in zip(bundles, "abcdefghijkl", strict=True):
        first, _, last = text(bundle).partition("\n[")
        assert set(first.split("\n")) | set(last.split("\n")[1:]) <= {letter, ""}
        assert 900_000 < len(text(bundle)) < 1_100_000


@ON_ONE
@pytest.mark.parametrize("how", UPSETS)
def test_what_a_component_does_to_its_process_is_no_matter_to_the_next(rig: Rig, how: str) -> None:
    before = rig.run(Looks(note="x"))
    upset = rig.run(Upsets(note=how))
    after = rig.run(Looks(note="x"))
    assert [each.trouble for each in (before, upset, after)] == [None] * 3
    own = (
        TaskState.FAILED if how in ("close below", "detach", "replace by anything") else TaskState.COMPLETED
    )  # it prints after that
    assert [state for state, _ in tasks()] == [TaskState.COMPLETED, own, TaskState.COMPLETED]
    assert text(upset.bundle).startswith(f"before {how}\n")
    assert len(text(after.bundle).splitlines()) == 4
    assert [line.split()[-1] for line in text(after.bundle).splitlines()] == [
        line.split()[-1] for line in text(before.bundle).splitlines()
    ]
    assert len({row.pid for row in Trace.select()}) == 1


@ON_ONE
def test_a_task_that_prints_what_cannot_be_kept_has_its_result(rig: Rig) -> None:
    ending = rig.run(PrintsMuch(note=["a", "b"]))
    assert ending.trouble is None
    assert [state for state, _ in tasks()] == [TaskState.COMPLETED] * 2
    assert len(text(ending.bundle)) == 10_000


@ON_ONE
def test_what_the_last_load_printed_is_not_told_of_a_bundle_that_never_began(rig: Rig) -> None:
    rig.run(Prints(note="before"))
    bundle = rig.submit(Traced())
    rig.executor.stop()
    assert Bundle.get_by_id(bundle).log is None


@ON_ONE
@pytest.mark.parametrize("sections", [{"log": {"folder": "/dev/null/logs"}}])
def test_a_folder_that_cannot_be_made_stops_nothing(rig: Rig) -> None:
    ending = rig.run(Prints(note="one"))
    assert ending.trouble is None
    assert Bundle.get_by_id(ending.bundle).log is None


@ON_ONE
def test_the_peak_of_memory_is_the_bundles_own(rig: Rig, gate: Path) -> None:
    open_the_gate(gate)
    large = rig.run(Hogs(gate=str(gate), note="bad"))
    small = rig.run(Hogs(gate=str(gate), note="good"))
    peaks = [Bundle.get_by_id(each.bundle).peak_memory for each in (large, small)]
    assert peaks[0] > 300e6
    assert peaks[1] < peaks[0]
