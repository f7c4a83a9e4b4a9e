"""Catalogue rows become sources: new ones, those that are known already, and those that headers alone had named.

A row is the source that has one of its numbers or its own name, where no other number speaks against it. So the
editions of one catalogue, and catalogues of one sky, come together in one row of `source` for each object. Doing it
again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from astra.catalogue.rows import CatalogueName, CatalogueRow
from astra.collector import uncollected
from astra.database.connection import execute
from astra.database.fields import instant_text
from astra.database.staging import load, reserve_ids, stage
from astra.healpix import NSIDE, ang2pix
from astra.identifiers import KINDS, UNIQUE, Identifier
from astra.sky import Star
from astra.sources import merging
from astra.sources.matching import contradiction, preferred
from astra.sources.pool import Holder, KnownSource, Pool

# Rows that one transaction takes: few enough that nobody waits a quarter of a second for the write lock.
CHUNK = 1_000


class Edition(NamedTuple):
    """An edition of a catalogue that rows are of: its key and its version."""

    id: int
    version: str


class Adopted(NamedTuple):
    """How many sources were made, and how many were known before and now have something new."""

    made: int
    changed: int


@dataclass(slots=True)
class _Changes:
    """What a chunk leaves to be written."""

    stars: dict[KnownSource, Star | None] = field(default_factory=dict)
    added: list[tuple[KnownSource, CatalogueName]] = field(default_factory=list)
    confirmed: list[tuple[KnownSource, CatalogueName]] = field(default_factory=list)


def adopt(rows: Sequence[CatalogueRow], edition: Edition, now: datetime) -> Adopted:
    """Make sources of catalogue rows, or complete those that they are; in the caller's transaction.

    Parameters
    ----------
    rows
        Up to ten thousand rows of one edition; `CHUNK` is a good number. Of several rows of one object the first says
        where it is.
    edition
        The edition that they are of.
    now
        The instant that is recorded. The caller holds `astra.sources.LOCK`.
    """
    with uncollected():
        chunk = _Chunk(rows, edition)
        chunk.place(rows)
        return chunk.write(now)


class _Chunk:
    def __init__(self, rows: Sequence[CatalogueRow], edition: Edition) -> None:
        self._edition, self._pool, self._changes = edition, Pool(), _Changes()
        self._possible = len(rows)
        self._unclaimed: list[int] = []
        self._pool.read({each[:2] for row in rows for each in row.names})  # type: ignore[misc]
        if self._pool.sources:
            self._pool.read_names(list(self._pool.sources.values()))

    def place(self, rows: Iterable[CatalogueRow]) -> None:
        """Find or make the source of each row, one after another."""
        named, version = self._pool.named, self._edition.version
        for row in rows:
            names = [each[:2] for each in row.names]
            if any(name in named for name in names):
                self._place(row, [Identifier(*name) for name in names])
                continue
            made = (
                self._make()
            )  # nobody has any of its names: the most of a catalogue that is loaded for the first time
            made.names.update(names)  # type: ignore[arg-type]  # an Identifier is such a pair
            for each, name in zip(row.names, names, strict=True):
                named[name] = [Holder(made, version, each.rank)]  # type: ignore[index]
                self._changes.added.append((made, each))
            self._changes.stars[made] = row.star

    def _place(self, row: CatalogueRow, names: Sequence[Identifier]) -> None:
        bare = len(names) == 1 and names[0].kind == "tmass"
        source = self._of_designation(names[0]) if bare else self._known(names) or self._make()
        if source is None:
            return  # whose it is a designation does not tell, and there is nothing else in it
        self._absorb(source, names)
        if source.new or source.catalogue != self._edition.id:
            self._changes.stars.setdefault(source, row.star)
        for each, name in zip(row.names, names, strict=True):
            self._give(source, each, name)

    def _known(self, names: Sequence[Identifier]) -> KnownSource | None:
        """Return the source that a row is; a designation, which blends share, tells it only if it is all there is."""
        for name in sorted(names, key=lambda name: KINDS.index(name.kind)):
            if name.kind != "tmass":
                found = {each.source.final for each in self._pool.named.get(name, ())}
                fitting = [each for each in found if name.kind == "sdss_id" or not contradiction(each, names)]
                if fitting:
                    shared = {each: len(each.names.intersection(names)) for each in fitting}
                    return min(fitting, key=lambda each: (each.provisional, -shared[each], each.id))
        return None

    def _of_designation(self, name: Identifier) -> KnownSource | None:
        """Return the source that a row of a designation alone is; None where that is one of several."""
        found = {each.source.final for each in self._pool.named.get(name, ())}
        if len(found) > 1:  # blends; but one that has no other name is this row, taken in before
            found = {each for each in found if each.names == {name}}
        return next(iter(found)) if len(found) == 1 else None

    def _make(self) -> KnownSource:
        if not self._unclaimed:
            self._unclaimed = reserve_ids("source", self._possible)[::-1]
        made = KnownSource(self._unclaimed.pop(), provisional=False, new=True)
        self._pool.sources[made.id] = made
        return made

    def _absorb(self, source: KnownSource, names: Sequence[Identifier]) -> None:
        """Merge into a source those others that a row of it names too, unless their numbers are of another object."""
        for name in names:
            if name.kind == "tmass":
                continue
            for other in {each.source.final for each in self._pool.named.get(name, ())} - {source}:
                if not other.new and not contradiction(other, [*names, *source.names]):
                    other.into = source
                    source.names |= other.names

    def _give(self, source: KnownSource, each: CatalogueName, name: Identifier) -> None:
        holders = self._pool.named[name]
        own = next((holder for holder in holders if holder.source.final is source), None)
        if own is None and name.kind in UNIQUE and holders:
            return  # another object's, by a header: products of that name are told apart when they are linked
        if own is None:
            holders.append(Holder(source, self._edition.version, each.rank))
            source.names.add(name)
            self._changes.added.append((source, each))
        elif not own.version:
            holders[holders.index(own)] = Holder(source, self._edition.version, each.rank)
            self._changes.confirmed.append((source, each))

    def write(self, now: datetime) -> Adopted:
        """Write what has changed; those that were known by headers alone are provisional no more."""
        merging.merge({key: each.final.id for key, each in self._pool.sources.items() if each.into is not None}, now)
        placed = self._changes.stars
        new = [each for each in placed if each.new]
        created = instant_text(now)
        columns = ("id", *_FIELDS, "provisional", "created")
        load("source", columns, [(*self._fields(each), False, created) for each in new])
        self._complete([each for each in placed if not each.new])
        named = ("source_id", "kind", "value", "catalogue_version", "rank")
        added = [
            (source.final.id, each.kind, each.value, self._edition.version, each.rank)
            for source, each in self._changes.added
        ]
        load("source_identifier", named, sorted(added, key=itemgetter(1, 2)))  # as the index has them
        self._confirm()
        return Adopted(len(new), len(placed) - len(new))

    def _fields(self, source: KnownSource) -> tuple[Any, ...]:
        star = self._changes.stars[source]
        pixel = ang2pix(NSIDE, star.ra, star.dec) if star else None
        return (source.id, *preferred(source.names), *(star or (None,) * 5), pixel, self._edition.id)

    def _complete(self, known: Sequence[KnownSource]) -> None:
        if not known:
            return
        staged = {"id": "BIGINT", **{f"new_{name.strip(chr(34))}": kind for name, kind in _FIELDS.items()}}
        stage("catalogued", staged, [self._fields(each) for each in known])
        # a place without a motion, where there is one with, would lose the stars that move
        worse = "c.new_ra IS NULL OR (c.new_pmra IS NULL AND source.pmra IS NOT NULL)"
        together = ("ra", '"dec"', "epoch", "pmra", "pmdec", "healpix")  # of one edition, or as they were
        sets = ["catalogue_id = c.new_catalogue_id", "sdss_id = coalesce(source.sdss_id, c.new_sdss_id)"]
        sets += [f"{name} = coalesce(c.new_{name}, source.{name})" for name in ("catalogid", "designation")]
        sets += [
            f"{name} = CASE WHEN {worse} THEN source.{name} ELSE c.new_{bare} END"
            for name, bare in zip(together, (each.strip('"') for each in together), strict=True)
        ]
        execute(
            f"UPDATE source SET provisional = ?, {', '.join(sets)} FROM catalogued c WHERE c.id = source.id", (False,)
        )

    def _confirm(self) -> None:
        if self._changes.confirmed:
            columns = {"id": "BIGINT", "kind": "TEXT", "value": "TEXT", "rank": "INTEGER"}
            rows = [(source.final.id, *each) for source, each in self._changes.confirmed]
            stage("confirmed", columns, rows)
            execute(
                "UPDATE source_identifier SET catalogue_version = ?, rank = c.rank FROM confirmed c "
                "WHERE source_identifier.source_id = c.id AND source_identifier.kind = c.kind "
                "AND source_identifier.value = c.value",
                (self._edition.version,),
            )


_FIELDS = {
    "sdss_id": "BIGINT", "catalogid": "BIGINT", "designation": "TEXT", "ra": "REAL", '"dec"': "REAL", "epoch": "REAL",
    "pmra": "REAL", "pmdec": "REAL", "healpix": "INTEGER", "catalogue_id": "BIGINT",
}  # fmt: skip
