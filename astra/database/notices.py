"""Notices between processes on one PostgreSQL: that work waits, and who watches which folder. SQLite has neither.

A notice is sent when the transaction that records the work is committed. It is a hint: who hears none, or has lost one,
finds the work at its next look. A folder's lock lives as long as the connection that took it, so
that a service which dies lets go of it, wherever it ran.
"""

from __future__ import annotations

import math
import os
import platform
import zlib
from collections.abc import Iterable
from typing import Any

import peewee

from astra.clock import SYSTEM, Clock
from astra.database.connection import available, database, execute, is_sqlite, run, wait_for

CHANNEL = "astra_pending"  # of this database alone: PostgreSQL keeps those of its databases apart
APART = 0.02
"""Seconds between two notices of one process: those who send one wait for each other, those who hear one look."""

_LOCKS = 0x61737472  # of folders, among all advisory locks
_PLACE = "pid, CAST(backend_start AS TEXT)"
_LONGEST_NAME = 63  # of PostgreSQL's application_name
# A machine that lost its power says nothing: after so long the server lets go of what its connection held.
_KEPT_ALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


class _Sender:
    """When this process has sent its last notice."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self._last = clock, -math.inf

    def send(self) -> None:
        """Send a notice of what is committed by now, unless one was sent a moment ago."""
        now = self.clock.monotonic()
        if now - self._last < APART:
            return
        self._last = now  # before it is heard, so that what is left out from now on was committed by the second look
        try:
            execute(f"NOTIFY {CHANNEL}")
        except (peewee.DatabaseError, peewee.InterfaceError):
            return  # what it tells of is recorded: to raise an error here would say that it is not


_sender = _Sender(SYSTEM)


def announce() -> None:
    """Tell whoever listens that work waits, once the transaction that this is in is committed.

    Nothing is sent within `APART` of this process's last notice: who has heard that looks a second time after that, and
    sees what was committed meanwhile. Whether one is due is therefore decided after the commit.
    """
    if not is_sqlite():
        database.after_commit(lambda: _sender.send())


class Line:
    """A connection of its own, on which notices are heard and folders' locks are held. For one thread at a time."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        with available(), peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            # as peewee makes them, so with all that the URL says; but neither a thread's own nor ever in a transaction
            self._connection: Any = database._connect()
            self._connection.autocommit = True
        self._ask("SELECT set_config('application_name', %s, false)", (service_name(os.getpid(), platform.node()),))
        self._ask(f"{_KEPT_ALIVE}; LISTEN {CHANNEL}")
        self.place: tuple[int, str] = self._ask(f"SELECT {_PLACE} FROM pg_stat_activity WHERE pid = pg_backend_pid()")[
            0
        ]
        """Which of the server's processes it is served by, and since when."""

    def wait(self, waker: int, seconds: float) -> bool:
        """Wait for a notice, or until `waker`, a file descriptor, can be read; return whether there was a notice.

        Raises
        ------
        DatabaseUnavailable
            If the connection is lost.
        """
        with available(), peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            if not self._connection.notifies:  # one may have come with the answer to something else
                wait_for((self._connection, waker), seconds)
            self._connection.poll()
        heard = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return heard

    def take(self, root: str) -> bool:
        """Take the lock of a folder; return whether it is this connection's, now or already."""
        if root not in self._held and self._ask("SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, _key(root)))[0][0]:
            self._held.add(root)
        return root in self._held

    def let_go(self, root: str) -> None:
        """Give up the lock of a folder, if it is this connection's."""
        if root in self._held:
            self._ask("SELECT pg_advisory_unlock(%s, %s)", (_LOCKS, _key(root)))
            self._held.discard(root)

    def ends(self, place: tuple[int, str]) -> bool:
        """Have the server end a line that was lost, of whose loss it may know nothing; return whether it lives yet."""
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ({_PLACE}) = (%s, %s)"
        return bool(self._ask(query, place))

    def watchers(self, roots: Iterable[str]) -> dict[str, str]:
        """Return who watches these folders, those of them that anybody does; an error where the connection is lost."""
        return _named(roots, self._ask(_WATCHERS))

    def close(self) -> None:
        """Give the connection up, and with it the locks."""
        self._connection.close()

    def _ask(self, query: str, values: tuple[Any, ...] | None = None) -> list[Any]:
        with available(), peewee.__exception_wrapper__, self._connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute(query, values)
            return list(cursor.fetchall()) if cursor.description else []


def services() -> set[str]:
    """Return the services that have a line to this database now, as `service_name` names them."""
    query = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    return set() if is_sqlite() else {row[0] for row in run(query)}


def watchers(roots: Iterable[str]) -> dict[str, str]:
    """Return who watches these folders, of those that anybody does: program, process and machine."""
    return {} if is_sqlite() else _named(roots, run(_WATCHERS))


_WATCHERS = (
    "SELECT CAST(l.objid AS BIGINT), a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    f"WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {_LOCKS} "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _named(roots: Iterable[str], found: list[Any]) -> dict[str, str]:
    keys = {_key(root): root for root in roots}
    return {keys[key]: name or "somebody" for key, name in found if key in keys}


def _key(root: str) -> int:
    return zlib.crc32(root.encode()) & 0x7FFFFFFF


def service_name(pid: int, node: str) -> str:
    """Return what a service's line is called."""
    return f"astrad {pid} on {node}".encode("ascii", "replace").decode()[:_LONGEST_NAME]
