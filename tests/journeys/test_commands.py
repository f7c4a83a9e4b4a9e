"""The doors of the service: one copy for each root, exit statuses, sentences instead of tracebacks."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import peewee
import pytest

from tests.journeys.conftest import TRACED_RULES
from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.processes import run, run_json, until
from tests.support.records import outcomes, states
from tests.support.site import Site

# what does not differ between the databases is tried on one
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, f"sqlite:///{tmp_path / 'new' / 'astra.sqlite'}", TRACED_RULES)


@pytest.fixture
def recorded(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    return Site(tmp_path, database_url, TRACED_RULES)


@ON_ONE
def test_a_second_copy_on_the_same_root_is_refused_with_the_first_ones_process(recorded: Site) -> None:
    with recorded.daemon() as first:
        first.says(" started ")
        second = run("astrad", "run", config=recorded.write())
        assert second.returncode == 1
        assert f"{recorded.tree} is watched already, by astrad process {first.pid}: stop that one" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.terminate() == 0
    with recorded.daemon() as third:
        third.says(" started ")


def test_control_c_stops_the_service_quietly(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.says(" started ")
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.wait(15) == 0
        assert "Traceback" not in daemon.output()
        assert "stopped released=0" in daemon.output()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scheduler": {"tik": 1}}, "[scheduler] tik = 1: there is no such setting; did you mean tick?"),
        ({"settle": {"quiet": "soon"}}, '[settle] quiet = "soon": must be'),
    ],
)
def test_unusable_settings_end_with_78_and_name_the_key(
    site: Site, change: dict[str, dict[str, object]], words: str
) -> None:
    site.sections = change
    for command in ("run", "check", "status"):
        done = run("astrad", command, config=site.write())
        assert done.returncode == 78
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (site.folder / "new").exists(), "nothing was made"


def test_a_rule_for_a_component_that_is_not_there_ends_with_78_before_anything_is_made(site: Site) -> None:
    site.rules = [{"name": "typo", "filetype": "apVisits", "task": "nowhere.Nothing"}]
    done = run("astrad", "run", config=site.write())
    assert done.returncode == 78
    assert "rule 'typo': there is no product type 'apVisits'; did you mean apVisit?" in done.stderr
    assert "there is no component nowhere.Nothing" in done.stderr
    assert not (site.folder / "new" / "astra.sqlite").exists()


def test_a_missing_settings_file_is_said_in_a_sentence(site: Site) -> None:
    site.write()
    done = run("astrad", "run", "--config", site.folder / "nowhere.toml", config=site.folder / "config.toml")
    assert done.returncode == 78
    assert "cannot read the settings file" in done.stderr


@ON_ONE
def test_drain_ends_with_1_where_a_task_failed(recorded: Site) -> None:
    recorded.rules = [
        {"name": "raise", "filetype": "apVisit", "task": f"{COMPONENTS}.Raises", "parameters": {"note": "bad"}}
    ]
    fits.write(recorded.tree / fits.visit_name(), fits.apvisit())
    recorded.drain(expect=1)
    assert states() == Counter(failed=1)
    recorded.drain(expect=0)


@ON_ONE
def test_drain_ends_with_1_where_a_file_was_quarantined(recorded: Site) -> None:
    fits.write(recorded.tree / fits.visit_name(), b"no spectrum " * 1000)
    fits.write(recorded.tree / fits.visit_name(fiber=7), fits.apvisit(FIBERID=7))
    recorded.drain(expect=1)
    assert (outcomes(), states()) == (Counter(quarantined=1, ingested=1), Counter(completed=1))
    recorded.drain(expect=0)


@ON_ONE
def test_drain_ends_with_1_where_a_folder_cannot_be_read(recorded: Site) -> None:
    config = recorded.write()
    recorded.tree.rmdir()
    done = run("astrad", "run", "--drain", config=config)
    assert done.returncode == 1
    assert "root_out" in done.stderr


@ON_ONE
def test_drain_waits_for_a_file_that_has_not_settled_and_once_does_not(recorded: Site) -> None:
    recorded.sections = {"settle": {"quiet": 2}}
    fits.write(recorded.tree / fits.visit_name(), fits.apvisit())
    done = run("astrad", "run", "--once", config=recorded.write())
    assert done.returncode == 0
    assert (outcomes(), states()) == (Counter(), Counter())
    recorded.drain()
    assert (outcomes(), states()) == (Counter(ingested=1), Counter(completed=1))


@ON_ONE
def test_once_takes_in_what_has_settled_and_runs_what_is_pending(recorded: Site) -> None:
    for fiber in range(1, 21):
        fits.write(recorded.tree / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))
    recorded.sections = {"settle": {"quiet": 0}}
    done = run("astrad", "run", "--once", config=recorded.write())
    assert done.returncode == 0, done.stderr
    assert (outcomes(), states()) == (Counter(ingested=20), Counter(completed=20))


@ON_ONE
def test_what_lay_there_before_is_taken_in_and_calls_no_rule_without_backfill(recorded: Site) -> None:
    recorded.watch = {"backfill": False}
    fits.write(recorded.tree / fits.visit_name(), fits.apvisit())
    with recorded.daemon() as daemon:
        daemon.says("ingested path=")
        fits.write(recorded.tree / fits.visit_name(fiber=7), fits.apvisit(FIBERID=7))
        until(lambda: states() == Counter(completed=1))
    assert outcomes() == Counter(ingested=2)
    assert states(fits.visit_name()) == Counter()


def test_the_service_makes_its_database_and_check_and_status_tell_of_it(site: Site) -> None:
    fits.write(site.tree / fits.visit_name(), fits.apvisit())
    config = site.write()
    before = {each["subject"]: each for each in run_json("astrad", "check", config=config)}
    assert "will be made at the first start" in before["database"]["message"]
    assert not (site.folder / "new" / "astra.sqlite").exists()
    with site.daemon() as daemon:
        daemon.says("ended bundle=")
        shown = run_json("astrad", "status", config=config)
        assert shown["service"]["alive"]
        assert shown["service"]["pid"] == daemon.pid
        assert shown["records"]["tasks"] == {"completed": 1}
        assert shown["records"]["linked"] == 1
        said = run("astrad", "status", config=config).stdout
        assert f"alive and running, pid {daemon.pid}" in said
        assert "1 data products, 1 linked to 1 sources" in said
        daemon.kill()
        gone = run("astrad", "status", config=config)
        assert (gone.returncode, "not alive: its process is gone" in gone.stdout) == (1, True)
    after = {each["subject"]: each for each in run_json("astrad", "check", config=config)}
    assert "is reached and up to date" in after["database"]["message"]


def test_two_ways_to_end_exclude_each_other(site: Site) -> None:
    done = run("astrad", "run", "--drain", "--once", config=site.write())
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_every_command_has_help_with_an_example(site: Site) -> None:
    config = site.write()
    for command in ([], ["run"], ["check"], ["status"]):
        done = run("astrad", *command, "--help", config=config)
        assert done.returncode == 0
        assert "Example: astrad" in done.stdout
