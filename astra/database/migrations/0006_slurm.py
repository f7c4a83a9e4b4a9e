"""Bundles that run in jobs of Slurm: under which name each was handed over, told before Slurm is, and by which service.

So a service that is killed in between can ask Slurm whether the job is there.
"""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:
    db.execute_sql("ALTER TABLE bundle ADD COLUMN external_name TEXT")
    db.execute_sql("ALTER TABLE bundle ADD COLUMN keeper TEXT")
    db.execute_sql(
        "CREATE INDEX bundle_external ON bundle (external_name) WHERE external_name IS NOT NULL AND external_id IS NULL"
    )
