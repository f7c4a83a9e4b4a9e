"""`astra products`: the data products, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from astra.cli.choosing import limit, source
from astra.cli.printing import as_json, print_list


@click.command(epilog="\b\nExample: astra products --filetype apStar --source 2M00034394-0014494")
@click.option("--filetype", "filetypes", multiple=True, metavar="NAME", help="Product type, such as apVisit.")
@click.option("--release", "releases", multiple=True, metavar="NAME", help="Data release, such as dr17.")
@source
@click.option("--path", "paths", multiple=True, metavar="GLOB", help="Pattern of the base name or path.")
@limit
@as_json
@click.pass_obj
def command(config: Path | None, /, limit: int, as_json: bool, **given: Any) -> None:
    """List data products, newest first."""
    from astra.cli.opening import open_records
    from astra.selection import Selection

    open_records(config)
    print_list(_products(Selection(**given), limit), as_json, "no data product is known that fits")


def _products(selection: Any, limit: int) -> list[dict[str, Any]]:
    from itertools import islice

    from astra.database.connection import execute
    from astra.database.fields import read_instant
    from astra.selection import joined, of_products

    where, takes = joined(of_products(selection)), selection.takes_path()
    rows = execute(
        "SELECT p.id, p.filetype, p.release, l.source_id, s.designation, g.outcome, g.started, p.path "
        "FROM data_product p LEFT JOIN ingestion g ON g.id = p.current_ingestion_id "
        "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL "
        f"LEFT JOIN source s ON s.id = l.source_id WHERE {where.sql} ORDER BY p.id DESC"
        + ("" if selection.paths else f" LIMIT {limit}"),
        where.values,
    )
    names = ("id", "filetype", "release", "source", "designation", "outcome", "taken_in", "path")
    found = (dict(zip(names, row, strict=True)) for row in rows if takes(row[-1]))
    return [{**each, "taken_in": read_instant(each["taken_in"])} for each in islice(found, limit)]
