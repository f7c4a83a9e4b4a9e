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

    def judge(self, ended: Sequence[backlog.Ended], now: datetime) -> None:
        """Take note of how bundles ended: pause their components, or let those go on that were paused."""
        by_component: dict[str, list[backlog.Ended]] = {}
        for each in ended:
            by_component.setdefault(each.component, []).append(each)
        held = {each.target: each for each in holds.standing() if each.kind is HoldKind.COMPONENT}
        for component, own in by_component.items():
            failed, completed = sum(each.failed for each in own), sum(each.completed for each in own)
            if component in held:
                if held[component].probe_at is not None and completed and not self._is_bad(failed, completed):
                    self._let_go_on(held[component], own[-1].bundle, now)
            elif failed:
                self._look(component, now)

    def _let_go_on(self, hold: Hold, bundle: int, now: datetime) -> None:
        if queue.lift(HoldKind.COMPONENT, hold.target, now, hold.id) is not None:
            event(log, "component_resumed", component=hold.target, bundle=bundle)

    def _look(self, component: str, now: datetime) -> None:
        """Pause a component if too many of its latest tasks failed."""
        records = backlog.latest(component, _LATEST, holds.last_lifted(HoldKind.COMPONENT, component))
        failed, completed = sum(each.failed for each in records), sum(each.completed for each in records)
        if failed < self._settings.breaker_least or not self._is_bad(failed, completed):
            return
        reason = f"{failed} of its latest {failed + completed} tasks failed"
        pause = self._settings.breaker_pause
        if queue.hold(HoldKind.COMPONENT, component, WHO, reason, now, now + timedelta(seconds=pause)):
            event(log, "component_paused", logging.ERROR, component=component, reason=reason, tried_in=pause)

    def _is_bad(self, failed: int, completed: int) -> bool:
        return failed > self._settings.breaker_rate * (failed + completed)

    def due(self, standing: Sequence[Hold], now: datetime) -> list[Hold]:
        """Return the holds of which one bundle is to be tried now."""
        return [each for each in standing if each.probe_at is not None and each.probe_at <= now]

    def begin_probe(self, hold: Hold, now: datetime) -> bool:
        """Put the next try off, before this one; False where another service was faster."""
        pause = min(_LONGEST_PAUSE, self._settings.breaker_pause * 2.0 ** min(20, hold.probes + 1))
        return queue.probe(hold.id, now + timedelta(seconds=pause), now)
