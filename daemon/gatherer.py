"""When sources are gathered: at each turn of the main loop, those whose time has come. `astra.gathering` says which."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from astra import gathering
from astra.clock import Clock
from astra.rules import Rule
from daemon.logs import event

log = logging.getLogger(__name__)


class Gatherer:
    """Turns marks into tasks, a chunk of each rule at a time."""

    def __init__(self, rules: Sequence[Rule], clock: Clock) -> None:
        self._rules, self._clock = gathering.that_gather(rules), clock
        gathering.follow_links(self._rules, clock.now())  # a rule that is new begins here, not at the first turn
        for rule, sources in gathering.unknown({each.name for each in self._rules}):
            reason = "no rule of that name gathers here: another service's, or it was renamed or removed"
            event(log, "marks_wait", logging.WARNING, rule=rule, sources=sources, reason=reason)

    def turn(self) -> bool:
        """Take one turn; return whether there may be more to do at once."""
        now = self._clock.now()
        followed = gathering.follow_links(self._rules, now)
        gathered = gathering.gather_due(self._rules, now)
        for each in gathered:
            more = {"superseded": each.superseded} if each.superseded else {}
            event(log, "gathered", rule=each.rule, sources=each.sources, tasks=len(each.tasks), **more)
        return followed or bool(gathered)

    @property
    def is_done(self) -> bool:
        """Whether no source waits to be gathered, now or later."""
        return not gathering.is_left(self._rules)
