"""Work that waits for work: tasks that come after another's, and sources whose products are gathered into one task.

`task.after` is the identity of the task that is waited for; its index holds the waiting alone. Its words are not those
of the other indexes of pending tasks, or PostgreSQL, with old statistics, would go through all that waits for its time.

A row of `gathering` says that something about a source has changed for a rule, and when its products are to be
gathered; `again_id` is the replay that wants it gathered again though that was done. It does not refer to the source by
a foreign key: sources are merged, and the key is understood as what it was merged into. `gather_position` is the last
link between data products and sources that a rule's marks were made from.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    "ALTER TABLE task ADD COLUMN after TEXT",
    "CREATE INDEX task_after ON task (after, id) "
    "WHERE state || '' = 'pending' AND not_before IS NOT NULL AND after IS NOT NULL",
    """
CREATE TABLE gathering (
    rule TEXT NOT NULL, source_id BIGINT NOT NULL, since {instant} NOT NULL, due {instant} NOT NULL,
    latest {instant} NOT NULL, replay_id BIGINT, again_id BIGINT, PRIMARY KEY (rule, source_id))
""",
    "CREATE INDEX gathering_due ON gathering (rule, due)",
    "CREATE INDEX gathering_source_id ON gathering (source_id)",
    "CREATE INDEX gathering_replay_id ON gathering (replay_id) WHERE replay_id IS NOT NULL",
    "CREATE INDEX gathering_again_id ON gathering (again_id) WHERE again_id IS NOT NULL",
    "CREATE TABLE gather_position (rule TEXT NOT NULL PRIMARY KEY, link BIGINT NOT NULL)",
)


def up(migrator: Any, db: Any) -> None:
    sqlite = type(migrator).__name__ == "SqliteMigrator"
    for statement in STATEMENTS:
        db.execute_sql(statement.format(instant="TEXT" if sqlite else "TIMESTAMPTZ"))
