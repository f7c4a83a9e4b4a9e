"""The survey's catalogue for the tests: the schema `catalogdb` on a real server, with a few objects of our own.

The tables are made as the sdssdb package's models describe them. Where the survey's own scripts (in sdssdb's sources,
the folder schema/sdss5db) say more, they are followed: ranks, names of positions, and what is of single precision.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import psycopg2

from tests.support.missing import lacking

PLANS = {21: "0.1.0", 25: "0.5.0", 31: "1.0.0"}
VERSIONS = {"catalogid21": 21, "catalogid25": 25, "catalogid31": 31}
# The first catalogid of each cross-match: its number is in the first 11 of 64 bits.
FIRST = {"catalogid21": 0, "catalogid25": 3 << 53, "catalogid31": 7 << 53}

_MODELS = (
    "Version Catalog SDSS_ID_flat SDSS_ID_stacked CatalogToGaia_DR2 CatalogToGaia_DR3 CatalogToTwoMassPSC TwoMassPSC"
)
# sdssdb reads a profile in the home folder, takes over logging and leaves files open: not in the tests' own process.
# Nor does it lie among their packages, for it brings a second driver of PostgreSQL: `make` puts it beside them.
_APART = Path(sys.prefix) / "sdssdb"
_DESCRIBE = f"""
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sdssdb.sqlalchemy.sdss5db import catalogdb

for name in "{_MODELS}".split():
    table = getattr(catalogdb, name).__table__
    print(CreateTable(table).compile(dialect=dialect()), end=";")
    for index in table.indexes:
        print(CreateIndex(index).compile(dialect=dialect()), end=";")
"""
_DOCUMENTED = """
ALTER TABLE catalogdb.sdss_id_flat ADD COLUMN rank INTEGER, ADD COLUMN ra_catalogid DOUBLE PRECISION,
    ADD COLUMN dec_catalogid DOUBLE PRECISION;
CREATE INDEX ON catalogdb.sdss_id_flat (rank);
ALTER TABLE catalogdb.sdss_id_flat RENAME COLUMN ra_xm TO ra_sdss_id;
ALTER TABLE catalogdb.sdss_id_flat RENAME COLUMN dec_xm TO dec_sdss_id;
ALTER TABLE catalogdb.sdss_id_stacked ADD COLUMN last_updated DATE;
ALTER TABLE catalogdb.sdss_id_stacked RENAME COLUMN ra_xm TO ra_sdss_id;
ALTER TABLE catalogdb.sdss_id_stacked RENAME COLUMN dec_xm TO dec_sdss_id;
ALTER TABLE catalogdb.catalog ALTER COLUMN pmra TYPE REAL, ALTER COLUMN pmdec TYPE REAL,
    ALTER COLUMN parallax TYPE REAL;
"""


@dataclass(frozen=True, kw_only=True)
class Known:
    """An object as the survey knows it: it has all its catalogids, and its other names in each of their cross-matches.

    `sdss_ids` gives each its rank. The names of `catalogids` are those of `VERSIONS`; two objects may share any name.
    """

    ra: float
    dec: float
    pmra: float | None = None
    pmdec: float | None = None
    sdss_ids: Mapping[int, int | None] = field(default_factory=dict)
    catalogids: Mapping[str, int] = field(default_factory=dict)
    gaia_dr3: int | None = None
    gaia_dr2: int | None = None
    tmass: str | None = None
    best: bool = True


@lru_cache(maxsize=1)
def description() -> str:
    """Return the statements that make the tables, as sdssdb's models have them."""
    with tempfile.TemporaryDirectory() as home:
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _DESCRIBE],
            env={**os.environ, "HOME": home, "SDSSDB_AUTOCONNECT": "0", "PYTHONPATH": str(_APART)},
            cwd=home,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    if told.returncode != 0:
        why = told.stderr.strip()[-200:]
        lacking(f"the survey's description of its tables cannot be read ({why}): make test installs it")
    return told.stdout


def make_catalogdb(url: str, objects: Iterable[Known], positions: str = '("dec")') -> None:
    """Make the schema in an empty database and fill it.

    Parameters
    ----------
    url
        The database.
    objects
        What the survey knows.
    positions
        The columns of the index of positions: ``q3c_ang2ipix(ra, dec)``, in brackets, on a server that has q3c.
    """
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA catalogdb")
        cursor.execute(description())
        cursor.execute(_DOCUMENTED)
        for number, plan in PLANS.items():
            cursor.execute("INSERT INTO catalogdb.version VALUES (%s, %s, %s)", (number, plan, plan))
        for each in objects:
            _insert(cursor, each)
        cursor.execute(f"CREATE INDEX ON catalogdb.catalog {positions}")
        cursor.execute("ANALYZE")


def _insert(cursor: psycopg2.extensions.cursor, each: Known) -> None:
    for kind, catalogid in each.catalogids.items():
        cursor.execute(
            "INSERT INTO catalogdb.catalog (catalogid, ra, dec, pmra, pmdec, lead, version_id)"
            " VALUES (%s, %s, %s, %s, %s, 'gaia_dr3_source', %s) ON CONFLICT DO NOTHING",
            (catalogid, each.ra, each.dec, each.pmra, each.pmdec, VERSIONS[kind]),
        )
        _insert_matches(cursor, each, catalogid, VERSIONS[kind])
    for sdss_id, rank in each.sdss_ids.items():
        stacked = [each.catalogids.get(kind) for kind in VERSIONS]
        cursor.execute(
            "INSERT INTO catalogdb.sdss_id_stacked (sdss_id, catalogid21, catalogid25, catalogid31, ra_sdss_id,"
            " dec_sdss_id) VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (sdss_id, *stacked, each.ra, each.dec),
        )
        for kind, catalogid in each.catalogids.items():
            cursor.execute(
                "INSERT INTO catalogdb.sdss_id_flat (sdss_id, catalogid, version_id, ra_sdss_id, dec_sdss_id,"
                " n_associated, rank) VALUES (%s, %s, %s, %s, %s, 1, %s)",
                (sdss_id, catalogid, VERSIONS[kind], each.ra, each.dec, rank),
            )


def _insert_matches(cursor: psycopg2.extensions.cursor, each: Known, catalogid: int, version: int) -> None:
    key = None
    if each.tmass:
        cursor.execute("SELECT pts_key FROM catalogdb.twomass_psc WHERE designation = %s", (each.tmass,))
        found = cursor.fetchone()
        key = found[0] if found else None
        if key is None:
            cursor.execute(
                "INSERT INTO catalogdb.twomass_psc (designation, ra, decl) VALUES (%s, %s, %s) RETURNING pts_key",
                (each.tmass, each.ra, each.dec),
            )
            (key,) = cursor.fetchone()
    matches = {
        "catalog_to_gaia_dr3_source": each.gaia_dr3,
        "catalog_to_gaia_dr2_source": each.gaia_dr2,
        "catalog_to_twomass_psc": key,
    }
    for table, target in matches.items():
        if target is not None:
            cursor.execute(
                f"INSERT INTO catalogdb.{table} (catalogid, target_id, version_id, distance, best)"
                " VALUES (%s, %s, %s, 0, %s) ON CONFLICT DO NOTHING",
                (catalogid, target, version, each.best),
            )
