"""When each watched folder is swept next, and looked at: often enough to miss nothing for long, seldom enough to rest.

All of it is measured against what the last sweeps have cost, and divided among the watched folders: whole sweeps that
nobody waits for take at most a fifth of the time, looks at changed folders another fifth, however many folders there
are. Looks that are asked for draw on a credit which all folders share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from astra.config import Watch
from astra.tree import Listed, WalkReport

POLL_EVERY = 30.0
CHANGED_EVERY = 30.0  # between two looks at changed folders
CHANGED_POLL_EVERY = 5.0  # the same where events do not tell
FORCED_GAP = 0.5  # between a whole sweep and a forced one, at least
LOOK_GAP = 0.2  # between two looks, at least
SPARING = 4.0  # times its cost that a sweep, or a look that nobody asked for, is followed by rest
LOOK_PRICE = 5.0  # times its cost that a look which was asked for takes from the credit: a fifth of the time
CREDIT = 30.0  # seconds of it that are lent, to be used at once
FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0


@dataclass
class RootState:
    """One root's sweeps so far, for the status page, and when the next ones are due, in monotonic seconds.

    `asked` is why a look is wanted soon, `reason` why a whole sweep is. `share` is how many roots there are.
    """

    watch: Watch
    share: int = 1
    polled: bool = False
    sweeps: int = 0
    offered: int = 0
    seconds: float = 0.0
    changed_seconds: float = 0.0
    changed_due: float = math.inf
    last: WalkReport = field(default_factory=WalkReport)
    outage: str | None = None
    tried: bool = False
    swept_at: float = math.inf
    listed: Mapping[str, Listed] = field(default_factory=dict, repr=False)
    due: float = 0.0
    reason: str | None = "start"
    ended: float = 0.0
    failures: int = 0
    asked: str | None = None
    looked: float = -math.inf

    @property
    def gap(self) -> float:
        """Seconds that must lie between a whole sweep and a forced one."""
        return max(FORCED_GAP, SPARING * self.share * self.seconds)

    @property
    def every(self) -> float:
        """Seconds between two whole sweeps that nobody asked for."""
        usual = self.watch.sweep_every
        return min(usual, max(POLL_EVERY, self.gap)) if self.polled else usual

    @property
    def changed_every(self) -> float:
        """Seconds between two looks at changed folders that nobody asked for."""
        usual = CHANGED_POLL_EVERY if self.polled else CHANGED_EVERY
        return max(usual, SPARING * self.share * self.changed_seconds)

    def look_due(self, credit: Credit) -> float:
        """Return when the next look is due: never while no whole sweep has listed what it could build on."""
        if "" not in self.listed:
            return math.inf
        if self.asked is None:
            return self.changed_due
        return min(self.changed_due, max(self.looked + LOOK_GAP, credit.ready))

    def swept(self, now: float) -> None:
        """Set when the next whole sweep is due after one that ends now."""
        self.due = now + (min(self.gap, self.every) if self.reason else self.every)

    def failed(self, now: float) -> None:
        """Set when a root that met trouble is swept anew: after a delay that grows; till then nothing is looked at."""
        delay = min(FIRST_RETRY * 2.0 ** min(self.failures, 20), self.watch.sweep_every, LONGEST_RETRY)
        self.failures, self.due, self.ended = self.failures + 1, now + delay, now
        self.listed, self.asked = {}, None


@dataclass
class Credit:
    """What the looks that were asked for may use: what they cost is paid back by rest, and some of it is lent."""

    paid_until: float = -math.inf

    @property
    def ready(self) -> float:
        """The monotonic time from which there is credit."""
        return self.paid_until - CREDIT

    def pay(self, now: float, seconds: float) -> None:
        """Pay for a look that took `seconds`, and ended now."""
        self.paid_until = max(self.paid_until, now) + LOOK_PRICE * seconds
