"""The commands' words and exit statuses; what they do with real processes is in the journeys."""

from __future__ import annotations

import json
from pathlib import Path

import peewee
import pytest
from click.testing import CliRunner, Result

from astra import queue
from astra.clock import SYSTEM
from astra.states import HoldKind
from daemon import cli, status
from daemon.service import Service, Until
from tests.support.clock import START
from tests.support.site import QUALITY_RULES, Site


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    return Site(tmp_path, database_url, QUALITY_RULES)


def ask(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(cli.astrad, [*arguments, "--config", str(site.write())])


def test_check_says_ok_or_bad_line_by_line(site: Site) -> None:
    done = ask(site, "check")
    assert done.exit_code == 0, done.output
    assert all(line.startswith("ok ") for line in done.output.splitlines())
    site.rules = [{"name": "typo", "filetype": "apStar", "task": "nowhere.Nothing"}]
    done = ask(site, "check")
    assert done.exit_code == 1
    assert "BAD rules: cannot use the rules as they are written" in done.output
    shown = json.loads(ask(site, "check", "--json").output)
    assert [each["subject"] for each in shown if not each["good"]] == ["rules"]


def test_status_tells_that_no_service_has_run_and_what_the_records_hold(site: Site) -> None:
    done = ask(site, "status")
    assert done.exit_code == 1
    lines = dict(line.split(None, 1) for line in done.output.splitlines())
    missing = status.status_file(site.settings())
    assert lines["service"] == f"has not run with these settings: there is no {missing}"
    assert lines["records"] == "0 data products, 0 linked to 0 sources"
    assert (lines["ingested"], lines["tasks"]) == ("nothing yet", "none yet")
    assert json.loads(ask(site, "status", "--json").output)["service"] is None


def test_status_tells_what_is_held_by_whom_and_when_it_is_tried_again(site: Site) -> None:
    assert "\nheld" not in ask(site, "status").output
    queue.hold(HoldKind.COMPONENT, "tests.Thing", "circuit breaker", "20 of 30 tasks failed", START, START)
    queue.hold(HoldKind.REPLAY, "3", "ada@host", "", START)
    lines = [line for line in ask(site, "status").output.splitlines() if line.startswith("held")]
    assert lines == [
        "held        tests.Thing by circuit breaker since 2026-01-02T03:04:05.000Z (20 of 30 tasks failed); "
        "next try 2026-01-02T03:04:05.000Z",
        "held        replay 3 by ada@host since 2026-01-02T03:04:05.000Z",
    ]
    shown = json.loads(ask(site, "status", "--json").output)["records"]["holds"]
    assert [(each["kind"], each["target"], each["reason"], each["next_probe"]) for each in shown] == [
        ("component", "tests.Thing", "20 of 30 tasks failed", "2026-01-02T03:04:05.000Z"),
        ("replay", "3", "", None),
    ]


def test_status_shows_ten_holds_and_counts_the_others(site: Site) -> None:
    for number in range(12):
        queue.hold(HoldKind.REPLAY, str(number), "ada@host", "", START)
    lines = [line for line in ask(site, "status").output.splitlines() if line.startswith("held")]
    assert len(lines) == 11
    assert lines[-1] == "held        and 2 more: `astra holds` lists them all"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_status_tells_of_the_service_while_the_database_is_away(site: Site) -> None:
    site.rules = ()
    settings = site.settings()
    service = Service(settings, SYSTEM)
    service._listener.mine = frozenset({"redux"})
    service._build(())
    service._tell_status()
    site.url = "postgresql://nobody@/nothing?host=/nowhere"
    done = ask(site, "status")
    assert done.exit_code == 0, "the service lives"
    lines = dict(line.split(None, 1) for line in done.output.splitlines())
    assert list(lines) == ["service", "watch", "on", "database"]
    assert lines["service"].startswith("alive and running, pid ")
    assert lines["database"].startswith("away: the database cannot be used now: ")
    done = ask(site, "status", "--json")
    shown = json.loads(done.output)
    assert (done.exit_code, shown["records"], shown["service"]["alive"]) == (0, None, True)
    assert "/nowhere" in shown["database_away"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_status_tells_of_a_service_that_has_stopped(site: Site) -> None:
    settings = site.settings()
    assert Service(settings, SYSTEM, Until.DRAINED).run() == 0
    shown = status.read(status.status_file(settings), SYSTEM)
    assert shown is not None
    assert (shown["alive"], shown["gone"], shown["state"]) == (False, False, "stopped"), "its process still lives"
    assert [(each["name"], each["files"], each["folders"]) for each in shown["roots"]] == [("redux", 0, 1)]
    done = ask(site, "status")
    assert done.exit_code == 1
    assert f"stopped at {shown['written']}" in done.output
    assert shown["written"].endswith("Z")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_wants_to_run_a_bundle_by_hand_is_told_how(site: Site) -> None:
    done = ask(site, "bundle", "3")
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].endswith("to run a recorded bundle again: astra execute bundle 3")
    done = ask(site, "bundle", "3", "--handed", str(site.folder / "foo"))
    told = f"cannot read {site.folder}/foo, the file that a service hands to its job: No such file or directory; "
    assert str(done.exception) == f"{told}nothing was run"


def test_a_database_without_tables_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'new.sqlite'}")
    monkeypatch.setattr("sys.argv", ["astrad", "status", "--config", str(site.write())])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "astrad: there is no database at " in capsys.readouterr().err
    assert not (tmp_path / "new.sqlite").exists()
