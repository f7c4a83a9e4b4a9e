"""Taking in again and enqueueing again beside a running service and without one, planned first and then done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra.database.astradb import Ingestion, Replay, Task
from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.processes import run_json, until
from tests.support.records import count, ingestions, outcomes, states, traces
from tests.support.site import Site

TRACED = f"{COMPONENTS}.Traced"
TABLES = ("ingestion", "data_product", "task", "bundle", "task_bundle", "replay", "source_data_product")

# what does not differ between the databases is tried on one
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    """Two nights of visits, all taken in and done, and one file that is no spectrum."""
    site = Site(tmp_path, database_url, [{"name": "trace", "filetype": "apVisit", "task": TRACED}])
    for mjd in (55874, 55875):
        for fiber in (1, 2, 3):
            content = fits.apvisit(FIBERID=fiber, MJD5=mjd)
            fits.write(site.tree / fits.visit_name(mjd=mjd, fiber=fiber), content)
    fits.write(site.tree / fits.visit_name(fiber=99), b"no spectrum " * 500)
    site.drain(expect=1)
    assert (outcomes(), states()) == (Counter(ingested=6, quarantined=1), Counter(completed=6))
    return site


def replay(site: Site, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = run_json("astra", "replay", *arguments, config=site.folder / "config.toml")
    return answer


def rows() -> dict[str, int]:
    return {table: count(table) for table in TABLES}


def test_a_plan_says_what_a_replay_then_does_and_writes_nothing(site: Site) -> None:
    before = rows()
    selection = ("tasks", "--mjd", "55875", "--component", TRACED)
    planned = replay(site, *selection, "--plan")
    assert planned["planned"] == len(planned["entries"]) == 3
    assert rows() == before

    done = replay(site, *selection)
    assert (done["planned"], done["done"], done["outcomes"]) == (3, 3, {"enqueued": 3})
    assert states() == Counter(completed=6, pending=3)
    site.drain()
    assert states() == Counter(completed=9)
    repeated = list(Task.select().where(Task.replay == done["replay"]))
    assert {each.repeat_of_id for each in repeated} == {each["repeat_of"] for each in planned["entries"]}
    assert Counter(product for _, product in traces()).most_common(1)[0][1] == 2
    assert Replay.get_by_id(done["replay"]).state == "completed"


@ON_ONE
def test_a_mended_file_in_quarantine_is_taken_in_again_and_calls_its_rules(site: Site) -> None:
    name = fits.visit_name(fiber=99)
    selection = ("ingestion", "--outcome", "quarantined")
    assert replay(site, *selection, "--plan")["planned"] == 1
    done = replay(site, *selection)
    assert done["outcomes"].get("quarantined") == 1, "it is no better than it was"
    assert [outcome for outcome, _ in ingestions(name)] == ["quarantined", "quarantined"]

    (site.tree / name).write_bytes(fits.apvisit(FIBERID=99))
    done = replay(site, *selection)
    assert done["outcomes"] == {"ingested": 1, "tasks": 1}
    site.drain()
    assert states(name) == Counter(completed=1)


@ON_ONE
def test_taking_in_again_leaves_the_old_records_and_runs_the_rules_again(site: Site) -> None:
    old = {row.id: row.outcome for row in Ingestion.select()}
    done = replay(site, "ingestion", "--path", "*55874-001*")
    assert done["outcomes"]["ingested"] == 1
    site.drain()
    assert {row.id: row.outcome for row in Ingestion.select() if row.id in old} == old
    assert states(fits.visit_name(fiber=1)) == Counter(completed=2)
    site.drain()
    assert states(fits.visit_name(fiber=1)) == Counter(completed=2), "a sweep does not do it once more"


@ON_ONE
def test_a_rule_that_came_later_reaches_what_was_there_before_it_while_the_service_runs(site: Site) -> None:
    site.rules = [*site.rules, {"name": "late", "filetype": "apVisit", "task": f"{COMPONENTS}.Raises"}]
    with site.daemon() as daemon:
        daemon.says(" started ")
        assert replay(site, "--rule", "late", "--plan")["planned"] == 6
        assert replay(site, "--rule", "late")["outcomes"] == {"enqueued": 6}
        until(lambda: states() == Counter(completed=12))
        assert replay(site, "--rule", "late", "--plan")["planned"] == 0
        assert daemon.terminate() == 0
