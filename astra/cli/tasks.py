"""`astra tasks`: the tasks, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from astra.cli.choosing import limit
from astra.cli.printing import as_json, print_list
from astra.states import TaskState


@click.command(epilog="\b\nExample: astra tasks --state failed --component SpectrumQuality")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([str(each) for each in TaskState]), help="Only in this state."
)
@click.option("--component", "components", multiple=True, metavar="NAME", help="Import path, or the class's name.")
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="Rule that enqueued them.")
@limit
@as_json
@click.pass_obj
def command(config: Path | None, /, limit: int, as_json: bool, **given: Any) -> None:
    """List tasks, newest first."""
    from astra.cli.opening import open_records
    from astra.selection import Selection

    open_records(config)
    found = listed(Selection(**given), limit)
    print_list(found if as_json else [with_more(each) for each in found], as_json, "there is no task that fits")


def listed(selection: Any, limit: int) -> list[dict[str, Any]]:
    """Return the newest tasks of a selection."""
    from astra import holds
    from astra.database.connection import run
    from astra.database.fields import read_instant
    from astra.selection import joined, of_tasks

    where = joined(of_tasks(selection))
    rows = run(
        "SELECT t.id, t.state, t.name, t.component_version, t.rule, t.priority, t.bundle_id, t.created, "
        "coalesce(nullif(m.error_class, m.error_message) || ': ', '') || m.error_message, "
        "t.not_before, t.after, p.path, (SELECT count(*) FROM task_input_data_product n WHERE n.task_id = t.id) "
        "FROM task t LEFT JOIN task_bundle m ON m.bundle_id = t.bundle_id AND m.task_id = t.id "
        "LEFT JOIN task_input_data_product i ON i.task_id = t.id AND i.position = 0 "
        f"LEFT JOIN data_product p ON p.id = i.data_product_id WHERE {where.sql} ORDER BY t.id DESC LIMIT ?",
        (*where.values, limit),
    )
    waits = [row[10] if row[1] == "pending" and holds.awaits(read_instant(row[9])) else None for row in rows]
    found = holds.awaited({each for each in waits if each is not None})
    told = [None if each is None else holds.told_awaited(each, found) for each in waits]
    names = ("id", "state", "component", "component_version", "rule", "priority", "bundle", "created", "error")
    return [
        dict(zip(names, row, strict=False))
        | {"created": read_instant(row[7]), "waits_for": own, "input": row[-2], "inputs": row[-1]}
        for row, own in zip(rows, told, strict=True)
    ]


def with_more(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task for a person, with how many inputs it has beside the one that is named."""
    more = task["inputs"] - 1
    told = {name: value for name, value in task.items() if name != "inputs"}
    return told | {"input": f"{task['input']} and {more} more"} if more > 0 else told
