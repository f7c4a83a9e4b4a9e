"""Bundles in a real Slurm, whatever happens: services killed, words lost, jobs held, cancelled, cut short, lost."""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.connection import run as query
from tests.support.components import Trace
from tests.support.processes import lives, until
from tests.support.realdata import RealFile
from tests.support.site import Site
from tests.support.slurm import PrivateSlurm
from tests.support.stand import PATIENCE, Stand
from tests.support.witness import calls, completed_once

pytestmark = [pytest.mark.system, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

NODES = ("n1", "n2")
TASKS, KILLS, MOST_JOBS = 2_000, 3, 8
# does what sbatch does, then something else, once
WRAPPER = """\
#!/bin/sh
{sbatch} "$@" || exit
if ! test -e {folder}/done; then
    touch {folder}/done
    {then}
fi
"""
IMPATIENT = "import daemon.executors.slurm_client as client; client.SECONDS = 3.0; from daemon.cli import main; main()"


@pytest.fixture
def stand(tmp_path: Path, database_url: str, database: peewee.Database, slurm: PrivateSlurm) -> Stand:
    migrate.create_result_tables([Trace])
    return Stand("slurm", Site(tmp_path, database_url), slurm)


@pytest.fixture
def kills_after_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return wrapped(tmp_path / "bin", "kill -9 $PPID", monkeypatch)


def wrapped(folder: Path, then: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `sbatch` first on the path that does `then` once it has submitted; return the mark it leaves."""
    folder.mkdir()
    [real] = [path for each in os.environ["PATH"].split(":") if (path := Path(each) / "sbatch").exists()][:1]
    (path := folder / "sbatch").write_text(WRAPPER.format(sbatch=real, folder=folder, then=then))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "done"


def test_a_service_that_is_killed_three_times_completes_2000_tasks_on_real_files_in_few_jobs(
    stand: Stand, real_files: list[RealFile]
) -> None:
    stand.site.sections["scheduler"]["max_bundle_size"] = 250
    paths = [str(file.path) for file in real_files]
    moments = [random.SystemRandom().uniform(0.0, 2.0) for _ in range(KILLS)]
    tasks: list[int] = []
    for group, moment in enumerate(moments):
        tasks += _on_files(stand, paths, group)
        with stand.service() as daemon:
            end = SYSTEM.monotonic() + moment
            until(lambda end=end: SYSTEM.monotonic() > end)
            daemon.kill()
    tasks += _on_files(stand, paths, KILLS)
    with stand.service():
        until(lambda: query("SELECT count(*) FROM task WHERE state = 'completed'") == [(TASKS,)], 150)
    assert len(tasks) == TASKS
    completed_once(stand.where, tasks)
    assert set(calls(stand.where).values()) == {1}, moments
    assert len(stand.jobs()) <= MOST_JOBS, moments
    assert len(stand.arrays()) == len({job.id.split("_")[0] for job in stand.jobs()}), "no name was submitted twice"


def _on_files(stand: Stand, paths: list[str], group: int) -> list[int]:
    count = TASKS // (KILLS + 1)
    files = [paths[number % len(paths)] for number in range(count)]
    return stand.enqueue(*["busy"] * count, group=group, files=files)


def test_a_service_killed_between_submitting_and_noting_it_leaves_one_job(
    stand: Stand, kills_after_sbatch: Path
) -> None:
    with stand.service() as daemon:
        tasks = stand.enqueue("good", "wait", "good")
        assert daemon.wait() == -9
        assert kills_after_sbatch.exists()
    assert stand.bundle_of(tasks[0])["external_id"] is None, "nobody has noted it"
    with stand.service() as again:
        again.says("adopted", PATIENCE)
        stand.at_gate()
        stand.open_gate()
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)
    assert set(calls(stand.where).values()) == {1}
    [job] = stand.jobs()
    assert stand.bundle_of(tasks[0])["external_id"] == job.id


def test_an_sbatch_that_submits_and_never_answers_leaves_one_job(
    stand: Stand, slurm: PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in NODES:
        slurm.drain(node, "nothing begins too soon")
    wrapped(tmp_path / "bin", "exec sleep 1000", monkeypatch)
    with stand.service([sys.executable, "-c", IMPATIENT]) as daemon:
        tasks = stand.enqueue("good", "good")
        daemon.says("sbatch did not answer", PATIENCE)
        daemon.says("slurm_waits", PATIENCE)  # found by its name
        for node in NODES:
            slurm.resume(node)
        stand.reach(tasks, "completed")
        later = stand.enqueue("good", group=1)
        stand.reach(later, "completed")
    completed_once(stand.where, [*tasks, *later])
    assert [len(stand.tries(task)) for task in tasks] == [1, 1]
    assert list(stand.arrays().values()) == [1, 1]


def test_what_is_cancelled_while_no_service_is_there_is_ended_by_its_job(stand: Stand) -> None:
    with stand.service() as daemon:
        tasks = stand.enqueue("good", "wait")
        [pid] = stand.at_gate()
        daemon.kill()
    stand.astra("cancel", "bundle", stand.bundle_of(tasks[0])["id"])
    until(lambda: not lives(pid), 15)  # in half a minute it would notice by the fence of its lease
    stand.reach(tasks, "cancelled")
    until(lambda: set(stand.job_states()) <= {"COMPLETED", "FAILED"}, PATIENCE)


def test_a_slurm_that_is_away_when_no_job_is_there_is_asked_again_until_it_is_back(stand: Stand) -> None:
    assert stand.slurm is not None
    with stand.service() as daemon:
        stand.slurm.settle()
        stand.slurm.kill_controller()
        tasks = stand.enqueue("good", "good")
        daemon.says("slurm_away", PATIENCE)
        assert stand.first_try_ends(tasks[0])["outcome"] == "released"
        until(lambda: "Unable to contact slurm controller" in stand.status())
        stand.slurm.start_controller()
        daemon.says("slurm_back", PATIENCE)
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)
    assert len(stand.jobs()) == 1


def test_a_job_that_is_held_or_has_no_node_is_shown_with_slurm_s_reason_and_runs_when_that_is_over(
    stand: Stand, slurm: PrivateSlurm
) -> None:
    for node in NODES:
        slurm.drain(node, "a new disk")
    with stand.service() as daemon:
        tasks = stand.enqueue("good", "good")
        daemon.says("slurm_waits", PATIENCE)
        job = stand.job_of(tasks[0])
        # at first "ReqNodeNotAvail, UnavailableNodes:n[1-2]", then "Nodes required for job are DOWN, DRAINED or ..."
        until(lambda: re.search(f"^slurm +(ReqNode|Nodes required).*: {job}$", stand.status(), re.MULTILINE))
        assert re.search(f"slurm_waits job={job} reason=.*Node", daemon.output())
        slurm("scontrol", "hold", job)
        daemon.says("JobHeld", PATIENCE)
        until(lambda: "JobHeld" in stand.status())
        for node in NODES:
            slurm.resume(node)
        slurm("scontrol", "release", job)
        stand.reach(tasks, "completed")
        until(lambda: "JobHeld" not in stand.status())
    completed_once(stand.where, tasks)
    assert len(stand.jobs()) == 1


@pytest.mark.parametrize("begun", [False, True])
def test_what_a_person_cancels_in_slurm_stays_cancelled_until_it_is_asked_for_again(stand: Stand, begun: bool) -> None:
    assert stand.slurm is not None
    if not begun:
        stand.site.sections["executor"]["slurm"]["options"] = ["--begin=now+1hour"]
    with stand.service():
        tasks = stand.enqueue("good", "wait", "good")
        if begun:
            stand.at_gate()
        stand.slurm("scancel", stand.job_of(tasks[0]))
        stand.reach(tasks, "cancelled")
        told = [stand.tries(task)[-1] for task in tasks]
        assert {each["outcome"] for each in told} == {"cancelled"}
        assert all("was cancelled" in each["message"] for each in told)
    stand.site.sections["executor"]["slurm"]["options"] = []
    stand.open_gate()
    stand.astra("retry", "task", "--cancelled", *tasks)
    with stand.service():
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)


def test_before_the_end_of_its_walltime_a_job_gives_back_what_it_has_not_begun(stand: Stand) -> None:
    slurm = stand.slurm
    assert slurm is not None
    stand.site.sections["executor"]["slurm"] |= {"time": 2, "notice": 40}
    stand.site.sections["scheduler"]["target"] = 20
    with stand.service():
        tasks = stand.enqueue("good", "wait", "good", "good")
        stand.at_gate()
        job = stand.job_of(tasks[0])
        soon = slurm("date", "-d", "now+41sec", "+%FT%T")  # else it would be told a minute later
        slurm("scontrol", "update", f"jobid={job}", f"endtime={soon}")
        until(lambda: "slurm_notice" in stand.said_in_job(job), 60)
        stand.open_gate()
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)
    assert set(calls(stand.where).values()) == {1}
    assert [[each["outcome"] for each in stand.tries(task)] for task in tasks] == [
        ["completed"],
        ["completed"],
        ["released", "completed"],
        ["released", "completed"],
    ]
    assert len(stand.jobs()) == 2


def test_the_ways_in_which_a_job_ends_are_told_apart(stand: Stand) -> None:
    slurm = stand.slurm
    assert slurm is not None
    stand.site.sections["scheduler"]["retries"] = 0
    stand.site.sections["executor"]["memory"] = 400
    with stand.service():
        asked, late, lost = (_at_gate(stand, group, "wait") for group in range(3))
        greedy = _at_gate(stand, 3, "hold")
        stand.reach([greedy], "failed")
        slurm("scancel", stand.job_of(asked))
        soon = slurm("date", "-d", "now+2sec", "+%FT%T")
        slurm("scontrol", "update", f"jobid={stand.job_of(late)}", f"endtime={soon}")
        node = stand.node(stand.job_of(lost))
        assert node != stand.node(stand.job_of(late))
        slurm.kill_node(node)
        stand.reach([asked], "cancelled")
        for task in (late, lost):
            stand.first_try_ends(task, 90)
        stand.open_gate()
        stand.reach([late, lost], "failed", "completed")
        slurm.start_node(node)
        slurm.node_is(node, "idle")
    first = {name: stand.tries(task)[0] for name, task in {"late": late, "lost": lost, "greedy": greedy}.items()}
    assert {name: each["kind"] for name, each in first.items()} == {
        "late": "timeout",
        "lost": "interrupted",
        "greedy": "resource",
    }
    assert "ran into its walltime" in first["late"]["message"]
    assert "was lost with its node" in first["lost"]["message"]


def _at_gate(stand: Stand, group: int, note: str) -> int:
    """Enqueue a task, and return it when a job of its own has it in hand."""
    [task] = stand.enqueue(note, group=group)
    stand.at_gate(group + 1)
    return task


def test_a_slurm_that_keeps_no_accounts_will_do(
    tmp_path: Path, database_url: str, database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.create_result_tables([Trace])
    with PrivateSlurm(nodes=1, accounts=False) as slurm:
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        stand = Stand("slurm", Site(tmp_path, database_url), slurm)
        stand.site.sections["executor"]["slurm"]["memory"] = 450
        with stand.service():
            tasks = stand.enqueue("good", "good")
            stand.reach(tasks, "completed")
            [waiting] = stand.enqueue("wait", group=1)
            stand.at_gate()
            slurm("scancel", stand.job_of(waiting))
            stand.reach([waiting], "cancelled")
            [greedy] = stand.enqueue("hold", group=2)
            assert stand.first_try_ends(greedy)["kind"] == "resource", (
                "a job's memory is a limit, if nobody else says so"
            )
        completed_once(stand.where, tasks)
