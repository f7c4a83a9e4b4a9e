"""`astra catalog`: load catalogues of sources, and look again for what no catalogue had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_json, print_list

if TYPE_CHECKING:
    from astra.catalogue.consulting import Linking
    from astra.catalogue.loading import Loaded
    from astra.catalogue.tables import Table
    from astra.progress import Progress
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
@click.option("--epoch", type=float, metavar="YEAR", help="Julian year of the positions, whatever the table says.")
@click.option("--no-relink", is_flag=True, help="Load only; link nothing again.")
@as_json
@click.pass_context
def load(ctx: click.Context, /, files: tuple[Path, ...], version: str | None, as_json: bool, **given: Any) -> None:
    """Load the sources of tables: FITS, CSV, ECSV, VOTable or Parquet.

    A file that is loaded already changes nothing; one that was interrupted is completed. What was known by headers
    alone, unmatched or in conflict is then looked for again.
    """
    from astra.catalogue import tables
    from astra.cli.opening import linking_of, open_records

    if not files:
        raise click.UsageError("name the files to load, such as allStar-dr17-synspec_rev1.fits")
    if version is not None and len(files) > 1:
        raise click.BadParameter("a name is for one file", param_hint="--as")
    settings = open_records(ctx.obj)
    read = [tables.read(path, given["gaia"], given["epoch"]) for path in files]  # all, before the first is loaded
    loaded = [_load(table, version, as_json) for table in read]
    relinked = None if given["no_relink"] else _relink(linking_of(settings), everything=False, quiet=as_json)
    if as_json:
        print_json({"editions": [_told(*each) for each in zip(read, loaded, strict=True)], "relinked": relinked})
    elif relinked is not None:
        _say_relinked(relinked)


def _load(table: Table, version: str | None, as_json: bool) -> Loaded:
    from astra.catalogue import loading

    if not as_json:
        _say_reading(table)
    with _Shown("", table.rows, "rows", as_json) as told:
        try:
            loaded = loading.load(table, version, told=told.stage)
        except KeyboardInterrupt:
            click.echo(f"\nastra: interrupted; load {table.path} again to complete it, nothing comes twice", err=True)
            raise
    if not as_json:
        _say(table, loaded)
    return loaded


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
    found: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    for each in found:
        each["loaded"] = read_instant(each["loaded"]) or "incomplete: load the same file again"
        each["relinked"] = read_instant(each["relinked"]) or "not yet"
    print_list(found, as_json, "no catalogue is loaded: astra catalog load FILE")


class _Shown:
    """A bar of what is done, for a person who waits; nothing for a program."""

    def __init__(self, title: str, total: int, unit: str, quiet: bool) -> None:
        self._title, self._total, self._unit, self._quiet = title, total, unit, quiet
        self._bar: Progress | None = None
        self._done = 0

    def __enter__(self) -> _Shown:
        self._open(self._title)
        return self

    def _open(self, title: str) -> None:
        from astra.clock import SYSTEM
        from astra.progress import Progress, somebody_waits

        self._title, self._done = title, 0
        if title and somebody_waits() and not self._quiet:
            self._bar = Progress(title, self._total, SYSTEM, unit=self._unit)
            self._bar.begin()

    def stage(self, title: str, count: int) -> None:
        """So much more of a stage is done."""
        if title != self._title:
            self.__exit__()
            self._open(title)
        self(count)

    def __call__(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.step(self._done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
    is_one = linking.survey is not None or bool(run("SELECT 1 FROM catalogue LIMIT 1"))
    told_of = {"looked": done.looked, "changed": done.changed, "survey_away": done.survey_away}
    return {"catalogue": is_one, **told_of}


def _told(table: Table, loaded: Loaded) -> dict[str, Any]:
    return {
        "file": table.path,
        "version": loaded.version,
        "rows": loaded.rows,
        "left_out": loaded.left_out,
        "sources_made": loaded.made,
        "sources_changed": loaded.changed,
        "loaded_before": loaded.before,
        "kinds": table.kinds,
        "columns": {each.column: each.meaning for each in table.taken},
        "dropped": table.dropped,
        "unplaced": table.unplaced,
        "misplaced": table.misplaced,
        "undated": table.undated,
    }


def _say_reading(table: Table) -> None:
    names = [each.column if each.column == each.meaning else f"{each.column} as {each.meaning}" for each in table.taken]
    kind = f", {' and '.join(table.kinds)}" if table.kinds else ""
    click.echo(f"{table.path}: {table.format}{kind}, {table.rows:,} rows; read are {', '.join(names)}")


def _say(table: Table, loaded: Loaded) -> None:
    if loaded.before:
        click.echo(f"loaded already, as version {loaded.version} with {loaded.rows:,} rows: nothing changed")
        return
    click.echo(
        f"loaded as version {loaded.version}: {loaded.rows:,} rows, {loaded.made:,} new sources, {loaded.changed:,} "
        f"that were known; left out, for they name no object: {loaded.left_out:,}"
    )
    odd = {
        **table.dropped,
        "rows without a position": table.unplaced,
        "positions that are not on the sky": table.misplaced,
        "epochs that are no year": table.undated,
    }
    if told := ", ".join(f"{what} ({count:,})" for what, count in odd.items() if count):
        click.echo(f"not used: {told}")


def _say_relinked(relinked: dict[str, Any]) -> None:
    if not relinked["catalogue"]:
        click.echo("no catalogue is loaded, and [catalog] url names none: astra catalog load FILE")
        return
    click.echo(f"{relinked['looked']:,} products looked for again, {relinked['changed']:,} linked anew")
    if relinked["survey_away"]:
        click.echo(f"astra: {relinked['survey_away']}; the service looks again when it is back", err=True)
