"""`astra catalog`: load catalogues of sources, and look again for what no catalogue had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_json, print_list

if TYPE_CHECKING:
    from astra.catalogue.consulting import Linking
    from astra.catalogue.loading import Loaded
    from astra.relinking import Progress as Relinked

EPILOG = """\b
Examples:
  astra catalog load allStar-dr17-synspec_rev1.fits
  astra catalog load gaia.csv --gaia dr3 --no-relink
  astra catalog relink
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Load catalogues of sources, list them, and look again for what no catalogue had."""


@command.command(epilog="\b\nExample: astra catalog load allStar-dr17-synspec_rev1.fits sdss_id_flat.parquet")
@click.argument("files", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE...", nargs=-1)
@click.option("--as", "version", metavar="NAME", help="The edition's name, for one file; by default the file's own.")
@click.option("--gaia", type=click.Choice(["dr2", "dr3", "none"]), help="Which release a column source_id is of.")
@click.option("--epoch", type=float, metavar="YEAR", help="Julian year of the positions, where no column tells it.")
@click.option("--no-relink", is_flag=True, help="Load only; link nothing again.")
@as_json
@click.pass_context
def load(ctx: click.Context, /, files: tuple[Path, ...], version: str | None, as_json: bool, **given: Any) -> None:
    """Load the sources of tables: FITS, CSV, ECSV, VOTable or Parquet.

    A file that is loaded already changes nothing; one that was interrupted is completed. What was known by headers
    alone, unmatched or in conflict is then looked for again.
    """
    from astra.catalogue import loading, tables
    from astra.cli.opening import linking_of, open_records

    if not files:
        raise click.UsageError("name the files to load, such as allStar-dr17-synspec_rev1.fits")
    if version is not None and len(files) > 1:
        raise click.BadParameter("a name is for one file", param_hint="--as")
    settings = open_records(ctx.obj)
    loaded = []
    for path in files:
        table = tables.read(path, given["gaia"], given["epoch"])
        with _Shown(path.name, table.rows, "rows", as_json) as told:
            loaded.append(loading.load(path, table, version, told=told))
        if not as_json:
            _say(path, loaded[-1])
    relinked = None if given["no_relink"] else _relink(linking_of(settings), everything=False, quiet=as_json)
    if as_json:
        print_json({"editions": [_told(*each) for each in zip(files, loaded, strict=True)], "relinked": relinked})
    elif relinked is not None:
        _say_relinked(relinked)


@command.command(epilog="\b\nExample: astra catalog relink --all")
@click.option("--all", "everything", is_flag=True, help="Also what a catalogue has confirmed.")
@as_json
@click.pass_context
def relink(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """Look again for the sources of what is unmatched, known by headers alone, or in conflict.

    The service does it by itself when a catalogue was loaded, and at the time that [catalog] relink names.
    """
    from astra.cli.opening import linking_of, open_records

    settings = open_records(ctx.obj)
    relinked = _relink(linking_of(settings), everything, quiet=as_json)
    if as_json:
        print_json(relinked)
    else:
        _say_relinked(relinked)
    ctx.exit(1 if relinked["survey_away"] else 0)


@command.command("list", epilog="\b\nExample: astra catalog list --json")
@as_json
@click.pass_obj
def list_(config: Path | None, as_json: bool) -> None:
    """List the editions of catalogues that are loaded."""
    from astra.cli.opening import open_records
    from astra.database.connection import run
    from astra.database.fields import read_instant

    open_records(config)
    names = ("version", "rows", "left_out", "loaded", "relinked", "origin")
    rows = run(f"SELECT {', '.join(names)} FROM catalogue ORDER BY id")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for each in found:
        each |= {name: read_instant(each[name]) for name in ("loaded", "relinked")}
    print_list(found, as_json, "no catalogue is loaded: astra catalog load FILE")


class _Shown:
    """A bar of what is done, for a person who waits; nothing for a program."""

    def __init__(self, title: str, total: int, unit: str, quiet: bool) -> None:
        from astra.clock import SYSTEM
        from astra.progress import Progress, somebody_waits

        self._bar = Progress(title, total, SYSTEM, unit=unit) if somebody_waits() and not quiet else None
        self._done = 0

    def __enter__(self) -> _Shown:
        if self._bar is not None:
            self._bar.begin()
        return self

    def __call__(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.step(self._done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _relink(linking: Linking, everything: bool, quiet: bool) -> dict[str, Any]:
    from astra import relinking
    from astra.database.connection import run

    links = run("SELECT count(*) FROM source_data_product WHERE superseded_by_id IS NULL")[0][0]
    with _Shown("linking again", links, "products", quiet) as told:
        seen = 0

        def tell(progress: Relinked) -> None:
            nonlocal seen
            told(progress.looked - seen)
            seen = progress.looked

        conditions = relinking.EVERYTHING if everything else relinking.USUAL
        done = relinking.relink(linking, conditions, told=tell)
    return {"looked": done.looked, "changed": done.changed, "survey_away": done.survey_away}


def _told(path: Path, loaded: Loaded) -> dict[str, Any]:
    return {
        "file": path,
        "version": loaded.version,
        "rows": loaded.rows,
        "left_out": loaded.left_out,
        "sources_made": loaded.made,
        "sources_changed": loaded.changed,
        "loaded_before": loaded.before,
    }


def _say(path: Path, loaded: Loaded) -> None:
    if loaded.before:
        click.echo(f"{path} is loaded already, as version {loaded.version} with {loaded.rows:,} rows: nothing changed")
        return
    click.echo(
        f"{path} is loaded as version {loaded.version}: {loaded.rows:,} rows, {loaded.made:,} new sources, "
        f"{loaded.changed:,} that were known; left out, for they name no object: {loaded.left_out:,}"
    )


def _say_relinked(relinked: dict[str, Any]) -> None:
    click.echo(f"{relinked['looked']:,} products looked for again, {relinked['changed']:,} linked anew")
    if relinked["survey_away"]:
        click.echo(f"astra: {relinked['survey_away']}; the service looks again when it is back", err=True)
