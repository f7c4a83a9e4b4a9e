"""Services with folders of their own on one PostgreSQL, as on several machines: woken, and standing by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import peewee
import pytest

from astra.database.connection import run as query
from tests.support import fits
from tests.support.components import COMPONENTS, Traced
from tests.support.processes import Daemon, run, run_json, until
from tests.support.records import ingestions, states
from tests.support.site import Site

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def machine(folder: Path, url: str, tree: Path, **scheduler: float) -> Site:
    folder.mkdir()
    site = Site(folder, url, [{"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}])
    site.watch = {"path": str(tree)}
    site.sections = {"scheduler": scheduler}
    return site


def test_a_service_that_seldom_looks_is_woken_by_what_another_process_enqueues(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    site = machine(tmp_path / "one", database_url, tmp_path / "sas", tick=600, lease=3600)
    with site.daemon() as daemon:
        daemon.says(" started ")
        for number in range(1, 4):
            Traced(note=f"{number}").enqueue()
            until(lambda number=number: daemon.output().count(" ended ") == number)
            assert query("SELECT state, count(*) FROM task GROUP BY state") == [("completed", number)]
        assert " listening " in daemon.output()


@pytest.mark.system
def test_one_watches_the_other_stands_by_and_takes_over_when_it_is_killed(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    tree = tmp_path / "sas"
    first, second = (machine(tmp_path / name, database_url, tree) for name in ("one", "two"))
    with first.daemon() as one:
        one.says(" started ")
        with second.daemon() as two:
            assert "standing_by root=redux" in two.says(" started ")
            files = [fits.write(tree / fits.visit_name(fiber=1), fits.apvisit(FIBERID=1))]
            until(lambda: states() == Counter(completed=1))
            assert (" ingested " in one.output(), " ingested " in two.output()) == (True, False)
            config = second.folder / "config.toml"
            [root] = run_json("astrad", "status", config=config)["service"]["roots"]
            assert root["watched_by"].startswith(f"astrad {one.pid} on ")
            assert f"astrad {one.pid} on" in run("astrad", "check", config=config).stdout
            one.kill_all()
            files.append(fits.write(tree / fits.visit_name(fiber=2), fits.apvisit(FIBERID=2)))
            two.says(" taken_over ", timeout=40)
            until(lambda: states() == Counter(completed=2))
            assert [ingestions(path) for path in files] == [[("ingested", None)]] * 2
            assert two.terminate() == 0


@pytest.mark.system
def test_a_folder_that_one_service_cannot_read_is_watched_by_one_that_can(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    first, second = (machine(tmp_path / name, database_url, tmp_path / f"sas-{name}") for name in ("one", "two"))
    first.write()
    first.tree.rmdir()  # as on a machine where the shared disk is not mounted
    with Daemon(first.folder / "config.toml") as one:
        one.says(" started ")
        fits.write(second.tree / fits.visit_name(fiber=1), fits.apvisit(FIBERID=1))
        with second.daemon() as two:
            two.says(" taken_over ", timeout=60)
            one.says(" root_given_up ", timeout=20)
            until(lambda: states() == Counter(completed=1))
            assert one.terminate() == 0
