"""`astra show`: everything about one record, with what it is linked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from astra.cli.printing import as_json, print_fields, print_json, print_table

KINDS = ("source", "product", "task", "bundle", "ingestion")

EPILOG = """\b
Examples:
  astra show source 2M00034394-0014494
  astra show task 41 --json
"""


@click.command(epilog=EPILOG)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", metavar="ID")
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, name: str, as_json: bool) -> None:
    """Show one record and what it is linked to.

    A source may be named by its id, by any of its identifiers (2M00034394-0014494), or as KIND=VALUE (sdss_id=123);
    all other records by id.
    """
    from astra.cli import records
    from astra.cli.opening import open_records
    from astra.errors import AstraError

    open_records(config)
    look: dict[str, Callable[[int], dict[str, Any] | None]] = {
        "source": records.source,
        "product": records.product,
        "task": records.task,
        "bundle": records.bundle,
        "ingestion": records.ingestion,
    }
    key = records.source_key(name) if kind == "source" else _number(kind, name)
    found = look[kind](key)
    if found is None:
        raise AstraError(f"there is no {kind} {key}")
    if as_json:
        print_json(found)
    else:
        _say(f"{kind} {key}", found)


def _number(kind: str, name: str) -> int:
    if not name.isdecimal() or int(name) >= 1 << 63:
        article = "an" if kind == "ingestion" else "a"
        raise click.BadParameter(f"{name!r} is no id: {article} {kind} has a whole number below 2^63", param_hint="ID")
    return int(name)


def _say(title: str, found: dict[str, Any]) -> None:
    click.echo(title)
    lists = {name: value for name, value in found.items() if isinstance(value, list)}
    texts = {name: value for name, value in found.items() if isinstance(value, str) and "\n" in value}
    print_fields({f"  {name}": value for name, value in found.items() if name not in lists and name not in texts})
    for name, rows in lists.items():
        click.echo()
        if not rows:
            click.echo(f"{name}: none")
        elif isinstance(rows[0], dict):
            print_table(list(rows[0]), [list(row.values()) for row in rows], f"{name}:")
        else:
            click.echo(f"{name}: {', '.join(map(str, rows))}")
    for name, value in texts.items():
        click.echo(f"\n{name}:\n{value}")
