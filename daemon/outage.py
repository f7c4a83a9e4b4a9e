"""The database is away, and back: told once for each outage, whichever thread of the service meets it.

Comes from the loops of `service`, one of which may find the database back before the other has asked it again; goes to
the log, and to intake's loop, which then sweeps.
"""

from __future__ import annotations

import logging
import threading

from daemon.logs import event

log = logging.getLogger(__name__)
AGAIN = "it is tried again by itself"  # what an operator wants to know next


class Outage:
    """Who has met that the database is away, and has not used it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: set[str] = set()
        self._tells = False
        self.over = threading.Event()
        """Set when one has ended; whoever acts on that clears it."""

    def begin(self, who: str, reason: str | None = None) -> None:
        """Take note that somebody met it; without a reason, who has told of it and will tell of its end."""
        with self._lock:
            if reason is None:
                self._tells = False
            elif not self._met:
                event(log, "database_away", logging.ERROR, reason=reason)
                self._tells = True
            self._met.add(who)

    def is_met_by(self, who: str) -> bool:
        """Return whether somebody has met it, and not yet used the database again."""
        return who in self._met

    def end(self, who: str) -> None:
        """Take note that somebody has used the database again; with the last of them the outage is over."""
        with self._lock:
            if who not in self._met:
                return
            self._met.remove(who)
            if self._met:
                return
            if self._tells:
                event(log, "database_back")
            self._tells = False
            self.over.set()
