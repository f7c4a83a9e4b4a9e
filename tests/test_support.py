"""The tests' own tools: what other tests lean on is tested first."""

from __future__ import annotations

import re
import signal
import threading
import tomllib
from pathlib import Path

import psycopg2
import pytest

from tests.support.clock import START, FakeClock
from tests.support.missing import lacking
from tests.support.postgres import PrivateServer, Server
from tests.support.processes import CHECKOUT, Daemon, stranger, until, write_config
from tests.support.realdata import RealFile
from tests.support.slurm import PrivateSlurm, free_ports


def test_waiting_on_the_fake_clock_moves_it_and_takes_no_time(clock: FakeClock) -> None:
    counter = clock.monotonic()
    assert not clock.wait(threading.Event(), 3600)
    assert (clock.now() - START).total_seconds() == 3600
    assert clock.monotonic() - counter == 3600
    assert clock.waits == [3600]


def test_an_event_that_has_come_takes_no_time_on_the_fake_clock(clock: FakeClock) -> None:
    event = threading.Event()
    event.set()
    assert clock.wait(event, 3600)
    assert clock.now() == START


def test_a_step_of_the_wall_clock_does_not_move_the_counter(clock: FakeClock) -> None:
    counter = clock.monotonic()
    clock.step_wall(-86400)
    assert (clock.now() - START).total_seconds() == -86400
    assert clock.monotonic() == counter


def test_until_returns_the_first_true_answer_and_gives_up_in_time() -> None:
    answers = iter([0, 0, 7])
    assert until(lambda: next(answers), every=0.001) == 7
    with pytest.raises(AssertionError, match=r"not true within 0\.01 s"):
        until(lambda: False, timeout=0.01, every=0.001)


def test_what_a_machine_lacks_skips_a_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no disk"):
        lacking("no disk can be mounted here")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no disk"):
        lacking("no disk can be mounted here")


@pytest.mark.parametrize("folder", ["daemon", "journeys", "contracts", "support"])
def test_nothing_that_needs_root_or_a_tool_is_skipped_in_another_way(folder: str) -> None:
    for path in (CHECKOUT / "tests" / folder).rglob("*.py"):
        skips = re.search(r"pytest\.(skip|importorskip|mark\.skip\w*)\(", path.read_text())
        assert skips is None or path.name == "missing.py", f"{path}: use tests.support.missing.lacking"


def test_settings_survive_the_way_into_a_file(tmp_path: Path) -> None:
    settings = {
        "database": {"url": "sqlite:////tmp/a b.sqlite", "n": 3, "x": 0.5},
        "watch": [{"name": 'é\n"q"', "path": "/data", "backfill": True}, {"name": "two", "tags": ["a", "b"]}],
        "rules": [{"name": "r", "parameters": {"limit": 2}}],
    }
    assert tomllib.loads(write_config(tmp_path / "config.toml", settings).read_text()) == settings


def test_every_real_file_has_a_place_of_its_own_in_the_tree(real_files: list[RealFile]) -> None:
    assert len({file.sas_path for file in real_files}) == len(real_files) == 84
    assert sum(file.filetype in ("apStar", "apVisit") for file in real_files) == 70
    assert all(file.path.stat().st_size == file.size for file in real_files)


def test_the_tree_holds_copies_that_do_not_reach_the_originals(sas_tree: dict[Path, RealFile]) -> None:
    for path, file in sas_tree.items():
        assert path.stat().st_size == file.size
        assert not path.samefile(file.path)


def test_a_database_of_a_test_is_its_own(pg_server: Server) -> None:
    first, second = pg_server.create(), pg_server.create()
    try:
        assert _run(pg_server.url(first), "CREATE TABLE t (x int)", "SELECT to_regclass('t')::text") == "t"
        assert _run(pg_server.url(second), "SELECT to_regclass('t')::text") is None
    finally:
        pg_server.drop(first)
        pg_server.drop(second)


def test_the_private_server_survives_a_crash(pg_server: Server) -> None:
    if not isinstance(pg_server, PrivateServer):
        lacking("the server is not ours to crash")
    name = pg_server.create()
    pg_server.stop("immediate")
    pg_server.start()
    assert _run(pg_server.url(name), "SELECT current_database()") == name
    pg_server.drop(name)


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_all_tables_and_no_rows(database_url: str, turn: int) -> None:
    from astra.database.astradb import Source
    from astra.database.connection import open_database

    open_database(database_url)
    assert Source.select().count() == 0
    Source.create(provisional=True, created=START)


def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    from astra.database.connection import open_database

    assert open_database(empty_database_url).get_tables() == []


def test_ranges_of_free_ports_do_not_overlap() -> None:
    sizes = (2, 1, 1, 1)
    ports = [port + more for port, size in zip(free_ports(*sizes), sizes, strict=True) for more in range(size)]
    assert len(set(ports)) == sum(sizes)


def _submit(slurm: PrivateSlurm, command: str, *options: str) -> str:
    return slurm("sbatch", "--parsable", "--no-requeue", "--output=/dev/null", *options, f"--wrap={command}")


def _states(slurm: PrivateSlurm, job: str) -> list[str]:
    return [each.state for each in slurm.jobs() if each.id.split("_")[0] == job]


@pytest.mark.system
def test_a_job_runs_in_the_private_slurm_and_its_accounts_know_it(slurm: PrivateSlurm) -> None:
    job = _submit(slurm, "exit $SLURM_ARRAY_TASK_ID", "--array=0-1")
    until(lambda: _states(slurm, job) == ["COMPLETED", "FAILED"])
    known = ("sacct", "-X", "-n", "-P", "-o", "jobid,state", "-j", job)
    until(lambda: sorted(slurm(*known).split()) == [f"{job}_0|COMPLETED", f"{job}_1|FAILED"])


@pytest.mark.system
def test_a_node_that_is_killed_takes_its_jobs_with_it_and_comes_back(slurm: PrivateSlurm) -> None:
    idle = len(slurm.pids())
    job = _submit(slurm, "setsid sleep 1000 & sleep 1000", "--nodelist=n1")
    until(lambda: len(slurm.pids()) == idle + 4)  # the job's keeper, its shell, and both
    slurm.kill_node("n1")
    assert len(slurm.pids()) == idle - 1
    until(lambda: _states(slurm, job) == ["NODE_FAIL"], timeout=60)
    slurm.start_node("n1")
    slurm.node_is("n1", "idle")


@pytest.mark.system
@pytest.mark.parametrize("away", ["stop_controller", "kill_controller"])
def test_jobs_outlive_the_controller(slurm: PrivateSlurm, tmp_path: Path, away: str) -> None:
    job = _submit(slurm, f"until test -e {tmp_path}/go; do sleep 0.1; done; touch {tmp_path}/went")
    until(lambda: _states(slurm, job) == ["RUNNING"])
    slurm.settle()
    getattr(slurm, away)()
    (tmp_path / "go").touch()
    until((tmp_path / "went").exists)
    slurm.start_controller()
    until(lambda: _states(slurm, job) == ["COMPLETED"], timeout=60)


@pytest.mark.system
def test_two_private_slurms_run_side_by_side_and_nothing_is_left_of_them(slurm: PrivateSlurm) -> None:
    with PrivateSlurm(nodes=1, accounts=False) as other:
        job = _submit(other, "setsid sleep 1000 & sleep 1000")
        until(lambda: _states(other, job) == ["RUNNING"])
        assert _states(slurm, job) != ["RUNNING"]
        assert other.folder != slurm.folder
        assert other.pids()
    assert other.pids() == []
    assert not other.folder.exists()
    assert slurm("scontrol", "ping").endswith("is UP")


def _run(url: str, *statements: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone()
            assert row is not None
            return row[0]
    finally:
        connection.close()


def test_a_daemon_that_has_ended_is_not_killed_again_when_its_number_is_a_strangers(tmp_path: Path) -> None:
    daemon = Daemon(write_config(tmp_path / "config.toml", {}), started=["true"])
    daemon.wait()
    other = stranger(daemon.pid)
    daemon.kill_all()
    assert other.poll() is None
    other.terminate()
    assert other.wait() == -signal.SIGTERM
