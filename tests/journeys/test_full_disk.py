"""The disk that holds the database is full: the service says so once, waits, goes on by itself, and loses nothing."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from astra.database.connection import close_database, open_database
from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.disks import fill, small_disk
from tests.support.missing import lacking
from tests.support.postgres import PrivateServer
from tests.support.processes import until
from tests.support.records import ingestions, outcomes, states, traces
from tests.support.site import Site

pytestmark = pytest.mark.system
TRACE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}


@pytest.fixture
def on_sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    with small_disk(tmp_path / "disk", 20) as disk:
        shutil.copyfile(request.getfixturevalue("sqlite_template"), disk / "astra.sqlite")
        yield Site(tmp_path, f"sqlite:///{disk / 'astra.sqlite'}", [TRACE]), disk
        close_database()


@pytest.fixture
def on_postgresql(pg_server: PrivateServer, pg_template: str, tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    """A database of the server whose tables lie on a small disk, and the server's journal elsewhere."""
    if not isinstance(pg_server, PrivateServer):
        lacking("somebody else's server keeps its databases where it likes")

    def administer(statement: str) -> None:
        with closing(psycopg2.connect(pg_server.base)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)

    with small_disk(pg_server.directory / "disk", 40) as disk:
        place = disk / "tables"
        place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(place, pg_server.directory.owner())
        name = pg_server.create(pg_template)
        administer(f"CREATE TABLESPACE small LOCATION '{place}'")
        administer(f'ALTER DATABASE "{name}" SET TABLESPACE small')
        yield Site(tmp_path, pg_server.url(name), [TRACE]), disk
        close_database()
        pg_server.drop(name)
        administer("DROP TABLESPACE small")


@pytest.mark.parametrize("where", ["on_sqlite", "on_postgresql"])
def test_a_full_disk_is_said_once_and_waited_for_and_nothing_is_lost(
    request: pytest.FixtureRequest, where: str
) -> None:
    site, disk = request.getfixturevalue(where)
    names: list[str] = []

    def write_one() -> None:
        names.append(fits.visit_name(fiber=len(names) + 1))
        fits.write(site.tree / names[-1], fits.apvisit(FIBERID=len(names)))

    with site.daemon() as daemon:
        daemon.says(" started ")
        write_one()
        open_database(site.url)
        until(lambda: states() == Counter(completed=1))
        filling = fill(disk)

        def it_is_noticed() -> bool:
            write_one()  # what fits into the room that the database has in hand is still taken in
            return "database_away" in daemon.output()

        until(it_is_noticed, timeout=60)
        write_one()
        filling.unlink()
        until(lambda: states() == Counter(completed=len(names)), timeout=90)
        assert outcomes() == Counter(ingested=len(names))
        assert all(len(ingestions(name)) == 1 for name in names)
        assert len(traces()) == len({task for task, _ in traces()}) == len(names)
        said = daemon.output()
        assert "Traceback" not in said
        assert said.count("database_away") <= 3, "once by each part that met it"
        assert daemon.terminate() == 0
