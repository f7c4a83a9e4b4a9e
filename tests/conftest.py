"""Fixtures for all tests: the real spectra, both databases, a clock moved by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.clock import FakeClock
from tests.support.missing import lacking
from tests.support.realdata import RealFile, lay_out, read_manifest

if TYPE_CHECKING:
    import peewee

    from tests.support.postgres import PrivateServer, Server
    from tests.support.slurm import PrivateSlurm

DATABASES = ("sqlite", "postgresql")


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real spectra, `$ASTRA_REAL_DATA`: to be read, never to be changed."""
    named = os.environ.get("ASTRA_REAL_DATA")
    if not named:
        lacking("ASTRA_REAL_DATA does not name the folder of real spectra")
    folder = Path(named).resolve()
    if not (folder / "MANIFEST.md").is_file():
        lacking(f"ASTRA_REAL_DATA names {folder}, where there is no MANIFEST.md")
    return folder


@pytest.fixture(scope="session")
def real_files(real_data: Path) -> list[RealFile]:
    """All real spectra, as their manifest describes them."""
    return read_manifest(real_data)


@pytest.fixture
def sas_tree(real_files: list[RealFile], tmp_path: Path) -> dict[Path, RealFile]:
    """Copies of all real spectra in their SDSS tree below ``tmp_path / "sas"``: path -> what is there."""
    return lay_out(real_files, tmp_path / "sas")


@pytest.fixture(scope="session")
def pg_server() -> Iterator[Server]:
    """A PostgreSQL server for this session: `$ASTRA_TEST_POSTGRES`, or the one in the test extra's wheel."""
    from tests.support.postgres import NoPostgres, open_server

    try:
        server = open_server(os.environ.get("ASTRA_TEST_POSTGRES"))
    except NoPostgres as error:
        lacking(str(error))
    yield server
    server.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PrivateServer]:
    """A PostgreSQL that nobody else uses: the tests of a module may stop it."""
    from tests.support.postgres import NoPostgres, PrivateServer

    try:
        server = PrivateServer.of_wheel()
    except NoPostgres as error:
        lacking(str(error))
    yield server
    server.close()


@pytest.fixture(scope="session")
def q3c_server() -> Iterator[Server]:
    """A PostgreSQL server whose databases can have the q3c extension, as the survey's own does."""
    from tests.support.postgres import NoPostgres, PrivateServer

    try:
        server = PrivateServer.of_system_with("q3c")
    except NoPostgres as error:
        lacking(str(error))
    yield server
    server.close()


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[PrivateSlurm]:
    """A Slurm of this session's own, with accounts."""
    from tests.support.slurm import NoSlurm, PrivateSlurm

    try:
        cluster = PrivateSlurm()
    except NoSlurm as error:
        lacking(str(error))
    with cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_cluster: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSlurm]:
    """That Slurm, for one test: its commands, and all that the test starts, reach it; nothing is left to the next."""
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm_cluster
    slurm_cluster.restore()


@pytest.fixture(scope="session")
def pg_template(pg_server: Server) -> Iterator[str]:
    """The name of a migrated database, to be copied: a copy takes a tenth of the time of a migration."""
    from tests.support.postgres import make_template

    name = make_template(pg_server, _migrate)
    yield name
    pg_server.drop(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "astra.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'astra.sqlite'}"
        _close()
    else:
        yield from _on_postgres(request, template=None)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with all tables and no rows; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "astra.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        _close()
    else:
        yield from _on_postgres(request, template=request.getfixturevalue("pg_template"))


@pytest.fixture
def database(database_url: str) -> Iterator[peewee.Database]:
    """The database at `database_url`, opened, with every table bound to it."""
    from astra.database.connection import open_database

    yield open_database(database_url)
    _close()


def _on_postgres(request: pytest.FixtureRequest, template: str | None) -> Iterator[str]:
    server = request.getfixturevalue("pg_server")
    name = server.create(template)
    yield server.url(name)
    _close()
    server.drop(name)


def _migrate(url: str) -> None:
    from astra.database.connection import open_database
    from astra.database.migrate import migrate

    open_database(url)
    migrate()
    _close()


def _close() -> None:
    from astra.database.connection import close_database

    close_database()
