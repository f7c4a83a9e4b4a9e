"""Decide when to walk which watched folder, walk it a slice at a time, and hand over what the ledger lacks.

Every root is swept at the start, again and again after that, and soon after anybody asks (`request`), because events
may be lost and sweeps are the truth. In between come looks at changed folders alone: they cost a hundredth, find all
but files rewritten in their places, and go before a whole sweep that is under way.

What is promised when events are lost, or come late: a look begins within a fifth of a second, however large the tree
and whatever sweep is under way, so a new file is found by the end of that look. Each look takes five times its cost
from a credit of half a minute; with the credit used up, the next one waits. So a night of lost events costs at most a
fifth of its time in looks, and another fifth in whole sweeps, which find what was rewritten in its place.

A root that cannot be read is an outage: said once, tried again, never taken for an empty one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import NamedTuple

from astra.clock import Clock
from astra.config import Watch
from astra.errors import UnreadableFile
from astra.signature import Signature
from astra.tree import Found, Listed, WalkReport
from daemon.logs import event
from daemon.settler import Arrival

log = logging.getLogger(__name__)

Find = Callable[[Watch, WalkReport], Iterator[list[Found]]]
"""Start to walk a root and yield, slice by slice, what is to be offered: `astra.tree.differing` with its arguments."""

_POLL_EVERY = 30.0
_CHANGED_EVERY = 30.0  # between two looks at changed folders
_CHANGED_POLL_EVERY = 5.0  # the same where events do not tell
_LATE_SECONDS = 10.0  # after so long an event has told of a file, if any does
INTERVAL, CHANGED = "interval", "changed folders"
_FORCED_GAP = 0.5
_LOOK_GAP = 0.2
_SPARING = 5.0  # a look that is asked for may cost a fifth of the time
_CREDIT = 30.0  # of which so much is lent, to be used at once
_FIRST_RETRY = 1.0
_LOOKS_PAUSE = 4.0  # the load at which even looks pause; whole sweeps do at 1


class Offer(NamedTuple):
    """A file version that a sweep found.

    `backfill` tells that it lay there before the root was ever watched; `late` that it was written since the last
    sweep, and so long ago that an event should have told of it.
    """

    arrival: Arrival
    signature: Signature
    backfill: bool
    late: bool = False


@dataclass(frozen=True)
class SweepReport:
    """What one turn did: walked one slice of a root, or met an outage.

    `whole` tells a sweep from a look at changed folders. `unannounced` counts, at the end of either, the files that
    are late and of which nobody knew.
    """

    root: str
    reason: str
    whole: bool
    offered: int
    finished: bool
    outage: str | None = None
    unannounced: int = 0


@dataclass
class RootState:
    """One root's sweeps so far, for the status page.

    `asked` is why a look is wanted soon, `reason` why a whole sweep is. The looks that were asked for have used
    the time up to `paid_until`.
    """

    watch: Watch
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
    paid_until: float = -math.inf

    @property
    def gap(self) -> float:
        """Seconds that must lie between a whole sweep and a forced one: four fifths of the time nobody sweeps."""
        return max(_FORCED_GAP, 4 * self.seconds)

    @property
    def every(self) -> float:
        """Seconds between two sweeps that nobody asked for."""
        usual = self.watch.sweep_every
        return min(usual, max(_POLL_EVERY, self.gap)) if self.polled else usual

    @property
    def changed_every(self) -> float:
        """Seconds between two looks at changed folders that nobody asked for."""
        return max(_CHANGED_POLL_EVERY if self.polled else _CHANGED_EVERY, 4 * self.changed_seconds)

    @property
    def look_due(self) -> float:
        """The monotonic time of the next look; infinite while no whole sweep has listed what it could build on."""
        if "" not in self.listed:
            return math.inf
        if self.asked is None:
            return self.changed_due
        return min(self.changed_due, max(self.looked + _LOOK_GAP, self.paid_until - _CREDIT))


@dataclass
class _Sweep:
    state: RootState
    reason: str
    whole: bool
    report: WalkReport
    slices: Iterator[list[Found]]
    offered: int = 0
    old: int = 0
    unannounced: int = 0
    seconds: float = 0.0


class Sweeper:
    """Sweeps of all roots, one slice for each `turn`.

    Parameters
    ----------
    watches
        The watched folders.
    find
        Starts a walk.
    hand_over
        Takes the offers of one slice, and returns how many of those that are late it did not know of.
    backfill_until
        For each root whose back-fill has not been seen whole: when it was first watched, in seconds since the epoch.
        What changed before is back-fill.
    end_backfill
        Called with the name of a root once a whole sweep has found no more of its back-fill.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        find: Find,
        hand_over: Callable[[list[Offer]], int],
        clock: Clock,
        backfill_until: Mapping[str, float],
        end_backfill: Callable[[str], None],
    ) -> None:
        self.find, self.hand_over, self.clock, self.end_backfill = find, hand_over, clock, end_backfill
        self.roots = {watch.name: RootState(watch) for watch in watches}
        self.backfill_until = dict(backfill_until)
        self._requests: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._looks: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._sweep: _Sweep | None = None
        self._look: _Sweep | None = None

    def request(self, root: str, reason: str) -> None:
        """Have a root looked at, and all of it swept, as soon as may be; may be called from any thread."""
        self._requests.put((root, reason))
        self.look(root, reason)

    def look(self, root: str, reason: str) -> None:
        """Have a root's changed folders looked at as soon as may be; may be called from any thread."""
        self._looks.put((root, reason))

    def poll(self, root: str, polled: bool) -> None:
        """Sweep a root often, because events do not tell of it, or seldom again."""
        self.roots[root].polled = polled

    @property
    def tried(self) -> bool:
        """Whether every root has been swept once, or found out of reach."""
        return all(state.tried for state in self.roots.values())

    @property
    def idle(self) -> bool:
        """Whether no sweep is under way or asked for."""
        asked = any((state.reason or state.asked) and not state.outage for state in self.roots.values())
        return not (self._sweep or self._look or asked) and self._requests.empty() and self._looks.empty()

    def turn(self, now: float, load: float = 0.0) -> SweepReport | None:
        """Walk one slice: of a look that is under way or due at the monotonic time `now`, else of a whole sweep.

        Parameters
        ----------
        now
            Monotonic seconds.
        load
            How much those who take the offers have in hand: at 1 whole sweeps pause.

        Returns
        -------
        SweepReport | None
            What was done, or None if nothing was.
        """
        self._take_requests(now)
        if load < _LOOKS_PAUSE:
            self._look = self._look or self._begin_look(now)
        if load < 1.0 and self._look is None:
            self._sweep = self._sweep or self._begin(now)
        sweep = self._look or (self._sweep if load < 1.0 else None)
        if sweep is None or load >= _LOOKS_PAUSE:
            return None
        walked = False
        try:
            found = self._slice(sweep)
            walked = True
        except UnreadableFile as error:
            return self._outage(sweep, now, str(error))
        finally:
            if not walked and (sweep is self._look or sweep is self._sweep):
                self._abandon(sweep.state, now)
        if found is None:
            return self._finish(sweep, now)
        return SweepReport(sweep.state.watch.name, sweep.reason, sweep.whole, found, finished=False)

    def _slice(self, sweep: _Sweep) -> int | None:
        """Hand over the next slice and return how many files it offered, or None at the end of the walk."""
        began = self.clock.monotonic()
        found = next(sweep.slices, None)
        if found:
            sweep.unannounced += self.hand_over(self._offers(sweep, found))
            sweep.offered += len(found)
        sweep.seconds += self.clock.monotonic() - began
        return None if found is None else len(found)

    def _take_requests(self, now: float) -> None:
        for state, reason in self._taken(self._looks):
            state.asked = state.asked or reason
        for state, reason in self._taken(self._requests):
            if state.reason:
                continue
            event(log, "sweep_forced", root=state.watch.name, reason=reason)
            state.reason = reason
            if not state.outage:
                state.due = min(state.due, max(now, state.ended + state.gap if state.sweeps else now))

    def _taken(self, asked: SimpleQueue[tuple[str, str]]) -> Iterator[tuple[RootState, str]]:
        for _ in range(asked.qsize()):
            try:
                root, reason = asked.get_nowait()
            except Empty:
                return
            if root in self.roots:
                yield self.roots[root], reason

    def _begin(self, now: float) -> _Sweep | None:
        due = [state for state in self.roots.values() if state.due <= now]
        if not due:
            return None
        state = min(due, key=lambda each: each.due)
        reason, state.reason, state.due = state.reason or INTERVAL, None, math.inf
        report = WalkReport(began=self.clock.now().timestamp())
        if not state.listed:
            state.listed, state.changed_due = report.listed, now + state.changed_every
        return _Sweep(state, reason, True, report, self.find(state.watch, report))

    def _begin_look(self, now: float) -> _Sweep | None:
        due = [state for state in self.roots.values() if state.look_due <= now]
        if self._sweep is None:
            due = [state for state in due if state.asked or state.due > now]  # a whole sweep now is a look as well
        if not due:
            return None
        state = min(due, key=lambda each: each.look_due)
        reason, state.asked = f"{CHANGED}: {state.asked}" if state.asked else CHANGED, None
        elsewhere = _unlisted(state.listed) if self._is_first(state) else frozenset()
        report = WalkReport(began=self.clock.now().timestamp(), before=state.listed, elsewhere=elsewhere)
        return _Sweep(state, reason, False, report, self.find(state.watch, report))

    def _is_first(self, state: RootState) -> bool:
        """Whether a root's first sweep is under way: then looks build on what it has listed so far."""
        return self._sweep is not None and self._sweep.report.listed is state.listed

    def _offers(self, sweep: _Sweep, found: Sequence[Found]) -> list[Offer]:
        name, offers = sweep.state.watch.name, []
        past = self.backfill_until.get(name, -math.inf) * 1e9
        expected = sweep.reason in (INTERVAL, CHANGED)
        since, until = sweep.state.swept_at * 1e9, (sweep.report.began - _LATE_SECONDS) * 1e9
        for path, signature, known in found:
            old = signature.mtime_ns < past and signature.ctime_ns < past
            late = expected and not known and since < signature.mtime_ns < until
            sweep.old += old
            offers.append(Offer(Arrival(name, path), signature, old, late))
        return offers

    def _finish(self, sweep: _Sweep, now: float) -> SweepReport:
        state, report = sweep.state, sweep.report
        if sweep.whole or not self._is_first(state):
            state.listed, state.swept_at = report.listed, report.began
        state.offered += sweep.offered
        if not sweep.whole:
            return self._finish_look(sweep, now)
        state.changed_due = now + state.changed_every
        if not sweep.old and state.watch.name in self.backfill_until:
            self.end_backfill(state.watch.name)
            del self.backfill_until[state.watch.name]
        self._sweep = None
        if state.outage:
            event(log, "root_back", root=state.watch.name, path=state.watch.path)
        if report.problem_count and report.problems != state.last.problems:
            for problem in report.problems:
                event(
                    log, "sweep_problem", logging.DEBUG, root=state.watch.name, path=problem.path, reason=problem.reason
                )
            first = report.problems[0]
            event(
                log,
                "sweep_problems",
                logging.WARNING,
                root=state.watch.name,
                count=report.problem_count,
                first=first.path,
                reason=first.reason,
            )
        state.sweeps, state.seconds = state.sweeps + 1, sweep.seconds
        state.last, state.outage, state.failures, state.tried, state.ended = report, None, 0, True, now
        state.due = now + (min(state.gap, state.every) if state.reason else state.every)
        if sweep.offered or sweep.report.missing or sweep.reason != INTERVAL:
            self._tell(sweep)
        return SweepReport(state.watch.name, sweep.reason, True, 0, finished=True, unannounced=sweep.unannounced)

    def _finish_look(self, sweep: _Sweep, now: float) -> SweepReport:
        self._look, state = None, sweep.state
        state.changed_seconds, state.looked = sweep.seconds, now
        state.changed_due = now + state.changed_every
        if sweep.reason != CHANGED:
            state.paid_until = max(state.paid_until, now) + _SPARING * sweep.seconds
        if sweep.offered:
            self._tell(sweep)
        return SweepReport(state.watch.name, sweep.reason, False, 0, finished=True, unannounced=sweep.unannounced)

    def _tell(self, sweep: _Sweep) -> None:
        event(
            log,
            "swept",
            root=sweep.state.watch.name,
            reason=sweep.reason,
            files=sweep.report.files,
            folders=sweep.report.folders,
            offered=sweep.offered,
            missing=sweep.report.missing or None,
            seconds=sweep.seconds,
        )

    def _outage(self, sweep: _Sweep, now: float, why: str) -> SweepReport:
        state = sweep.state
        self._abandon(state, now)
        if state.outage is None:
            event(log, "root_out", logging.ERROR, root=state.watch.name, reason=why)
        state.outage, state.tried = why, True
        return SweepReport(state.watch.name, sweep.reason, sweep.whole, 0, finished=False, outage=why)

    def _abandon(self, state: RootState, now: float) -> None:
        """Give up what is under way in a root that met trouble, and sweep it anew after a growing delay."""
        if self._look and self._look.state is state:
            self._look = None
        if self._sweep and self._sweep.state is state:
            state.reason, self._sweep = self._sweep.reason, None
        delay = min(_FIRST_RETRY * 2.0 ** min(state.failures, 20), state.watch.sweep_every, 60.0)
        state.failures, state.due, state.ended = state.failures + 1, now + delay, now
        state.listed, state.asked = {}, None  # a whole sweep comes first


def _unlisted(listed: Mapping[str, Listed]) -> frozenset[str]:
    """Return the folders that a walk has seen and not come to yet."""
    return frozenset(below for each in listed.values() for below in each.below) - listed.keys()
