"""Load an edition of a catalogue from a file: a chunk at a time, each in one transaction; the same file but once.

All of the file is read before anything is written, so one that cannot be read leaves nothing behind. An edition that
was interrupted is gone through again, and what is there already stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from astra import sources
from astra.catalogue.adopting import CHUNK, Edition, adopt
from astra.catalogue.tables import Table
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone, execute, run
from astra.database.fields import canonical_json, instant_text
from astra.errors import AstraError

_SUFFIXES: Final = re.compile(r"(?i)\.(fits?|fts|csv|ecsv|txt|dat|vot|votable|xml|parquet)$")
_PACKED: Final = re.compile(r"(?i)\.(gz|bz2|xz|zip)$")

Told = Callable[[str, int], None]
"""Is told of rows that were "checked" or "loaded", and how many."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a file: its edition, and how many rows and sources it brought; `before`, if nothing was to do."""

    version: str
    rows: int
    left_out: int
    made: int = 0
    changed: int = 0
    before: bool = False


def load(
    table: Table,
    version: str | None = None,
    clock: Clock = SYSTEM,
    told: Told = lambda stage, rows: None,
) -> Loaded:
    """Load the table of a file, unless it is loaded already.

    Parameters
    ----------
    table
        The file, as `astra.catalogue.tables.read` has it.
    version
        The edition's name; by default the file's, with a number where another file had that name.
    clock
        The clock.
    told
        Called for each chunk that is checked or loaded, with its number of rows.

    Raises
    ------
    AstraError
        If the file cannot be read, the version is that of another file, or the same file was read in another way.
    """
    path = Path(table.path)
    if version is not None and not (version.strip() and version.isprintable()):
        raise AstraError(f"cannot load {path} as version {version!r}: a version has a name of one line")
    known = _known(table, version)
    if known is not None and known[1]:
        rows, left_out = run("SELECT rows, left_out FROM catalogue WHERE id = ?", (known[0].id,))[0]
        return Loaded(known[0].version, rows, left_out, before=True)
    for chunk in table.chunks():
        told("checked", len(chunk))
    with alone(sources.LOCK):
        known = _known(table, version)  # somebody else may have begun meanwhile
        edition = known[0] if known is not None else _begin(table, version, clock)
    rows = made = changed = 0
    for read in table.chunks():
        for start in range(0, len(read), CHUNK):
            chunk = read[start : start + CHUNK]
            rows += len(chunk)
            with alone(sources.LOCK):
                adopted = adopt(chunk, edition, clock.now())
                execute("UPDATE catalogue SET rows = ? WHERE id = ? AND rows < ?", (rows, edition.id, rows))
            made, changed = made + adopted.made, changed + adopted.changed
            told("loaded", len(chunk))
    execute("UPDATE catalogue SET loaded = ? WHERE id = ?", (instant_text(clock.now()), edition.id))
    return Loaded(edition.version, rows, table.left_out, made, changed)


def _known(table: Table, version: str | None) -> tuple[Edition, bool] | None:
    """Return the edition of a file and whether all of it is loaded; None where it is new."""
    found = run("SELECT id, version, loaded, reading FROM catalogue WHERE sha256 = ?", (table.sha256,))
    if not found:
        return None
    key, own, loaded, reading = found[0]
    if version not in (None, own):
        raise AstraError(f"{table.path} is loaded already, as version {own!r}: nothing was changed")
    before = json.loads(reading)
    for name, value in (("gaia", table.gaia), ("epoch", table.epoch)):
        if before[name] != value:
            was, now = (f"--{name} {each}" if each is not None else f"no --{name}" for each in (before[name], value))
            raise AstraError(
                f"{table.path} was read with {was} when it was loaded, as version {own!r}, and is given with {now} "
                "now: nothing was changed"
            )
    return Edition(key, own), loaded is not None


def _begin(table: Table, version: str | None, clock: Clock) -> Edition:
    name = _unused(Path(table.path), version)
    execute(
        "INSERT INTO catalogue (version, origin, sha256, reading, rows, left_out, created) "
        "VALUES (?, ?, ?, ?, 0, ?, ?)",
        (
            name,
            str(Path(table.path).absolute()),
            table.sha256,
            canonical_json(_reading(table)),
            table.left_out,
            instant_text(clock.now()),
        ),
    )
    return Edition(run("SELECT id FROM catalogue WHERE version = ?", (name,))[0][0], name)


def _reading(table: Table) -> dict[str, Any]:
    """Return how a file was read: what was said, what its columns were taken for, and what was not taken."""
    return {
        "gaia": table.gaia,
        "epoch": table.epoch,
        "format": table.format,
        "kinds": list(table.kinds),
        "columns": {each.column: each.meaning for each in table.taken},
        "dropped": table.dropped,
        "unplaced": table.unplaced,
        "misplaced": table.misplaced,
        "undated": table.undated,
    }


def _unused(path: Path, version: str | None) -> str:
    used = dict(run("SELECT version, origin FROM catalogue"))
    if version is not None:
        if version in used:
            raise AstraError(
                f"cannot load {path} as version {version!r}: that is {used[version]}; give it another name with --as"
            )
        return version
    stem = _SUFFIXES.sub("", _PACKED.sub("", path.name)) or path.name
    return next(name for at in range(1, len(used) + 2) if (name := stem if at == 1 else f"{stem} ({at})") not in used)
