"""The watched folders as the records know them: by name, so that a tree which moves to another path is no new work."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from astra.database.connection import changed, database, run
from astra.database.fields import instant_text, read_instant

CHUNK = 10_000  # data products whose paths follow their root in one transaction


def open_root(name: str, folder: Path, now: datetime) -> datetime | None:
    """Return the instant before which a root's files are back-fill; None once all that lay there has been seen.

    Where the root was at another path when it was last watched, the paths of its data products follow it.
    """
    with database.atomic():
        changed(
            "INSERT INTO watched_root (name, path, watched_since) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (name, str(folder), instant_text(now)),
        )
    path, since, seen = run("SELECT path, watched_since, backfilled FROM watched_root WHERE name = ?", (name,))[0]
    if path != str(folder):
        _move(name, folder)
    return None if seen is not None else read_instant(since)


def folder_of(name: str) -> str | None:
    """Return where a root was last watched; None for one that never was."""
    rows = run("SELECT path FROM watched_root WHERE name = ?", (name,))
    return rows[0][0] if rows else None


def end_backfill(name: str, now: datetime) -> None:
    """Record that a whole sweep has found nothing more that lay in a root before it was watched."""
    with database.atomic():
        changed(
            "UPDATE watched_root SET backfilled = ? WHERE name = ? AND backfilled IS NULL", (instant_text(now), name)
        )


def _move(name: str, folder: Path) -> None:
    """Have the paths follow, a chunk in each transaction; the root's own path comes last, so that a cut repeats it."""
    prefix, last = f"{str(folder).rstrip('/')}/", run("SELECT coalesce(max(id), 0) FROM data_product")[0][0]
    for start in range(1, last + 1, CHUNK):
        with database.atomic():
            changed(
                "UPDATE data_product SET path = ? || i.path FROM ingestion i "
                "WHERE data_product.id BETWEEN ? AND ? AND i.id = data_product.current_ingestion_id AND i.root = ?",
                (prefix, start, start + CHUNK - 1, name),
            )
    with database.atomic():
        changed("UPDATE watched_root SET path = ? WHERE name = ?", (str(folder), name))
