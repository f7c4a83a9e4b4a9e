"""The connection: one proxy that every table is bound to, opened from a URL or, on first use, from the settings.

All that differs between SQLite and PostgreSQL in how a connection is made lives here: the write lock, the pragmas, the
planner settings. Transactions are peewee's `atomic()`; on SQLite each takes the write lock for its whole length, so
reads stay outside transactions and transactions stay short.
"""

from __future__ import annotations

import math
import select
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee

from astra.database.fields import POSTGRESQL_TYPES
from astra.database.sqlite import SqliteWithWriteLock, open_sqlite
from astra.errors import ConfigurationError, DatabaseUnavailable

# How a database, or its driver, says that a row cannot be kept; what says that it is away has become another error.
REFUSED = (peewee.DatabaseError, peewee.InterfaceError, TypeError, ValueError, OverflowError)
CONNECT_SECONDS = 10  # how long a server may take to answer at all
LONGEST_REST = 300.0  # seconds
_opening = threading.RLock()


class PostgresWithReconnect(peewee.PostgresqlDatabase):
    """PostgreSQL whose lost connection is replaced by a new one, but never in the middle of a transaction."""

    def cursor(self, named_cursor: str | None = None) -> Any:
        is_lost = not self.is_closed() and self.connection().closed  # type: ignore[no-untyped-call]
        if is_lost and not self.in_transaction():
            self.close()
        return super().cursor(named_cursor)  # type: ignore[no-untyped-call]

    def begin(self, isolation_level: str | None = None, settings: str = "") -> None:
        """Begin a transaction, with settings of its own, in one message: an answer takes as long as a short query."""
        if not settings:
            super().begin(isolation_level)
            return
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            self.cursor().execute(f"BEGIN; {settings}")

    def rest(self) -> bool:
        """Make this thread's connection as it was when it was opened; return whether that could be."""
        from psycopg2 import Error

        if self.transaction_depth():
            return False
        connection = self.connection()  # type: ignore[no-untyped-call]
        try:
            connection.reset()  # DISCARD ALL: locks and temporary tables go; it is refused in an open transaction
            connection.autocommit = True  # as peewee has it
        except Error:
            return False
        return True

    def is_quiet(self) -> bool:
        """Whether the server says nothing on this thread's connection, which is at rest: one that ends says so."""
        connection = self.connection()  # type: ignore[no-untyped-call]
        return not (connection.closed or wait_for((connection,), 0.0))


def wait_for(readable: Iterable[Any], seconds: float) -> bool:
    """Wait until one of these can be read, or so long; return whether one can. However many files are open."""
    waiting = select.poll()  # `select.select` takes no descriptor from 1024 on
    for each in readable:
        waiting.register(each, select.POLLIN)
    return bool(waiting.poll(math.ceil(1e3 * seconds)))


class LazyDatabase(peewee.DatabaseProxy):
    """The proxy that the tables are bound to. Used before anyone opened a database, it opens the user's own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_opened(), name)


database = LazyDatabase()
_preparing: list[int] = []  # the thread that is making the user's own database: the others wait for its tables


def open_database(url: str, synchronous: str = "NORMAL") -> peewee.Database:
    """Bind every table to the database at `url`, and return it. Nothing is made or migrated.

    Parameters
    ----------
    url
        ``sqlite:///path`` (a path with four slashes is absolute), ``sqlite:///:memory:`` or ``postgresql://...``.
    synchronous
        SQLite's ``NORMAL`` or ``FULL``.

    Raises
    ------
    ConfigurationError
        If the URL names neither kind of database, or SQLite's folder cannot be made.
    """
    close_database()
    scheme = url.partition("://")[0]
    opened: peewee.Database
    if url.startswith("sqlite:///"):
        opened = open_sqlite(url.removeprefix("sqlite:///"), synchronous)
    elif scheme in ("postgresql", "postgres"):
        options = "-c jit=off -c random_page_cost=1.1 -c timezone=UTC"
        opened = PostgresWithReconnect(
            url.replace("postgres://", "postgresql://", 1),
            options=options,
            application_name="astra",
            connect_timeout=CONNECT_SECONDS,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            field_types=POSTGRESQL_TYPES,
        )
    else:
        raise ConfigurationError(
            f"the database URL {url!r} is not understood: use sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    database.initialize(opened)
    return opened


def open_default() -> None:
    """Open the database that the settings name and bring its tables up to date: a library call's first use."""
    from astra.config import load
    from astra.database.migrate import migrate

    with _opening:
        if database.obj is not None:
            return
        settings = load().database
        _preparing.append(threading.get_ident())
        try:
            open_database(settings.url, settings.synchronous)
            migrate()
        except BaseException:  # the next use tries again, and is told the same
            close_database()
            raise
        finally:
            _preparing.clear()


def close_database() -> None:
    """Close this thread's connection and forget the database."""
    if database.obj is not None:
        if not database.obj.is_closed():
            database.obj.close()
        database.initialize(None)


def is_sqlite() -> bool:
    """Return whether the open database is SQLite."""
    return isinstance(_opened(), peewee.SqliteDatabase)


def place() -> str:
    """Return where the database is, without its password: for people."""
    opened = _opened()
    if isinstance(opened, peewee.SqliteDatabase):
        return str(opened.database)
    shown = run("SELECT current_database(), coalesce(inet_server_addr()::text, 'local socket')")[0]
    return f"PostgreSQL {shown[0]} on {shown[1]}"


def _opened() -> Any:
    if database.obj is None or (_preparing and threading.get_ident() not in _preparing):
        open_default()
    return database.obj


def execute(sql: str, parameters: Sequence[Any] = ()) -> Any:
    """Run one statement written with ``?`` placeholders on either database, and return the cursor."""
    opened = _opened()
    if not isinstance(opened, peewee.SqliteDatabase):
        sql = sql.replace("%", "%%").replace("?", "%s")
    return opened.execute_sql(sql, tuple(parameters) if parameters else None)


def run(sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Run one query and return all its rows, as tuples."""
    rows: list[Any] = execute(sql, parameters).fetchall()
    return rows


def changed(sql: str, parameters: Sequence[Any] = ()) -> int:
    """Run one INSERT, UPDATE or DELETE and return how many rows it touched."""
    count: int = execute(sql, parameters).rowcount
    return count


def execute_many(sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement for every row of parameters.

    Returns
    -------
    int
        How many rows were touched in all; on PostgreSQL, whose driver does not tell, how many were given. A guard
        there must be a statement whose rows `changed` counts.
    """
    sqlite = is_sqlite()
    with driver_cursor() as cursor:
        if sqlite:
            cursor.executemany(sql, rows)
            return int(cursor.rowcount)
        from psycopg2.extras import execute_batch

        execute_batch(cursor, sql.replace("%", "%%").replace("?", "%s"), rows, page_size=1000)
    return len(rows)


def references_to(table: str) -> list[tuple[str, str]]:
    """Return the columns of all tables, (table, column), that are declared to refer to a table's key."""
    if is_sqlite():
        return run(
            'SELECT m.name, f."from" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f '
            "WHERE m.type = 'table' AND f.\"table\" = ? ORDER BY 1, 2",
            (table,),
        )
    return run(
        "SELECT t.relname, a.attname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid "
        "JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
        "WHERE c.contype = 'f' AND c.confrelid = CAST(? AS regclass) ORDER BY 1, 2",
        (table,),
    )


@contextmanager
def driver_cursor() -> Iterator[Any]:
    """Give the driver's own cursor, for what peewee has no call for; its errors come as peewee's."""
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
        yield _opened().cursor()


# The tables that are looked up by lists of keys grow faster than PostgreSQL counts them: in the first minutes of a
# large intake its planner would read them from end to end for every list.
_BY_INDEX = ", ".join(f"set_config('enable_{way}', 'off', true)" for way in ("seqscan", "hashjoin", "mergejoin"))


def json_number(column: str, key: str) -> str:
    """Return an SQL expression for the number that a column of JSON objects holds under `key`; null for all else."""
    if is_sqlite():
        kind = f"json_type({column}, '$.{key}')"
        return f"CASE WHEN {kind} IN ('integer', 'real') THEN json_extract({column}, '$.{key}') END"
    value = f"CAST({column} AS jsonb) -> '{key}'"
    return f"CASE WHEN jsonb_typeof({value}) = 'number' THEN CAST({value} AS numeric) END"


@contextmanager
def alone(key: int) -> Iterator[None]:
    """Run a transaction that no other transaction of the same `key` overlaps; look-ups in it go by index.

    SQLite has one writer at a time as it is; on PostgreSQL the others wait at an advisory lock. Rows may refer to rows
    that are written later in the transaction, as a data product and its current file version refer to each other.
    """
    opened = _opened()
    with opened.atomic():
        if isinstance(opened, peewee.SqliteDatabase):
            execute("PRAGMA defer_foreign_keys = ON")
        else:
            execute("SET CONSTRAINTS ALL DEFERRED")
            execute(f"SELECT pg_advisory_xact_lock(?), {_BY_INDEX}", (key,))
        yield


@contextmanager
def by_index() -> Iterator[None]:
    """Run look-ups by lists of keys: on PostgreSQL in a transaction whose plans go by index, on SQLite as they are."""
    if is_sqlite():
        yield
    elif _opened().in_transaction():  # and so until its end: a savepoint would not bring back what was set before
        execute(f"SELECT {_BY_INDEX}")
        yield
    else:
        with _opened().atomic(settings=f"SELECT {_BY_INDEX}"):
            yield


@contextmanager
def planned_without(*ways: str, flushed: bool = True) -> Iterator[None]:
    """Run a transaction in which PostgreSQL does not plan in these ways; on SQLite a transaction.

    One that is not `flushed` is not waited for until it is on disk: what follows it is not kept either without it.
    """
    names = [f"enable_{way}" for way in ways] + ([] if flushed else ["synchronous_commit"])
    settings = "SELECT " + ", ".join(f"set_config('{name}', 'off', true)" for name in names)
    if is_sqlite():
        with _opened().atomic():
            yield
    elif _opened().in_transaction():
        with _opened().atomic():
            execute(settings)
            yield
    else:
        with _opened().atomic(settings=settings):
            yield


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Wait no longer than this, in this thread, for another writer of SQLite: for a loop that must not stand still."""
    opened = _opened()
    if not isinstance(opened, SqliteWithWriteLock):
        yield
        return
    before = opened.patience
    opened.patience = min(before, seconds)
    try:
        yield
    finally:
        opened.patience = before


@contextmanager
def available() -> Iterator[None]:
    """Turn the loss of the database into `DatabaseUnavailable`, and drop this thread's broken connection.

    Every loop works inside it, so its next turn starts with a new connection.
    """
    try:
        yield
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        passing = next(filter(_passes, _with_those_before(error)), None)
        if passing is None:
            raise
        drop_connection()
        raise loss_of(passing) from error


def loss_of(error: Exception) -> DatabaseUnavailable:
    """Return an error of the database that may pass in one sentence; drivers write several lines."""
    words = " ".join(str(error).split()).rstrip(".?")
    cause = error.__cause__ or error.__context__
    is_reached = isinstance(database.obj, peewee.SqliteDatabase) or getattr(cause, "pgcode", None) is not None
    mend = "try again" if is_reached else "start it, or name another in [database] url"
    return DatabaseUnavailable(f"the database cannot be used now: {words}", mend)


# SQLite's words for what another try may find mended: locked, a disk that fails or is full, a file out of reach.
_SQLITE_PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
# PostgreSQL's classes: no connection, out of resources, stopped by an operator, a clash with another transaction.
_POSTGRESQL_PASSING = ("08", "53", "57", "40")


def _with_those_before(error: BaseException | None) -> Iterator[Exception]:
    """Yield a database's error and those before it: a full disk ends a transaction, and so its undoing fails too."""
    while error is not None:
        if isinstance(error, peewee.DatabaseError | peewee.InterfaceError):
            yield error
        error = error.__context__


def _passes(error: Exception) -> bool:
    """Whether another try may go well: a lost connection or a busy database, not a wrong statement or file."""
    cause = error.__cause__ or error.__context__
    number = getattr(cause, "sqlite_errorcode", None)
    if number is not None:
        return number & 0xFF in _SQLITE_PASSING
    state = getattr(cause, "pgcode", None)
    if state is not None:
        return bool(state.startswith(_POSTGRESQL_PASSING))
    return isinstance(error, peewee.OperationalError | peewee.InterfaceError) or type(error) is peewee.DatabaseError


def drop_connection() -> None:
    """Close this thread's connection, whatever state it is in; the next statement opens a new one."""
    opened = database.obj
    if opened is not None and not opened.is_closed():
        while opened.transaction_depth():
            opened.pop_transaction()
        opened.close()


def rest_connection() -> None:
    """Keep this thread's connection for what comes next, as if it were new.

    To make one of PostgreSQL takes longer than a short bundle. SQLite's, which costs little, is dropped, and so is one
    that cannot be cleared.
    """
    opened = database.obj
    if not (isinstance(opened, PostgresWithReconnect) and not opened.is_closed() and opened.rest()):
        drop_connection()


def drop_lost_connection(rested: float = 0.0) -> None:
    """Close this thread's connection where its server has closed it while it was at rest.

    Or where it has `rested` for so many seconds that what lies between may have forgotten it, of which nobody is told.
    """
    opened = database.obj
    is_open = isinstance(opened, PostgresWithReconnect) and not opened.is_closed()
    if is_open and (rested > LONGEST_REST or not opened.is_quiet()):
        drop_connection()
