"""`astra simulate`: a synthetic night, written as the reduction pipeline writes it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_json, print_table

if TYPE_CHECKING:
    from astra.simulate import Simulation, Truth


@click.command(epilog="\b\nExample: astra simulate sas --release dr19 --stars 20 --visits 3 --pause 0.05")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--release", default="dr19", show_default=True, help="Data release whose headers and paths are used.")
@click.option("--telescope", "telescopes", multiple=True, metavar="NAME", help="apo25m or lco25m; all by default.")
@click.option("--configurations", type=int, default=2, show_default=True, help="Fields observed by each telescope.")
@click.option("--stars", type=int, default=6, show_default=True, help="Stars in each field.")
@click.option("--visits", type=int, default=2, show_default=True, help="Visits to each star, one a night.")
@click.option("--mjd", type=int, default=0, metavar="N", help="The night; by default one of the release's time.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed writes the same night.")
@click.option("--pause", type=float, default=0.0, show_default=True, help="Seconds between two writes.")
@click.option("--writers", type=int, default=4, show_default=True, help="Fields written at the same time.")
@click.option("--combinations", type=int, default=1, show_default=True, help="How often each star is combined.")
@as_json
def command(folder: Path, as_json: bool, **plan: Any) -> None:
    """Write a synthetic night below DIR: visits HDU by HDU, later the stars.

    Every header says that it is synthetic. What was put in (velocities, signal-to-noise) is printed at the end.
    """
    from astra.simulate import Night, simulate

    simulation = simulate(Night(**plan), folder.absolute())
    _write(simulation, quiet=as_json)
    if as_json:
        print_json(
            {
                "folder": folder.absolute(),
                "steps": simulation.total,
                "stars": [truth_of(each) for each in simulation.truth],
            }
        )
        return
    rows = [
        (each.object, each.telescope, each.catalogid, each.velocity, each.header_velocity, each.snr, len(each.visits))
        for each in simulation.truth
    ]
    print_table(("object", "telescope", "catalogid", "velocity", "in_header", "snr", "visits"), rows)
    click.echo(f"{len(rows)} stars and {len({v for t in simulation.truth for v in t.visits})} visits below {folder}")


def _write(simulation: Simulation, quiet: bool) -> None:
    with click.progressbar(
        simulation, length=simulation.total, label="writing", file=sys.stderr, hidden=quiet or not sys.stderr.isatty()
    ) as steps:
        for _ in steps:
            pass


def truth_of(truth: Truth) -> dict[str, Any]:
    """Return what was put into one star, with its catalogue id as text."""
    return {**asdict(truth), "catalogid": str(truth.catalogid)}
