"""SQLite as astra opens it: a fair queue of writers, and no empty file where a database has gone."""

from __future__ import annotations

import fcntl
import os
import threading
import warnings
from pathlib import Path
from typing import IO, Any

import peewee

from astra.clock import SYSTEM
from astra.database.fields import SQLITE_TYPES
from astra.errors import ConfigurationError
from astra.filesystem import filesystem_kind, is_network

BUSY_SECONDS = 30.0  # how long a writer waits for another before it gives up


class SqliteWithWriteLock(peewee.SqliteDatabase):
    """SQLite whose writers queue on a lock file beside the database.

    SQLite's own busy handler is unfair: a frequent writer starves the others for seconds. The file lock brings the
    99th percentile of a short write beside a busy ingester from seconds to about a tenth of one.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        journal = "wal"
        if path != ":memory:" and is_network(kind := filesystem_kind(Path(path))):
            journal = "delete"
            warnings.warn(f"{path} lies on {kind}: SQLite uses its slower rollback journal there", stacklevel=2)
        pragmas = {
            "journal_mode": journal,
            "synchronous": synchronous,
            "foreign_keys": 1,
            "cache_size": -65536,
            "wal_autocheckpoint": 8192,  # pages, 32 MB: those that every chunk changes are copied back less often
        }
        super().__init__(path, pragmas=pragmas, lock_type="IMMEDIATE", timeout=BUSY_SECONDS, field_types=SQLITE_TYPES)
        self._held = threading.local()
        self._seen = False

    def _connect(self) -> Any:
        if self._seen and not os.path.exists(self.database):  # SQLite would make an empty one in its place
            raise peewee.OperationalError(f"{self.database} is not there any more")
        connection = super()._connect()  # type: ignore[misc]
        self._seen = self.database != ":memory:"
        return connection

    def _take(self) -> None:
        if self.database == ":memory:":
            return
        held: IO[bytes] | None = getattr(self._held, "file", None)
        if held is None or held.closed:
            held = self._held.file = self._lock_file()
        patience = self.patience
        deadline = SYSTEM.monotonic() + patience
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if SYSTEM.monotonic() > deadline:
                    message = f"database is locked: another writer has held {self.database} for {patience:.0f} s"
                    raise peewee.OperationalError(message) from None
                SYSTEM.pause(0.002)

    def _lock_file(self) -> IO[bytes]:
        try:
            return open(f"{self.database}.lock", "ab")
        except OSError as error:
            message = f"{self.database}.lock, by which writers wait for each other, cannot be opened: {error.strerror}"
            raise peewee.OperationalError(message) from error

    @property
    def patience(self) -> float:
        """Seconds that this thread waits for another writer."""
        return float(getattr(self._held, "patience", BUSY_SECONDS))

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._held.patience = seconds
        if not self.is_closed():  # of writers that know nothing of the lock file
            self.connection().execute(  # type: ignore[no-untyped-call]
                f"PRAGMA busy_timeout = {int(1000 * seconds)}"
            )

    def _give(self) -> None:
        held: IO[bytes] | None = getattr(self._held, "file", None)
        if held is not None and not held.closed:
            fcntl.flock(held, fcntl.LOCK_UN)

    def _close(self, conn: Any) -> None:
        super()._close(conn)  # type: ignore[misc]
        held: IO[bytes] | None = getattr(self._held, "file", None)
        if held is not None:
            held.close()

    def begin(self, lock_type: str | None = None) -> None:
        self._take()
        try:
            super().begin(lock_type)
        except BaseException:
            self._give()
            raise

    def commit(self) -> None:
        super().commit()
        self._give()

    def rollback(self) -> None:
        try:
            # a transaction that its disk, full or broken, did not take has been undone by SQLite itself
            if self.is_closed() or self.connection().in_transaction:  # type: ignore[no-untyped-call]
                super().rollback()
        finally:
            self._give()


def open_sqlite(path: str, synchronous: str) -> SqliteWithWriteLock:
    """Return the database at `path`, which need not exist; raise `ConfigurationError` where there can be none."""
    if not path:
        raise ConfigurationError("the database URL names no file: use sqlite:///PATH, or sqlite:///:memory: on purpose")
    if path != ":memory:":
        path = os.path.abspath(os.path.expanduser(path))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as error:
            message = f"cannot make the database's folder {os.path.dirname(path)}: {error.strerror}"
            raise ConfigurationError(message) from error
        if problem := unusable(path):
            raise ConfigurationError(f"cannot use the database {path}: {problem}")
    return SqliteWithWriteLock(path, synchronous)


def unusable(path: str) -> str | None:
    """Return why a file, which need not exist, can be no SQLite database of this user; None where it can."""
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written by this user"
    if os.path.isdir(path):
        return "it is a folder; name a file in it"
    for each in (path, f"{path}.lock"):
        if os.path.exists(each) and not os.access(each, os.R_OK | os.W_OK):
            return f"{each} cannot be read and written by this user"
    if os.path.exists(path):
        with open(path, "rb") as file:
            begin = file.read(16)
        if begin not in (b"", b"SQLite format 3\0"):
            return "it is a file of another kind"
    return None
