"""One turn of the scheduler: free what died, take pending tasks as bundles, hand them over, collect what ended.

Comes from `queue`, which holds the tasks that intake and people enqueued; goes to an executor, whose processes run
`astra.execution`. All state is in the database: a scheduler that is killed leaves nothing that the next one cannot see.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta

from astra import backlog, provenance, queue
from astra.clock import Clock
from astra.config import Settings
from astra.database.connection import available
from astra.errors import DatabaseUnavailable
from astra.states import BundleState
from astra.work import Claimed, Expiry, OpenBundle, again_after
from daemon.executors import Ending, Executor
from daemon.logs import event

log = logging.getLogger(__name__)
_RECOVER_EVERY = 15.0
_FAILURES_TOLD = 5  # of one bundle; `astra tasks` has them all
_STRANDED = 5  # leases after which a bundle that nobody has started is given back


@dataclass(frozen=True, slots=True)
class TickReport:
    """What one turn did: the bundles it handed over, those that ended, and those it took from the dead."""

    submitted: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether anything happened."""
        return bool(self.submitted or self.ended or self.recovered)


class Scheduler:
    """Bundles pending tasks and keeps the executor busy."""

    def __init__(self, settings: Settings, executor: Executor, clock: Clock) -> None:
        self._settings = settings.scheduler
        self._executor = executor
        self._clock = clock
        self._owner = provenance.owner()
        self._served: tuple[int, str] | None = None
        self._recover_at = 0.0
        self._timing: dict[int, float] = {}
        self._endings: deque[Ending] = deque()
        self.draining = False
        self.pending = True

    @property
    def running(self) -> int:
        """How many bundles this scheduler has handed over that have not ended."""
        return len(self._timing)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing could be claimed at the last turn."""
        return not self._timing and not self.pending

    def start(self) -> None:
        """Make the executor ready."""
        self._executor.start()

    def tick(self, now: float) -> TickReport:
        """Take one turn at the monotonic time `now`."""
        report = TickReport()
        self._endings.extend(self._executor.turn(now))
        while self._endings:  # each leaves when it is dealt with: the database may go away in between
            self._collect(self._endings[0], now, report)
            self._endings.popleft()
        if now >= self._recover_at:
            report.recovered.extend(self._recover())
            self._recover_at = now + _RECOVER_EVERY
        queue.make_due(self._clock.now())
        if not self.draining:
            self._hand_over(now, report)
        return report

    def stop(self) -> int:
        """End what still runs, and give its tasks back unrun; return how many bundles that were."""
        stopped = {*self._executor.stop(), *(each.bundle for each in self._endings)}
        self._timing.clear()
        self._endings.clear()
        try:
            with available():
                self._release(stopped)
        except DatabaseUnavailable as error:
            event(
                log, "not_released", logging.ERROR, bundles=len(stopped), reason=f"{error}; the next start frees them"
            )
        return len(stopped)

    def _release(self, stopped: set[int]) -> None:
        now = self._clock.now()
        for found in backlog.open_bundles(now):
            if found.bundle in stopped or self._is_ours_unstarted(found):
                tasks = queue.release(found.bundle, found.token, "the service stopped", now)
                event(log, "released", bundle=found.bundle, tasks=tasks, reason="the service stopped")

    def _hand_over(self, now: float, report: TickReport) -> None:
        free = self._executor.free()
        self.pending = False
        while free:
            key = backlog.pick(self._served)
            if key is None:
                return
            limit = self._bundle_limit(key[1])
            claimed = queue.claim(key[1], limit, self._owner, self._executor.name, self._clock.now())
            self._served = key
            if claimed is None:  # somebody was faster, or holds a lock on it: the next turn asks for the next key
                break
            self._executor.submit(claimed, now)
            self._timing[claimed.bundle] = now
            report.submitted.append(claimed.bundle)
            event(log, "submitted", bundle=claimed.bundle, tasks=claimed.size, key=key[1])
            free -= 1
        self.pending = True

    def _bundle_limit(self, bundle_key: str) -> int:
        """Return how many tasks to take at once: a fair share for every process, so that none waits for another."""
        slots, most = self._executor.slots(), self._settings.max_bundle_size
        waiting = backlog.waiting(bundle_key, most * slots)
        return max(1, min(most, math.ceil(waiting / slots)))

    def _collect(self, ending: Ending, now: float, report: TickReport) -> None:
        seconds = now - self._timing.get(ending.bundle, now)
        if ending.trouble is None:
            outcomes, failed = backlog.ends(ending.bundle, _FAILURES_TOLD)
            level = logging.WARNING if failed else logging.INFO
            event(log, "ended", level, bundle=ending.bundle, seconds=seconds, **dict(sorted(outcomes.items())))
            for task, error in failed:
                event(log, "failed", logging.WARNING, task=task, bundle=ending.bundle, error=error)
        else:
            for found in backlog.open_bundles(self._clock.now()):
                if found.bundle == ending.bundle:
                    started = self._as_started(found) if ending.died else found
                    self._take_back(started, ending.trouble, ending.position)
            event(log, "bundle_troubled", logging.WARNING, bundle=ending.bundle, seconds=seconds, reason=ending.trouble)
        self._timing.pop(ending.bundle, None)
        report.ended.append(ending.bundle)

    def _as_started(self, found: OpenBundle) -> OpenBundle:
        """Turn a bundle running whose process died on the way: a component that cannot be imported alive is a try.

        Given back unrun, it would be taken, and kill its process, for ever.
        """
        if found.state is not BundleState.SUBMITTED:
            return found
        now, unknown = self._clock.now(), provenance.Code(provenance.astra_version(), "", None, None, None)
        claimed = Claimed(found.bundle, found.size, found.token)
        token = queue.start(claimed, self._owner, unknown, provenance.environment_id(), now, now)
        return replace(found, state=BundleState.RUNNING, token=token)

    def _recover(self) -> list[int]:
        """Free the bundles whose lease has run out, or whose process is known to be dead."""
        freed = []
        for found in backlog.open_bundles(self._clock.now()):
            if self._executor.is_mine(found):
                continue
            owner = found.owner
            if provenance.is_dead(owner.boot, owner.pid, owner.start, owner.host):
                reason = "its process is gone"
            elif found.lapsed:
                reason = "its lease ran out"
            elif self._is_ours_unstarted(found) or self._is_stranded(found):
                reason = "it was never handed over"
            else:
                continue
            self._take_back(found, reason)
            freed.append(found.bundle)
        return freed

    def _is_ours_unstarted(self, found: OpenBundle) -> bool:
        return found.state is BundleState.SUBMITTED and found.owner == self._owner

    def _is_stranded(self, found: OpenBundle) -> bool:
        """Whether a bundle has been on its way for so long that nobody will start it.

        Its owner may be in another container, or on another machine, of which we can see nothing. Should it come to
        life again, the guarded start tells it that it was too late.
        """
        waited = self._clock.now() - found.created
        mine = found.state is BundleState.SUBMITTED and found.executor == self._executor.name
        return mine and waited > timedelta(seconds=_STRANDED * self._settings.lease)

    def _take_back(self, found: OpenBundle, reason: str, position: int | None = None) -> None:
        now = self._clock.now()
        if found.executor == "interactive":
            failed = queue.fail_gone(found.bundle, found.token, "process gone", now)
            event(log, "interactive_gone", logging.WARNING, bundle=found.bundle, failed=failed)
        elif found.state is BundleState.SUBMITTED:
            tasks = queue.release(found.bundle, found.token, reason, now)
            event(log, "released", bundle=found.bundle, tasks=tasks, reason=reason)
        else:
            again = again_after(backlog.tries(found.bundle, position or 0), self._settings.backoff, now)
            expiry = Expiry(found.bundle, found.token, reason, self._settings.retries, again, position)
            waiting, failed = queue.expire(expiry, now)
            event(log, "expired", logging.WARNING, bundle=found.bundle, waiting=waiting, failed=failed, reason=reason)
