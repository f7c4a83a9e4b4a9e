"""The commands that take in, list, show and replay, on both databases: what they print and how they end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astra.cli import main
from astra.database.astradb import Task
from astra.states import TaskState
from tests.support import fits
from tests.support.processes import write_config

COMPONENT = "astra.contrib.spectrum_quality.base.SpectrumQuality"
CATALOGID = (3 << 53) + 12345  # one that a JSON number would lose digits of
Ask = Callable[..., Any]


@pytest.fixture
def config(database_url: str, tmp_path: Path) -> Path:
    (tmp_path / "sas").mkdir()
    settings = {
        "database": {"url": database_url},
        "watch": [{"path": str(tmp_path / "sas"), "name": "sas"}],
        "rules": [{"name": "visits", "filetype": "apVisit", "task": COMPONENT}],
        "settle": {"quiet": 0.1, "patience": 0.2},
    }
    return write_config(tmp_path / "config.toml", settings)


@pytest.fixture
def say(config: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command in this process; return exit status, output and errors."""

    def said(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["--config", str(config), *map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return said


@pytest.fixture
def ask(say: Ask) -> Ask:
    """Run a command with --json, expect it to end well, and return its answer."""

    def answer(*arguments: str | Path) -> Any:
        status, output, errors = say(*arguments, "--json")
        assert (status, errors) == (0, "")
        return json.loads(output)

    return answer


@pytest.fixture
def sas(tmp_path: Path) -> Path:
    """A folder with two visits to a star, and the star."""
    folder = tmp_path / "sas"
    for n in (1, 2):
        cards = {"MJD5": 55870 + n, "FIBERID": n, "CATID": CATALOGID}
        fits.write(folder / fits.visit_name(mjd=55870 + n, fiber=n), fits.apvisit(**cards))
    fits.write(folder / fits.star_name(), fits.apstar())
    for path in folder.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


def test_a_folder_is_taken_in_with_what_the_rules_call_for(ask: Ask, say: Ask, sas: Path) -> None:
    said = ask("ingest", sas)
    assert (said["counts"], said["tasks"]) == ({"ingested": 3}, 2)
    assert {Path(each["path"]) for each in said["files"]} == set(sas.iterdir())
    assert ask("ingest", sas)["counts"] == {"ingested before": 3}
    status, output, _ = say("ingest", sas)
    assert status == 0
    assert output.endswith("3 ingested before; 0 tasks enqueued\n")


def test_without_rules_nothing_is_enqueued(ask: Ask, sas: Path) -> None:
    assert ask("ingest", sas, "--no-rules")["tasks"] == 0
    assert ask("tasks") == []


def test_a_quarantined_file_ends_with_status_1_and_is_listed_until_it_is_whole(say: Ask, ask: Ask, sas: Path) -> None:
    broken = fits.write(sas / fits.visit_name(mjd=55879), b"not FITS")
    os.utime(broken, (1_600_000_000, 1_600_000_000))
    for words in ("1 quarantined", "1 quarantined before"):
        status, output, _ = say("ingest", sas)
        assert status == 1
        assert words in output
    listed = ask("quarantine")
    assert [(each["path"], each["root"], each["size"]) for each in listed] == [(str(broken), "sas", 8)]
    assert "not a FITS file" in listed[0]["reason"]
    assert listed[0]["since"].endswith("Z")
    broken.unlink()
    fits.write(broken, fits.apvisit(MJD5=55879))
    assert ask("ingest", broken)["counts"] == {"ingested": 1}
    assert ask("quarantine") == []
    assert say("quarantine")[1] == "nothing is quarantined\n"


def test_files_of_other_kinds_are_no_failure_unless_they_were_named(say: Ask, ask: Ask, sas: Path) -> None:
    other = fits.write(sas / "apStar-notes.fits", fits.apstar())
    assert ask("ingest", sas)["counts"] == {"ingested": 3, "not ours": 1}
    status, output, _ = say("ingest", other)
    assert status == 1
    assert "is of no known product type" in output


def test_products_and_tasks_are_listed_newest_first_with_filters(ask: Ask, sas: Path) -> None:
    ask("ingest", sas)
    every = ask("products")
    assert [each["id"] for each in every] == sorted((each["id"] for each in every), reverse=True)
    assert len(ask("products", "--limit", "2")) == 2
    assert [Path(each["path"]).name for each in ask("products", "--filetype", "apStar")] == [fits.star_name()]
    assert len(ask("products", "--path", "apVisit-*", "--limit", "1")) == 1
    assert len(ask("products", "--source", "2M00005143+5615568", "--release", every[0]["release"])) == 3
    assert ask("products", "--release", "dr99") == []
    tasks = ask("tasks", "--component", "SpectrumQuality", "--rule", "visits", "--state", "pending")
    assert [each["component"] for each in tasks] == [COMPONENT] * 2
    assert tasks[0]["id"] > tasks[1]["id"]
    assert tasks[0]["created"].endswith("Z")
    assert ask("tasks", "--state", "failed") == []


def test_a_product_is_shown_with_versions_source_and_tasks(ask: Ask, sas: Path) -> None:
    ask("ingest", sas)
    path = sas / fits.visit_name(mjd=55871, fiber=1)
    before = ask("products", "--path", path.name)[0]
    fits.write(path, fits.apvisit(MJD5=55871, FIBERID=1, SNR=9.0))
    ask("ingest", path)
    shown = ask("show", "product", str(before["id"]))
    assert [each["outcome"] for each in shown["versions"]] == ["ingested", "ingested"]
    assert shown["current_ingestion"] == shown["versions"][0]["ingestion"]
    assert [each["state"] for each in shown["tasks"]] == ["pending", "cancelled"]
    assert [(each["source"], each["current"]) for each in shown["links"]] == [(before["source"], True)]
    newest = ask("show", "ingestion", str(shown["current_ingestion"]))
    assert (newest["current"], newest["supersedes"]) == (True, shown["versions"][1]["ingestion"])
    assert newest["mtime_ns"] == str(path.stat().st_mtime_ns)
    old = ask("show", "ingestion", str(newest["supersedes"]))
    assert (old["current"], old["superseded_by"]) == (False, [newest["id"]])


def test_a_task_and_its_bundle_are_shown_with_inputs_times_and_results(
    say: Ask, ask: Ask, config: Path, real_data: Path
) -> None:
    from astra.contrib.spectrum_quality.base import SpectrumQuality

    file = min(real_data.glob("apVisit-*.fits"))
    ask("init")
    SpectrumQuality(str(file)).execute()
    task = ask("tasks")[0]
    shown = ask("show", "task", str(task["id"]))
    assert shown["inputs"][0]["path"] == str(file)
    assert shown["inputs"][0]["current"] is True
    assert shown["inputs"][0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest(), "of the bytes that were read"
    assert shown["results"][0]["table"] == "spectrum_quality"
    assert shown["results"][0]["snr_header"] > 0
    assert shown["times"]["time_total"] > 0
    assert shown["tries"][0]["outcome"] == "completed"
    bundle = ask("show", "bundle", str(task["bundle"]))
    assert [each["task"] for each in bundle["tasks"]] == [task["id"]]
    assert "numpy" in bundle["packages"]
    assert "token" not in bundle
    status, output, _ = say("show", "task", str(task["id"]))
    assert status == 0
    assert "results:" in output
    assert shown["inputs"][0]["sha256"] in output


@pytest.mark.parametrize("kind", ["source", "product", "task", "bundle", "ingestion"])
def test_what_is_not_there_is_said(say: Ask, kind: str) -> None:
    status, output, errors = say("show", kind, "41")
    assert (status, output) == (1, "")
    assert "41" in errors


def test_a_replay_is_planned_done_and_resumed_from_the_command_line(say: Ask, ask: Ask, sas: Path) -> None:
    ask("ingest", sas)
    Task.update(state=TaskState.FAILED).execute()
    selection = ("replay", "tasks", "--component", "SpectrumQuality", "--state", "failed", "--mjd", "55870:55871")
    plan = ask(*selection, "--plan")
    assert plan["plan"] is True
    assert (plan["planned"], plan["counts"], len(plan["entries"])) == (1, {COMPONENT: 1}, 1)
    assert say(*selection, "--plan")[1].startswith("1 tasks would be enqueued, 0 selected ones would be left alone\n")
    assert len(ask("tasks")) == 2
    done = ask(*selection)
    assert (done["plan"], done["done"], done["outcomes"]) == (False, 1, {"enqueued": 1})
    newest = ask("tasks")[0]
    assert (newest["state"], newest["priority"]) == ("pending", 100)
    status, _, errors = say("replay", "--resume", str(done["replay"]))
    assert status == 1
    assert "there is nothing left of it to do" in errors


def test_a_rule_that_came_later_is_replayed_by_its_name(ask: Ask, say: Ask, sas: Path, config: Path) -> None:
    ask("ingest", sas)
    with config.open("a") as settings:
        settings.write(f'[[rules]]\nname = "stars"\nfiletype = "apStar"\ntask = "{COMPONENT}"\n')
    assert ask("replay", "--rule", "stars", "--plan")["planned"] == 1
    assert ask("replay", "--rule", "stars")["outcomes"] == {"enqueued": 1}
    assert [each["rule"] for each in ask("tasks", "--limit", "1")] == ["stars"]
    status, _, errors = say("replay", "--rule", "planets")
    assert status == 1
    assert "there is no rule planets in the settings; there are visits, stars" in errors


def test_files_are_taken_in_again_from_the_command_line(ask: Ask, say: Ask, sas: Path) -> None:
    ask("ingest", sas)
    assert ask("replay", "ingestion", "--filetype", "apVisit", "--plan")["counts"] == {"apVisit": 2}
    done = ask("replay", "ingestion", "--filetype", "apVisit")
    assert done["outcomes"] == {"ingested": 2, "tasks": 2}
    assert say("replay", "ingestion", "--outcome", "quarantined")[:2] == (
        0,
        "0 files would be taken in again, 0 selected ones would be left alone\n",
    )


def test_a_night_is_simulated_and_its_truth_told(ask: Ask, say: Ask, tmp_path: Path) -> None:
    told = ask("simulate", tmp_path / "night", "--stars", "1", "--configurations", "1", "--visits", "1")
    assert len(told["stars"]) == 2
    for star in told["stars"]:
        assert isinstance(star["catalogid"], str)
        assert all(Path(each).is_file() for each in (star["star"], *star["visits"]))
    status, output, _ = say(
        "simulate", tmp_path / "other", "--stars", "1", "--configurations", "1", "--release", "dr17"
    )
    assert status == 0
    assert "2 stars and 4 visits below" in output
