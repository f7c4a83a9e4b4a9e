"""Hears that work waits, and holds the locks of the watched folders: a thread with a connection of its own.

Comes from `queue`, whose notices PostgreSQL hands on to whoever listens; goes to the main loop of `service`, which it
wakes. Notices are hints: while there are none, the loop looks at every tick, and so it finds all that was missed. On
SQLite there is nothing to listen to, and one service alone may watch a folder (`startup.lock_root`).

Of the services on one PostgreSQL one watches each folder; the others stand by for it. Its lock is held by the
connection, so it is free as soon as that service, or its machine, is gone, and the first to look takes it over.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from astra.clock import Clock
from astra.database.connection import is_sqlite
from astra.database.notices import APART, Line
from astra.errors import DatabaseUnavailable
from daemon.logs import event

log = logging.getLogger(__name__)
LOOK_EVERY = 15.0  # seconds between two looks at whether a folder's lock is free, and at whether the server is there
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 5.0
_STOP_SECONDS = 2.0


class Listener:
    """The thread, and which folders are this service's to watch.

    Parameters
    ----------
    roots
        The names of the watched folders.
    tick
        How often the loop looks by itself, to be told.
    clock
        The clock.
    wake
        Called when there may be work; from this thread.
    """

    def __init__(self, roots: Sequence[str], tick: float, clock: Clock, wake: Callable[[], None]) -> None:
        self._roots, self._tick, self._clock, self._wake = tuple(roots), tick, clock, wake
        self._line: Line | None = None
        self._stop = threading.Event()
        self._look_at, self._backoff = 0.0, _FIRST_BACKOFF
        self.mine: frozenset[str] = frozenset()
        """The folders that this service watches."""
        self.others: dict[str, str] = {}
        """Who watches each of the other folders, as far as is known."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen, and hold what folders are free; leaving it lets go of them.

        Raises
        ------
        DatabaseUnavailable
            If the database is away by now.
        """
        if is_sqlite():
            self.mine = frozenset(self._roots)
            event(log, "polling", every=self._tick, reason="SQLite sends no notices")
            yield
            return
        self._line = self._connect()
        self._look(self._line)
        hears, tells = os.pipe()
        thread = threading.Thread(target=self._run, args=(hears,), name="listener", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            os.write(tells, b"\0")
            thread.join(_STOP_SECONDS)  # a server that does not answer must not keep the service from ending
            if not thread.is_alive():
                os.close(hears)
                os.close(tells)

    def _run(self, hears: int) -> None:
        while not self._stop.is_set():
            try:
                if self._line is None:
                    self._line = self._connect()
                    self._take_again(self._line)
                    self._wake()  # for what was missed
                self._turn(self._line, hears)
                self._backoff = _FIRST_BACKOFF
            except DatabaseUnavailable as error:
                self._lose(str(error))
            except Exception as error:  # the loop's one boundary: without notices the service still polls
                log.exception("the listener failed; it goes on in %.1f s", self._backoff)
                self._lose(str(error))
        if self._line is not None:
            self._line.close()

    def _turn(self, line: Line, hears: int) -> None:
        """Wait for a notice, or until it is time to look at the locks."""
        if line.wait(hears, max(0.0, self._look_at - self._clock.monotonic())):
            self._wake()
            # whoever enqueues again so soon sends no second notice
            self._clock.wait(self._stop, 2 * APART)
            line.wait(hears, 0)
            self._wake()
        if self._clock.monotonic() >= self._look_at and not self._stop.is_set():
            self._look(line)

    def _connect(self) -> Line:
        line = Line()
        event(log, "listening", roots=len(self._roots))
        return line

    def _look(self, line: Line) -> None:
        """Take what folders are free, and see who has the others."""
        self._look_at = self._clock.monotonic() + LOOK_EVERY
        mine = frozenset(root for root in self._roots if line.take(root))
        others = self._others(line, mine)
        for root in sorted(mine & self.others.keys()):
            event(log, "taken_over", root=root, was=self.others[root])
        for root, who in others.items():
            if self.others.get(root) != who:
                event(log, "standing_by", root=root, watched_by=who)
        self.mine, self.others = mine, others

    def _take_again(self, line: Line) -> None:
        """Take again what this service watched before its connection was lost; others may have been faster."""
        self._look_at = self._clock.monotonic() + LOOK_EVERY  # the others do the same, and come first to what is theirs
        mine = frozenset(root for root in self.mine if line.take(root))
        others = self._others(line, mine)
        for root in sorted(self.mine - mine):
            event(log, "root_lost", logging.ERROR, root=root, watched_by=others[root])
        self.mine, self.others = mine, others

    def _others(self, line: Line, mine: frozenset[str]) -> dict[str, str]:
        known = line.watchers(self._roots)
        return {root: known.get(root, "somebody") for root in self._roots if root not in mine}

    def _lose(self, reason: str) -> None:
        """Give the connection up, and wait a little: the server may be starting."""
        if self._line is not None:
            self._line.close()
            self._line = None
            event(log, "polling", logging.WARNING, every=self._tick, reason=reason)
        self._clock.wait(self._stop, self._backoff)
        self._backoff = min(_LONGEST_BACKOFF, 2 * self._backoff)
