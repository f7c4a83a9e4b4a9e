"""`astra holds`: what is held back, by whom and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import limit
from astra.cli.printing import as_json, print_list

if TYPE_CHECKING:
    from astra.database.astradb import Hold

EPILOG = """\b
Examples:
  astra holds
  astra holds --lifted --limit 10
"""


@click.command(epilog=EPILOG)
@click.option("--lifted", is_flag=True, help="Those that were lifted, newest first, instead.")
@limit
@as_json
@click.pass_obj
def command(config: Path | None, /, lifted: bool, limit: int, as_json: bool) -> None:
    """List what is held: components and replays, and tasks that are held one by one.

    A component that too many failures have stopped has a next probe: then one bundle of it is tried. `astra resume`
    lifts any of them.
    """
    from astra.cli.opening import open_records

    open_records(config)
    if lifted:
        from astra import holds

        print_list([_row(each) for each in holds.lifted(limit)], as_json, "no hold was ever lifted")
    else:
        print_list(_standing(), as_json, "nothing is held")


def _standing() -> list[dict[str, Any]]:
    from astra import holds, targets
    from astra.targets import Kind, Target

    rows = []
    for each in holds.standing():
        running = len(targets.open_bundles(Target(Kind(each.kind), each.target)))
        rows.append(_NOTHING | _row(each) | {"running": running})
    for name, count, first in holds.tasks_by_component():
        rows.append(_NOTHING | {"kind": "tasks", "target": name, "tasks": count, "such_as": first})
    return rows


def _row(held: Hold) -> dict[str, Any]:
    return {
        "kind": held.kind,
        "target": held.target,
        "who": held.who,
        "since": held.created,
        "reason": held.reason,
        "lifted": held.lifted,
        "next_probe": held.probe_at,
        "probes": held.probes,
    }


# A row that stands, before it is known what it is of: of a hold `tasks` is left out, of tasks who holds them.
_NOTHING: dict[str, Any] = dict.fromkeys(
    ("kind", "target", "who", "since", "reason", "lifted", "next_probe", "probes", "running", "tasks", "such_as")
)
