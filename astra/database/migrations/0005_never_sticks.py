"""A queue that never sticks: kinds of errors, tries that are counted, holds, and what each bundle took and said.

One index serves the choice of what is next and its claim: live work first, then replays by number; in each by priority,
component and key. Tasks of one `cohort` alone run together, which isolates the one that kills its process. PostgreSQL
compares keys byte by byte, for a component's keys are found by the range that begins with its name.

Each time an identity comes to life it takes its next `generation`, which is unique: so two can never live at once, and
no change of state touches that index, whose entries lie anywhere. Older rows have none, and stand in nobody's way.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    "ALTER TABLE task ADD COLUMN generation BIGINT",
    "ALTER TABLE task ADD COLUMN cohort BIGINT",
    "ALTER TABLE task ADD COLUMN tries_after BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE task_bundle ADD COLUMN error_kind TEXT",
    "ALTER TABLE bundle ADD COLUMN completed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bundle ADD COLUMN failed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bundle ADD COLUMN asked TEXT",
    "ALTER TABLE bundle ADD COLUMN peak_memory BIGINT",
    "ALTER TABLE bundle ADD COLUMN log_start BIGINT",
    "ALTER TABLE bundle ADD COLUMN log_end BIGINT",
    "CREATE INDEX bundle_asked ON bundle (id) WHERE asked IS NOT NULL AND state IN ('submitted', 'running')",
    "CREATE INDEX bundle_name ON bundle (name, id)",
    "DROP INDEX task_live",
    "DROP INDEX task_done",
    "CREATE UNIQUE INDEX task_identity ON task (identity, generation) WHERE identity IS NOT NULL",
    "DROP INDEX task_claim",
    "DROP INDEX task_pick",
    "{collate}",
    "CREATE INDEX task_pick ON task (replay_id, priority, bundle_key, id) "
    "WHERE state = 'pending' AND not_before IS NULL",
    """
CREATE TABLE hold (
    id {key}, kind TEXT NOT NULL, target TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL,
    created {instant} NOT NULL, lifted {instant}, probe_at {instant}, probes INTEGER NOT NULL DEFAULT 0,
    probe_bundle BIGINT)
""",
    "CREATE UNIQUE INDEX hold_standing ON hold (kind, target) WHERE lifted IS NULL",
)


def up(migrator: Any, db: Any) -> None:
    sqlite = type(migrator).__name__ == "SqliteMigrator"
    words = {
        "key": "INTEGER NOT NULL PRIMARY KEY" if sqlite else "BIGSERIAL PRIMARY KEY",
        "instant": "TEXT" if sqlite else "TIMESTAMPTZ",
        "collate": "" if sqlite else 'ALTER TABLE task ALTER COLUMN bundle_key TYPE TEXT COLLATE "C"',
    }
    for statement in STATEMENTS:
        if statement := statement.format(**words):
            db.execute_sql(statement)
