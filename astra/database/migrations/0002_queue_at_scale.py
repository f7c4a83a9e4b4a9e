"""Less to keep on the way of a task: fewer indexes, whose entries are written as often as its state changes.

A task's identity is in one index at a time, while it is live or after it has ended; one run by hand has none, and is in
neither. The tasks of a bundle are found by `task_bundle`, whose rows are written twice: on PostgreSQL the second time
beside the first. And the view tells the times of tasks that were done in a bundle which was killed or stopped.
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
    """
CREATE{or_replace} VIEW task_time AS
SELECT t.id AS task_id, t.bundle_id AS bundle_id,
    b.time_pre_execute + coalesce(b.time_execute, 0) + coalesce(b.time_post_execute, 0) AS time_total,
    b.time_pre_execute AS time_pre_execute, m.time_pre_execute AS time_pre_execute_task,
    b.time_pre_execute_overhead AS time_pre_execute_bundle_overhead,
    b.time_execute AS time_execute, m.time_execute AS time_execute_task,
    b.time_execute_overhead AS time_execute_bundle_overhead,
    b.time_post_execute AS time_post_execute, m.time_post_execute AS time_post_execute_task,
    b.time_post_execute_overhead AS time_post_execute_bundle_overhead
FROM task t JOIN bundle b ON b.id = t.bundle_id JOIN task_bundle m ON m.bundle_id = b.id AND m.task_id = t.id
WHERE b.time_pre_execute IS NOT NULL OR m.time_pre_execute IS NOT NULL
""",
)
POSTGRESQL = "ALTER TABLE task_bundle SET (fillfactor = 50)"


def up(migrator: Any, db: Any) -> None:
    sqlite = type(migrator).__name__ == "SqliteMigrator"
    if sqlite:  # PostgreSQL replaces it: others' views may be built on it, and others may read it
        db.execute_sql("DROP VIEW task_time")
    for statement in STATEMENTS:
        db.execute_sql(statement.replace("{or_replace}", "" if sqlite else " OR REPLACE"))
    if not sqlite:
        db.execute_sql(POSTGRESQL)
