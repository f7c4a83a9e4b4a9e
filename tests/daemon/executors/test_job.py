"""What runs inside a job: a real process on a real database, started by the array's own script; Slurm is not needed."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peewee
import pytest

from astra import provenance, queue
from astra.clock import SYSTEM
from astra.config import Settings
from astra.database import migrate
from astra.database.connection import close_database, open_database, run
from astra.work import Claimed, Load, Pick
from daemon.executors.handed import write_array
from tests.support.cluster import NODE
from tests.support.components import Trace, make_gate, open_gate, waiting
from tests.support.postgres import PrivateServer
from tests.support.processes import Daemon, lives, until
from tests.support.site import Site
from tests.support.tasks import CODE
from tests.support.witness import Acts, calls, completed_once

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
ARRAY = "astra-b1-0a1b2c3d"


class Handed:
    """A load that a service handed over before it was gone."""

    def __init__(self, folder: Path, url: str) -> None:
        self.site = Site(folder, url, sections={"executor": {"name": "slurm", "slurm": {"time": 60, "notice": 30}}})
        self.settings: Settings = self.site.settings()
        self.where = make_gate(self.site.gate)
        migrate.create_result_tables([Trace])

    def hand_over(self, *notes: str, size: int) -> list[int]:
        """Enqueue a task for each note, and hand them over as bundles of that size; return the tasks."""
        Acts(where=str(self.where), note=list(notes), number=list(range(len(notes)))).enqueue()
        [(key, priority)] = run("SELECT DISTINCT bundle_key, priority FROM task")
        pick = Pick(None, priority, key, size, -(-len(notes) // size))
        self.claimed = queue.claim([pick], provenance.owner(), "slurm", SYSTEM.now())
        self.write(self.claimed)
        queue.note_name(self.claimed, f"{ARRAY}_0", provenance.owner())
        return [task for (task,) in run("SELECT id FROM task ORDER BY id")]

    def write(self, claimed: Sequence[Claimed]) -> None:
        self.script = write_array(self.settings, ARRAY, [Load(tuple(claimed), 60.0)])

    def job(self) -> Daemon:
        """Start the job."""
        return Daemon(self.settings.source or self.script, started=["bash", str(self.script)])

    def at_gate(self) -> int:
        """Wait until a task waits at the gate, and return the process that has it."""
        [pid] = until(lambda: waiting(self.where))
        return pid


def begin(claimed: Sequence[Claimed]) -> None:
    """Turn bundles running, as a job on another node does."""
    until = SYSTEM.now() + timedelta(hours=1)
    queue.start(claimed, NODE, CODE, provenance.environment_id(), until, SYSTEM.now())


@pytest.fixture
def in_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that Slurm gives a job."""
    for name, value in {"JOB_NAME": ARRAY, "ARRAY_JOB_ID": "17", "ARRAY_TASK_ID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


@pytest.fixture
def handed(tmp_path: Path, database_url: str, database: peewee.Database, in_slurm: None) -> Handed:
    return Handed(tmp_path, database_url)


def tasks() -> list[str]:
    return [str(state) for (state,) in run("SELECT state FROM task ORDER BY id")]


def bundles() -> list[str]:
    return [str(state) for (state,) in run("SELECT state FROM bundle ORDER BY id")]


@on_postgresql
def test_a_job_runs_its_load_and_records_it_with_the_number_that_slurm_gave(handed: Handed) -> None:
    keys = handed.hand_over("good", "good", "good", size=2)
    with handed.job() as job:
        assert job.wait() == 0, job.output()
        assert job.output() == ""
    completed_once(handed.where, keys)
    assert run("SELECT state, executor, external_id FROM bundle ORDER BY id") == [("ended", "slurm", "17_0")] * 2


@on_postgresql
@pytest.mark.system
def test_told_that_its_walltime_ends_a_job_finishes_what_it_has_in_hand_and_gives_back_the_rest(
    handed: Handed,
) -> None:
    keys = handed.hand_over("good", "wait", "good", "good", size=3)
    with handed.job() as job:
        handed.at_gate()
        job.process.send_signal(signal.SIGUSR1)
        job.says("slurm_notice")
        open_gate(handed.where)
        assert job.wait() == 0, job.output()
    assert tasks() == ["completed", "completed", "pending", "pending"]
    completed_once(handed.where, keys[:2])
    assert bundles() == ["ended", "released"]


@on_postgresql
@pytest.mark.system
def test_told_to_end_at_once_a_job_leaves_its_bundles_for_the_service_to_judge(handed: Handed) -> None:
    handed.hand_over("wait", "good", size=1)
    with handed.job() as job:
        pid = handed.at_gate()
        assert job.terminate() == 1
        assert not lives(pid)
    assert (tasks(), bundles()) == (["running"] * 2, ["running"] * 2)


@on_postgresql
@pytest.mark.system
def test_a_job_whose_bundles_somebody_cancels_ends_by_itself(handed: Handed) -> None:
    handed.hand_over("wait", "good", size=1)
    with handed.job() as job:
        pid = handed.at_gate()
        for each in handed.claimed:
            queue.cancel_running(each.bundle, "not now", SYSTEM.now())
        assert job.wait(15) == 0, "long before it would renew a lease and be refused"
        assert not lives(pid)
    assert (tasks(), bundles()) == (["cancelled"] * 2, ["released"] * 2)


@on_postgresql
def test_a_job_runs_nothing_of_what_another_has_begun_and_leaves_it_to_that_one(handed: Handed) -> None:
    handed.hand_over("good", size=1)
    begin(handed.claimed)
    with handed.job() as job:
        assert job.wait() == 0
        [line] = job.output().splitlines()
    assert line.endswith('reason="bundle 1 was taken back before it started; nothing was run"')
    assert (tasks(), bundles()) == (["running"], ["running"])
    assert calls(handed.where) == {}


@on_postgresql
@pytest.mark.system
def test_a_job_with_another_token_runs_nothing_and_leaves_the_bundle_as_it_is(handed: Handed) -> None:
    handed.hand_over("good", size=1)
    handed.write([replace(each, token="guessed") for each in handed.claimed])
    with handed.job() as job:
        assert job.wait() == 0
        assert len(job.output().splitlines()) == 1, job.output()
    assert (tasks(), bundles()) == (["running"], ["submitted"])
    assert calls(handed.where) == {}


@on_postgresql
@pytest.mark.system
@pytest.mark.parametrize("taken", [1, 2])
def test_what_was_taken_away_while_its_job_waited_is_not_run_and_the_rest_is(handed: Handed, taken: int) -> None:
    handed.hand_over("good", "good", size=1)
    for each in handed.claimed[:taken]:
        queue.cancel_running(each.bundle, "not now", SYSTEM.now())
    with handed.job() as job:
        assert job.wait() == 0, job.output()
        assert len(job.output().splitlines()) == taken, job.output()
    assert tasks() == ["cancelled"] * taken + ["completed"] * (2 - taken)


@pytest.mark.system
def test_a_job_waits_for_its_database(own_server: PrivateServer, tmp_path: Path, in_slurm: None) -> None:
    url = own_server.url(own_server.create())
    open_database(url)
    migrate.migrate()
    handed = Handed(tmp_path, url)
    keys = handed.hand_over("good", size=1)
    close_database()
    own_server.stop()
    with handed.job() as job:
        job.says("database_away")
        own_server.start()
        assert job.wait() == 0, job.output()
    open_database(url)
    completed_once(handed.where, keys)
    close_database()
