"""The statements that ask the survey's catalogue, made of those tables that a server has.

The schema `catalogdb` is the sdssdb package's. A catalogid is one object in one cross-match; an sdss_id holds those of
one object together (`sdss_id_flat` by rows, `sdss_id_stacked` by columns), and the `catalog_to_...` tables say which
Gaia source and which 2MASS source it is, the `best` of them where several are near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from astra.catalogue.cones import FAST

TABLES: Final = (
    "catalog",
    "version",
    "sdss_id_flat",
    "sdss_id_stacked",
    "catalog_to_gaia_dr3_source",
    "catalog_to_gaia_dr2_source",
    "catalog_to_twomass_psc",
    "twomass_psc",
)

INSPECT: Final = """
SELECT t.name,
    coalesce(has_table_privilege(to_regclass('catalogdb.' || t.name), 'SELECT'), false),
    ARRAY(SELECT attname::text FROM pg_attribute
        WHERE attrelid = to_regclass('catalogdb.' || t.name) AND attnum > 0 AND NOT attisdropped),
    ARRAY(SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = to_regclass('catalogdb.' || t.name)),
    to_regprocedure('q3c_join(float8, float8, float8, float8, float8)') IS NOT NULL
FROM unnest(%s::text[]) AS t(name)
"""
_POSITION_INDEX = re.compile(r'\("?(ra|dec)"?[,)]')


class _Part(NamedTuple):
    """One of the selects that a statement is joined of, where the server has the tables that it needs."""

    needs: frozenset[str]
    kind: str
    sql: str


def _part(needs: str, kind: str, sql: str) -> _Part:
    return _Part(frozenset(needs.split()), kind, " ".join(sql.split()))


_STACKED = ("catalogid21", "catalogid25", "catalogid31")
_MATCHES = {
    "gaia_dr3": "catalog_to_gaia_dr3_source",
    "gaia_dr2": "catalog_to_gaia_dr2_source",
    "tmass": "catalog_to_twomass_psc",
}

# From a name to the catalogids that have it. Each has one list of values as its parameter.
_BY_NAME = (
    _part(
        "sdss_id_flat",
        "sdss_id",
        "SELECT 'sdss_id', sdss_id::text, catalogid FROM catalogdb.sdss_id_flat WHERE sdss_id = ANY(%s::bigint[])",
    ),
    _part(
        "sdss_id_flat",
        "catalogid",
        """SELECT 'catalogid', catalogid::text, catalogid FROM catalogdb.sdss_id_flat
        WHERE catalogid = ANY(%s::bigint[])""",
    ),
    _part(
        "sdss_id_stacked",
        "sdss_id",
        f"""SELECT 'sdss_id', s.sdss_id::text, c.id FROM catalogdb.sdss_id_stacked s,
        LATERAL unnest(ARRAY[{", ".join(_STACKED)}]) AS c(id) WHERE s.sdss_id = ANY(%s::bigint[])""",
    ),
    *(
        _part(
            "sdss_id_stacked",
            "catalogid",
            f"""SELECT 'catalogid', {column}::text, {column} FROM catalogdb.sdss_id_stacked
            WHERE {column} = ANY(%s::bigint[])""",
        )
        for column in _STACKED
    ),
    _part(
        "catalog",
        "catalogid",
        "SELECT 'catalogid', catalogid::text, catalogid FROM catalogdb.catalog WHERE catalogid = ANY(%s::bigint[])",
    ),
    *(
        _part(
            _MATCHES[kind],
            kind,
            f"""SELECT '{kind}', target_id::text, catalogid FROM catalogdb.{_MATCHES[kind]}
            WHERE target_id = ANY(%s::bigint[]) AND best""",
        )
        for kind in ("gaia_dr3", "gaia_dr2")
    ),
    _part(
        "twomass_psc catalog_to_twomass_psc",
        "tmass",
        """SELECT 'tmass', p.designation, m.catalogid FROM catalogdb.twomass_psc p
        JOIN catalogdb.catalog_to_twomass_psc m ON m.target_id = p.pts_key
        WHERE p.designation = ANY(%s::text[]) AND m.best""",
    ),
)

# From a catalogid to those that share a name with it.
_ALONGSIDE = (
    _part(
        "sdss_id_flat",
        "",
        """SELECT b.catalogid FROM catalogdb.sdss_id_flat a JOIN catalogdb.sdss_id_flat b ON b.sdss_id = a.sdss_id
        WHERE a.catalogid = found.catalogid AND a.sdss_id > 0""",
    ),
    _part(
        "sdss_id_stacked",
        "",
        f"""SELECT unnest(ARRAY[{", ".join(_STACKED)}]) FROM catalogdb.sdss_id_stacked
        WHERE sdss_id > 0 AND ({" OR ".join(f"{column} = found.catalogid" for column in _STACKED)})""",
    ),
    *(
        _part(
            table,
            "",
            f"""SELECT b.catalogid FROM catalogdb.{table} a JOIN catalogdb.{table} b ON b.target_id = a.target_id
            WHERE a.catalogid = found.catalogid AND a.target_id > 0 AND a.best AND b.best""",
        )
        for table in _MATCHES.values()
    ),
)

# From catalogids to what they are called.
_NAMES = (
    *(
        _part(
            _MATCHES[kind],
            kind,
            f"""SELECT catalogid, '{kind}', target_id::text FROM catalogdb.{_MATCHES[kind]}
            WHERE catalogid = ANY(%s::bigint[]) AND best""",
        )
        for kind in ("gaia_dr3", "gaia_dr2")
    ),
    _part(
        "twomass_psc catalog_to_twomass_psc",
        "tmass",
        """SELECT m.catalogid, 'tmass', p.designation FROM catalogdb.catalog_to_twomass_psc m
        JOIN catalogdb.twomass_psc p ON p.pts_key = m.target_id WHERE m.catalogid = ANY(%s::bigint[]) AND m.best""",
    ),
)

# Nearer than the room around a position, once a star's whole motion in the years between is added to it.
_REACHES = """
2 * degrees(asin(least(1, sqrt(sin(radians(c.dec - t.dec) / 2) ^ 2
    + cos(radians(t.dec)) * cos(radians(c.dec)) * sin(radians(c.ra - t.ra) / 2) ^ 2)))) * 3600
<= t.room + coalesce(sqrt(c.pmra ^ 2 + c.pmdec ^ 2), 0) / 1000 * t.years
"""
_FROM_CONES = f"""
SELECT t.at, c.catalogid, c.ra, c.dec, c.pmra, c.pmdec
FROM unnest(%s::int[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::bool[],
    %s::float8[], %s::float8[], %s::float8[], %s::float8[])
    AS t(at, ra, dec, search, room, years, fast, ra_low, ra_high, dec_low, dec_high),
    catalogdb.catalog c
WHERE {{nearby}} AND (NOT t.fast OR c.pmra ^ 2 + c.pmdec ^ 2 > {FAST:.0f} ^ 2) AND {_REACHES}
"""
_BY_Q3C = "q3c_join(t.ra, t.dec, c.ra, c.dec, t.search)"
_BY_WINDOW = "c.dec BETWEEN t.dec_low AND t.dec_high AND c.ra BETWEEN t.ra_low AND t.ra_high"

_LOST: Final = {
    "catalog": "no object has a position, and none is found by one",
    "version": "editions are named by the cross-match's number",
    "catalog_to_gaia_dr3_source": "no object is found by its Gaia DR3 id",
    "catalog_to_gaia_dr2_source": "no object is found by its Gaia DR2 id",
    "catalog_to_twomass_psc": "no object is found by its 2MASS designation",
    "twomass_psc": "no object is found by its 2MASS designation",
}


class Schema(NamedTuple):
    """What a server has of the catalogue: the tables that may be read, ranks, and how positions are looked up."""

    tables: frozenset[str]
    has_ranks: bool
    has_q3c: bool
    has_position_index: bool

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> Schema:
        """Return the schema that the rows of `INSPECT` tell of."""
        tables = {name for name, readable, *_ in rows if readable}
        columns = {name: found for name, _, found, *_ in rows}
        indexes: list[str] = next((found for name, _, _, found, _ in rows if name == "catalog"), [])
        # without an index of its own, the extension's join reads the whole table for every position
        q3c = any("q3c_ang2ipix" in text for text in indexes) and any(row[4] for row in rows)
        return cls(
            frozenset(tables),
            "sdss_id_flat" in tables and "rank" in columns["sdss_id_flat"],
            q3c,
            q3c or any(_POSITION_INDEX.search(text) for text in indexes),
        )

    def problems(self) -> Iterator[str]:
        """Yield what is missing, with what that means."""
        for table, loss in _LOST.items():
            if table not in self.tables:
                yield f"catalogdb.{table} is missing or may not be read: {loss}"
        if self.tables.isdisjoint({"sdss_id_flat", "sdss_id_stacked"}):
            yield "catalogdb.sdss_id_flat and sdss_id_stacked are missing or may not be read: no object has an sdss_id"
        elif not self.has_ranks:
            yield "catalogdb.sdss_id_flat has no rank: of several sdss_ids that share a catalogid, none goes first"
        if "catalog" in self.tables and not self.has_position_index:
            yield "catalogdb.catalog has no index of positions (q3c, or on dec): each look at the sky reads all of it"

    def by_name(self) -> tuple[str, tuple[str, ...]]:
        """Return a query for (kind, value, catalogid), and of which kind of name each of its parameters is a list.

        The kind ``catalogid`` stands for the catalogids of every cross-match.
        """
        parts = self._possible(_BY_NAME)
        return " UNION ALL ".join(part.sql for part in parts), tuple(part.kind for part in parts)

    def by_position(self) -> str:
        """Return a query for (number of the cone, catalogid, ra, dec, pmra, pmdec); its parameters are `columns`."""
        return _FROM_CONES.format(nearby=_BY_Q3C if self.has_q3c else _BY_WINDOW)

    def related(self) -> str:
        """Return a query for (catalogid, sdss_id, rank, version) of a list of catalogids and all that share a name.

        Theirs too, and so on: whoever knows an object by one of its names then knows every object of that name. The
        lowest rank comes last.
        """
        links = " UNION ALL ".join(part.sql for part in self._possible(_ALONGSIDE)) or "SELECT 0::bigint"
        return f"""
        WITH RECURSIVE found(catalogid) AS (
            SELECT unnest(%s::bigint[])
            UNION
            SELECT other.catalogid FROM found CROSS JOIN LATERAL ({links}) AS other(catalogid) WHERE other.catalogid > 0
        )
        SELECT found.catalogid, m.sdss_id, m.rank, {self._plan("m.version_id")}
        FROM found LEFT JOIN LATERAL ({self._members()}) AS m(sdss_id, rank, version_id) ON true
        ORDER BY m.rank DESC NULLS FIRST
        """

    def objects(self) -> str | None:
        """Return a query for (catalogid, ra, dec, pmra, pmdec, version) of a list of catalogids."""
        if "catalog" not in self.tables:
            return None
        return f"""
        SELECT c.catalogid, c.ra, c.dec, c.pmra, c.pmdec, {self._plan("c.version_id")}
        FROM catalogdb.catalog c WHERE c.catalogid = ANY(%s::bigint[])
        """

    def names(self) -> tuple[str, int]:
        """Return a query for (catalogid, kind, value), and how often the list of catalogids is its parameter."""
        parts = self._possible(_NAMES)
        return " UNION ALL ".join(part.sql for part in parts), len(parts)

    def _possible(self, parts: Sequence[_Part]) -> list[_Part]:
        # the same is in both tables of sdss_ids: the one with ranks will do
        here = self.tables - {"sdss_id_stacked"} if "sdss_id_flat" in self.tables else self.tables
        return [part for part in parts if part.needs <= here]

    def _members(self) -> str:
        if "sdss_id_flat" in self.tables:
            rank = "rank" if self.has_ranks else "NULL::int"
            return f"SELECT sdss_id, {rank}, version_id FROM catalogdb.sdss_id_flat WHERE catalogid = found.catalogid"
        if "sdss_id_stacked" in self.tables:
            own = " OR ".join(f"{column} = found.catalogid" for column in _STACKED)
            return f"SELECT sdss_id, NULL::int, NULL::int FROM catalogdb.sdss_id_stacked WHERE {own}"
        return "SELECT NULL::bigint, NULL::int, NULL::int"

    def _plan(self, version: str) -> str:
        """Return an expression for the name of a version; without their table it is null."""
        if "version" not in self.tables:
            return "NULL::text"
        return f"(SELECT plan FROM catalogdb.version WHERE id = {version})"
