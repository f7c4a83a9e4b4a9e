"""`astra ingest`: take in files or folders here and now."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_json, print_table

if TYPE_CHECKING:
    from astra.ingest import Recorded


FAILURES = ("quarantined", "quarantined before", "left")
ROWS = 50  # a longer table is more than anybody reads


@click.command(epilog="\b\nExample: astra ingest /data/sas/dr17/apogee/spectro/redux/dr17/visit apStar-dr17-2M.fits")
@click.argument("paths", type=click.Path(exists=True, path_type=Path), metavar="PATH...", nargs=-1, required=True)
@click.option("--no-rules", is_flag=True, help="Take in only; enqueue nothing.")
@as_json
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], no_rules: bool, as_json: bool) -> None:
    """Take in files, or folders with all below them, as the service would, rules and all.

    The tasks are run by the service. A file that is still being written is left for later and said so. The exit status
    is 1 if anything was quarantined or could not be taken in.
    """
    from astra import taking_in
    from astra.cli.opening import linking_of, make_result_tables, open_records, roots_of, rules_of

    settings = open_records(ctx.obj)
    rules = () if no_rules else rules_of(settings)
    make_result_tables(rules)
    terms = taking_in.Terms(roots_of(settings), rules, settings.settle.patience, linking=linking_of(settings))
    named = {str(path.absolute()) for path in paths}
    found = [_row(each, named) for each in _watched(taking_in.take_in(paths, terms), as_json)]
    counts = Counter(each["outcome"] for each in found)
    tasks = sum(each["tasks"] for each in found)
    if as_json:
        print_json({"counts": counts, "tasks": tasks, "files": found})
    else:
        _say(found, counts, tasks)
    ctx.exit(1 if any(counts[name] for name in FAILURES) else 0)


def _row(recorded: Recorded, named: set[str]) -> dict[str, Any]:
    """Return what is told of a file; one of another kind that only lies in a named folder is no failure."""
    if recorded.outcome is not None:
        outcome = str(recorded.outcome) if recorded.new else f"{recorded.outcome} before"
    else:
        outcome = "not ours" if recorded.file.place not in named and _is_other(recorded.file.place) else "left"
    return {
        "outcome": outcome,
        "data_product": recorded.data_product,
        "source": recorded.source,
        "ingestion": recorded.ingestion,
        "tasks": recorded.tasks,
        "path": recorded.file.place,
        "reason": recorded.reason,
    }


def _is_other(place: str) -> bool:
    from astra.errors import FileError
    from astra.products import identify

    try:
        return identify(place) is None
    except FileError:
        return False


def _watched(recorded: Iterable[Recorded], as_json: bool) -> Iterator[Recorded]:
    """Yield what is recorded, and let a person see how many files that is so far."""
    shown = sys.stderr.isatty() and not as_json
    for count, each in enumerate(recorded, 1):
        if shown and count % 50 == 0:
            click.echo(f"\r{count} files", nl=False, err=True)
        yield each
    if shown:
        click.echo("\r", nl=False, err=True)


def _say(found: list[dict[str, Any]], counts: Counter[str], tasks: int) -> None:
    names = ("outcome", "data_product", "source", "tasks", "path")
    if 0 < len(found) <= ROWS:
        print_table(names, [[each[name] for name in names] for each in found])
    for each in found:
        if each["reason"] and each["outcome"] != "not ours":
            click.echo(f"{each['outcome']}: {each['reason']}")
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    click.echo(f"{said or 'no file to take in was found'}; {tasks} tasks enqueued")
