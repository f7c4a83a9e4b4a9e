"""What journeys share: one service per database for those that only change files, and processes to be killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import DATABASES
from tests.support.components import COMPONENTS
from tests.support.nursery import Nursery
from tests.support.site import Site

TRACED_RULES = (
    {"name": "trace-visit", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"},
    {"name": "trace-star", "filetype": "apStar", "task": f"{COMPONENTS}.Traced"},
)


@pytest.fixture(scope="module", params=DATABASES)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose service runs while the tests of a module change files; every test uses files of its own."""
    from astra.database.connection import close_database, open_database

    folder, server, name = tmp_path_factory.mktemp("live"), None, ""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "astra.sqlite")
        url = f"sqlite:///{folder / 'astra.sqlite'}"
    else:
        server = request.getfixturevalue("pg_server")
        name = server.create(request.getfixturevalue("pg_template"))
        url = server.url(name)
    site = Site(folder, url, TRACED_RULES, sections=getattr(request.module, "SECTIONS", {}))
    site.watch.update(getattr(request.module, "WATCH", {}))
    try:
        with site.daemon() as daemon:
            daemon.says(" started ")
            site.running = daemon
            open_database(url)
            yield site
            close_database()
            assert daemon.terminate() == 0, daemon.output()
    finally:
        close_database()
        if server is not None:
            server.drop(name)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where fronts of the service come from, ready to be killed."""
    with Nursery() as made:
        yield made
