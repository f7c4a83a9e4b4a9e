"""The first tables, written as SQL so that no later change of a model can change what this migration makes."""

from __future__ import annotations

from typing import Any

TABLES = """
CREATE TABLE watched_root (
    name TEXT NOT NULL PRIMARY KEY, path TEXT NOT NULL, watched_since {instant} NOT NULL, backfilled {instant});

CREATE TABLE replay (
    id {key}, who TEXT NOT NULL, created {instant} NOT NULL, verb TEXT NOT NULL, selection TEXT NOT NULL,
    planned BIGINT NOT NULL, done BIGINT NOT NULL, state TEXT NOT NULL);

CREATE TABLE environment (
    id {key}, digest TEXT NOT NULL, python TEXT NOT NULL, platform TEXT NOT NULL, packages TEXT NOT NULL);
CREATE UNIQUE INDEX environment_digest ON environment (digest);

CREATE TABLE source (
    id {key}, sdss_id BIGINT, catalogid BIGINT, designation TEXT, ra {real}, "dec" {real}, healpix INTEGER,
    provisional BOOLEAN NOT NULL, merged_into_id BIGINT REFERENCES source (id), created {instant} NOT NULL);
CREATE INDEX source_sdss_id ON source (sdss_id) WHERE sdss_id IS NOT NULL;
CREATE INDEX source_catalogid ON source (catalogid) WHERE catalogid IS NOT NULL;
CREATE INDEX source_designation ON source (designation) WHERE designation IS NOT NULL;
CREATE INDEX source_healpix ON source (healpix) WHERE healpix IS NOT NULL;
CREATE INDEX source_merged_into_id ON source (merged_into_id) WHERE merged_into_id IS NOT NULL;

CREATE TABLE source_identifier (
    id {key}, source_id BIGINT NOT NULL REFERENCES source (id), kind TEXT NOT NULL, value TEXT NOT NULL,
    catalogue_version TEXT NOT NULL);
CREATE UNIQUE INDEX source_identifier_own ON source_identifier (source_id, kind, value, catalogue_version);
CREATE UNIQUE INDEX source_identifier_one ON source_identifier (kind, value) WHERE kind IN ('sdss_id', 'apogee');
CREATE INDEX source_identifier_value ON source_identifier (kind, value);

CREATE TABLE data_product (
    id {key}, release TEXT NOT NULL, filetype TEXT NOT NULL, kwargs TEXT NOT NULL, identity TEXT NOT NULL,
    path TEXT NOT NULL, current_ingestion_id BIGINT{deferred}, metadata TEXT NOT NULL, created {instant} NOT NULL);
CREATE UNIQUE INDEX data_product_identity ON data_product (identity);
CREATE INDEX data_product_path ON data_product (path);
CREATE INDEX data_product_current_ingestion_id ON data_product (current_ingestion_id);

CREATE TABLE ingestion (
    id {key}, root TEXT NOT NULL, path TEXT NOT NULL, size BIGINT NOT NULL, mtime_ns BIGINT NOT NULL,
    ctime_ns BIGINT NOT NULL, inode BIGINT NOT NULL, header_sha256 TEXT, sha256 TEXT, outcome TEXT NOT NULL,
    reason TEXT, version BIGINT, data_product_id BIGINT REFERENCES data_product (id),
    supersedes_id BIGINT REFERENCES ingestion (id), recheck_after {instant}, missing_since {instant},
    replay_id BIGINT REFERENCES replay (id), started {instant} NOT NULL, duration {real} NOT NULL, lag {real});
CREATE UNIQUE INDEX ingestion_file_version ON ingestion
    (root, path, size, mtime_ns, ctime_ns, inode, coalesce(replay_id, 0)) WHERE outcome <> 'noted';
CREATE INDEX ingestion_path ON ingestion (root, path, id);
CREATE INDEX ingestion_data_product_id ON ingestion (data_product_id, id);
CREATE INDEX ingestion_supersedes_id ON ingestion (supersedes_id) WHERE supersedes_id IS NOT NULL;
CREATE INDEX ingestion_quarantined ON ingestion (id) WHERE outcome = 'quarantined';
CREATE INDEX ingestion_replay_id ON ingestion (replay_id) WHERE replay_id IS NOT NULL;

CREATE TABLE source_data_product (
    id {key}, source_id BIGINT REFERENCES source (id), data_product_id BIGINT NOT NULL REFERENCES data_product (id),
    method TEXT NOT NULL, catalogue_version TEXT NOT NULL, separation {real}, candidates INTEGER, reason TEXT,
    superseded_by_id BIGINT REFERENCES source_data_product (id), created {instant} NOT NULL);
CREATE UNIQUE INDEX source_data_product_current ON source_data_product (data_product_id)
    WHERE superseded_by_id IS NULL;
CREATE INDEX source_data_product_source_id ON source_data_product (source_id);
CREATE INDEX source_data_product_data_product_id ON source_data_product (data_product_id);

CREATE TABLE bundle (
    id {key}, name TEXT NOT NULL, bundle_key TEXT NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL,
    token TEXT NOT NULL, owner_boot TEXT NOT NULL, owner_pid BIGINT NOT NULL, owner_start BIGINT NOT NULL,
    host TEXT NOT NULL, "user" TEXT NOT NULL, lease_expires {instant}, executor TEXT NOT NULL, external_id TEXT,
    environment_id BIGINT REFERENCES environment (id), version TEXT, component_version TEXT, source_sha256 TEXT,
    git_commit TEXT, git_dirty BOOLEAN,
    time_pre_execute {real}, time_pre_execute_overhead {real}, time_execute {real}, time_execute_overhead {real},
    time_post_execute {real}, time_post_execute_overhead {real},
    created {instant} NOT NULL, started {instant}, ended {instant}, error TEXT, log TEXT);
CREATE INDEX bundle_open ON bundle (state, lease_expires) WHERE state IN ('submitted', 'running');
CREATE INDEX bundle_environment_id ON bundle (environment_id);

CREATE TABLE task (
    id {key}, name TEXT NOT NULL, parameters TEXT NOT NULL, version TEXT NOT NULL, component_version TEXT NOT NULL,
    state TEXT NOT NULL, priority SMALLINT NOT NULL, bundle_key TEXT NOT NULL, identity TEXT, rule TEXT,
    not_before {instant}, repeat_of_id BIGINT REFERENCES task (id), replay_id BIGINT REFERENCES replay (id),
    bundle_id BIGINT REFERENCES bundle (id), created {instant} NOT NULL);
CREATE UNIQUE INDEX task_live ON task (identity) WHERE state IN ('pending', 'running');
CREATE INDEX task_claim ON task (bundle_key, priority, id) WHERE state = 'pending' AND not_before IS NULL;
CREATE INDEX task_pick ON task (priority, bundle_key, id) WHERE state = 'pending' AND not_before IS NULL;
CREATE INDEX task_due ON task (not_before) WHERE state = 'pending' AND not_before IS NOT NULL;
CREATE INDEX task_running ON task (bundle_id) WHERE state = 'running';
CREATE INDEX task_failed ON task (name, id) WHERE state = 'failed';
CREATE INDEX task_identity ON task (identity) WHERE identity IS NOT NULL;
CREATE INDEX task_repeat_of_id ON task (repeat_of_id) WHERE repeat_of_id IS NOT NULL;
CREATE INDEX task_replay_id ON task (replay_id) WHERE replay_id IS NOT NULL;

CREATE TABLE task_input_data_product (
    task_id BIGINT NOT NULL REFERENCES task (id), position INTEGER NOT NULL,
    data_product_id BIGINT NOT NULL REFERENCES data_product (id), ingestion_id BIGINT REFERENCES ingestion (id),
    PRIMARY KEY (task_id, position)){without_rowid};
CREATE INDEX task_input_data_product_data_product_id ON task_input_data_product (data_product_id, task_id);
CREATE INDEX task_input_data_product_ingestion_id ON task_input_data_product (ingestion_id);

CREATE TABLE task_output_data_product (
    task_id BIGINT NOT NULL REFERENCES task (id), bundle_id BIGINT NOT NULL REFERENCES bundle (id),
    data_product_id BIGINT NOT NULL REFERENCES data_product (id), PRIMARY KEY (task_id, data_product_id));
CREATE INDEX task_output_data_product_data_product_id ON task_output_data_product (data_product_id);

CREATE TABLE task_bundle (
    bundle_id BIGINT NOT NULL REFERENCES bundle (id), position INTEGER NOT NULL,
    task_id BIGINT NOT NULL REFERENCES task (id), outcome TEXT, error_class TEXT, error_message TEXT, traceback TEXT,
    time_pre_execute {real}, time_execute {real}, time_post_execute {real},
    PRIMARY KEY (bundle_id, position)){without_rowid};
CREATE UNIQUE INDEX task_bundle_task_id ON task_bundle (task_id, bundle_id);

CREATE VIEW task_time AS
SELECT t.id AS task_id, t.bundle_id AS bundle_id,
    coalesce(b.time_pre_execute, 0) + coalesce(b.time_execute, 0) + coalesce(b.time_post_execute, 0) AS time_total,
    b.time_pre_execute AS time_pre_execute, m.time_pre_execute AS time_pre_execute_task,
    b.time_pre_execute_overhead AS time_pre_execute_bundle_overhead,
    b.time_execute AS time_execute, m.time_execute AS time_execute_task,
    b.time_execute_overhead AS time_execute_bundle_overhead,
    b.time_post_execute AS time_post_execute, m.time_post_execute AS time_post_execute_task,
    b.time_post_execute_overhead AS time_post_execute_bundle_overhead
FROM task t JOIN bundle b ON b.id = t.bundle_id JOIN task_bundle m ON m.bundle_id = b.id AND m.task_id = t.id
WHERE b.time_pre_execute IS NOT NULL;
"""

SQLITE = """
CREATE TRIGGER task_bundle_once BEFORE UPDATE ON task_bundle WHEN OLD.outcome IS NOT NULL
BEGIN SELECT raise(ABORT, 'a task ends once in a bundle'); END
"""

POSTGRESQL = """
ALTER TABLE data_product ADD CONSTRAINT data_product_current_ingestion
    FOREIGN KEY (current_ingestion_id) REFERENCES ingestion (id) DEFERRABLE INITIALLY IMMEDIATE;
CREATE FUNCTION task_bundle_once() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a task ends once in a bundle'; END $$;
CREATE TRIGGER task_bundle_once BEFORE UPDATE ON task_bundle FOR EACH ROW WHEN (OLD.outcome IS NOT NULL)
    EXECUTE FUNCTION task_bundle_once()
"""


def up(migrator: Any, db: Any) -> None:
    sqlite = type(migrator).__name__ == "SqliteMigrator"
    words = {
        "key": "INTEGER NOT NULL PRIMARY KEY" if sqlite else "BIGSERIAL PRIMARY KEY",
        "instant": "TEXT" if sqlite else "TIMESTAMPTZ",
        "real": "REAL" if sqlite else "DOUBLE PRECISION",
        "deferred": " REFERENCES ingestion (id)" if sqlite else "",
        "without_rowid": " WITHOUT ROWID" if sqlite else "",
    }
    for statement in TABLES.format(**words).split(";\n"):
        if statement.strip():
            db.execute_sql(statement.strip().rstrip(";"))
    db.execute_sql(SQLITE if sqlite else POSTGRESQL)
