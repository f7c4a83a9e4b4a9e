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
from astra.database.staging import load, stage
from astra.healpix import NSIDE, ang2pix
from astra.identifiers import KINDS, NUMBERS, UNIQUE, Identifier
from astra.sky import Star
from astra.sources import merging
from astra.sources.matching import contradiction, preferred
from astra.sources.pool import Holder, KnownSource, Pool

# Rows that one transaction takes: few enough that nobody waits a quarter of a second for the write lock.
CHUNK = 500


class Edition(NamedTuple):
    """An edition of a catalogue that rows are of: its key and its version."""

    id: int
    version: str


class Adopted(NamedTuple):
    """How many sources were made, how many that were known have something new, and how many have become others."""

    made: int
    changed: int
    merged: int


@dataclass(slots=True)
class _Changes:
    """What a chunk leaves to be written."""

    stars: dict[KnownSource, Star | None] = field(default_factory=dict)
    added: list[tuple[KnownSource, CatalogueName]] = field(default_factory=list)
    confirmed: list[tuple[KnownSource, CatalogueName]] = field(default_factory=list)
    contested: dict[KnownSource, str] = field(default_factory=dict)


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
        self._pool.read({each.identifier for row in rows for each in row.names})
        self._pool.read_names(list(self._pool.sources.values()))

    def place(self, rows: Iterable[CatalogueRow]) -> None:
        """Find or make the source of each row, one after another."""
        named, version = self._pool.named, self._edition.version
        for row in rows:
            names = [each.identifier for each in row.names]
            if any(name in named for name in names):
                self._place(row, sorted(names, key=lambda name: KINDS.index(name.kind)))
                continue
            # nobody has any of its names, as mostly when a catalogue is new
            made = self._pool.make(self._possible, provisional=False)
            for each, name in zip(row.names, names, strict=True):
                made.names[name] = version
                named[name] = [Holder(made, version, each.rank)]
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
        for each in row.names:
            self._give(source, each)

    def _known(self, names: Sequence[Identifier]) -> KnownSource | None:
        """Return the source that a row is; a designation, which blends share, tells it only if it is all there is."""
        numbers = [name for name in names if name.kind in NUMBERS]
        for name in names:
            if name.kind != "tmass":
                found = {each.source.final for each in self._pool.named.get(name, ())}
                fitting = [each for each in found if name.kind == "sdss_id" or not contradiction(each, numbers)]
                if fitting:
                    shared = {each: sum(1 for own in names if own in each.names) for each in fitting}
                    return min(fitting, key=lambda each: (each.provisional, -shared[each], each.id))
        return None

    def _of_designation(self, name: Identifier) -> KnownSource | None:
        """Return the source that a row of a designation alone is; None where that is one of several."""
        found = {each.source.final for each in self._pool.named.get(name, ())}
        if len(found) > 1:  # blends; but one that has no other name is this row, taken in before
            found = {each for each in found if each.names.keys() == {name}}
        return next(iter(found)) if len(found) == 1 else None

    def _make(self) -> KnownSource:
        return self._pool.make(self._possible, provisional=False)

    def _absorb(self, source: KnownSource, names: Sequence[Identifier]) -> None:
        """Merge into a source those others that a row of it names too, unless their numbers are of another object."""
        numbers = [name for name in names if name.kind in NUMBERS]
        for name in names:
            if name.kind == "tmass":
                continue
            others = {each.source.final for each in self._pool.named.get(name, ())} - {source}
            for other in sorted(others, key=lambda each: each.id):
                own = [Identifier(kind, value) for kind, values in source.numbers().items() for value in values]
                if not contradiction(other, [*numbers, *own]):
                    source.take(other)
                    self._changes.stars.setdefault(source, None)

    def _give(self, source: KnownSource, each: CatalogueName) -> None:
        name, holders = each.identifier, self._pool.named[each.identifier]
        own = next((holder for holder in holders if holder.source.final is source), None)
        if own is None or not own.version:
            # a header, or an older edition, said it was another's: products of that one are to be looked at again
            for other in sorted({each.source.final for each in holders} - {source}, key=lambda each: each.id):
                self._changes.contested[other] = f"{name.kind} {name.value} is a name of source {source.id} too"
        if own is None and name.kind in UNIQUE and holders:
            return  # another object's, by a header: products of that name are told apart when they are linked
        if own is None:
            holders.append(Holder(source, self._edition.version, each.rank))
            source.names[name] = self._edition.version
            self._changes.added.append((source, each))
        elif not own.version:
            holders[holders.index(own)] = Holder(own.source, self._edition.version, each.rank)
            source.names[name] = self._edition.version
            self._changes.confirmed.append((own.source, each))

    def write(self, now: datetime) -> Adopted:
        """Write what has changed; those that were known by headers alone are provisional no more."""
        placed = {each.final: star for each, star in reversed(self._changes.stars.items())}
        new = [each for each in self._pool.sources.values() if each.new]
        created = instant_text(now)
        columns = ("id", *_FIELDS, "provisional", "created")
        stars = [(each, self._changes.stars.get(each)) for each in new]
        load("source", columns, [(*self._fields(each, star), False, created) for each, star in stars])
        changed = [(each, star) for each, star in placed.items() if not each.new or each.grown]
        self._complete(changed)
        named = ("source_id", "kind", "value", "catalogue_version", "rank")
        added = [
            (source.id, each.kind, each.value, self._edition.version, each.rank) for source, each in self._changes.added
        ]
        load("source_identifier", named, sorted(added, key=itemgetter(1, 2)))  # as the index has them
        self._confirm()
        self._contest()
        merges = self._pool.merges()
        merging.merge(merges, now)
        made = sum(1 for each in new if each.into is None)
        return Adopted(made, sum(1 for each, _ in changed if not each.new), len(merges))

    def _fields(self, source: KnownSource, star: Star | None) -> tuple[Any, ...]:
        pixel = ang2pix(NSIDE, star.ra, star.dec) if star else None
        return (source.id, *preferred(source.names), *(star or (None,) * 5), pixel, self._edition.id)

    def _complete(self, known: Sequence[tuple[KnownSource, Star | None]]) -> None:
        if not known:
            return
        staged = {"id": "BIGINT", **{f"new_{name.strip(chr(34))}": kind for name, kind in _FIELDS.items()}}
        stage("catalogued", staged, [self._fields(*each) for each in known])
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
            rows = [(source.id, each.kind, each.value, each.rank) for source, each in self._changes.confirmed]
            stage("confirmed", columns, rows)
            execute(
                "UPDATE source_identifier SET catalogue_version = ?, rank = c.rank FROM confirmed c "
                "WHERE source_identifier.source_id = c.id AND source_identifier.kind = c.kind "
                "AND source_identifier.value = c.value",
                (self._edition.version,),
            )

    def _contest(self) -> None:
        """Say on the links of sources what this edition says against them, so that they are looked at again."""
        rows = [(each.id, text) for each, text in self._changes.contested.items() if each.into is None]
        if rows:
            stage("contested", {"id": "BIGINT", "conflict": "TEXT"}, rows)
            execute(
                "UPDATE source_data_product SET conflict = c.conflict FROM contested c WHERE source_id = c.id "
                "AND superseded_by_id IS NULL AND source_data_product.conflict IS NULL"
            )


_FIELDS = {
    "sdss_id": "BIGINT", "catalogid": "BIGINT", "designation": "TEXT", "ra": "REAL", '"dec"': "REAL", "epoch": "REAL",
    "pmra": "REAL", "pmdec": "REAL", "healpix": "INTEGER", "catalogue_id": "BIGINT",
}  # fmt: skip
