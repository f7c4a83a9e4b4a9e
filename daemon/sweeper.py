"""Decide when to walk which watched folder, walk it a slice at a time, and hand over what the ledger lacks.

Every root is swept at the start, again and again after that, and soon after anybody asks (`request`), because events
may be lost and sweeps are the truth. In between come sweeps of changed folders alone: they cost a hundredth, and
find all but files rewritten in their places. Forced sweeps are spaced by their own cost, so a storm of lost events
cannot turn into a storm of sweeps. A root that cannot be read is an outage: said once, tried again, never taken for an
empty one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

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
_CHANGED_EVERY = 30.0  # between two sweeps of changed folders
_CHANGED_POLL_EVERY = 5.0  # the same where events do not tell
_LATE_SECONDS = 10.0  # after so long an event has told of a file, if any does
INTERVAL, CHANGED = "interval", "changed folders"
_FORCED_GAP = 0.5
_FIRST_RETRY = 1.0


@dataclass(frozen=True)
class Offer:
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

    `unannounced` counts, at the end of a sweep, the files that are late and of which nobody knew.
    """

    root: str
    reason: str
    offered: int
    finished: bool
    outage: str | None = None
    unannounced: int = 0


@dataclass
class RootState:
    """One root's sweeps so far, for the status page."""

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

    @property
    def gap(self) -> float:
        """Seconds that must lie between a sweep and a forced one: four fifths of the time nobody sweeps."""
        return max(_FORCED_GAP, 4 * self.seconds)

    @property
    def every(self) -> float:
        """Seconds between two sweeps that nobody asked for."""
        usual = self.watch.sweep_every
        return min(usual, max(_POLL_EVERY, self.gap)) if self.polled else usual

    @property
    def changed_every(self) -> float:
        """Seconds between two sweeps of changed folders."""
        return max(_CHANGED_POLL_EVERY if self.polled else _CHANGED_EVERY, 4 * self.changed_seconds)


@dataclass
class _Sweep:
    state: RootState
    reason: str
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
        self._sweep: _Sweep | None = None

    def request(self, root: str, reason: str) -> None:
        """Have a root swept soon; may be called from any thread."""
        self._requests.put((root, reason))

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
        asked = any(state.reason and not state.outage for state in self.roots.values())
        return self._sweep is None and not asked and self._requests.empty()

    def turn(self, now: float, full: bool = False) -> SweepReport | None:
        """Walk one slice of the sweep under way, or of the next one that is due at the monotonic time `now`.

        Nothing is walked while those who take the offers are `full`. Returns None if nothing was done.
        """
        self._take_requests(now)
        if full:
            return None
        sweep = self._sweep = self._sweep or self._begin(now)
        if sweep is None:
            return None
        walked = False
        try:
            found = self._slice(sweep)
            walked = True
        except UnreadableFile as error:
            return self._outage(sweep, now, str(error))
        finally:
            if not walked and self._sweep is sweep:
                self._abandon(sweep, now)
        if found is None:
            return self._finish(sweep, now)
        return SweepReport(sweep.state.watch.name, sweep.reason, found, finished=False)

    def _slice(self, sweep: _Sweep) -> int | None:
        """Hand over the next slice and return how many files it offered, or None at the end of the walk."""
        began = self.clock.monotonic()
        found = next(sweep.slices, None)
        sweep.seconds += self.clock.monotonic() - began
        if found:
            sweep.unannounced += self.hand_over([self._offer(sweep, each) for each in found])
            sweep.offered += len(found)
        return None if found is None else len(found)

    def _take_requests(self, now: float) -> None:
        while True:
            try:
                root, reason = self._requests.get_nowait()
            except Empty:
                return
            state = self.roots.get(root)
            if state is None or state.reason:
                continue
            event(log, "sweep_forced", root=root, reason=reason)
            state.reason = reason
            if not state.outage:
                state.due = min(state.due, max(now, state.ended + state.gap if state.sweeps else now))

    def _begin(self, now: float) -> _Sweep | None:
        began = self.clock.now().timestamp()
        due = [state for state in self.roots.values() if state.due <= now]
        if due:
            state = min(due, key=lambda each: each.due)
            reason, state.reason = state.reason or INTERVAL, None
            report = WalkReport(began=began)
            return _Sweep(state, reason, report, self.find(state.watch, report))
        changed = [state for state in self.roots.values() if state.changed_due <= now]
        if not changed:
            return None
        state = min(changed, key=lambda each: each.changed_due)
        report = WalkReport(began=began, before=state.listed)
        return _Sweep(state, CHANGED, report, self.find(state.watch, report))

    def _offer(self, sweep: _Sweep, found: Found) -> Offer:
        name, signature = sweep.state.watch.name, found.signature
        old = max(signature.mtime_ns, signature.ctime_ns) / 1e9 < self.backfill_until.get(name, -math.inf)
        sweep.old += old
        written, state = signature.mtime_ns / 1e9, sweep.state
        expected = sweep.reason in (INTERVAL, CHANGED) and not found.known
        late = expected and state.swept_at < written < sweep.report.began - _LATE_SECONDS
        return Offer(Arrival(name, found.path), signature, old, late)

    def _finish(self, sweep: _Sweep, now: float) -> SweepReport:
        state, report = sweep.state, sweep.report
        state.listed, state.changed_due, state.swept_at = report.listed, math.inf, report.began
        if sweep.reason == CHANGED:
            self._sweep, state.changed_seconds = None, sweep.seconds
            state.offered += sweep.offered
            state.changed_due = now + state.changed_every
            if sweep.offered:
                self._tell(sweep, sweep.seconds)
            return SweepReport(state.watch.name, CHANGED, 0, finished=True, unannounced=sweep.unannounced)
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
        state.sweeps, state.offered, state.seconds = state.sweeps + 1, state.offered + sweep.offered, sweep.seconds
        state.last, state.outage, state.failures, state.tried, state.ended = report, None, 0, True, now
        state.due = now + (min(state.gap, state.every) if state.reason else state.every)
        state.changed_due = now + state.changed_every
        if sweep.offered or sweep.report.missing or sweep.reason != INTERVAL:
            self._tell(sweep, state.seconds)
        return SweepReport(state.watch.name, sweep.reason, 0, finished=True, unannounced=sweep.unannounced)

    def _tell(self, sweep: _Sweep, seconds: float) -> None:
        event(
            log,
            "swept",
            root=sweep.state.watch.name,
            reason=sweep.reason,
            files=sweep.report.files,
            folders=sweep.report.folders,
            offered=sweep.offered,
            missing=sweep.report.missing or None,
            seconds=seconds,
        )

    def _outage(self, sweep: _Sweep, now: float, why: str) -> SweepReport:
        state = sweep.state
        self._abandon(sweep, now)
        if state.outage is None:
            event(log, "root_out", logging.ERROR, root=state.watch.name, reason=why)
        state.outage, state.tried = why, True
        return SweepReport(state.watch.name, sweep.reason, 0, finished=False, outage=why)

    def _abandon(self, sweep: _Sweep, now: float) -> None:
        """Give up a sweep that met trouble, and begin it anew after a growing delay."""
        self._sweep, state = None, sweep.state
        delay = min(_FIRST_RETRY * 2.0 ** min(state.failures, 20), state.watch.sweep_every, 60.0)
        reason = None if sweep.reason == CHANGED else sweep.reason
        state.failures, state.due, state.reason, state.ended = state.failures + 1, now + delay, reason, now
        state.changed_due = math.inf  # a whole sweep comes first
