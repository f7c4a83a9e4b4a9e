"""The circuit breaker: a component that fails too often is paused, once, and tried again with one bundle later.

What it sees are the counts that each bundle's record has; what it decides is a hold like a person's, and outlives the
service.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from astra import backlog, holds, queue
from astra.database.astradb import Hold
from astra.settings import Scheduler as Settings
from astra.states import HoldKind
from daemon.logs import event

log = logging.getLogger(__name__)
WHO = "the circuit breaker"
_LATEST = 20  # bundles that are judged together
_LONGEST_PAUSE = 3600.0  # seconds


class Breaker:
    """Pauses components, and lets them go on.

    Parameters
    ----------
    settings
        The share of failures, how many there must be, and the first pause.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def judge(self, ended: backlog.Ended, now: datetime) -> None:
        """Take note of how a bundle ended: pause its component, or let it go on where it was paused."""
        standing = holds.on(HoldKind.COMPONENT, ended.component)
        if standing is not None:
            if standing.probe_at is not None and ended.completed and not self._is_bad(ended.failed, ended.completed):
                queue.lift(HoldKind.COMPONENT, ended.component, now, standing.id)
                event(log, "component_resumed", component=ended.component, bundle=ended.bundle)
            return
        if not ended.failed:
            return
        since = holds.last_lifted(HoldKind.COMPONENT, ended.component)
        records = backlog.latest(ended.component, _LATEST, since)
        failed, completed = sum(each.failed for each in records), sum(each.completed for each in records)
        if failed < self._settings.breaker_least or not self._is_bad(failed, completed):
            return
        reason = f"{failed} of its latest {failed + completed} tasks failed"
        again = now + timedelta(seconds=self._settings.breaker_pause)
        if queue.hold(HoldKind.COMPONENT, ended.component, WHO, reason, now, again):
            pause = self._settings.breaker_pause
            event(log, "component_paused", logging.ERROR, component=ended.component, reason=reason, tried_in=pause)

    def _is_bad(self, failed: int, completed: int) -> bool:
        return failed > self._settings.breaker_rate * (failed + completed)

    def due(self, standing: Sequence[Hold], now: datetime) -> list[Hold]:
        """Return the holds of which one bundle is to be tried now."""
        return [each for each in standing if each.probe_at is not None and each.probe_at <= now]

    def begin_probe(self, hold: Hold, now: datetime) -> bool:
        """Put the next try off, before this one; False where another service was faster."""
        pause = min(_LONGEST_PAUSE, self._settings.breaker_pause * 2.0 ** min(20, hold.probes + 1))
        return queue.probe(hold.id, now + timedelta(seconds=pause), now)
