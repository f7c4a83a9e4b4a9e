"""Several services with one calendar: when each of its entries was last done, by whoever was first."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:
    instant = "TEXT" if type(migrator).__name__ == "SqliteMigrator" else "TIMESTAMPTZ"
    db.execute_sql(f"CREATE TABLE calendar_turn (entry TEXT NOT NULL PRIMARY KEY, due {instant} NOT NULL)")
