"""`astra source`: sources by where they are."""

from __future__ import annotations

from pathlib import Path

import click

from astra.cli.choosing import TakingAngles, limit
from astra.cli.printing import as_json, print_json

EPILOG = """\b
Examples:
  astra source near 209.88 +63.585 3
  astra source near 13:59:31.21 -63:35:07.4 "2'"
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Look for sources. All of one is told by `astra show source`."""


@command.command(cls=TakingAngles, epilog=EPILOG)
@click.argument("words", nargs=-1, required=True, metavar="RA DEC RADIUS")
@limit
@as_json
@click.pass_context
def near(ctx: click.Context, /, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List the sources near a position, nearest first.

    RA and DEC are in decimal degrees, or sexagesimal: 13:59:31.21 +63:35:07.4, 13h59m31.2s +63d35m07s. RADIUS is in
    arcseconds unless it says otherwise: 3, 3", 2', 0.01deg; it is a degree at most. How the words were read is printed
    first. A star with a known motion is as far away as where it was nearest between 1997 and 2016. Exit status 1 if
    there is none.
    """
    from astra import asking, positions
    from astra.cli import star
    from astra.cli.opening import open_records
    from astra.errors import NotUnderstood

    *angles, distance = (word.strip() for word in words)
    written = " ".join(angles)
    try:
        place = positions.read_position(written)
        within = positions.read_radius(distance) if place else 0.0
    except NotUnderstood as error:
        raise click.UsageError(str(error)) from None
    if place is None:
        said = f"{written!r} is no position" if written else "there is no position"
        raise click.UsageError(f"{said}: write RA DEC RADIUS, as 209.88 +63.585 3 or 13:59:31.21 +63:35:07.4 3")
    config: Path | None = ctx.obj
    open_records(config)
    found = asking.near(*place, within)
    told = found[:limit]
    lines = star.listed([each.source for each in told], [each.separation for each in told])
    if as_json:
        print_json(lines)
    elif lines:
        click.echo(f"{star.around(place, within)}:\n")
        star.say_listed(lines)
        if len(told) < len(found):
            click.echo(f"these are the nearest {len(told)} of {len(found)}: --limit shows more")
    else:
        click.echo(f"no source is {star.around(place, within)}")
    ctx.exit(0 if lines else 1)
