"""One turn of the scheduler: free what died, take pending tasks as bundles, hand them over, collect what ended.

Comes from `queue`, which holds the tasks that intake and people enqueued; goes to an executor, whose processes run
`astra.execution`. All state is in the database: a scheduler that is killed leaves nothing that the next one cannot see.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from astra import backlog, holds, provenance, queue
from astra.clock import Clock
from astra.config import Settings
from astra.database.astradb import Hold
from astra.database.connection import available
from astra.errors import DatabaseUnavailable
from astra.session import clean
from astra.states import BundleState, ErrorKind, HoldKind
from astra.work import Claimed, Load, OpenBundle, Pick, Retry
from daemon.breaker import Breaker
from daemon.choosing import Choice
from daemon.executors import STRANDED, Ending, Executor
from daemon.logs import event
from daemon.taking_back import take_back, tell_taken_away

log = logging.getLogger(__name__)
_RECOVER_EVERY = 5.0
_REPAIR_EVERY = 15.0
_REPAIR_ON = 0.5  # a slice of who waits takes 15 to 30 ms, so a million are looked at in two minutes
_FAILURES_TOLD = 5  # of one bundle, and bundles; `astra failures` has them all
_BUNDLES_TOLD = 10  # one by one, of those that end together
_COLLECT_SECONDS = 2.0  # of a turn, at most, that taking back may take
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
UNRECORDED_SECONDS = 10.0  # that a stop waits for a database that is away, when nothing else is to be waited for


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
        self._settings = settings
        self._executor = executor
        self._clock = clock
        self._owner = provenance.owner()
        self._choice = Choice(settings, executor.span)
        self._breaker = Breaker(settings.scheduler)
        self._recover_at = self._repair_at = self._lapses_from = 0.0
        self._turned: float | None = None
        self._repaired: tuple[str, int] | None = None
        self._held: dict[int, Hold] = {}
        self._timing: dict[int, float] = {}
        self._endings: deque[Ending] = deque()
        self._pause, self._resume_at = 0.0, 0.0
        self._unrecorded_since: float | None = None
        self.draining = False
        self.pending = True

    @property
    def running(self) -> int:
        """How many bundles this scheduler has handed over that have not ended."""
        return len(self._timing)

    @property
    def ending_with_service(self) -> int:
        """How many of these would end with this service, and are to be waited for."""
        return 0 if self._executor.outlives else len(self._timing)

    @property
    def executor_state(self) -> dict[str, Any]:
        """What an operator wants to know of the executor."""
        return {"name": self._executor.name, **self._executor.state()}

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing could be claimed at the last turn."""
        return not self._timing and not self.pending

    def tick(self, now: float) -> TickReport:
        """Take one turn at the monotonic time `now`."""
        report = TickReport()
        lease = self._settings.scheduler.lease
        if self._turned is None or now - self._turned > lease / 3:  # the others may have had to wait as well
            self._lapses_from = now + lease
        self._endings.extend(self._executor.turn(now))
        self._collect(now, report)
        if now >= self._recover_at:
            report.recovered.extend(self._recover(now))
            self._recover_at = now + _RECOVER_EVERY
        self._repair_waits(now)
        self._obey()
        if not self.draining:
            self._hand_over(now, report)
        # after what has just been enqueued, which somebody may wait for
        if queue.make_due(self._clock.now()) and not self.draining:
            self._hand_over(now, report)
        self._turned = now
        return report

    def _repair_waits(self, now: float) -> None:
        """Let go some of those that wait for what is done; soon more of them, until all who wait were looked at."""
        if now >= self._repair_at:
            self._repaired = queue.repair_waits(self._repaired)
            self._repair_at = now + (_REPAIR_EVERY if self._repaired is None else _REPAIR_ON)

    def wind_up(self) -> None:
        """Have the bundles that run begin no further task: what is done is recorded, the rest given back."""
        self._executor.drain()

    def unrecorded_for(self, now: float) -> float:
        """Return for how long nothing has run that could end: all that is left waits for a database that is away.

        Ask after each turn, with its time.
        """
        waiting = self._executor.unrecorded() + len(self._endings)
        if self._turned == now or not waiting or waiting < self.ending_with_service:
            self._unrecorded_since = None
        elif self._unrecorded_since is None:
            self._unrecorded_since = now
            event(log, "unrecorded", logging.WARNING, bundles=waiting, waits=UNRECORDED_SECONDS)
        return 0.0 if self._unrecorded_since is None else now - self._unrecorded_since

    def stop(self) -> int:
        """End what still runs, and give its tasks back unrun; return how many bundles were given back."""
        stopped = {*self._executor.stop(), *(each.bundle for each in self._endings)}
        self._timing.clear()
        self._endings.clear()
        released: list[int] = []
        try:
            with available():
                self._release(stopped, released)
        except DatabaseUnavailable as error:
            if left := len(stopped.difference(released)):
                event(log, "not_released", logging.ERROR, bundles=left, reason=f"{error}; the next start frees them")
        return len(released)

    def _release(self, stopped: set[int], released: list[int]) -> None:
        """Give back what was stopped, and what was claimed and never handed over; note each in `released`."""
        now = self._clock.now()
        for found in backlog.open_bundles(now):
            if found.bundle in stopped or (self._is_ours_unstarted(found) and not self._executor.is_mine(found)):
                tasks = queue.release(found.bundle, found.token, "the service stopped", now)
                if tasks:  # else it has just been recorded
                    released.append(found.bundle)
                    event(log, "released", bundle=found.bundle, tasks=tasks, reason="the service stopped")

    # --------------------------------------------------------------------------------------------- handing over

    def _hand_over(self, now: float, report: TickReport) -> None:
        free = self._executor.free() if now >= self._resume_at else 0
        self.pending = False
        if not free:
            self.pending = True
            return
        standing = holds.standing()
        held = {(each.kind, each.target) for each in standing}
        self._tell_holds(standing)
        for each in self._breaker.due(standing, self._clock.now())[:free]:
            free -= self._probe(each, held, now, report)
        while free:
            unwelcome = {(HoldKind.COMPONENT, each) for each in self._executor.passed_over(now)}
            picks = self._choice.next(held | unwelcome, self._executor.slots(), self._clock.now())
            if not picks:
                return
            claimed = self._claim(picks)
            if not claimed:  # somebody was faster: the next turn asks for the next key
                break
            self._submit(claimed, now, report)
            free -= 1
        self.pending = True

    def _tell_holds(self, standing: Sequence[Hold]) -> None:
        """Log what people have held, and let go, since the last turn; the breaker says itself what it does."""
        own = {each.id: each for each in standing if each.probe_at is None}
        for key in own.keys() - self._held.keys():
            event(log, "held", **{str(own[key].kind): own[key].target}, by=own[key].who, reason=own[key].reason)
        for key in self._held.keys() - own.keys():
            event(log, "resumed", **{str(self._held[key].kind): self._held[key].target})
        self._held = own

    def _probe(self, hold: Hold, held: Collection[tuple[HoldKind, str]], now: float, report: TickReport) -> bool:
        """Hand over one bundle of a component that the circuit breaker has paused; return whether there was one."""
        picks = self._choice.probe(hold.target, held, self._clock.now())
        claimed = self._claim(picks) if picks else []
        if not claimed:
            return False
        if not self._breaker.begin_probe(hold, claimed[0].bundle, self._clock.now()):
            why = "another service tries this component"
            queue.release(claimed[0].bundle, claimed[0].token, why, self._clock.now())
            return False
        event(log, "component_tried", component=hold.target, bundle=claimed[0].bundle)
        self._submit(claimed, now, report)
        return True

    def _claim(self, picks: list[Pick]) -> list[Claimed]:
        return queue.claim(picks, self._owner, self._executor.name, self._clock.now())

    def _submit(self, claimed: list[Claimed], now: float, report: TickReport) -> None:
        scheduler = self._settings.scheduler
        load = Load(tuple(claimed), scheduler.lease, Retry(scheduler.retries, scheduler.backoff))
        self._executor.submit(load, now)
        self._timing.update(dict.fromkeys((each.bundle for each in claimed), now))
        report.submitted.extend(each.bundle for each in claimed)
        tasks, more = sum(each.size for each in claimed), {"bundles": len(claimed)} if len(claimed) > 1 else {}
        event(log, "submitted", bundle=claimed[0].bundle, tasks=tasks, key=claimed[0].key, **more)

    def _obey(self) -> None:
        """Do what people have asked of running bundles: let one come to an end early, stop one that was taken away."""
        if not self._timing:
            return
        for bundle in backlog.asked(holds.DRAIN):
            if bundle in self._timing:
                self._executor.drain_bundle(bundle)
        if self._executor.outlives:  # what is there to be stopped stops by itself
            return
        if taken := backlog.taken_away(self._timing):
            tell_taken_away(taken)
            self._executor.drop(taken)
            for bundle in taken:
                self._timing.pop(bundle, None)

    # ------------------------------------------------------------------------------------------------ collecting

    def _collect(self, now: float, report: TickReport) -> None:
        """Take note of what ended. Each leaves when it is dealt with: the database may go away in between.

        Where many went wrong at once, the next turn goes on with them.
        """
        well = [each for each in self._endings if each.trouble is None]
        if well:
            ended = backlog.ended([each.bundle for each in well])
            self._tell(ended, now)
            self._judge(ended)
            self._endings = deque(each for each in self._endings if each.trouble is not None)
            self._pause = 0.0
            for each in well:
                self._note_end(each.bundle, report)
        still_open = {each.bundle: each for each in backlog.open_bundles(self._clock.now())} if self._endings else {}
        unharmed: dict[tuple[str, bool], list[int]] = {}
        until = self._clock.monotonic() + _COLLECT_SECONDS
        while self._endings and self._clock.monotonic() <= until:
            ending = self._endings[0]
            found = still_open.get(ending.bundle)
            if found is not None and ending.kind is None and not ending.cancelled:
                queue.release(found.bundle, found.token, clean(ending.trouble or ""), self._clock.now())
                unharmed.setdefault((ending.trouble or "", ending.away), []).append(ending.bundle)
            else:
                self._take_from_dead(ending, found, now)
            self._note_end(ending.bundle, report)
            self._endings.popleft()
        for (reason, away), bundles in unharmed.items():
            more: dict[str, Any] = {"bundles": len(bundles)} if len(bundles) > 1 else {}
            more |= {"again_in": self._put_off(now)} if away else {}
            event(log, "released", bundle=bundles[0], **more, reason=reason)

    def _put_off(self, now: float) -> float:
        """Hand nothing over for a while, longer each time: a server that takes no more connections needs room.

        What was handed over and given back again and again would but fill the records.
        """
        if now >= self._resume_at:
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause or _FIRST_PAUSE)
            self._resume_at = now + self._pause
        return self._resume_at - now

    def _note_end(self, bundle: int, report: TickReport) -> None:
        self._timing.pop(bundle, None)
        report.ended.append(bundle)

    def _tell(self, ended: Sequence[backlog.Ended], now: float) -> None:
        """Log how bundles ended: one by one, or many short ones together."""
        failed = [each for each in ended if each.failed]
        if len(ended) > _BUNDLES_TOLD:
            tasks, completed = sum(each.size for each in ended), sum(each.completed for each in ended)
            level = logging.WARNING if failed else logging.INFO
            event(log, "ended", level, bundles=len(ended), tasks=tasks, completed=completed)
        else:
            for each in ended:
                outcomes = {"completed": each.completed, "failed": each.failed}
                outcomes["released"] = each.size - each.completed - each.failed
                level = logging.WARNING if each.failed else logging.INFO
                seconds = now - self._timing.get(each.bundle, now) if each.seconds is None else each.seconds
                given = {name: count for name, count in outcomes.items() if count}
                event(log, "ended", level, bundle=each.bundle, seconds=seconds, **given)
        self._tell_failures(failed)

    def _tell_failures(self, ended: Sequence[backlog.Ended]) -> None:
        for each in ended[:_FAILURES_TOLD]:
            for task, error in backlog.failures(each.bundle, _FAILURES_TOLD):
                event(log, "failed", logging.WARNING, task=task, bundle=each.bundle, error=error)

    def _judge(self, ended: Sequence[backlog.Ended]) -> None:
        for component in {each.component for each in ended}:
            self._choice.learn(component)
        self._breaker.judge(ended, self._clock.now())

    def _take_from_dead(self, ending: Ending, found: OpenBundle | None, now: float) -> None:
        """Take a bundle back whose process is lost; one whose end was recorded just before is not found open."""
        if found is None:
            return
        self._take_back(found, ending, now - self._timing.get(ending.bundle, now))
        ended = backlog.ended([ending.bundle])
        self._tell_failures(ended)
        self._judge(ended)

    def _recover(self, now: float) -> list[int]:
        """Free the bundles whose lease has run out, or whose supervisor is known to be dead."""
        freed = []
        still_open = backlog.open_bundles(self._clock.now())
        if adopted := self._executor.adopt(still_open, now):
            self._timing.update(dict.fromkeys(adopted, now))
            more = {"bundles": len(adopted)} if len(adopted) > 1 else {}
            event(log, "adopted", bundle=adopted[0], **more)
        for found in still_open:
            if self._executor.is_mine(found) or self._is_anothers(found):
                continue
            owner = found.owner
            if provenance.is_dead(owner.boot, owner.pid, owner.start, owner.host):
                reason = "its process is gone"
            elif found.lapsed and self._believes_lapse(owner):
                reason = "its lease ran out"
            elif self._is_ours_unstarted(found) or self._is_stranded(found):
                reason = "it was never handed over"
            else:
                continue
            kind = ErrorKind.INTERRUPTED if found.state is BundleState.RUNNING else None
            self._take_back(found, Ending(found.bundle, reason, kind))
            self._timing.pop(found.bundle, None)
            freed.append(found.bundle)
        if freed and self._executor.outlives:  # whatever has them yet does nothing more than harm
            self._executor.drop(freed)
        return freed

    def _is_anothers(self, found: OpenBundle) -> bool:
        """Whether a bundle waits in an executor that we are not: only that one can tell what became of it."""
        is_outside = found.external_name is not None and found.state is BundleState.SUBMITTED
        return is_outside and found.executor != self._executor.name

    def _believes_lapse(self, owner: provenance.Owner) -> bool:
        """Whether a lease that ran out tells that its holder is lost: not of a process that is seen to live here.

        Nor in the time of a lease after the database was away, or this service began: the others may just be renewing.
        """
        here = owner.boot == self._owner.boot
        return not here and self._clock.monotonic() >= self._lapses_from

    def _is_ours_unstarted(self, found: OpenBundle) -> bool:
        return found.state is BundleState.SUBMITTED and found.owner == self._owner

    def _is_stranded(self, found: OpenBundle) -> bool:
        """Whether a bundle has been on its way for so long that nobody will start it.

        Its owner may be in another container, or on another machine, of which we can see nothing. Should it come to
        life again, the guarded start tells it that it was too late.
        """
        waited = self._clock.now() - found.created
        is_outside = found.external_name is not None  # where it may wait for days, and its executor knows
        mine = found.state is BundleState.SUBMITTED and found.executor == self._executor.name and not is_outside
        return mine and waited > timedelta(seconds=STRANDED * self._settings.scheduler.lease)

    def _take_back(self, found: OpenBundle, ending: Ending, seconds: float | None = None) -> None:
        scheduler = self._settings.scheduler
        take_back(found, ending, Retry(scheduler.retries, scheduler.backoff), self._clock.now(), seconds)
