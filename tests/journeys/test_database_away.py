"""PostgreSQL that is away: at the start, while files come, while a bundle ends, and when the service is stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from astra.base import Parameter, TaskInstance
from astra.database import migrate
from astra.database.astradb import Task
from astra.database.connection import close_database, open_database
from tests.support import fits
from tests.support.components import COMPONENTS, make_gate, open_gate, waiting
from tests.support.postgres import PrivateServer
from tests.support.processes import run, until
from tests.support.records import ingestions, states, traces
from tests.support.site import Site


@pytest.fixture
def site(own_server: PrivateServer, tmp_path: Path) -> Iterator[Site]:
    rule = {"name": "wait", "filetype": "apVisit", "task": f"{COMPONENTS}.Waits"}
    url = own_server.url(own_server.create())
    site = Site(tmp_path, url, [{**rule, "parameters": {"gate": str(tmp_path / "gate")}}])
    make_gate(site.gate)
    yield site
    close_database()


def visit(site: Site, fiber: int) -> Path:
    return fits.write(site.tree / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))


def test_the_service_waits_for_its_database_and_goes_on_when_it_comes_back(
    site: Site, own_server: PrivateServer
) -> None:
    own_server.stop()
    with site.daemon() as daemon:
        daemon.says("database_away")
        first = visit(site, 1)
        own_server.start()
        daemon.says(" started ")
        open_database(site.url)
        until(lambda: waiting(site.gate) and states() == Counter(running=1))

        own_server.stop("immediate")
        second = visit(site, 2)
        until(lambda: daemon.output().count("database_away") >= 2)
        open_gate(site.gate)  # the bundle ends while there is nobody to tell
        own_server.start()
        close_database()
        open_database(site.url)
        until(lambda: states() == Counter(completed=2), timeout=60)
        assert [ingestions(path) for path in (first, second)] == [[("ingested", None)]] * 2
        assert len(traces()) == len({task for task, _ in traces()}) == 2
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0


def test_a_stop_while_the_database_is_away_is_clean_and_the_next_start_frees_what_ran(
    site: Site, own_server: PrivateServer
) -> None:
    site.sections = {"executor": {"drain": 0.5}}
    with site.daemon() as daemon:
        daemon.says(" started ")
        visit(site, 1)
        until(lambda: waiting(site.gate))
        own_server.stop("immediate")
        try:
            assert daemon.terminate() == 0
        finally:
            own_server.start()
        assert "not_released" in daemon.output()
        assert "Traceback" not in daemon.output()
    open_gate(site.gate)
    site.drain()
    open_database(site.url)
    assert states() == Counter(completed=1)
    assert len(traces()) == 1


@pytest.mark.system
def test_a_stop_does_not_wait_for_long_where_the_database_alone_is_waited_for(
    site: Site, own_server: PrivateServer
) -> None:
    site.sections = {"executor": {"drain": 120}}
    with site.daemon() as daemon:
        daemon.says(" started ")
        visit(site, 1)
        until(lambda: waiting(site.gate))
        own_server.stop("immediate")
        open_gate(site.gate)
        try:
            shown = run("astrad", "status", config=site.write())
            assert (shown.returncode, "database    away: the database cannot be used" in shown.stdout) == (0, True), (
                shown
            )
            assert daemon.terminate(40) == 0
        finally:
            own_server.start()
        said = daemon.output()
        assert [said.count(f" {each} bundles=1 ") for each in ("unrecorded", "not_released")] == [1, 1], said
        assert said.count("not_released") == said.count("stopped released=0") == 1, said


def test_a_service_that_waits_for_its_database_can_be_stopped(site: Site, own_server: PrivateServer) -> None:
    own_server.stop()
    try:
        with site.daemon() as daemon:
            daemon.says("database_away")
            assert daemon.terminate(15) == 0
    finally:
        own_server.start()


def test_a_restart_in_the_middle_of_a_stage_costs_no_work(site: Site, own_server: PrivateServer) -> None:
    done = []

    class Restarts(TaskInstance):
        n = Parameter()

        def execute(self) -> None:
            for task, _ in self.iterable():
                done.append(task.parameters["n"])
            own_server.stop("fast")
            own_server.start()

        def post_execute(self) -> None:
            for _ in self.iterable():
                pass

    open_database(site.url)
    migrate.migrate()
    Restarts(n=[1, 2]).execute()
    assert states_of_all() == Counter(completed=2)
    assert done == [1, 2]


def states_of_all() -> Counter[str]:
    return Counter(str(task.state) for task in Task.select())
