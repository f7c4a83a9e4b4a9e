"""What every executor must do, seen from outside: a real service, real processes, a real Slurm, and the records after.

The component notes each of its calls outside of the records, so "completed exactly once" is not taken on trust.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import peewee
import pytest

from astra import provenance
from astra.database import migrate
from tests.support.components import Trace
from tests.support.processes import lives, until
from tests.support.site import Site
from tests.support.stand import PATIENCE, Stand
from tests.support.witness import calls, completed_once

EXECUTORS = ("local", "slurm")
pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("executor", EXECUTORS),
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
]


@pytest.fixture
def stand(
    request: pytest.FixtureRequest, executor: str, tmp_path: Path, database_url: str, database: peewee.Database
) -> Stand:
    migrate.create_result_tables([Trace])
    slurm = request.getfixturevalue("slurm") if executor == "slurm" else None
    return Stand(executor, Site(tmp_path, database_url), slurm)


def test_a_task_that_goes_well_is_recorded_with_where_and_when_and_its_log_is_found(stand: Stand) -> None:
    with stand.service():
        tasks = stand.enqueue("good", "good", "good")
        stand.reach(tasks, "completed")
        completed_once(stand.where, tasks)
        assert [calls(stand.where)[task] for task in tasks] == [1, 1, 1]
        bundle = until(lambda: found if (found := stand.bundle_of(tasks[0]))["state"] == "ended" else {})
        assert bundle["executor"] == stand.name
        assert bundle["host"] == provenance.owner().host
        assert bundle["owner_pid"] > 0
        assert bundle["user"]
        assert bundle["created"] < bundle["started"] <= bundle["ended"]
        assert "printed good" in stand.astra("logs", "task", tasks[0])
    if stand.slurm is not None:
        assert [job.id for job in stand.jobs()] == [bundle["external_id"]]


def test_a_task_that_raises_sinks_only_itself(stand: Stand) -> None:
    with stand.service():
        tasks = stand.enqueue("good", "raise", "good")
        stand.reach(tasks, "completed", "failed", "completed")
    completed_once(stand.where, [tasks[0], tasks[2]])
    [bad] = stand.tries(tasks[1])
    assert (bad["outcome"], bad["kind"], bad["message"]) == ("failed", "permanent", "this one is bad")


def test_a_process_that_ends_without_a_word_sinks_only_the_task_it_had_in_hand(stand: Stand) -> None:
    with stand.service():
        tasks = stand.enqueue("good", "exit", "good")
        stand.reach(tasks, "completed", "failed", "completed")
    completed_once(stand.where, [tasks[0], tasks[2]])
    tries = stand.tries(tasks[1])
    assert {each["kind"] for each in tries} == {"crash"}
    assert {each["message"] for each in tries} == {"its process ended with status 3"}
    assert calls(stand.where)[tasks[1]] == len(tries) == 2, "it was tried once more"


def test_a_process_that_is_killed_is_followed_by_another(stand: Stand) -> None:
    with stand.service():
        tasks = stand.enqueue("good", "wait", "good")
        [pid] = stand.at_gate()
        os.kill(pid, signal.SIGKILL)
        stand.open_gate()
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)
    first = stand.tries(tasks[1])[0]
    assert (first["kind"], first["message"]) == ("crash", "its process was ended by signal 9")


def test_a_bundle_that_runs_too_long_is_stopped_and_its_neighbours_run_again(stand: Stand) -> None:
    stand.site.sections["executor"]["timeout"] = 1.5
    stand.site.sections["scheduler"]["retries"] = 0
    with stand.service():
        tasks = stand.enqueue("good", "wait", "good")
        [pid] = stand.at_gate()
        stand.reach(tasks, "completed", "failed", "completed")
        assert not lives(pid)
    completed_once(stand.where, [tasks[0], tasks[2]])
    [bad] = stand.tries(tasks[1])
    assert (bad["kind"], bad["message"]) == ("timeout", "stopped: it ran longer than 1.5 s")


def test_what_a_person_cancels_is_ended_and_stays_cancelled(stand: Stand) -> None:
    with stand.service() as daemon:
        tasks = stand.enqueue("good", "wait", "good")
        [pid] = stand.at_gate()
        stand.astra("cancel", "bundle", stand.bundle_of(tasks[0])["id"])
        stand.reach(tasks, "cancelled")
        until(lambda: not lives(pid), PATIENCE)
        later = stand.enqueue("good", group=1)
        stand.reach(later, "completed")
        assert daemon.process.poll() is None
    assert [len(stand.tries(task)) for task in tasks] == [1, 1, 1]
    if stand.slurm is not None:
        until(lambda: set(stand.job_states()) <= {"CANCELLED", "COMPLETED", "FAILED"}, PATIENCE)


def test_what_was_on_a_machine_that_is_gone_runs_again(stand: Stand) -> None:
    daemon = stand.service()
    with daemon:
        tasks = stand.enqueue("good", "wait", "good")
        stand.at_gate()
        if stand.slurm is None:
            daemon.kill_all()
            with stand.service():
                stand.open_gate()
                stand.reach(tasks, "completed")
        else:
            node = stand.node(stand.job_of(tasks[0]))
            stand.slurm.kill_node(node)
            stand.open_gate()
            stand.reach(tasks, "completed")
            stand.slurm.start_node(node)
            stand.slurm.node_is(node, "idle")
    completed_once(stand.where, tasks)
    assert stand.tries(tasks[0])[0]["kind"] == "interrupted"


def test_who_cannot_be_reached_for_a_while_is_waited_for(stand: Stand) -> None:
    with stand.service() as daemon:
        running = stand.enqueue("good", "wait")
        stand.at_gate()
        if stand.slurm is None:
            daemon.process.send_signal(signal.SIGSTOP)
        else:
            stand.slurm.settle()
            stand.slurm.kill_controller()
        waiting = stand.enqueue("good", "good", group=1)
        stand.open_gate()
        if stand.slurm is None:
            daemon.process.send_signal(signal.SIGCONT)
        else:
            daemon.says("slurm_away", PATIENCE)
            stand.reach(running, "completed")  # it needs nobody but the database
            stand.slurm.start_controller()
            daemon.says("slurm_back", PATIENCE)
        stand.reach(running + waiting, "completed")
    completed_once(stand.where, running + waiting)
    assert set(calls(stand.where).values()) == {1}, "nothing was begun twice"


def test_what_runs_outlives_the_service_as_far_as_it_can_and_is_done_once(stand: Stand) -> None:
    with stand.service() as daemon:
        tasks = stand.enqueue("good", "wait", "good")
        [pid] = stand.at_gate()
        daemon.kill()
    if stand.slurm is not None:
        assert lives(pid), "a job needs no service"
    with stand.service() as again:
        if stand.slurm is not None:
            again.says("adopted", PATIENCE)
        stand.open_gate()
        stand.reach(tasks, "completed")
    completed_once(stand.where, tasks)
    if stand.slurm is not None:
        assert set(calls(stand.where).values()) == {1}
        assert len(stand.jobs()) == 1
