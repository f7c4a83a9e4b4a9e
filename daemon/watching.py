"""The folders that this service watches: their events, their sweeps, and whether events can be relied on.

Comes from `service`, which turns it, and from `listener`, which says whose folders are whose; goes to `intake`. When
that changes, watcher and sweeper are made anew: every folder is then swept from its beginning, and what was missed is
found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from astra import products, roots, tree
from astra.clock import Clock
from astra.config import Watch
from astra.rules import Rule
from daemon.logs import event
from daemon.sweeper import Offer, Sweeper, SweepReport
from daemon.watcher import Hints, Watcher, choose_mode

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Takers:
    """Who takes what is found: a path that an event told of, and what a slice of a sweep offers."""

    hint: Callable[[str, str], None]
    offer: Callable[[list[Offer]], int]


class Watching:
    """Watcher and sweeper of some folders.

    Parameters
    ----------
    watches
        All folders that the settings name; none is watched before `follow`.
    takers
        Who takes what is found.
    clock
        The clock.
    rules
        Those that are told of files that have gone or come back, where they gather.
    """

    def __init__(self, watches: tuple[Watch, ...], takers: Takers, clock: Clock, rules: Sequence[Rule] = ()) -> None:
        self._watches, self._takers, self._clock, self._rules = watches, takers, clock, rules
        self._names: frozenset[str] = frozenset()
        self._polled: set[str] = set()
        self._began = False
        self._build([])

    def follow(self, names: frozenset[str]) -> None:
        """Watch these folders and no others from now on."""
        if names == self._names:
            return
        if self._began:
            self.watcher.stop()
        self._build([each for each in self._watches if each.name in names])
        self._names = names
        if self._began:
            self.start(self._clock.monotonic())

    def follows(self, names: frozenset[str]) -> bool:
        """Return whether it is these folders that are watched."""
        return names == self._names

    def start(self, now: float) -> None:
        """Watch first, then sweep: what comes between is in one of them."""
        self._began = True
        self.watcher.start(now)

    def stop(self) -> None:
        """Watch no more."""
        self.watcher.stop()

    def turn(self, now: float, load: float) -> SweepReport | None:
        """Look after the watches, and walk one slice of what is to be swept."""
        self.watcher.ensure(now)
        swept = self.sweeper.turn(now, load)
        if swept is not None and swept.finished:
            self._judge_events(swept)
        return swept

    def request(self, reason: str) -> None:
        """Have every folder swept."""
        for name in self.sweeper.roots:
            self.sweeper.request(name, reason)

    @property
    def outages(self) -> dict[str, str]:
        """The folders that are out of reach, and why. From any thread."""
        return {name: each.outage for name, each in self.sweeper.roots.items() if each.outage is not None}

    def _build(self, watches: list[Watch]) -> None:
        clock = self._clock
        modes = {watch.name: choose_mode(watch) for watch in watches}
        for name, (mode, why) in modes.items():
            event(log, "watch", root=name, mode=mode, reason=why)
        opened = {watch.name: roots.open_root(watch.name, watch.path, clock.now()) for watch in watches}
        until = {name: since.timestamp() for name, since in opened.items() if since is not None}
        self.sweeper = Sweeper(watches, self._find, self._takers.offer, clock, until, self._end_backfill)
        self._polled = {name for name, (mode, _) in modes.items() if mode == "poll"}
        for name in self._polled:
            self.sweeper.poll(name, True)
        hints = Hints(self._takers.hint, self.sweeper.request, self.sweeper.look, products.might_be_product)
        self.watcher = Watcher([each for each in watches if each.name not in self._polled], hints)

    def _find(self, watch: Watch, report: tree.WalkReport) -> Iterator[list[tree.Found]]:
        report.rules = self._rules
        return tree.sweep(watch.name, watch.path, products.might_be_product, self._clock.now(), report)

    def _end_backfill(self, root: str) -> None:
        roots.end_backfill(root, self._clock.now())

    def _judge_events(self, swept: SweepReport) -> None:
        """Poll a root whose events cannot be relied on, as what a sweep saw tells."""
        root = swept.root
        if root in self._polled:
            return
        if swept.unannounced and not self.watcher.unread(root):
            self.watcher.distrust(root, swept.unannounced)
        elif not swept.unannounced:
            self.watcher.trust(root)
        blind = root in self.watcher.blind
        missing = None if blind else self.watcher.missing(root, self.sweeper.roots[root].last.folders)
        self.sweeper.poll(root, blind or root in self.watcher.deaf or missing is not None)
        if blind:
            self.watcher.try_again(root)  # what can be swept may well be watched by now
        if missing is not None and swept.whole:
            event(log, "watches_missing", logging.WARNING, root=root, reason=missing)
