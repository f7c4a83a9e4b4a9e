"""`astra demo`: a simulated night, taken in by a real service while it is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_fields, print_json

if TYPE_CHECKING:
    from astra.cli.demo.night import Demo, Glance

EVERY = 2.0  # seconds between two plain lines


@click.command(epilog="Example: astra demo --fresh")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]", default="astra-demo")
@click.option("--fresh", is_flag=True, help="Empty the folder first, if it is one that a demo made.")
@click.option("--stars", type=click.IntRange(1, 100), default=6, show_default=True, help="Stars in each of 4 fields.")
@as_json
@click.pass_context
def command(ctx: click.Context, folder: Path, fresh: bool, stars: int, as_json: bool) -> None:
    """Watch a simulated night being taken in; ends by itself within a minute.

    Makes DIR (./astra-demo) with its own settings and SQLite database, starts the service there, writes a synthetic
    night into the folder that it watches, and compares what was recorded with what was written. In a folder of an
    earlier demo it adds another night.
    """
    from astra.cli.demo.comparison import compare
    from astra.cli.demo.night import play, prepare
    from astra.cli.demo.service import started

    demo = prepare(folder, fresh, stars)
    if not as_json:
        click.echo(
            f"A simulated night of {demo.files} files is written below {demo.watched}, while astrad takes it in."
        )
    with started(demo.config, demo.log) as service, _display(as_json) as show:
        for glance in play(demo, service):
            show(glance)
        service.stop()
    found = compare(demo)
    if as_json:
        print_json(found.as_dict())
    else:
        for title, rows in found.tables:
            click.echo(f"\n{title}")
            print_fields({f"  {name}": value for name, value in rows})
        _say_next(demo, found.problems)
    ctx.exit(1 if found.problems else 0)


def _say_next(demo: Demo, problems: list[str]) -> None:
    click.echo()
    for problem in problems:
        click.echo(f"wrong: {problem}")
    if problems:
        click.echo(f"The service's log is {demo.log}")
        return
    click.echo("Each file was taken in once, linked to its star, and its task completed with the S/N that was written.")
    program = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "astra" else "astra"
    begin = f"{program} --config {os.path.relpath(demo.config)}"
    star = demo.truth[0]
    click.echo("\nThe database stays. Try next:")
    click.echo(f"  {begin} show source {star.object}")
    click.echo(f"  {begin} tasks --limit 5")
    click.echo(f"  {begin} replay tasks --path '{star.star.name}' --plan")


@contextmanager
def _display(silent: bool) -> Iterator[Any]:
    """Give what shows one glance after the other: a live table on a terminal, plain lines elsewhere."""
    if silent:
        yield lambda glance: None
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(refresh_per_second=8) as live:
            yield lambda glance: live.update(_table(glance))
    else:
        last = [-EVERY]

        def line(glance: Glance) -> None:
            if glance.seconds - last[0] >= EVERY or glance.last:
                last[0] = glance.seconds
                click.echo(
                    f"{glance.seconds:5.1f} s  " + ", ".join(f"{name} {value}" for name, value in _words(glance))
                )

        yield line


def _words(glance: Glance) -> Iterable[tuple[str, str]]:
    tasks = glance.tasks
    return (
        ("written", f"{glance.written}/{glance.of}"),
        ("data products", str(glance.products)),
        ("linked", f"{glance.linked} to {glance.sources} stars"),
        ("tasks pending", str(tasks.get("pending", 0))),
        ("running", str(tasks.get("running", 0))),
        ("completed", str(tasks.get("completed", 0))),
        *((("failed", str(tasks["failed"])),) if tasks.get("failed") else ()),
    )


def _table(glance: Glance) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=14)
    table.add_column(width=18, justify="right")
    table.add_column(width=40)
    shares = {
        "written": glance.written,
        "data products": glance.products,
        "linked": glance.linked,
        "completed": glance.tasks.get("completed", 0),
    }
    for name, value in _words(glance):
        bar = ProgressBar(total=glance.of, completed=shares[name]) if name in shares else ""
        table.add_row(name, value, bar)
    table.add_row("seconds", f"{glance.seconds:.0f}", "")
    return table
