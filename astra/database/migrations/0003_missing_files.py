"""Files that are missed are few among many, and are counted in every whole sweep."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:
    db.execute_sql("CREATE INDEX ingestion_missing ON ingestion (root, path) WHERE missing_since IS NOT NULL")
