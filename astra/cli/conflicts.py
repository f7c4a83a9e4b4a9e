"""`astra conflicts`: the data products whose header speaks against the source they are linked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from astra.cli.choosing import limit
from astra.cli.printing import as_json, print_json, text


@click.command(epilog="\b\nExample: astra conflicts --limit 5; astra show product 41")
@limit
@as_json
@click.pass_obj
def command(config: Path | None, limit: int, as_json: bool) -> None:
    """List the links to sources that somebody should look at, newest first.

    A data product is linked by the surest of its identifiers; what else its header says may speak against that: another
    identifier that names another source, or a position far from the source's.
    """
    from astra.cli.opening import open_records

    open_records(config)
    found = _conflicts(limit)
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no link is in conflict with anything")
    else:
        _say(found)
        if len(found) < (total := _count()):
            click.echo(f"\nthese are the newest {len(found)} of {total}: --limit shows more")


def _count() -> int:
    from astra.database.connection import run

    standing = "conflict IS NOT NULL AND superseded_by_id IS NULL"
    return int(run(f"SELECT count(*) FROM source_data_product WHERE {standing}")[0][0])


def _conflicts(limit: int) -> list[dict[str, Any]]:
    from astra.database.connection import run
    from astra.database.fields import read_instant

    rows = run(
        "SELECT l.data_product_id, p.path, l.source_id, s.designation, l.method, l.catalogue_version, l.candidates, "
        "l.separation, l.conflict, l.created "
        "FROM source_data_product l JOIN data_product p ON p.id = l.data_product_id "
        "LEFT JOIN source s ON s.id = l.source_id WHERE l.conflict IS NOT NULL AND l.superseded_by_id IS NULL "
        "ORDER BY l.id DESC LIMIT ?",
        (limit,),
    )
    names = ["product", "path", "source", "designation", "method", "catalogue_version"]
    names += ["candidates", "separation", "conflict", "since"]
    return [dict(zip(names, row, strict=True)) | {"since": read_instant(row[-1])} for row in rows]


def _say(found: list[dict[str, Any]]) -> None:
    """Print each conflict in three lines: paths and reasons are too long for a table."""
    for each in found:
        linked = "no source" if each["source"] is None else f"source {each['source']}"
        linked += f" ({each['designation']})" if each["designation"] else ""
        how = [f"by {each['method']}", each["catalogue_version"]]
        if (count := each["candidates"]) is not None:
            how.append(f"{count} candidate{'' if count == 1 else 's'}")
        how += [f'{each["separation"]:.2f}"'] if each["separation"] is not None else []
        told = ", ".join(part for part in how if part)
        click.echo(f"product {each['product']} -> {linked}  {told}, {text(each['since'])}")
        click.echo(f"  {each['path']}\n  {each['conflict']}")
