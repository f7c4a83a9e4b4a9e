"""Real visits arrive one by one: each is measured, then worked on further, and in the end all of a star together."""

from __future__ import annotations

import shutil
from pathlib import Path

import peewee
import pytest

from astra.database.astradb import DataProduct, Task
from astra.database.connection import run
from astra.states import TaskState
from tests.support.components import COMPONENTS, Trace
from tests.support.processes import Daemon, run_json, until
from tests.support.processes import run as run_program
from tests.support.realdata import RealFile, lay_out
from tests.support.records import linked
from tests.support.site import QUALITY, Site

MANY, FEW = "2M19432016+3957081", "2M19241352+3858278"  # six visits in DR12, and three
RULES = (
    {"name": "quality", "filetype": "apVisit", "task": QUALITY},
    {"name": "further", "filetype": "apVisit", "task": f"{COMPONENTS}.NeedsQuality", "after": "quality", "priority": 1},
    {"name": "together", "filetype": "apVisit", "task": f"{COMPONENTS}.Combines", "gather": "source", "wait": 1},
)


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Site:
    return Site(tmp_path, database_url, RULES)


@pytest.fixture
def visits(real_files: list[RealFile], tmp_path: Path) -> list[Path]:
    """Copies of all the visits of two stars, where nobody watches."""
    return sorted(lay_out(real_files, tmp_path / "aside", lambda each: each.obj in (MANY, FEW) and _is_one(each)))


def _is_one(file: RealFile) -> bool:
    return file.filetype == "apVisit" and file.release == "DR12" and not file.renamed


def put(site: Site, tmp_path: Path, *paths: Path) -> None:
    for path in paths:
        place = site.tree / path.relative_to(tmp_path / "aside")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


def gathered() -> dict[int, set[int]]:
    """Return, by source, the largest set of data products that a completed task was given together."""
    sources = {product: source for product, _, source in linked()}
    found: dict[int, set[int]] = {}
    for row in Trace.select().join(Task).where(Task.rule == "together", Task.state == TaskState.COMPLETED):
        own = {int(each) for each in row.note.split()}
        [source] = {sources[each] for each in own}
        assert source is not None
        found[source] = max(found.get(source, set()), own, key=len)
    return found


def of_sources() -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for product, _, source in linked():
        assert source is not None
        found.setdefault(source, set()).add(product)
    return found


def is_gathered(count: int) -> bool:
    return DataProduct.select().count() == count and gathered() == of_sources()


@pytest.mark.system
def test_visits_are_measured_then_worked_on_then_gathered_by_star(
    site: Site, visits: list[Path], tmp_path: Path, database: peewee.Database
) -> None:
    assert len(visits) == 9
    with site.daemon() as daemon:
        daemon.says(" started ")
        for number, path in enumerate(visits[:-1], start=1):
            put(site, tmp_path, path)
            until(lambda number=number: DataProduct.select().count() == number)  # type: ignore[misc]
        until(lambda: is_gathered(8), timeout=60)
        put(site, tmp_path, visits[-1])
        until(lambda: is_gathered(9), timeout=60)
        until(lambda: Task.select().where(Task.rule == "further", Task.state == TaskState.COMPLETED).count() == 9)
        assert daemon.terminate() == 0, daemon.output()
    _told_the_truth(daemon)


def _told_the_truth(daemon: Daemon) -> None:
    assert {(each.rule, str(each.state)) for each in Task.select()} <= {
        ("quality", "completed"),
        ("further", "completed"),
        ("together", "completed"),
        ("together", "cancelled"),
    }
    assert sorted(map(len, of_sources().values())) == [3, 6]
    assert Task.select().where(Task.rule == "quality").count() == 9
    before_its_time = (
        "SELECT count(*) FROM task t JOIN bundle b ON b.id = t.bundle_id JOIN task a ON a.identity = t.after "
        "JOIN bundle d ON d.id = a.bundle_id WHERE b.started < d.ended"
    )
    assert run(before_its_time) == [(0,)]
    inputs = run("SELECT task_id, count(*) FROM task_input_data_product GROUP BY task_id ORDER BY 2 DESC LIMIT 1")
    assert inputs[0][1] == 6
    assert " gathered " in daemon.output()


@pytest.mark.system
def test_a_drain_waits_for_what_is_to_be_gathered_and_not_for_what_follows_a_failure(
    site: Site, visits: list[Path], tmp_path: Path, database: peewee.Database
) -> None:
    bad = {"task": f"{COMPONENTS}.Raises", "parameters": {"note": "bad"}}
    site.rules = ({**RULES[0], **bad}, *RULES[1:])
    put(site, tmp_path, *visits[:2])
    said = site.drain(expect=1)
    states = {(each.rule, str(each.state)) for each in Task.select()}
    assert states == {("quality", "failed"), ("further", "pending"), ("together", "completed")}, said
    assert is_gathered(2)
    [waiting, _] = run_json("astra", "tasks", "--rule", "further", config=site.write())
    failed = Task.get(Task.identity == Task.get_by_id(waiting["id"]).after).id
    assert waiting["waits_for"] == f"task {failed}, which is failed"
    shown = run_program("astra", "show", "task", str(waiting["id"]), config=site.write()).stdout
    assert f"astra retry task {failed}" in shown
