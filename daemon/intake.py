"""Settled paths become data products: examine them, then hand them to `ingest` in batches; back off on trouble.

Comes from `settler`, which `watcher` and `sweeper` feed; goes to `astra.ingest`, which records data products and tasks,
and so to the scheduler. One turn does a bounded amount of work, and what the database could not take is kept in hand:
should the process die, the next sweep offers it again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from astra import ingest, tree
from astra.catalogue.consulting import LOCAL, Linking
from astra.clock import Clock
from astra.config import Settings, Watch
from astra.database.connection import available
from astra.errors import DatabaseUnavailable, UnreadableFile
from astra.ingest import Recorded, Root
from astra.rules import Rule
from astra.standing import Examined, Refused
from astra.states import IngestionOutcome
from daemon.logs import event
from daemon.outage import AGAIN
from daemon.settler import Arrival, Instant, Settled, Settler
from daemon.sweeper import Offer

log = logging.getLogger(__name__)
_TURN_SECONDS = 0.2  # how long a turn examines before what it has is recorded: nobody waits long for a commit
_LOOK_SECONDS = 0.3  # for how long it looks at what waits: tonight's file may stand behind many thousands
_LONGEST_BACKOFF = 30.0
_LAGS_KEPT = 1000


@dataclass
class Counts:
    """What intake has done since the service started, for the status page."""

    ingested: int = 0
    quarantined: int = 0
    duplicate: int = 0
    waiting: int = 0
    tasks: int = 0
    overfull: int = 0


class Intake:
    """The one writer of what the disk says.

    Parameters
    ----------
    settings
        The settings; `watch`, `settle` and their rules are used.
    rules
        The compiled rules.
    clock
        The clock.
    """

    def __init__(self, settings: Settings, rules: Sequence[Rule], clock: Clock, linking: Linking = LOCAL) -> None:
        self.settler = Settler(settings.settle.quiet, settings.settle.patience)
        self.counts = Counts()
        self.lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self.trouble: str | None = None
        self._watches: dict[str, Watch] = {each.name: each for each in settings.watch}
        whole = settings.settle.sha256
        self._roots = {each.name: Root(each.name, each.path, each.release, whole) for each in settings.watch}
        self._rules, self._clock, self._linking = rules, clock, linking
        self.overfull: set[str] = set()  # roots of which arrivals were dropped: they must be swept
        self._told: dict[Arrival, bool] = {}  # what was said to be waited for, and whether it is out of reach
        self._hints: SimpleQueue[Arrival] = SimpleQueue()
        self._most, self._suspect = ingest.CHUNK, False
        self._in_hand: list[tuple[Settled, Examined | Refused]] = []
        self._examining = 0
        self._again_at, self._backoff = 0.0, 0.5

    def hint(self, root: str, path: str) -> None:
        """Take an arrival from an event; called from any thread."""
        self._hints.put(Arrival(root, path))

    def offer(self, offers: Sequence[Offer]) -> int:
        """Take what a sweep found; return how many of those that are late no event had told of."""
        self._take_hints(self._clock.monotonic())
        now = self._instant(self._clock.monotonic())
        in_hand = {settled.arrival for settled, _ in self._in_hand}
        unknown = sum(each.late and each.arrival not in self.settler and each.arrival not in in_hand for each in offers)
        for each in offers:
            if not self.settler.offer(each.arrival, now, each.signature, each.backfill):
                self.counts.overfull += 1
                self.overfull.add(each.arrival.root)
        return unknown

    @property
    def load(self) -> float:
        """How much is on its way, by what there should be at most: sweeps pause from 1 on."""
        return self.settler.load

    @property
    def waiting(self) -> int:
        """How many files are on their way: offered, settling, or in hand; not those that are out of reach."""
        return self._hints.qsize() + len(self.settler) - self.out_of_reach + self._examining + len(self._in_hand)

    @property
    def out_of_reach(self) -> int:
        """How many files the disk, or this machine, did not let us read when we last tried; they are tried again."""
        return self.settler.out_of_reach_count

    @property
    def settled(self) -> int:
        """How many files have settled, are being examined, or wait to be recorded."""
        return self.settler.settled_count + self._examining + len(self._in_hand)

    @property
    def ready(self) -> bool:
        """Whether another turn could do something at once; not while the database is waited for."""
        return self.settler.settled_count > 0 and not self._in_hand

    def turn(self, now: float) -> list[Recorded]:
        """Take one turn at the monotonic time `now`, and return what was recorded."""
        self._take_hints(now)
        self._look(now)
        if self._in_hand and now < self._again_at:
            return []
        if not self._in_hand:
            self._examine(now)
        return self._record(now) if self._in_hand else []

    def _instant(self, now: float) -> Instant:
        return Instant(now, self._clock.now().timestamp())

    def _take_hints(self, now: float) -> None:
        instant = self._instant(now)
        for _ in range(self._hints.qsize()):
            try:
                arrival = self._hints.get_nowait()
            except Empty:
                return
            if not self.settler.offer(arrival, instant):
                self.counts.overfull += 1
                self.overfull.add(arrival.root)

    def _look(self, now: float) -> None:
        """Stat the arrivals whose quiet wait is over."""
        deadline = self._clock.monotonic() + _LOOK_SECONDS
        while due := self.settler.due(now):
            for arrival in due:
                self._look_at(arrival, now)
            if self._clock.monotonic() >= deadline:
                return

    def _look_at(self, arrival: Arrival, now: float) -> None:
        try:
            signature = tree.look(self._roots[arrival.root].folder, arrival.path)
        except UnreadableFile as error:
            event(log, "unreadable", logging.WARNING, reason=str(error))
            signature = None  # a sweep offers it again when it can be looked at
        if signature is None:
            self._told.pop(arrival, None)
        self.settler.observe(arrival, signature, self._instant(now))

    def _examine(self, now: float) -> None:
        deadline = now + _TURN_SECONDS
        while self._clock.monotonic() < deadline and len(self._in_hand) < ingest.CHUNK:
            self._examining = 1  # before it leaves the settler: who asks meanwhile must not find that nothing waits
            try:
                for settled in (taken := self.settler.take(1)):
                    self._examine_one(settled)
            finally:
                self._examining = 0
            if not taken:
                return

    def _examine_one(self, settled: Settled) -> None:
        found = ingest.examine(self._roots[settled.arrival.root], settled.arrival.path, self._clock)
        if isinstance(found, ingest.NotOurs) or (isinstance(found, Refused) and self._waits(settled, found)):
            return
        self._told.pop(settled.arrival, None)
        if isinstance(found, Examined) and found.signature != settled.signature:
            # it changed after it had settled: what a writer is at work on is not taken
            instant = self._instant(self._clock.monotonic())
            self.settler.offer(settled.arrival, instant, found.signature, settled.backfill)
            return
        self._in_hand.append((settled, found))

    def _waits(self, settled: Settled, refused: Refused) -> bool:
        """Whether a file that is not whole is waited for, or is gone; otherwise it is to be quarantined."""
        if refused.signature is None:
            self._told.pop(settled.arrival, None)
            return True
        if not refused.wait:
            return False
        settled = replace(settled, signature=refused.signature)
        instant = self._instant(self._clock.monotonic())
        if refused.trouble:
            self.settler.out_of_reach(settled, instant)
        elif not self.settler.not_whole(settled, instant):
            return False
        self.counts.waiting += 1
        if self._told.get(settled.arrival) is not refused.trouble:  # once, in however many steps a writer writes it
            self._told[settled.arrival] = refused.trouble
            event(log, "waiting", path=refused.file.place, reason=refused.reason, patience=self.settler.patience)
        return True

    def _record(self, now: float) -> list[Recorded]:
        recorded: list[Recorded] = []
        at_once = self._in_hand[: self._most]
        self._suspect = True
        try:
            with available():
                for silent in (False, True):  # silent: what lay there before the root was watched
                    part = [given for settled, given in at_once if self._is_silent(settled) is silent]
                    if part:
                        recorded += ingest.record(part, () if silent else self._rules, self._clock, None, self._linking)
        except DatabaseUnavailable as error:
            self._again_at, self._backoff = now + self._backoff, min(_LONGEST_BACKOFF, 2 * self._backoff)
            if self.trouble is None:
                event(log, "database_away", logging.ERROR, reason=f"{error}; {AGAIN}", in_hand=len(self._in_hand))
            self.trouble, self._suspect = str(error), False
            return []
        if self.trouble is not None:
            event(log, "database_back", in_hand=len(self._in_hand))
        self.trouble, self._backoff, self._suspect = None, 0.5, False
        del self._in_hand[: len(at_once)]
        self._most = min(ingest.CHUNK, 2 * self._most)
        old = {settled.arrival for settled, _ in at_once if settled.backfill}
        for each in recorded:
            self._tell(each, Arrival(*each.file[:2]) in old)
        return recorded

    def failed(self) -> None:
        """Take note that a turn ended by an error nobody foresaw: the next one records half as many files at once.

        One that cannot be recorded even alone is given up, so that it sinks only itself; a sweep offers it again.
        """
        suspect, self._suspect = self._suspect, False
        if not suspect:
            return  # it was not recording that failed
        count = min(len(self._in_hand), self._most)
        if count > 1:
            self._most = count // 2
        else:
            settled, given = self._in_hand.pop(0)
            event(log, "not_recorded", logging.ERROR, root=settled.arrival.root, path=given.file.place)

    def _is_silent(self, settled: Settled) -> bool:
        return settled.backfill and not self._watches[settled.arrival.root].backfill

    def _tell(self, each: Recorded, backfill: bool) -> None:
        if not each.new or each.outcome is None:
            return
        self.counts.tasks += each.tasks
        match each.outcome:
            case IngestionOutcome.INGESTED:
                self.counts.ingested += 1
                if each.lag is not None and not backfill:
                    self.lags.append(each.lag)
            case IngestionOutcome.QUARANTINED:
                self.counts.quarantined += 1
            case IngestionOutcome.DUPLICATE:
                self.counts.duplicate += 1
        level = logging.WARNING if each.outcome is IngestionOutcome.QUARANTINED else logging.INFO
        event(
            log,
            each.outcome.value,
            level,
            path=each.file.place,
            data_product=each.data_product,
            source=each.source,
            tasks=each.tasks or None,
            reason=each.reason,
        )
