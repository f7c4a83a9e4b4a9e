"""The service stopped and killed in mid-bundle: what ran is finished or runs again, once, and nobody is left behind."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import peewee
import pytest

from astra.database.astradb import Bundle, TaskBundle
from tests.support import fits
from tests.support.components import COMPONENTS, make_gate, open_gate, waiting
from tests.support.processes import Daemon, lives, until
from tests.support.records import bundles, ingestions, states, traces
from tests.support.site import Site

FILES = 6
# what does not differ between the databases is tried on one
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    """Six visits, and a component that waits at a gate in bundles of two, two bundles at a time."""
    rule = {"name": "wait", "filetype": "apVisit", "task": f"{COMPONENTS}.Waits"}
    site = Site(tmp_path, database_url, [{**rule, "parameters": {"gate": str(tmp_path / "gate")}}])
    site.sections = {"scheduler": {"max_bundle_size": 2}, "executor": {"workers": 2, "drain": 30}}
    make_gate(site.gate)
    for fiber in range(1, FILES + 1):
        fits.write(site.tree / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))
    return site


def in_mid_bundle(site: Site) -> Daemon:
    """Start the service and return it when two bundles run and two tasks wait."""
    daemon = site.daemon()
    try:
        until(lambda: len(waiting(site.gate)) == 2)
        assert states() == Counter(running=4, pending=2)
    except BaseException:
        daemon.kill_all()
        raise
    return daemon


def all_done_once() -> None:
    assert states() == Counter(completed=FILES)
    assert len(traces()) == FILES
    assert len({task for task, _ in traces()}) == len({product for _, product in traces()}) == FILES
    assert all(len(ingestions(fits.visit_name(fiber=fiber))) == 1 for fiber in range(1, FILES + 1))


def test_killed_in_mid_bundle_and_started_again_it_does_everything_once(site: Site) -> None:
    with in_mid_bundle(site) as daemon:
        daemon.kill()
        workers = waiting(site.gate)
        until(lambda: not any(map(lives, workers)))
    assert states() == Counter(running=4, pending=2), "nothing was written by those who died"
    open_gate(site.gate)
    said = site.drain()
    assert said.count("expired bundle=") == 2
    all_done_once()
    assert bundles()["expired"] == 2
    assert {row.error for row in Bundle.select() if row.state == "expired"} == {"its process is gone"}


@ON_ONE
def test_killed_workers_are_replaced_and_their_bundles_run_again(site: Site) -> None:
    with in_mid_bundle(site) as daemon:
        killed = daemon.kill_children()
        until(lambda: len(waiting(site.gate)) == 4)
        assert not any(map(lives, killed))
        open_gate(site.gate)
        until(lambda: states() == Counter(completed=FILES))
        assert daemon.terminate() == 0
    all_done_once()
    died = [row for row in TaskBundle.select() if row.error_kind == "crash"]
    assert [row.outcome for row in died] == ["released"] * 4, "none was in hand, so none is to blame"
    assert {row.error_message for row in died} == {"its process was ended by signal 9"}


@ON_ONE
def test_a_component_that_always_dies_fails_in_the_end_and_drain_tells(site: Site) -> None:
    site.rules = [{"name": "die", "filetype": "apVisit", "task": f"{COMPONENTS}.Exits"}]
    site.sections["scheduler"]["retries"] = 1
    site.drain(expect=1)
    assert states() == Counter(failed=FILES)
    assert Counter(row.outcome for row in TaskBundle.select())["expired"] == 2 * FILES
    assert {row.error_message for row in TaskBundle.select() if row.outcome == "expired"} == {
        "its process ended with status 3"
    }


def test_a_stop_in_mid_bundle_lets_what_runs_finish_and_begins_nothing(site: Site) -> None:
    with in_mid_bundle(site) as daemon:
        daemon.process.terminate()
        daemon.says("stopping running=2")
        open_gate(site.gate)
        assert daemon.wait() == 0
        assert "stopped released=0" in daemon.output()
        assert not any(map(lives, waiting(site.gate)))
    assert states() == Counter(completed=4, pending=2)
    assert bundles() == Counter(ended=2)
    site.drain()
    all_done_once()


@ON_ONE
def test_what_does_not_finish_within_the_limit_is_released(site: Site) -> None:
    site.sections["executor"]["drain"] = 0.5
    with in_mid_bundle(site) as daemon:
        assert daemon.terminate() == 0
        assert "stopped released=2" in daemon.output()
        assert not any(map(lives, waiting(site.gate)))
    assert states() == Counter(pending=FILES)
    assert bundles() == Counter(released=2)
    open_gate(site.gate)
    site.drain()
    all_done_once()


@ON_ONE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(site: Site, number: signal.Signals) -> None:
    with in_mid_bundle(site) as daemon:
        daemon.process.send_signal(number)
        daemon.says("stopping running=2")
        daemon.process.send_signal(number)
        assert daemon.wait(10) == 0
        assert "stopped released=2" in daemon.output()
        assert "Traceback" not in daemon.output()
        assert not any(map(lives, waiting(site.gate)))
    assert states() == Counter(pending=FILES)
    assert bundles() == Counter(released=2)
