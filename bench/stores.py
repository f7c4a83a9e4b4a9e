"""The databases that are measured: a new SQLite file, or a new database of a PostgreSQL server, for every turn."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count as count_from
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2

from astra.database import migrate
from astra.database.connection import close_database, open_database, run
from bench import plain, plain_sources, plain_tasks
from tests.support.postgres import NoPostgres, PrivateServer, Server, make_template, open_server

MODELS = (*plain.MODELS, *plain_tasks.MODELS, *plain_sources.MODELS)
# The server of the tests skips what only a power cut would miss, and keeps little. Here it is as it is installed.
AS_INSTALLED = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
    "max_wal_size": "1GB", "shared_buffers": "128MB",
}  # fmt: skip


@dataclass
class Store:
    """One kind of database. `opened` binds astra's tables, and the plain way's, to a database with no rows."""

    name: str
    folder: Path
    server: Server | None = None
    template: str = ""
    version: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: count_from(1), repr=False)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open a new database; it is dropped afterwards."""
        with self.made() as url, opened_at(url):
            yield

    @contextmanager
    def made(self) -> Iterator[str]:
        """Yield the URL of a new database; it is dropped afterwards."""
        if self.server is None:
            path = self.folder / f"{next(self._numbers)}.sqlite"
            if self.template:
                shutil.copyfile(self.template, path)
            yield f"sqlite:///{path}"
            for each in self.folder.glob(f"{path.name}*"):
                each.unlink()
            return
        name = self.server.create(self.template or None)
        try:
            yield self.server.url(name)
        finally:
            self.server.drop(name)

    @contextmanager
    def prepared(self, prepare: Callable[[str], object]) -> Iterator[Store]:
        """Yield a store whose databases are copies of one: one of this store's, whose URL `prepare` is given once."""
        with self.made() as url:
            prepare(url)
            yield replace(self, template=urlsplit(url).path[1:])

    def empty(self) -> Store:
        """Return the same kind of database without any table."""
        return replace(self, template="")


@contextmanager
def opened_at(url: str) -> Iterator[None]:
    """Bind astra's tables, and the plain way's, to the database at `url`."""
    opened = open_database(url)
    try:
        plain.tables.initialize(opened)
        opened.bind(MODELS)
        yield
    finally:
        close_database()


def _migrate(url: str) -> None:
    opened = open_database(url)
    migrate.migrate()
    opened.bind(MODELS)
    opened.create_tables(MODELS)
    close_database()


def sqlite(folder: Path) -> Store:
    """Return SQLite as astra opens it: WAL, synchronous NORMAL."""
    folder.mkdir(parents=True, exist_ok=True)
    template = folder / "template.sqlite"
    _migrate(f"sqlite:///{template}")
    return Store("SQLite", folder, None, str(template), sqlite3.sqlite_version)


@contextmanager
def postgresql(folder: Path, choice: str | None, home: Path) -> Iterator[Store | str]:
    """Yield PostgreSQL, or why there is none.

    Parameters
    ----------
    choice
        What `$ASTRA_TEST_POSTGRES` names: a server's URL, ``system``, or nothing for that of the test extra.
    home
        Where a server of our own keeps its data.
    """
    try:
        server = open_server(choice, home)
    except NoPostgres as error:
        yield str(error)
        return
    try:
        if isinstance(server, PrivateServer):
            _set_as_installed(server)
        template = make_template(server, _migrate)
        try:
            with opened_at(server.url(template)):
                version = run("SHOW server_version")[0][0].split()[0]
            yield Store("PostgreSQL", folder, server, template, version)
        finally:
            server.drop(template)
    finally:
        server.close()


def _set_as_installed(server: PrivateServer) -> None:
    connection = psycopg2.connect(server.base)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for setting, value in AS_INSTALLED.items():
                cursor.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
    finally:
        connection.close()
    server.stop()
    server.start()
