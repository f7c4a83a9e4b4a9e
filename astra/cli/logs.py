"""`astra logs`: what a task's bundles, or one bundle, printed and logged while the service ran them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import recorded
from astra.cli.printing import as_json, instant, print_json
from astra.errors import AstraError

if TYPE_CHECKING:
    from astra.config import Settings

EPILOG = """\b
Examples:
  astra logs task 41
  astra logs task 41 --all
  astra logs bundle 7 --json
"""


@click.command(epilog=EPILOG)
@recorded
@click.option("--all", "every", is_flag=True, help="Of a task: every try that printed something, the oldest first.")
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, key: int, every: bool, as_json: bool) -> None:
    """Print what was printed and logged by a bundle, or by the latest bundle of a task that printed something.

    Tasks of one bundle print into one log.
    """
    from astra.cli.opening import open_records

    if every and kind == "bundle":
        raise click.UsageError("--all is for a task: a bundle has one log")
    settings = open_records(config)
    found = _bundles(kind, key)
    logged = [each for each in found if each["path"] is not None]
    if not logged:
        raise AstraError(_why_none(kind, key, found))
    told = [each | _read(each, settings) for each in (logged if every else logged[-1:])]
    if all(each["text"] is None for each in told):
        raise AstraError(told[-1]["trouble"])
    if as_json:
        print_json(told)
        return
    for each in told:
        text = each["trouble"] if each["text"] is None else each["text"]
        if every:
            click.echo(_heading(each))
        click.echo(text, nl=not text.endswith("\n"))


def _bundles(kind: str, key: int) -> list[dict[str, Any]]:
    """Return the bundles that are meant, oldest first: where their logs lie, and how the task left each."""
    from astra.database.connection import run
    from astra.database.fields import read_instant

    if not run(f"SELECT 1 FROM {kind} WHERE id = ?", (key,)):
        raise AstraError(f"there is no {kind} {key}")
    columns = "b.id, b.state, b.executor, b.host, b.started, b.ended, b.log, b.log_start, b.log_end"
    if kind == "task":
        rows = run(
            f"SELECT {columns}, m.outcome FROM task_bundle m JOIN bundle b ON b.id = m.bundle_id "
            "WHERE m.task_id = ? ORDER BY b.id",
            (key,),
        )
    else:
        rows = run(f"SELECT {columns}, b.state FROM bundle b WHERE b.id = ?", (key,))
    names = ("bundle", "state", "executor", "host", "started", "ended", "path", "start", "end", "outcome")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [each | {name: read_instant(each[name]) for name in ("started", "ended")} for each in found]


def _why_none(kind: str, key: int, found: list[dict[str, Any]]) -> str:
    """Say why there is no log to be printed."""
    if not found:
        return f"task {key} was in no bundle yet: it has not run"
    last = found[-1]
    if last["state"] in ("submitted", "running"):
        return f"bundle {last['bundle']} is {last['state']}: its log can be read when it has ended"
    if all(each["executor"] == "interactive" for each in found):
        return f"{kind} {key} was run by hand: what it printed went to whoever ran it"
    return f"{kind} {key} printed nothing"


def _read(each: dict[str, Any], settings: Settings) -> dict[str, str | None]:
    """Return what a bundle printed, or why that cannot be had: its log was deleted, or is on another machine."""
    from astra import provenance

    path = Path(each["path"])
    try:
        with path.open("rb") as file:
            file.seek(each["start"])
            text = file.read(each["end"] - each["start"]).decode(errors="replace")
            return {"text": text, "trouble": None}
    except FileNotFoundError:
        trouble = f"bundle {each['bundle']}: its log {path} is deleted; [log] keep is {settings.log.keep:g} days"
        if each["host"] != provenance.host():
            trouble = f"bundle {each['bundle']}: its log lies on {each['host']} in {path}"
        return {"text": None, "trouble": trouble}


def _heading(each: dict[str, Any]) -> str:
    began = instant(each["started"]) if each["started"] else "never"
    return f"== bundle {each['bundle']}, started {began}, {each['outcome'] or 'unfinished'}"
