"""A source that a replay wants gathered again though that was done, and that is marked by new work already."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:
    db.execute_sql("ALTER TABLE gathering ADD COLUMN again_id BIGINT")
    db.execute_sql("CREATE INDEX gathering_again_id ON gathering (again_id) WHERE again_id IS NOT NULL")
    db.execute_sql(
        "UPDATE gathering SET again_id = replay_id WHERE replay_id IN (SELECT id FROM replay WHERE verb = 'ingestion')"
    )
