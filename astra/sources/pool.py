"""The sources that a batch may be of, as the records have them: by name, and by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from astra import around
from astra.database.connection import run
from astra.database.staging import among, reserve_ids, stage
from astra.identifiers import NUMBERS, Identifier
from astra.products.base import Target
from astra.sky import Star, closest

_by_source = itemgetter(3)
_SOURCE = (
    "s.id, s.provisional, s.sdss_id, s.catalogid, s.designation, s.catalogue_id, s.ra, s.dec, s.epoch, s.pmra, s.pmdec"
)
_CATALOGUED = "NOT s.provisional AND s.merged_into_id IS NULL"


@dataclass(slots=True, eq=False)
class KnownSource:
    """A source as it is, or as it is about to be made.

    `names` are its identifiers, where they had to be read, each with the edition of a catalogue that gave it (empty:
    only headers did). `grown` is set where it got some that another source had.
    """

    id: int
    provisional: bool
    sdss_id: int | None = None
    catalogid: int | None = None
    designation: str | None = None
    catalogue: int | None = None
    star: Star | None = None
    new: bool = False
    names: dict[Identifier, str] = field(default_factory=dict)
    added: list[Identifier] = field(default_factory=list)
    grown: bool = False
    target: Target | None = None
    into: KnownSource | None = None

    @property
    def final(self) -> KnownSource:
        """The source that this one has become in this batch."""
        last = self
        while last.into is not None:
            last = last.into
        return last

    def take(self, other: KnownSource) -> None:
        """Let another source become this one."""
        other.into = self
        for name, version in other.names.items():
            if not self.names.get(name):
                self.names[name] = version
        self.grown = True

    def numbers(self) -> dict[str, set[str]]:
        """Return the numbers that speak for it, by kind: a catalogue's, or, where it is in none, those of headers."""
        found: dict[str, set[str]] = {}
        for (kind, value), version in self.names.items():
            if kind in NUMBERS and (version or self.provisional):
                found.setdefault(kind, set()).add(value)
        return found


class Holder(NamedTuple):
    """A source that has a name: from which edition of a catalogue (empty: from headers alone), and at which rank."""

    source: KnownSource
    version: str
    rank: int | None


class Near(NamedTuple):
    """A source of a catalogue, and how far from a header's position it is or was, in arcseconds."""

    source: KnownSource
    separation: float | None


class Pool:
    """What the records hold of some names and places."""

    def __init__(self) -> None:
        self.sources: dict[int, KnownSource] = {}
        self.named: defaultdict[Identifier, list[Holder]] = defaultdict(list)
        self._versions: dict[int, str] | None = None
        self._unclaimed: list[int] = []

    def make(self, possible: int, provisional: bool, target: Target | None = None) -> KnownSource:
        """Return a new source; `possible` is how many this batch may make."""
        if not self._unclaimed:
            self._unclaimed = reserve_ids("source", possible)[::-1]
        made = KnownSource(self._unclaimed.pop(), provisional, new=True, target=target)
        self.sources[made.id] = made
        return made

    def merges(self) -> dict[int, int]:
        """Return which sources have become which, by key."""
        return {key: each.final.id for key, each in self.sources.items() if each.into is not None}

    def read(self, names: Iterable[Identifier]) -> None:
        """Read which sources have these names: a statement for each kind."""
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for kind, value in names:
            kinds[kind].append(value)
        for kind, values in kinds.items():
            condition, parameter = among("n.value", values)
            query = (
                f"SELECT n.value, n.catalogue_version, n.rank, {_SOURCE} FROM source_identifier n "
                f"JOIN source s ON s.id = n.source_id WHERE n.kind = ? AND {condition} AND s.merged_into_id IS NULL"
            )
            rows = run(query, (kind, parameter))
            if len(rows) > 1:
                rows.sort(key=_by_source)
            for row in rows:
                holder = Holder(self._known(row[3:]), row[1], row[2])
                self.named[Identifier(kind, row[0])].append(holder)

    def _known(self, row: Sequence[Any]) -> KnownSource:
        known = self.sources.get(row[0])
        if known is None:
            key, provisional, sdss_id, catalogid, designation, catalogue, ra, dec, *moving = row
            star = None if ra is None or dec is None else Star(ra, dec, *moving)
            known = KnownSource(key, bool(provisional), sdss_id, catalogid, designation, catalogue, star)
            self.sources[key] = known
        return known

    def read_names(self, sources: Collection[KnownSource]) -> None:
        """Read all names of some sources."""
        if sources:
            stage("standing", {"id": "BIGINT"}, [(each.id,) for each in sources])
            query = (
                "SELECT n.source_id, n.kind, n.value, n.catalogue_version FROM standing k "
                "JOIN source_identifier n ON n.source_id = k.id"
            )
            for key, kind, value, version in run(query):
                self.sources[key].names[Identifier(kind, value)] = version

    def around(self, targets: Sequence[Target], radius: float) -> dict[Target, list[Near]]:
        """Return the catalogued sources within `radius` arcseconds of each position, the nearest first."""
        found: dict[Target, list[Near]] = {each: [] for each in targets}
        if not targets or not self.versions():
            return found
        searches: list[tuple[Sequence[Sequence[Any]], str]]
        searches = [(_strips(targets, radius), "s.dec BETWEEN k.low AND k.high")]
        if run(f"SELECT 1 FROM source s WHERE {around.FAST} LIMIT 1"):
            searches.append((_pixels(targets, radius), around.FAST))
        seen: set[tuple[int, int]] = set()
        for staged, condition in searches:
            columns = {"at": "INTEGER", "pixel": "INTEGER", "low": "REAL", "high": "REAL"}
            stage("around", columns, staged)
            query = f"SELECT k.at, {_SOURCE} FROM around k JOIN source s ON s.healpix = k.pixel AND {condition}"
            for at, *source in run(f"{query} WHERE {_CATALOGUED}"):
                known, target = self._known(source), targets[at]
                away = distance(target, known)
                if away is not None and away <= radius and (at, known.id) not in seen:
                    seen.add((at, known.id))
                    found[target].append(Near(known, away))
        for near in found.values():
            near.sort(key=lambda each: (each.separation, each.source.id))
        return found

    def versions(self) -> dict[int, str]:
        """Return the versions of the catalogues by key; none, where no catalogue was ever loaded."""
        if self._versions is None:
            self._versions = dict(run("SELECT id, version FROM catalogue"))
        return self._versions


def distance(target: Target, source: KnownSource) -> float | None:
    """Return how near a source came to a header's position within the header's epochs, in arcseconds."""
    if target.ra is None or target.dec is None or source.star is None:
        return None
    return closest(target.ra, target.dec, target.epochs, source.star)


def _strips(targets: Sequence[Target], radius: float) -> list[tuple[int, int, float, float]]:
    return [
        (at, pixel, area.low, area.high)
        for at, each in enumerate(targets)
        if each.ra is not None and each.dec is not None
        for area in (around.slow(each.ra, each.dec, radius, each.epochs),)
        for pixel in area.pixels
    ]


def _pixels(targets: Sequence[Target], radius: float) -> list[tuple[int, int, None, None]]:
    return [
        (at, pixel, None, None)
        for at, each in enumerate(targets)
        if each.ra is not None and each.dec is not None
        for pixel in around.fast(each.ra, each.dec, radius, each.epochs)
    ]
