"""`astra show`: everything about one record, with what it is linked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import SourceName, TakingAngles, key_of
from astra.cli.printing import as_json, print_fields, print_json, print_table, print_wide
from astra.errors import AstraError, ConfigurationError

if TYPE_CHECKING:
    from astra.config import Settings

KINDS = ("source", "product", "task", "bundle", "ingestion")

EPILOG = """\b
Examples:
  astra show source 2M00034394-0014494
  astra show source sdss_id=54345
  astra show source id=7
  astra show source 00:03:43.94 -00:14:49.4
  astra show task 41 --json
"""


@click.command(cls=TakingAngles, epilog=EPILOG)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("words", nargs=-1, required=True, metavar="ID")
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, words: tuple[str, ...], as_json: bool) -> None:
    """Show one record and what it is linked to.

    A source may be named by any of its identifiers or names (2M00034394-0014494), as KIND=VALUE (sdss_id=123, id=7), or
    by its position (RA DEC, within 3 arcseconds); all other records by id. A number alone is the id of a source only
    where it is no identifier. Where several sources fit, they are listed, and the exit status is 1.
    """
    from astra.cli.opening import open_records

    name = " ".join(word.strip() for word in words)
    if kind == "source":
        SourceName().convert(name, None, click.get_current_context())
        open_records(config)
        click.get_current_context().exit(_show_source(name, as_json))
    key = key_of(kind, name)
    settings = open_records(config)
    found = _looks()[kind](key)
    if found is None:
        raise AstraError(f"there is no {kind} {key}")
    if kind == "task" and found["next"] is None:
        found["next"] = _next_of_waiting(found, settings)
    if as_json:
        print_json(found)
    else:
        _say(f"{kind} {key}", found)


def _next_of_waiting(task: dict[str, Any], settings: Settings) -> str | None:
    """Return the command that brings a task on which waits for what was not enqueued: the rules tell it."""
    from astra import holds
    from astra.cli import records
    from astra.cli.opening import rules_of

    if task["waits_for"] != holds.NOT_ENQUEUED:
        return None
    try:
        return records.next_of_waiting(task["id"], rules_of(settings))
    except ConfigurationError:  # what the rules say is not known: `astrad check` tells
        return None


def _looks() -> dict[str, Callable[[int], dict[str, Any] | None]]:
    from astra.cli import records

    return {
        "product": records.product,
        "task": records.task,
        "bundle": records.bundle,
        "ingestion": records.ingestion,
    }


def _show_source(name: str, json_asked: bool) -> int:
    """Print the page of the one source that a name means, or those it may mean; return the exit status."""
    from astra import asking
    from astra.cli import star

    try:
        found = star.page(asking.one(name))
    except asking.SeveralSources as several:
        candidates = star.listed(several.candidates, several.separations)
        if json_asked:
            print_json({"candidates": candidates})
        else:
            place = asking.read(name).place
            within = f" {star.around(place, asking.CONE)}" if place else ""
            click.echo(f"{name} may be any of {len(candidates)} sources{within}:\n")
            star.say_listed(candidates)
        return 1
    if json_asked:
        print_json(found)
    else:
        star.say(found)
    return 0


def _say(title: str, found: dict[str, Any]) -> None:
    click.echo(title)
    lists = {name: value for name, value in found.items() if isinstance(value, list)}
    texts = {name: value for name, value in found.items() if isinstance(value, str) and "\n" in value}
    print_fields({f"  {name}": value for name, value in found.items() if name not in lists and name not in texts})
    for name, rows in lists.items():
        click.echo()
        if not rows:
            click.echo(f"{name}: none")
        elif name == "links":
            _say_links(rows)
        elif name == "inputs":  # two checksums in each
            print_wide(list(rows[0]), [list(row.values()) for row in rows], "inputs:")
        elif isinstance(rows[0], dict):
            print_table(list(rows[0]), [list(row.values()) for row in rows], f"{name}:")
        else:
            click.echo(f"{name}: {', '.join(map(str, rows))}")
    for name, value in texts.items():
        click.echo(f"\n{name}:\n{value}")


def _say_links(links: list[dict[str, Any]]) -> None:
    """Print why a data product belongs to a source, and below, what is too long for a table."""
    shown = [{**each, "catalogue_version": each["catalogue_version"] or None} for each in links]
    columns = [name for name in shown[0] if name not in _LONG]
    print_wide(columns, [[each[name] for name in columns] for each in shown], "links:")
    for each in links:
        for name in _LONG:
            if each[name] is not None:
                click.echo(f"\n{name} of link {each['link']}:\n  {each[name]}")


_LONG = ("reason", "conflict")
