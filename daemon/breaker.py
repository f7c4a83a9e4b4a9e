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
            if (hold := held.get(component)) is None:
                if any(each.failed for each in own):
                    self._look(component, now)
                continue
            for each in own:  # those that were on their way when it was paused tell nothing new
                went_well = each.completed and not self._is_bad(each.failed, each.completed)
                if each.bundle == hold.probe_bundle and went_well:
                    self._let_go_on(hold, each.bundle, now)

    def _let_go_on(self, hold: Hold, bundle: int, now: datetime) -> None:
        if queue.lift(HoldKind.COMPONENT, hold.target, now, hold.id) is not None:
            event(log, "component_resumed", component=hold.target, bundle=bundle)

    def _look(self, component: str, now: datetime) -> None:
        """Pause a component if too many of its latest tasks failed."""
        enough = 2 * self._settings.breaker_least
        failed = completed = 0
        for each in backlog.latest(component, enough, holds.last_lifted(HoldKind.COMPONENT, component)):
            failed, completed = failed + each.failed, completed + each.completed
            if failed + completed >= enough:
                break
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

    def begin_probe(self, hold: Hold, bundle: int, now: datetime) -> bool:
        """Put the next try off, for this bundle is tried now; False where another service was faster."""
        pause = min(_LONGEST_PAUSE, self._settings.breaker_pause * 2.0 ** min(20, hold.probes + 1))
        return queue.probe(hold.id, bundle, now + timedelta(seconds=pause), now)
