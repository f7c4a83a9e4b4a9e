"""Which source is this object? The chain's answer for a whole batch, and what it leaves to be written.

Targets are matched one after another, so that the first of an object makes the source that the others find. What would
be a guess is not made: it is said in the link's `conflict`, and the product stays with those of its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from astra.database.connection import execute
from astra.database.fields import instant_text
from astra.database.staging import load, reserve_ids, stage
from astra.healpix import NSIDE, ang2pix
from astra.identifiers import CATALOGIDS, KINDS, NUMBERS, UNIQUE, Identifier, valid
from astra.products.base import Target
from astra.sources.chain import CHAIN, HEADER, NONE, STEPS, Candidate, Step
from astra.sources.links import Match
from astra.sources.pool import Holder, KnownSource, Near, Pool, distance

FAR = 10.0  # arcseconds between a file and its source that somebody should look at
_ORDER = {kind: at for at, kind in enumerate(KINDS)}


@dataclass(slots=True)
class _Asked:
    """What the chain has answered for one target so far."""

    names: tuple[Identifier, ...]
    step: Step | None = None
    chosen: Candidate | None = None
    candidates: int = 0
    doubts: list[str] = field(default_factory=list)


class Matcher:
    """Matches the targets of one batch; `write` then writes what sources that makes or changes."""

    def __init__(self, targets: Sequence[Target], radius: float) -> None:
        self._pool, self._radius = Pool(), radius
        self._asked = {each: _Asked(_names_of(each)) for each in dict.fromkeys(targets)}
        self._matched: dict[Target, Match] = {}
        self._unclaimed: list[int] = []
        self._pool.read({name for each in self._asked.values() for name in each.names})
        self._pool.read_names(self._doubtful())
        for target, asked in self._asked.items():
            self._ask_names(target, asked)
        self._ask_places()

    def _doubtful(self) -> set[KnownSource]:
        """Return the sources whose other names may speak against them: those of headers, and of unknown numbers."""
        found: set[KnownSource] = set()
        named = self._pool.named
        for asked in self._asked.values():
            held: list[Holder] = []
            unknown = False
            for name in asked.names:
                holders = named.get(name, ())
                held += holders
                if name.kind in NUMBERS and not (holders and any(each.version for each in holders)):
                    unknown = True
            for each in held:
                if unknown or each.source.provisional:
                    found.add(each.source)
        return found

    def _held(self, name: Identifier) -> Sequence[Holder]:
        return self._pool.named.get(name, ())

    # --------------------------------------------------------------------------------------------- asking catalogues

    def _ask_names(self, target: Target, asked: _Asked) -> None:
        for name in asked.names:  # in the order of the chain
            if holders := [each for each in self._held(name) if each.version]:
                found = [Candidate(h.source, h.version, h.rank, distance(target, h.source)) for h in holders]
                self._ask(STEPS[name.kind], found, asked, name)
                if asked.chosen:
                    return

    def _ask_places(self) -> None:
        step = CHAIN[-1]
        undecided = [
            target
            for target, asked in self._asked.items()
            if asked.names and not asked.chosen and not target.doubt and target.ra is not None
        ]
        around = self._pool.around(undecided, self._radius)
        numbered = {t for t in undecided if any(name.kind in NUMBERS for name in self._asked[t].names)}
        self._pool.read_names({near.source for target in numbered for near in around[target]})
        for target, near in around.items():
            if near:
                self._ask(step, self._candidates(near), self._asked[target])

    def _candidates(self, near: Iterable[Near]) -> list[Candidate]:
        versions = self._pool.versions()
        return [
            Candidate(each.source, versions.get(each.source.catalogue or 0, ""), None, each.separation) for each in near
        ]

    def _ask(self, step: Step, found: Sequence[Candidate], asked: _Asked, name: Identifier | None = None) -> None:
        """Note what one step answers, and what speaks against it."""
        fitting = []
        for each in found:
            against = contradiction(each.source, asked.names) if each.source.names else None
            if against is None:
                fitting.append(each)
            elif name is not None:  # that another object lies beside it speaks against nothing
                text = f"{name.kind} {name.value} is that of source {each.source.id}, which has {against}"
                asked.doubts.append(text)
        asked.step, asked.chosen, asked.candidates = step, step.choose(fitting) if fitting else None, len(found)
        if fitting and not asked.chosen:
            what = f"{name.kind} {name.value}" if name else f'its position, within {self._radius:g}",'
            keys = ", ".join(str(each.source.id) for each in fitting)
            asked.doubts.append(f"{what} is that of the sources {keys}, and none of them is clearly the nearest")

    # ------------------------------------------------------------------------------------------------------ deciding

    def match(self, target: Target) -> Match:
        """Return the source of a target: the catalogue's, else the one that headers of its names made, else a new."""
        found = self._matched.get(target)
        if found is None:
            found = self._matched[target] = self._match(target, self._asked[target])
        return found

    def results(self, targets: Iterable[Target]) -> list[Match]:
        """Return the matches of all targets, with the sources that have come out in the end."""
        matches = [self.match(each) for each in targets]
        return [m if m.source is None or m.source.into is None else m._replace(source=m.source.final) for m in matches]

    def _match(self, target: Target, asked: _Asked) -> Match:
        if not asked.names:
            shown = ", ".join(f"{kind} {value!r}" for kind, value in target.identifiers)
            nameless = f"no identifier in the header names an object{': ' + shown if shown else ''}"
            return Match(None, NONE, reason=nameless, conflict=target.doubt)
        doubts = [target.doubt] if target.doubt else []
        reason: str | None = None
        if asked.chosen and asked.step:
            source, version, _, away = asked.chosen
            method, candidates = asked.step.method, asked.candidates
        else:
            doubts += asked.doubts
            source, candidates = self._known_by_headers(asked.names, doubts) or (self._make(target), 0)
            method, version, away = HEADER, "", distance(target, source)
            if self._pool.versions():
                reason = "no catalogue has an object of its names, or at its place"
        if asked.step is not CHAIN[-1] and away is not None and away > FAR:
            doubts.append(f"its position is {away:.1f} arcseconds from that of source {source.id}")
        doubts += self._take(source, asked.names)
        return Match(source, method, version, away, candidates, reason, "; ".join(dict.fromkeys(doubts)) or None)

    def _known_by_headers(self, names: Sequence[Identifier], doubts: list[str]) -> tuple[KnownSource, int] | None:
        """Return the source that headers of one of these names made or named, and how many there are."""
        for name in names:
            fitting: dict[int, KnownSource] = {}
            for source in {each.source.final for each in self._held(name) if not each.version}:
                if against := contradiction(source, names):
                    doubts.append(f"{name.kind} {name.value} is a name of source {source.id}, which has {against}")
                else:
                    fitting[source.id] = source
            if len(fitting) > 1:
                doubts.append(
                    f"{name.kind} {name.value} is a name of the sources {', '.join(map(str, sorted(fitting)))}"
                )
            if fitting:
                return fitting[min(fitting)], len(fitting)
        return None

    def _make(self, target: Target) -> KnownSource:
        if not self._unclaimed:
            self._unclaimed = reserve_ids("source", len(self._asked))[::-1]
        made = KnownSource(self._unclaimed.pop(), provisional=True, new=True, target=target)
        self._pool.sources[made.id] = made
        return made

    def _take(self, source: KnownSource, names: Sequence[Identifier]) -> list[str]:
        """Give a source what headers say of it: names nobody has, and other sources known by headers alone.

        Returns what speaks against the link: names that are those of other sources.
        """
        doubts = []
        for name in names:
            holders = self._held(name)
            if len(holders) == 1 and holders[0].source is source:
                continue  # as mostly
            held = {each.source.final for each in holders}
            if source in held:
                continue
            for other in sorted(held, key=lambda each: each.id):
                if other.provisional and not other.new and not _apart(source, other, names):
                    self._merge(other, source)
                else:
                    doubts.append(f"{name.kind} {name.value} names source {other.id}")
            is_shared = source.provisional and name.kind not in UNIQUE
            if not held or (is_shared and source not in {each.final for each in held}):
                source.names.add(name)
                source.added.append(name)
                self._pool.named[name].append(Holder(source, "", None))
        return doubts

    def _merge(self, other: KnownSource, source: KnownSource) -> None:
        other.into = source
        source.names |= other.names

    # ------------------------------------------------------------------------------------------------------- writing

    def merges(self) -> dict[int, int]:
        """Return which sources have become which, by key."""
        return {key: each.final.id for key, each in self._pool.sources.items() if each.into is not None}

    def write(self, now: datetime) -> None:
        """Write the sources that were made, and the identifiers that were added."""
        changed = [each for each in self._pool.sources.values() if each.added]
        new, created = [each for each in changed if each.new], instant_text(now)
        if new:
            columns = ("id", "sdss_id", "catalogid", "designation", "ra", '"dec"', "healpix", "provisional", "created")
            rows = [(each.id, *preferred(each.names), *_place(each.target), True, created) for each in new]
            load("source", columns, rows)
        if changed:
            names = [(each.id, *name, "") for each in changed for name in each.added]
            load("source_identifier", ("source_id", "kind", "value", "catalogue_version"), names)
        if old := [each for each in changed if not each.new]:
            columns_of = {"id": "BIGINT", "sdss_id": "BIGINT", "catalogid": "BIGINT", "designation": "TEXT"}
            stage("completed", columns_of, [(each.id, *preferred(each.names)) for each in old])
            # what a catalogue says of its own goes before what headers do
            sets = [
                f"{name} = CASE WHEN source.provisional THEN c.{name} ELSE coalesce(source.{name}, c.{name}) END"
                for name in ("sdss_id", "catalogid", "designation")
            ]
            execute(f"UPDATE source SET {', '.join(sets)} FROM completed c WHERE c.id = source.id")


def _names_of(target: Target) -> tuple[Identifier, ...]:
    names = {each for each in target.identifiers if valid(*each)}
    return tuple(sorted(names, key=lambda name: (_ORDER[name.kind], name.value)))


def contradiction(source: KnownSource, names: Iterable[Identifier]) -> str | None:
    """Return a number of a source where a header gives another of its kind: then they are two objects of one name."""
    claimed: dict[str, set[str]] = {}
    for kind, value in names:
        if kind in NUMBERS:
            claimed.setdefault(kind, set()).add(value)
    own: dict[str, set[str]] = {}
    for kind, value in source.names if claimed else ():
        if kind in claimed:
            own.setdefault(kind, set()).add(value)
    apart = next((kind for kind, values in own.items() if not values & claimed[kind]), None)
    return f"{apart} {min(own[apart])}" if apart else None


def _apart(source: KnownSource, other: KnownSource, names: Sequence[Identifier]) -> bool:
    """Return whether two sources that a header names can not be one: their numbers, or the header's, are others."""
    own = [*names, *source.names]
    if source.sdss_id is not None:
        own.append(Identifier("sdss_id", str(source.sdss_id)))
    return contradiction(other, own) is not None


def preferred(names: Iterable[Identifier]) -> tuple[int | None, int | None, str | None]:
    """Return sdss_id, catalogid and designation of a source of these names: the newest cross-match's, 2MASS's."""
    best: dict[str, str] = {}
    for kind, value in sorted(names):
        best.setdefault(kind, value)
    catalogid = next((best[kind] for kind in CATALOGIDS if kind in best), None)
    sdss_id = best.get("sdss_id")
    numbers = (int(sdss_id) if sdss_id else None, int(catalogid) if catalogid else None)
    return (*numbers, best.get("tmass") or best.get("apogee"))


def _place(target: Target | None) -> tuple[float | None, float | None, int | None]:
    if target is None or target.ra is None or target.dec is None:
        return None, None, None
    if not (0 <= target.ra <= 360 and abs(target.dec) <= 90):
        return None, None, None
    return target.ra, target.dec, ang2pix(NSIDE, target.ra, target.dec)
