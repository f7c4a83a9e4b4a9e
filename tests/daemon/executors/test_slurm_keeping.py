"""Who looks after what is in Slurm: this service, the one before it, another one, or nobody but a lease."""

from __future__ import annotations

import os
from dataclasses import replace

import psycopg2
import pytest

from astra import backlog, provenance, queue
from astra.database import notices
from astra.database.connection import close_database, open_database, run
from astra.provenance import Owner
from astra.work import Claimed, Pick
from tests.support.cluster import Desk

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def test_a_bundle_whose_lease_ran_out_is_taken_back_though_slurm_says_that_its_job_goes_on(desk: Desk) -> None:
    array = desk.hand_over(1)
    desk.begin(f"{array}_0", lease=80)
    desk.ticks(75)
    assert desk.bundles() == ["running"]
    desk.ticks(25)
    assert (desk.bundles()[0], desk.kinds()[0]) == ("expired", "interrupted")
    assert desk.cluster.cancelled == [(array, "1_0")]


def test_a_running_job_that_slurm_forgot_is_left_to_its_lease(desk: Desk) -> None:
    array = desk.hand_over(1)
    token = desk.begin(f"{array}_0", lease=600)
    desk.tick(10)
    desk.cluster.jobs.clear()
    desk.ticks(200, 10)
    assert desk.bundles() == ["running"]
    desk.finish(desk.load(f"{array}_0")[0].bundle, token)
    desk.ticks(10)
    assert (desk.tasks(), desk.executor.state()["jobs"]) == (["completed"], 0)


def test_what_slurm_was_told_of_outlives_the_service_and_the_rest_is_given_back(desk: Desk) -> None:
    desk.hand_over(1)
    desk.cluster.answers = False
    desk.hand_over(1)  # the client has not come to it
    desk.enqueue(1)
    desk.tick()  # taken, and no more
    assert desk.bundles() == ["submitted"] * 3
    assert desk.scheduler.stop() == 2
    assert desk.bundles() == ["submitted", "released", "released"]
    assert desk.tasks() == ["running", "pending", "pending"]


def test_at_its_stop_no_database_is_needed_to_tell_what_slurm_does_not_have(desk: Desk) -> None:
    desk.cluster.answers = False
    desk.hand_over(2)
    close_database()
    open_database("postgresql://nobody@127.0.0.1:1/away")
    assert desk.executor.stop() == [1, 2]


def left_by(keeper: Owner, desk: Desk, index: int = 0) -> Claimed:
    """Have a bundle wait in Slurm for another service."""
    [task] = desk.enqueue(1)
    [(key,)] = run("SELECT bundle_key FROM task WHERE id = ?", (task,))
    claimed = queue.claim([Pick(None, 100, key, 1)], keeper, "slurm", desk.clock.now())
    queue.note_name(claimed, f"astra-b9-left_{index}", keeper)
    desk.cluster.numbers["astra-b9-left"] = 9
    desk.cluster.jobs[f"astra-b9-left_{index}"] = "PENDING|None"
    return claimed[0]


def keepers() -> list[Owner]:
    return [Owner.of_text(text) for (text,) in run("SELECT keeper FROM bundle ORDER BY id")]


def gone() -> Owner:
    return replace(provenance.owner(), pid=2**22 - 3, start=1)


def test_what_a_dead_service_left_in_slurm_is_looked_after_whether_it_waits_or_runs(desk: Desk) -> None:
    waiting, running = left_by(gone(), desk), left_by(gone(), desk, 1)
    desk.begin_all("astra-b9-left_1", [running])
    desk.tick()
    assert keepers() == [provenance.owner()] * 2
    desk.ticks(10)
    assert desk.bundles() == ["submitted", "running"]
    assert desk.numbers() == ["9_0", "9_1"]
    desk.cluster.jobs["astra-b9-left_1"] = "TIMEOUT|None"
    desk.scheduler.draining = True
    desk.ticks(15)
    assert desk.bundles() == ["submitted", "expired"]
    assert backlog.open_bundle(waiting.bundle) is not None


def test_what_runs_in_a_job_that_slurm_never_knew_is_taken_back_when_its_lease_runs_out(desk: Desk) -> None:
    running = left_by(gone(), desk)
    desk.begin_all("astra-b9-left_0", [running], lease=100)
    desk.cluster.jobs.clear()
    desk.scheduler.draining = True
    desk.ticks(90)
    assert desk.bundles() == ["running"]
    desk.ticks(40)
    assert (desk.bundles(), desk.kinds()) == (["expired"], ["interrupted"])


def test_what_a_living_service_of_this_machine_has_in_slurm_is_its_own(desk: Desk) -> None:
    other = provenance.owner(os.getppid())
    left_by(other, desk)
    desk.ticks(600, 20)
    assert (keepers(), desk.bundles()) == ([other], ["submitted"])


def test_what_a_service_elsewhere_left_is_taken_over_when_it_has_long_had_no_line(
    desk: Desk, database_url: str
) -> None:
    other = replace(provenance.owner(), boot="another", host="elsewhere/0123", pid=99)
    left_by(other, desk)
    line = psycopg2.connect(database_url, application_name=notices.service_name(99, "elsewhere"))
    try:
        desk.ticks(320, 20)
        assert keepers() == [other]
    finally:
        line.close()
    left_by(other, desk, 1)
    desk.ticks(40, 20)
    assert keepers() == [provenance.owner(), other], "the second may be on its way to Slurm"


def test_the_files_of_an_array_stay_while_another_service_has_a_job_of_it(desk: Desk) -> None:
    mine = left_by(gone(), desk)
    left_by(provenance.owner(os.getppid()), desk, 1)
    desk.tick()
    desk.tick(10)
    queue.cancel_running(mine.bundle, "not now", desk.clock.now())
    desk.tick(5)
    assert desk.cluster.cancelled == [("astra-b9-left", "9_0")]
    assert (desk.executor.state()["jobs"], desk.cluster.removed) == (0, [])
