"""Catalogues: their editions, where and how fast their objects are, and links that somebody should look at.

A source's identifiers are looked up by what they are; by their source they are only listed. Objects are looked for
around a position, in a pixel and a strip of declination of it; the few fast ones in whole pixels.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    """
CREATE TABLE catalogue (
    id {key}, version TEXT NOT NULL, origin TEXT NOT NULL, sha256 TEXT, reading TEXT NOT NULL DEFAULT '{{}}',
    rows BIGINT NOT NULL, left_out BIGINT NOT NULL, created {instant} NOT NULL, loaded {instant}, relinked {instant})
""",
    "CREATE UNIQUE INDEX catalogue_version ON catalogue (version)",
    "CREATE UNIQUE INDEX catalogue_sha256 ON catalogue (sha256) WHERE sha256 IS NOT NULL",
    "ALTER TABLE source ADD COLUMN epoch {real}",
    "ALTER TABLE source ADD COLUMN pmra {real}",
    "ALTER TABLE source ADD COLUMN pmdec {real}",
    "ALTER TABLE source ADD COLUMN catalogue_id BIGINT REFERENCES catalogue (id)",
    "ALTER TABLE source_identifier ADD COLUMN rank INTEGER",
    "ALTER TABLE source_data_product ADD COLUMN conflict TEXT",
    "DROP INDEX source_healpix",
    'CREATE INDEX source_position ON source (healpix, "dec") WHERE healpix IS NOT NULL',
    "CREATE INDEX source_fast ON source (healpix) WHERE pmra * pmra + pmdec * pmdec > 250000",
    "DROP INDEX source_identifier_own",
    "DROP INDEX source_identifier_value",
    "CREATE UNIQUE INDEX source_identifier_value ON source_identifier (kind, value, source_id)",
    "CREATE INDEX source_identifier_source_id ON source_identifier (source_id)",
    "CREATE INDEX source_data_product_conflict ON source_data_product (id) "
    "WHERE conflict IS NOT NULL AND superseded_by_id IS NULL",
    "CREATE INDEX source_data_product_unconfirmed ON source_data_product (id) "
    "WHERE superseded_by_id IS NULL AND method IN ('header', 'none', 'cone')",
)


def up(migrator: Any, db: Any) -> None:
    sqlite = type(migrator).__name__ == "SqliteMigrator"
    words = {
        "key": "INTEGER NOT NULL PRIMARY KEY" if sqlite else "BIGSERIAL PRIMARY KEY",
        "instant": "TEXT" if sqlite else "TIMESTAMPTZ",
        "real": "REAL" if sqlite else "DOUBLE PRECISION",
    }
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**words))
