"""The one clock. Instants are aware UTC datetimes, durations come from the monotonic counter.

Everything that needs time takes a `Clock`; tests pass their own and never sleep.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class Clock:
    """The system's clock."""

    def now(self) -> datetime:
        """Return this instant, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds on a counter that no step of the wall clock moves."""
        return time.monotonic()

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait for `event`, at most `timeout` seconds; return whether it came."""
        return event.wait(timeout)

    def pause(self, seconds: float) -> None:
        """Let `seconds` pass: only for a lock that has to be asked for again."""
        time.sleep(seconds)


SYSTEM = Clock()
