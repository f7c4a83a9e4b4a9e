"""`astra repeat`: run finished work again, and compare its results with the recorded ones."""

from __future__ import annotations

from dataclasses import asdict

import click

from astra.cli.choosing import recorded
from astra.cli.printing import as_json, print_json, print_table

SHOWN = 20
EPILOG = """\b
Examples:
  astra repeat task 41
  astra repeat bundle 7 --rtol 1e-4 --record
"""


@click.command(epilog=EPILOG)
@recorded
@click.option("--rtol", type=click.FloatRange(0), default=1e-6, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=click.FloatRange(0), default=0.0, show_default=True, help="Absolute tolerance.")
@click.option("--record", is_flag=True, help="Record the second run, as new tasks that name the old ones.")
@as_json
@click.pass_context
def command(ctx: click.Context, kind: str, key: int, rtol: float, atol: float, record: bool, as_json: bool) -> None:
    """Run a completed task, or a bundle of them, again, and compare new results with the recorded ones.

    Nothing is written, unless --record asks for it. The exit status is 1 if anything differs beyond the tolerances.
    """
    from astra.cli.opening import open_records
    from astra.cli.records import task_keys_of
    from astra.repeating import repeat

    open_records(ctx.obj)
    found = repeat(task_keys_of(kind, key), rtol, atol, record)
    if as_json:
        differences = [each._asdict() for each in found.differences]
        print_json({**asdict(found), "equal": found.equal, "differences": differences})
    else:
        if found.differences:
            shown = found.differences[:SHOWN]
            print_table(shown[0]._fields, [list(each) for each in shown])
        said = f"{len(found.differences)} values differ" if found.differences else "all results are equal"
        click.echo(f"{found.tasks} tasks run again, {found.rows} recorded rows compared: {said}")
    ctx.exit(0 if found.equal else 1)
