"""Which source is this object? The chain's answer for a whole batch, and what it leaves to be written.

Targets are matched one after another, so that the first of an object makes the source that the others find. What would
be a guess is not made: it is said in the link's `conflict`, and the product stays with those of its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from astra.database.connection import execute
from astra.database.fields import instant_text
from astra.database.staging import load, stage
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
    """What the chain has answered for one target so far, and the source that it has in the end."""

    names: tuple[Identifier, ...]
    step: Step | None = None
    chosen: Candidate | None = None
    candidates: int = 0
    doubts: list[str] = field(default_factory=list)
    source: KnownSource | None = None

    def surer(self, than: Identifier | None) -> list[Identifier]:
        """Return the numbers that are surer than one name of the target; all of them, for None."""
        names = self.names if than is None else self.names[: self.names.index(than)]
        return [each for each in names if each.kind in NUMBERS]


class Matcher:
    """Matches the targets of one batch; `write` then writes what sources that makes or changes.

    A decision depends on the target and the records alone, not on what else is in the batch.
    """

    def __init__(self, targets: Sequence[Target], radius: float) -> None:
        self._pool, self._radius = Pool(), radius
        self._asked = {each: _Asked(_names_of(each)) for each in dict.fromkeys(targets)}
        self._pool.read({name for each in self._asked.values() for name in each.names})
        self._pool.read_names(self._doubtful())
        for target, asked in self._asked.items():
            self._ask_names(target, asked)
        self._ask_places()
        for target, asked in self._asked.items():
            if asked.names:
                self._choose(target, asked)

    def _doubtful(self) -> set[KnownSource]:
        """Return the sources whose other names may speak for or against them.

        They are those that come into question for a target with a number that no catalogue has, or one that several
        have, and those that may become one.
        """
        found: set[KnownSource] = set()
        named = self._pool.named
        for asked in self._asked.values():
            held: list[Holder] = []
            doubtful = False
            for name in asked.names:
                holders = named.get(name, ())
                held += holders
                if name.kind in NUMBERS or len(holders) > 1:
                    doubtful = doubtful or sum(1 for each in holders if each.version) != 1
            if doubtful or any(each.source.provisional for each in held):
                found.update([each.source for each in held])
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
        self._pool.read_names({near.source for found in around.values() for near in found})
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
        fitting, surer = [], asked.surer(name)
        for each in found:
            against = contradiction(each.source, surer) if surer else None
            if against is None:
                fitting.append(each)
            elif name is not None:  # that another object lies beside it speaks against nothing
                text = f"{name.kind} {name.value} is that of source {each.source.id}, which has {against}"
                asked.doubts.append(text)
        asked.step, asked.chosen, asked.candidates = step, step.choose(fitting) if fitting else None, len(found)
        if fitting and not asked.chosen:
            what = f"{name.kind} {name.value}" if name else f'its position, within {self._radius:g}",'
            keys = ", ".join(map(str, sorted(each.source.id for each in fitting)))
            asked.doubts.append(f"{what} is that of the sources {keys}, and none of them is clearly the nearest")

    # ------------------------------------------------------------------------------------------------------ deciding

    def _choose(self, target: Target, asked: _Asked) -> None:
        """Give a target its source: the catalogue's, else the one that headers of its names made, else a new one."""
        if asked.chosen:
            asked.source = asked.chosen.source.final
        else:
            asked.source, asked.candidates = self._known_by_headers(asked) or (self._make(target), 0)
        self._take(asked.source, asked.names)

    def _known_by_headers(self, asked: _Asked) -> tuple[KnownSource, int] | None:
        """Return the source that headers of one of these names made or named, and how many there are."""
        for name in asked.names:
            fitting: dict[int, KnownSource] = {}
            surer = asked.surer(name)
            for source in _finals(each for each in self._held(name) if not each.version):
                if not contradiction(source, surer):
                    fitting[source.id] = source
            if fitting:
                return fitting[min(fitting)], len(fitting)
        return None

    def _make(self, target: Target) -> KnownSource:
        return self._pool.make(len(self._asked), provisional=True, target=target)

    def _take(self, source: KnownSource, names: Sequence[Identifier]) -> None:
        """Give a source what headers say of it: names nobody has, and other sources known by headers alone."""
        for name in names:
            holders = self._held(name)
            if len(holders) == 1 and holders[0].source is source:
                continue  # as mostly
            held = _finals(holders)
            if source in held or (not held and self._is_said(source, name, names)):
                continue
            for other in held:
                if other.provisional and not _apart(source, other, names):
                    source.take(other)
            merged = any(each.into is source for each in held)
            if not merged and (not held or (source.provisional and name.kind not in UNIQUE)):  # which blends may share
                self._name(source, name)

    def _is_said(self, source: KnownSource, name: Identifier, names: Sequence[Identifier]) -> bool:
        """Return whether a name is made of a designation by which a catalogue knows the source: then it is no news."""
        return name.kind == "apogee" and any(
            other.kind == "tmass"
            and name.value.endswith(other.value)
            and any(each.version and each.source is source for each in self._held(other))
            for other in names
        )

    def _name(self, source: KnownSource, name: Identifier) -> None:
        """Give a source a name, unless it is a number, and it has another of that kind: then they are two objects."""
        if name.kind in NUMBERS and name.kind in source.numbers():
            return
        source.names[name] = ""
        source.added.append(name)
        self._pool.named[name].append(Holder(source, "", None))

    def results(self, targets: Iterable[Target]) -> list[Match]:
        """Return the matches of all targets, with what speaks against them in the end."""
        found: dict[Target, Match] = {}
        for target in targets:
            if target not in found:
                found[target] = self._match(target, self._asked[target])
        return [found[target] for target in targets]

    def _match(self, target: Target, asked: _Asked) -> Match:
        if asked.source is None:
            shown = ", ".join(f"{kind} {value!r}" for kind, value in target.identifiers)
            nameless = f"no identifier in the header names an object{': ' + shown if shown else ''}"
            return Match(None, NONE, reason=nameless, conflict=target.doubt)
        source, reason = asked.source.final, None
        doubts = [target.doubt] if target.doubt else []
        if asked.chosen and asked.step:
            method, version, away = asked.step.method, asked.chosen.version, asked.chosen.separation
        else:
            method, version, away = HEADER, "", distance(target, source)
            doubts += asked.doubts
            if self._pool.versions():
                reason = "no catalogue has an object of its names, or at its place"
        if asked.step is not CHAIN[-1] and away is not None and away > FAR:
            doubts.append(f"its position is {away:.1f} arcseconds from that of source {source.id}")
        doubts += self._against(source, asked.names)
        if source.provisional:
            away = None  # it has no place of its own but that of the file which made it
        return Match(source, method, version, away, asked.candidates, reason, "; ".join(dict.fromkeys(doubts)) or None)

    def _against(self, source: KnownSource, names: Sequence[Identifier]) -> Iterator[str]:
        """Yield what speaks against a source: names that are other sources' too, and other numbers than its own."""
        for name in names:
            holders = self._held(name)
            if len(holders) == 1 and holders[0].source is source:
                continue  # as mostly
            own = [each for each in holders if each.source.final is source]
            if any(each.version for each in own):
                continue  # of several that a catalogue knows by this name the chain has chosen one
            if others := [each for each in _finals(holders) if each is not source]:
                numbers = [each for each in names if each.kind in NUMBERS]
                for other in others:
                    has = contradiction(other, numbers)
                    yield f"{name.kind} {name.value} names source {other.id}{f', which has {has}' if has else ''}"
            elif not own and name.kind in NUMBERS and (has_others := source.numbers().get(name.kind)):
                yield f"source {source.id} has {name.kind} {min(has_others)}, not {name.value}"

    # ------------------------------------------------------------------------------------------------------- writing

    def merges(self) -> dict[int, int]:
        """Return which sources have become which, by key; to be written after the links."""
        return self._pool.merges()

    def write(self, now: datetime) -> None:
        """Write the sources that were made, and the identifiers that were added."""
        changed = [each for each in self._pool.sources.values() if each.added or each.grown]
        new, created = [each for each in changed if each.new], instant_text(now)
        if new:
            columns = ("id", "sdss_id", "catalogid", "designation", "ra", '"dec"', "healpix", "provisional", "created")
            rows = [(each.id, *preferred(each.names), *_place(each.target), True, created) for each in new]
            load("source", columns, rows)
        if changed:
            names = [(each.id, *name, "") for each in changed for name in each.added]
            load("source_identifier", ("source_id", "kind", "value", "catalogue_version"), names)
        known = [each for each in changed if not each.new or each.grown]
        told = [(each.id, *_completed(each)) for each in known if _completed(each) != _columns(each)]
        if told:
            columns_of = {"id": "BIGINT", "sdss_id": "BIGINT", "catalogid": "BIGINT", "designation": "TEXT"}
            stage("completed", columns_of, told)
            execute(
                "UPDATE source SET sdss_id = c.sdss_id, catalogid = c.catalogid, designation = c.designation "
                "FROM completed c WHERE c.id = source.id"
            )


def _columns(source: KnownSource) -> tuple[int | None, int | None, str | None]:
    return source.sdss_id, source.catalogid, source.designation


def _completed(source: KnownSource) -> tuple[int | None, int | None, str | None]:
    """Return sdss_id, catalogid and designation of a source as its names now tell them.

    What a catalogue says of its own goes before what headers do.
    """
    said, own = preferred(source.names), _columns(source)
    if source.provisional:
        return said
    return own[0] or said[0], own[1] or said[1], own[2] or said[2]


def _names_of(target: Target) -> tuple[Identifier, ...]:
    names = {each for each in target.identifiers if valid(*each)}
    return tuple(sorted(names, key=lambda name: (_ORDER[name.kind], name.value)))


def _finals(holders: Iterable[Holder]) -> list[KnownSource]:
    """Return the sources that have a name, each once, in the order of their keys."""
    return sorted({each.source.final for each in holders}, key=lambda each: each.id)


def contradiction(source: KnownSource, numbers: Iterable[Identifier]) -> str | None:
    """Return a number of a source where others of its kind are claimed: then they are two objects of one name."""
    claimed: dict[str, set[str]] = {}
    for kind, value in numbers:
        claimed.setdefault(kind, set()).add(value)
    own = source.numbers() if claimed else {}
    apart = next((kind for kind in KINDS if kind in own and kind in claimed and not own[kind] & claimed[kind]), None)
    return f"{apart} {min(own[apart])}" if apart else None


def _apart(source: KnownSource, other: KnownSource, names: Sequence[Identifier]) -> bool:
    """Return whether two sources that a header names can not be one: their numbers, or the header's, are others."""
    own = [Identifier(kind, value) for kind, values in source.numbers().items() for value in values]
    return contradiction(other, [*own, *(name for name in names if name.kind in NUMBERS)]) is not None


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
