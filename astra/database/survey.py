"""The survey's own database, which is only read: a pool of connections to it, and a pause after each failure.

It is somebody else's server, often a slow or an absent one. What fails is not tried again before a pause that doubles
with every failure; a call in the meantime fails at once, so nothing that is taken in has to wait for the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import peewee
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

from astra.clock import Clock
from astra.database.connection import CONNECT_SECONDS
from astra.errors import CatalogueUnavailable

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
CONNECTIONS: Final = 4
STATEMENT_SECONDS: Final = 300  # ten thousand positions in a dense field, on a cold cache
_WAIT_SECONDS = 60  # for one of the connections, while other threads use them all

# Every statement looks up a list of keys in tables of 10^9 rows. A wrong guess of the planner's that reads one of them
# from end to end takes hours, so it is left no way but the indexes.
_OPTIONS = (
    "-c default_transaction_read_only=on "
    f"-c statement_timeout={STATEMENT_SECONDS * 1000} "
    "-c jit=off -c enable_seqscan=off -c enable_mergejoin=off"
)

Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs one query with ``%s`` placeholders and returns its rows."""


class SurveyDatabase:
    """Read-only connections to one PostgreSQL server, opened when they are needed and shared by all threads.

    Parameters
    ----------
    url
        ``postgresql://USER@HOST/NAME``.
    clock
        Counts the pauses.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._resume = 0.0
        self._reason = ""
        # this pool asks a connection whether it is alive before it hands it out again
        self._pool = PooledPostgresqlDatabase(
            url,
            max_connections=CONNECTIONS,
            timeout=_WAIT_SECONDS,
            options=_OPTIONS,
            application_name="astra",
            connect_timeout=CONNECT_SECONDS,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )

    @contextmanager
    def session(self) -> Iterator[Run]:
        """Give a function that runs queries, all on one connection.

        Raises
        ------
        CatalogueUnavailable
            At once while a pause lasts; else when the server cannot be reached, is lost on the way, takes too long, or
            refuses a query for any other reason.
        """
        self._admit()
        try:
            with self._pool.connection_context():
                yield self._run
        except MaxConnectionsExceeded:  # our own threads are many, which says nothing of the server
            raise CatalogueUnavailable(
                f"the survey's catalogue cannot be used now: all {CONNECTIONS} connections are busy; try again"
            ) from None
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            # whatever it is that their server cannot do: our files are taken in all the same, and linked later
            self._pool.close_idle()  # each would be asked in turn, and a dead host takes half a minute to say nothing
            raise self._failed(error) from error
        self._succeeded()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.close_idle()

    def _run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._pool.execute_sql(statement, tuple(parameters)).fetchall()
        return rows

    def _admit(self) -> None:
        """Let a caller pass, unless a pause lasts; after one a single caller tries, and the others wait for that."""
        with self._lock:
            if not self._failures:
                return
            left = self._resume - self._clock.monotonic()
            if left > 0:
                raise CatalogueUnavailable(self._sentence(left))
            self._resume = self._clock.monotonic() + self._pause()

    def _failed(self, error: Exception) -> CatalogueUnavailable:
        with self._lock:
            self._failures += 1
            self._resume = self._clock.monotonic() + self._pause()
            self._reason = " ".join(str(error).split())
            return CatalogueUnavailable(self._sentence(self._pause()))

    def _succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def _pause(self) -> float:
        # few enough doublings that the number stays finite, however long the server is away
        return min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20), LONGEST_PAUSE)

    def _sentence(self, left: float) -> str:
        return f"the survey's catalogue cannot be used now: {self._reason}; tried again in {left:.0f} s"
