"""`astra failures`: what went wrong, errors that are alike together, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import Instant, limit
from astra.cli.printing import as_json, print_json, text
from astra.cli.targeting import counted, in_settings

if TYPE_CHECKING:
    from astra.alike import Group

EPILOG = """\b
Examples:
  astra failures
  astra failures --component SpectrumQuality --since 2026-11-22
"""


@click.command(epilog=EPILOG)
@click.option("--component", "components", multiple=True, metavar="NAME", help="Import path, or the class's name.")
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="Rule that enqueued the tasks.")
@click.option("--since", type=Instant(), metavar="DATE", help="Failed at or after this instant.")
@click.option("--until", type=Instant(), metavar="DATE", help="Failed before this instant.")
@limit
@as_json
@click.pass_obj
def command(
    config: Path | None,
    /,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    **given: Any,
) -> None:
    """List the errors of failed tasks, those that differ in numbers and paths only as one, the most frequent first.

    Each has how many tasks failed so, when first and last, one of them, and the command to run next.
    """
    from astra.cli.opening import open_records

    settings = open_records(config)
    from astra import alike, targets
    from astra.selection import Selection

    for name in given["components"]:
        targets.components(name, in_settings(settings))

    found = alike.groups(Selection(**given), since, until)
    shown = [_row(each) for each in found[:limit]]
    if as_json:
        print_json(shown)
    elif not found:
        click.echo("no task has failed that fits")
    else:
        _say(shown)
        if len(found) > limit:
            click.echo(f"\nthese are the most frequent {limit} of {len(found)}: --limit shows more")


def _row(group: Group) -> dict[str, Any]:
    names = ("component", "error", "kind", "count", "first", "last", "sample")
    return {name: getattr(group, name) for name in names} | {"next": next_command(group)}


def next_command(group: Group) -> str:
    """Return the command that does something about failures of one kind."""
    from astra.alike import OTHERS

    if group.by_hand == group.count:  # somebody's own: nobody else runs them again
        return f"astra execute task {group.sample} --debug"
    retry = ["astra", "retry", "component", group.component]
    return shlex.join(retry if group.error == OTHERS else [*retry, "--error", group.error])


def _say(shown: Sequence[dict[str, Any]]) -> None:
    for at, each in enumerate(shown):
        if at:
            click.echo()
        when = (
            text(each["first"]) if each["first"] == each["last"] else f"{text(each['first'])} to {text(each['last'])}"
        )
        kind = f", {each['kind']}" if each["kind"] else ""
        click.echo(f"{each['component']}: {counted(each['count'], 'task')} failed{kind}, {when}")
        click.echo(f"  {each['error']}\n  look   astra show task {each['sample']}\n  retry  {each['next']}")
