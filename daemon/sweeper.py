"""Walk the watched folders, a slice at a time, and hand over what the ledger lacks.

Every root is swept at the start, again and again after that, and soon after anybody asks (`request`), because events
may be lost and sweeps are the truth. In between come looks at changed folders alone: they cost a hundredth, and find
all but files rewritten in their places.

What is promised when events are lost, or come late: a look begins with the next turn but a few, however large the tree,
and goes before the slices of all whole sweeps under way, one root's beside another's; so a new file is found by the end
of that look. How often both come, and what they may cost, `pacing` says.

A root that cannot be read is an outage: said once, tried again, never taken for an empty one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from typing import NamedTuple

from astra.clock import Clock
from astra.config import Watch
from astra.errors import UnreadableFile
from astra.signature import Signature
from astra.tree import Found, Listed, WalkReport
from daemon.logs import event
from daemon.pacing import Credit, RootState
from daemon.settler import Arrival

log = logging.getLogger(__name__)

Find = Callable[[Watch, WalkReport], Iterator[list[Found]]]
"""Start to walk a root and yield, slice by slice, what is to be offered: `astra.tree.differing` with its arguments."""

_LATE_SECONDS = 10.0  # after so long an event has told of a file, if any does
_SWEEPS_PAUSE, _LOOKS_PAUSE = 1.0, 4.0  # the load of those who take the offers at which these stand still
INTERVAL, CHANGED = "interval", "changed folders"


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
class _Sweep:
    """A whole sweep, or a look, that is under way.

    What changed after `since` and was still by the time it began, an event should have told of; nothing where it was
    `asked` for. A whole sweep that `grows` is the first since its root was away: looks build on what it has listed.
    """

    state: RootState
    reason: str
    whole: bool
    asked: bool
    report: WalkReport
    slices: Iterator[list[Found]]
    since: float
    grows: bool = False
    served: int = -1
    offered: int = 0
    old: int = 0
    unannounced: int = 0
    seconds: float = 0.0

    @property
    def root(self) -> str:
        return self.state.watch.name


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
        self.roots = {watch.name: RootState(watch, len(watches)) for watch in watches}
        self.backfill_until = dict(backfill_until)
        self._requests: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._wanted: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._sweeps: dict[str, _Sweep] = {}  # whole sweeps under way, by root
        self._looks: dict[str, _Sweep] = {}
        self._credit = Credit()
        self._slices = count()

    def request(self, root: str, reason: str) -> None:
        """Have a root looked at, and all of it swept, as soon as may be; may be called from any thread."""
        self._requests.put((root, reason))
        self.look(root, reason)

    def look(self, root: str, reason: str) -> None:
        """Have a root's changed folders looked at as soon as may be; may be called from any thread."""
        self._wanted.put((root, reason))

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
        return not (self._sweeps or self._looks or asked) and self._requests.empty() and self._wanted.empty()

    def turn(self, now: float, load: float = 0.0) -> SweepReport | None:
        """Walk one slice of what is under way, or due at the monotonic time `now`.

        Parameters
        ----------
        now
            Monotonic seconds.
        load
            How much those who take the offers have in hand: at 1 whole sweeps pause, at 4 looks do too.

        Returns
        -------
        SweepReport | None
            What was done, or None if nothing was.
        """
        self._take_requests(now)
        looks = self._begin_looks(now) if load < _LOOKS_PAUSE else []
        sweeps = self._begin_sweeps(now) if load < _SWEEPS_PAUSE else []
        if not (looks or sweeps):
            return None
        sweep = min(looks or sweeps, key=lambda each: each.served)
        sweep.served = next(self._slices)
        try:
            return self._slice(sweep, now)
        except BaseException:
            self._abandon(sweep.state, now)
            raise

    def _slice(self, sweep: _Sweep, now: float) -> SweepReport:
        """Walk the next slice and hand over what it found, or come to the end of the walk."""
        began = self.clock.monotonic()
        try:
            found = next(sweep.slices, None)
            if found:
                sweep.unannounced += self.hand_over(self._offers(sweep, found))
                sweep.offered += len(found)
        except UnreadableFile as error:
            return self._outage(sweep, now, str(error))
        finally:
            sweep.seconds += self.clock.monotonic() - began
        if found is None:
            return self._finish(sweep, now)
        return SweepReport(sweep.root, sweep.reason, sweep.whole, len(found), finished=False)

    def _take_requests(self, now: float) -> None:
        for state, reason in self._taken(self._wanted):
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

    def _begin_sweeps(self, now: float) -> list[_Sweep]:
        """Begin the whole sweeps that are due, and return those under way."""
        due = [state for state in self.roots.values() if state.due <= now and state.watch.name not in self._sweeps]
        for state in sorted(due, key=lambda each: each.due):
            asked, state.reason, state.due = state.reason, None, math.inf
            report = WalkReport(began=self.clock.now().timestamp())
            grows = not state.listed
            if grows:
                state.listed, state.changed_due = report.listed, now + state.changed_every
            walk = self.find(state.watch, report)
            self._sweeps[state.watch.name] = _Sweep(
                state, asked or INTERVAL, True, asked is not None, report, walk, state.swept_at, grows
            )
        return list(self._sweeps.values())

    def _begin_looks(self, now: float) -> list[_Sweep]:
        """Begin the looks that are due, and return those under way."""
        for name, state in self.roots.items():
            if state.look_due(self._credit) > now or name in self._looks:
                continue
            asked, state.asked = state.asked, None
            elsewhere = _unlisted(state.listed) if self._grows(name) else frozenset()
            report = WalkReport(began=self.clock.now().timestamp(), before=state.listed, elsewhere=elsewhere)
            reason = f"{CHANGED}: {asked}" if asked else CHANGED
            walk = self.find(state.watch, report)
            self._looks[name] = _Sweep(state, reason, False, asked is not None, report, walk, state.swept_at)
        return list(self._looks.values())

    def _grows(self, root: str) -> bool:
        return root in self._sweeps and self._sweeps[root].grows

    def _offers(self, sweep: _Sweep, found: Sequence[Found]) -> list[Offer]:
        offers = []
        past = self.backfill_until.get(sweep.root, -math.inf) * 1e9
        since, until = sweep.since * 1e9, (sweep.report.began - _LATE_SECONDS) * 1e9
        for path, signature, known in found:
            old = signature.mtime_ns < past and signature.ctime_ns < past
            late = not sweep.asked and not known and since < signature.mtime_ns < until
            sweep.old += old
            offers.append(Offer(Arrival(sweep.root, path), signature, old, late))
        return offers

    def _finish(self, sweep: _Sweep, now: float) -> SweepReport:
        sweep.state.offered += sweep.offered
        if sweep.whole:
            self._finish_whole(sweep, now)
        else:
            self._finish_look(sweep, now)
        return SweepReport(sweep.root, sweep.reason, sweep.whole, 0, finished=True, unannounced=sweep.unannounced)

    def _finish_look(self, look: _Sweep, now: float) -> None:
        state = look.state
        del self._looks[look.root]
        if self._grows(look.root):  # of what the sweep has not come to yet, the look knows nothing
            self._sweeps[look.root].report.listed.update(look.report.listed)
        else:
            state.listed = look.report.listed
        state.changed_seconds, state.looked = look.seconds, now
        state.changed_due = now + state.changed_every
        if look.asked:
            self._credit.pay(now, look.seconds)
        if look.offered:
            self._tell(look)

    def _finish_whole(self, sweep: _Sweep, now: float) -> None:
        state, report = sweep.state, sweep.report
        del self._sweeps[sweep.root]
        if not sweep.old and sweep.root in self.backfill_until:
            self.end_backfill(sweep.root)
            del self.backfill_until[sweep.root]
        if state.outage:
            event(log, "root_back", root=sweep.root, path=state.watch.path)
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
        state.sweeps, state.seconds, state.swept_at, state.listed = (
            state.sweeps + 1,
            sweep.seconds,
            report.began,
            report.listed,
        )
        state.last, state.outage, state.failures, state.tried, state.ended = report, None, 0, True, now
        state.changed_due = now + state.changed_every
        state.swept(now)
        if sweep.offered or report.missing or sweep.asked:
            self._tell(sweep)

    def _tell(self, sweep: _Sweep) -> None:
        event(
            log,
            "swept",
            root=sweep.root,
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
            event(log, "root_out", logging.ERROR, root=sweep.root, reason=why)
        state.outage, state.tried = why, True
        return SweepReport(sweep.root, sweep.reason, sweep.whole, 0, finished=False, outage=why)

    def _abandon(self, state: RootState, now: float) -> None:
        """Give up what is under way in a root that met trouble: it is swept anew."""
        self._looks.pop(state.watch.name, None)
        sweep = self._sweeps.pop(state.watch.name, None)
        if sweep is not None:
            state.reason = sweep.reason if sweep.asked else state.reason
        state.failed(now)


def _unlisted(listed: Mapping[str, Listed]) -> frozenset[str]:
    """Return the folders that a walk has seen and not come to yet."""
    return frozenset(below for each in listed.values() for below in each.below) - listed.keys()
