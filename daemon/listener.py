"""Hears that work waits, and holds the locks of the watched folders: a thread with a connection of its own.

Comes from `queue`, whose notices PostgreSQL hands on to whoever listens; goes to the main loop of `service`, which it
wakes. Notices are hints: while there are none, the loop looks at every tick, and so it finds all that was missed. On
SQLite there is nothing to listen to, and one service alone may watch a folder (`startup.lock_root`).

Of the services on one PostgreSQL one watches each folder; the others stand by for it. Its lock is held by the
connection, so it is free as soon as that service, or its machine, is gone, and the first to look takes it over. Who
cannot look after a folder lets go of the lock, and goes on with the folder until somebody has taken it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from astra.clock import Clock
from astra.database.connection import is_sqlite
from astra.database.notices import APART, Line
from astra.errors import DatabaseUnavailable
from daemon.logs import event

log = logging.getLogger(__name__)
LOOK_EVERY = 15.0  # seconds between two looks at whether a folder's lock is free, and at whether the server is there
ASIDE = 300.0  # seconds for which a folder is left to others after it was given up
_GHOST_SECONDS = 2.0  # in which the server ends a connection
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
        self._last_place: tuple[int, str] | None = None
        self._aside: dict[str, float] = {}
        self.unwell: Callable[[], Mapping[str, str]] = dict
        """Says which folders this service cannot look after now, and why. From this thread."""
        self.mine: frozenset[str] = frozenset()
        """The folders that this service watches."""
        self.others: dict[str, str] = {}
        """Who watches each of the other folders, as far as is known."""
        self.has_looked = False
        """Whether it is known by now which folders are whose."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen, and hold what folders are free; leaving it lets go of them.

        Where no connection is to be had, this service watches nothing until there is one.
        """
        if is_sqlite():
            self.mine, self.has_looked = frozenset(self._roots), True
            event(log, "polling", every=self._tick, reason="SQLite sends no notices")
            yield
            return
        try:
            self._line = self._connect()
            self._look(self._line)
        except DatabaseUnavailable as error:
            event(log, "polling", logging.WARNING, every=self._tick, reason=str(error))
            self._line = None
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
                    self._end_ghost(self._line)
                    (self._take_again if self.has_looked else self._look)(self._line)
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

    def _end_ghost(self, line: Line) -> None:
        """Have the server let go of what the last connection held, which it may still believe to be alive."""
        until = self._clock.monotonic() + _GHOST_SECONDS
        while self._last_place and line.ends(self._last_place) and self._clock.monotonic() < until:
            if self._clock.wait(self._stop, 0.02):
                return

    def _look(self, line: Line) -> None:
        """Take what folders are free, let go of those that are not looked after, and see who has the others."""
        now = self._clock.monotonic()
        self._look_at = now + LOOK_EVERY
        unwell = {root: why for root, why in self.unwell().items() if root in self.mine}
        for root in unwell:
            line.let_go(root)
        wanted = [root for root in self._roots if root not in unwell and now >= self._aside.get(root, now)]
        held = {root for root in wanted if line.take(root)}
        known = line.watchers(self._roots)
        mine = frozenset(held | {root for root in unwell if root not in known})
        others = {root: known.get(root, "somebody") for root in self._roots if root not in mine}
        for root in sorted(mine & self.others.keys()):
            event(log, "taken_over", root=root, was=self.others[root])
        for root, who in others.items():
            if root in unwell:
                self._aside[root] = now + ASIDE
                event(log, "root_given_up", logging.WARNING, root=root, watched_by=who, reason=unwell[root])
            elif self.others.get(root) != who:
                event(log, "standing_by", root=root, watched_by=who)
        self.mine, self.others, self.has_looked = mine, others, True

    def _take_again(self, line: Line) -> None:
        """Take again what this service watched before its connection was lost; others may have been faster."""
        self._look_at = self._clock.monotonic() + LOOK_EVERY  # the others do the same, and come first to what is theirs
        mine = frozenset(root for root in self.mine if line.take(root))
        known = line.watchers(self._roots)
        others = {root: known.get(root, "somebody") for root in self._roots if root not in mine}
        for root in sorted(self.mine - mine):
            event(log, "root_lost", logging.ERROR, root=root, watched_by=others[root])
        self.mine, self.others = mine, others

    def _lose(self, reason: str) -> None:
        """Give the connection up, and wait a little: the server may be starting."""
        if self._line is not None:
            self._last_place = self._line.place
            self._line.close()
            self._line = None
            event(log, "polling", logging.WARNING, every=self._tick, reason=reason)
        self._clock.wait(self._stop, self._backoff)
        self._backoff = min(_LONGEST_BACKOFF, 2 * self._backoff)
