"""The watched folders as the records know them: by name, so that a tree which moves to another path is no new work."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from astra.database.connection import changed, database, run
from astra.database.fields import instant_text, read_instant


def open_root(name: str, folder: Path, now: datetime) -> datetime:
    """Return since when a root is watched; one never watched before is, from `now`.

    Where the root was at another path when it was last watched, the paths of its data products follow it.
    """
    with database.atomic():
        changed(
            "INSERT INTO watched_root (name, path, watched_since) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (name, str(folder), instant_text(now)),
        )
        path, since = run("SELECT path, watched_since FROM watched_root WHERE name = ?", (name,))[0]
        if path != str(folder):
            _move(name, folder)
    known = read_instant(since)
    assert known is not None
    return known


def _move(name: str, folder: Path) -> None:
    changed("UPDATE watched_root SET path = ? WHERE name = ?", (str(folder), name))
    changed(
        "UPDATE data_product SET path = ? || i.path FROM ingestion i WHERE i.id = data_product.current_ingestion_id "
        "AND i.root = ?",
        (f"{str(folder).rstrip('/')}/", name),
    )
