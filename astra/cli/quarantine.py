"""`astra quarantine`: the files that could not be taken in, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from astra.cli.choosing import limit
from astra.cli.printing import as_json, print_list


@click.command(epilog="\b\nExample: astra quarantine; astra replay ingestion --outcome quarantined --plan")
@limit
@as_json
@click.pass_obj
def command(config: Path | None, limit: int, as_json: bool) -> None:
    """List the files that are quarantined now, newest first.

    A file that was replaced by one that could be taken in is not among them; one that is gone says so. A file that
    changes is looked at again by itself, the others by `astra replay ingestion --outcome quarantined`.
    """
    from astra.cli.opening import open_records

    settings = open_records(config)
    folders = {watch.name: str(watch.path) for watch in settings.watch}
    print_list(_quarantined(folders, limit), as_json, "nothing is quarantined")


def _quarantined(folders: dict[str, str], limit: int) -> list[dict[str, Any]]:
    import os

    from astra.database.connection import run
    from astra.database.fields import read_instant

    rows = run(
        "SELECT g.id, g.started, g.size, g.root, g.path, g.reason FROM ingestion g WHERE g.outcome = 'quarantined' "
        "AND NOT EXISTS (SELECT 1 FROM ingestion n WHERE n.root = g.root AND n.path = g.path AND n.id > g.id "
        "AND n.outcome <> 'noted') ORDER BY g.id DESC LIMIT ?",
        (limit,),
    )
    return [
        {
            "ingestion": key,
            "since": read_instant(since),
            "size": size,
            "root": root or None,
            "path": (place := os.path.join(folders.get(root, root), path)),
            "there": os.path.exists(place),
            "reason": reason,
        }
        for key, since, size, root, path, reason in rows
    ]
