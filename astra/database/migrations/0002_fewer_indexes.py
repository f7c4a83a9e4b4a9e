"""Fewer indexes to keep on the way of a task: each index entry is written as often as its task changes its state.

A task's identity is in one index at a time, while it is live or after it has ended; one run by hand has none, and is in
neither. The tasks of a bundle are found by `task_bundle`.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    "DROP INDEX task_running",
    "DROP INDEX task_live",
    "DROP INDEX task_identity",
    "CREATE UNIQUE INDEX task_live ON task (identity) WHERE identity IS NOT NULL AND state IN ('pending', 'running')",
    "CREATE INDEX task_done ON task (identity) WHERE identity IS NOT NULL "
    "AND state IN ('completed', 'failed', 'cancelled')",
)


def up(migrator: Any, db: Any) -> None:
    for statement in STATEMENTS:
        db.execute_sql(statement)
