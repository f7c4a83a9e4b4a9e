"""The survey's own catalogue: all of its objects that a batch of products may be of, in a fixed number of statements.

Nothing is matched here. What is found is adopted into the local tables, and one matcher decides there; so a name comes
with every object that has it, and every object with all of its names.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from astra.catalogue.cones import EPOCH, columns, cones
from astra.catalogue.rows import CatalogueName, CatalogueRow
from astra.catalogue.statements import INSPECT, TABLES, Schema
from astra.clock import SYSTEM, Clock
from astra.database.survey import Run, SurveyDatabase
from astra.errors import CatalogueUnavailable
from astra.identifiers import CATALOGIDS, KINDS, NUMBERS, catalogid_kind, valid
from astra.products.base import Target
from astra.settings_values import without_password
from astra.sky import Star, closest

_ORDER = {kind: at for at, kind in enumerate(KINDS)}


class SurveyObject(NamedTuple):
    """One object of the survey's catalogue, and the edition that its position is of."""

    row: CatalogueRow
    version: str


class _Member(NamedTuple):
    """One catalogid of an object: how it ranks among the objects that share it, and its edition."""

    catalogid: int
    rank: int | None
    plan: str | None


class SurveyCatalogue:
    """The `catalogdb` schema of a PostgreSQL server; making one does not look for the server.

    Parameters
    ----------
    url
        ``postgresql://USER@HOST/NAME``.
    radius
        How far from a target's position its object may be, in arcseconds, once both are at one epoch.
    clock
        Counts the pauses after failures.

    Attributes
    ----------
    origin
        The URL, without a password.
    """

    def __init__(self, url: str, radius: float, clock: Clock = SYSTEM) -> None:
        self.origin = without_password(url)
        self._database = SurveyDatabase(url, clock)
        self._radius = radius
        self._known: Schema | None = None

    def fetch(self, targets: Sequence[Target]) -> list[SurveyObject]:
        """Return the objects that have a name of one of `targets`, or were near one within its epochs.

        With them come all objects that share a name with one of them, so what is known of a name is complete. Each
        object comes once: those with an sdss_id by that, then those with a catalogid alone.

        Raises
        ------
        CatalogueUnavailable
            If the server cannot be asked now; while it is not tried again, at once.
        """
        if not targets:
            return []
        with self._asking() as (run, schema):
            if not schema.tables:
                raise CatalogueUnavailable(
                    "the survey's catalogue cannot be used now: no table of its schema catalogdb may be read"
                )
            by_name = _by_name(run, schema, targets)
            named = {at for at, target in enumerate(targets) if not by_name.keys().isdisjoint(_searched(target))}
            seeds = {catalogid for found in by_name.values() for catalogid in found}
            seeds |= _by_position(run, schema, targets, named, self._radius)
            return _objects(run, schema, seeds)

    def problems(self) -> list[str]:
        """Return what the server lacks, each with what that means; raise `CatalogueUnavailable` where it is away."""
        with self._asking() as (_, schema):
            return list(schema.problems())

    def describe(self) -> str:
        """Return which server it is and how it is searched, in words, without any password."""
        with self._asking() as (run, schema):
            ((name, host),) = run("SELECT current_database(), coalesce(inet_server_addr()::text, 'local socket')", ())
        way = "q3c" if schema.has_q3c else "ranges of ra and dec"
        return f"PostgreSQL {name} on {host}: {len(schema.tables)} of {len(TABLES)} tables, positions by {way}"

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._database.close()

    @contextmanager
    def _asking(self) -> Iterator[tuple[Run, Schema]]:
        """Give what runs queries, and what the server has: asked once, and again after it was away."""
        try:
            with self._database.session() as run:
                if self._known is None:
                    self._known = Schema.of(run(INSPECT, (list(TABLES),)))
                yield run, self._known
        except CatalogueUnavailable:
            self._known = None
            raise


def _searched(target: Target) -> Iterator[tuple[str, str]]:
    """Yield the names by which a target is looked for; catalogids of all cross-matches are of one kind."""
    for kind, value in target.identifiers:
        if valid(kind, value):
            yield ("catalogid" if kind in CATALOGIDS else kind), value


def _by_name(run: Run, schema: Schema, targets: Iterable[Target]) -> dict[tuple[str, str], set[int]]:
    """Return the catalogids that have each of the targets' names, for those names that any has."""
    wanted: dict[str, set[Any]] = defaultdict(set)
    for target in targets:
        for kind, value in _searched(target):
            wanted[kind].add(int(value) if kind == "catalogid" or kind in NUMBERS else value)
    query, kinds = schema.by_name()
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    if not wanted.keys().isdisjoint(kinds):
        for kind, value, catalogid in run(query, [list(wanted[kind]) for kind in kinds]):
            if catalogid is not None and catalogid > 0:
                found[kind, value.strip()].add(catalogid)
    return found


def _by_position(
    run: Run, schema: Schema, targets: Sequence[Target], named: Collection[int], radius: float
) -> set[int]:
    """Return the catalogids that came within `radius` of a target's position while its epochs lasted."""
    searched = cones(targets, named, radius)
    if not searched or "catalog" not in schema.tables:
        return set()
    near = set()
    for at, catalogid, *place in run(schema.by_position(), columns(searched)):
        ra, dec, epochs = targets[at].ra, targets[at].dec, targets[at].epochs
        star = _star(*place)
        if catalogid > 0 and star and ra is not None and dec is not None and closest(ra, dec, epochs, star) <= radius:
            near.add(catalogid)
    return near


def _objects(run: Run, schema: Schema, seeds: Collection[int]) -> list[SurveyObject]:
    """Return the objects that some catalogids are of, and all that share names with them, whole."""
    if not seeds:
        return []
    members: dict[int, dict[int, _Member]] = defaultdict(dict)
    alone: set[int] = set()
    everything = set()
    for catalogid, sdss_id, rank, plan in run(schema.related(), (list(seeds),)):
        everything.add(catalogid)
        if sdss_id is not None and sdss_id > 0:  # the last of a pair that is told twice has the lowest rank, and stays
            members[sdss_id][catalogid] = _Member(catalogid, rank, plan)
        elif catalogid_kind(catalogid):
            alone.add(catalogid)
    alone.difference_update(*members.values())
    known = _Known(run, schema, list(everything))
    found = [known.object(members[sdss_id].values(), sdss_id) for sdss_id in sorted(members)]
    return found + [known.object([_Member(catalogid, None, None)], None) for catalogid in sorted(alone)]


class _Known:
    """What the catalogue tells of some catalogids: where they are, and what they are called elsewhere."""

    def __init__(self, run: Run, schema: Schema, catalogids: list[int]) -> None:
        self._places: dict[int, tuple[Star | None, str | None]] = {}
        if query := schema.objects():
            for catalogid, ra, dec, pmra, pmdec, plan in run(query, (catalogids,)):
                self._places[catalogid] = _star(ra, dec, pmra, pmdec), plan
        self._names: dict[int, set[CatalogueName]] = defaultdict(set)
        names, times = schema.names()
        if times:
            for catalogid, kind, value in run(names, [catalogids] * times):
                self._names[catalogid].add(CatalogueName(kind, value.strip()))

    def object(self, members: Collection[_Member], sdss_id: int | None) -> SurveyObject:
        """Return one object, placed where the latest of its cross-matches has it."""
        names = {name for member in members for name in self._names[member.catalogid]}
        names |= {
            CatalogueName(catalogid_kind(each.catalogid) or "", str(each.catalogid), each.rank) for each in members
        }
        if sdss_id is not None:
            names.add(CatalogueName("sdss_id", str(sdss_id)))
        ordered = sorted(
            (name for name in names if valid(name.kind, name.value)), key=lambda name: (_ORDER[name.kind], name.value)
        )
        # a catalogid begins with the number of its cross-match: the highest is of the latest
        latest = max(members, key=lambda member: (member.catalogid in self._places, member.catalogid))
        star, plan = self._places.get(latest.catalogid, (None, latest.plan))
        return SurveyObject(CatalogueRow(tuple(ordered), star), _version(plan, latest.catalogid))


def _version(plan: str | None, catalogid: int) -> str:
    if plan:
        return f"catalogdb {plan}"
    return f"catalogdb cross-match {(catalogid_kind(catalogid) or 'unknown').removeprefix('catalogid')}"


def _star(ra: float | None, dec: float | None, pmra: float | None, pmdec: float | None) -> Star | None:
    """Return a place in the catalogue; a motion that is not known in both directions is none."""
    if ra is None or dec is None or not (math.isfinite(ra) and abs(dec) <= 90.0):
        return None
    if pmra is None or pmdec is None or not (math.isfinite(pmra) and math.isfinite(pmdec)):
        return Star(ra, dec, EPOCH)
    return Star(ra, dec, EPOCH, pmra, pmdec)
