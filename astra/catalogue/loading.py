"""Load an edition of a catalogue from a file: a chunk at a time, each in one transaction; the same file but once.

An edition that was interrupted is gone through again, and what is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from astra import sources
from astra.catalogue.adopting import CHUNK, Edition, adopt
from astra.catalogue.rows import CatalogueRow
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone, execute, run
from astra.database.fields import instant_text
from astra.errors import AstraError


class CatalogueTable(Protocol):
    """What is read of a file: its rows in chunks, its checksum, and how many rows were left out so far, by reason."""

    @property
    def sha256(self) -> str: ...
    @property
    def left_out(self) -> Mapping[str, int]: ...

    def chunks(self) -> Iterable[list[CatalogueRow]]:
        """Yield the rows."""


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
    path: Path,
    table: CatalogueTable,
    version: str | None = None,
    clock: Clock = SYSTEM,
    told: Callable[[int], None] = lambda rows: None,
) -> Loaded:
    """Load the table of a file, unless it is loaded already.

    Parameters
    ----------
    path
        The file; it is recorded as the edition's origin.
    table
        What is read of it.
    version
        The edition's name; by default the file's, with a number where another file had that name.
    clock
        The clock.
    told
        Called with the number of rows of each chunk that is recorded.

    Raises
    ------
    AstraError
        If the version is that of another file.
    """
    edition, finished = _edition(path, table.sha256, version, clock)
    if finished:
        rows, left_out = run("SELECT rows, left_out FROM catalogue WHERE id = ?", (edition.id,))[0]
        return Loaded(edition.version, rows, left_out, before=True)
    rows = made = changed = 0
    for read in table.chunks():
        for start in range(0, len(read), CHUNK):
            chunk = read[start : start + CHUNK]
            with alone(sources.LOCK):
                adopted = adopt(chunk, edition, clock.now())
            rows, made, changed = rows + len(chunk), made + adopted.made, changed + adopted.changed
            told(len(chunk))
    left_out = sum(table.left_out.values())
    with alone(sources.LOCK):
        execute(
            "UPDATE catalogue SET rows = ?, left_out = ?, loaded = ? WHERE id = ?",
            (rows, left_out, instant_text(clock.now()), edition.id),
        )
    return Loaded(edition.version, rows, left_out, made, changed)


def _edition(path: Path, sha256: str, version: str | None, clock: Clock) -> tuple[Edition, bool]:
    """Return the edition of a file, recorded where it is new, and whether all of it is loaded."""
    with alone(sources.LOCK):
        known = run("SELECT id, version, loaded FROM catalogue WHERE sha256 = ?", (sha256,))
        if known:
            key, own, loaded = known[0]
            if version not in (None, own):
                raise AstraError(f"{path} is loaded already, as version {own!r}: nothing was changed")
            return Edition(key, own), loaded is not None
        name = _unused(path, version)
        execute(
            "INSERT INTO catalogue (version, origin, sha256, rows, left_out, created) VALUES (?, ?, ?, 0, 0, ?)",
            (name, str(path.absolute()), sha256, instant_text(clock.now())),
        )
        return Edition(run("SELECT id FROM catalogue WHERE version = ?", (name,))[0][0], name), False


def _unused(path: Path, version: str | None) -> str:
    used = dict(run("SELECT version, origin FROM catalogue"))
    if version is not None:
        if version in used:
            raise AstraError(
                f"cannot load {path} as version {version!r}: that is {used[version]}; give it another --version"
            )
        return version
    stem = path.name.split(".")[0] or path.name
    return next(name for at in range(1, len(used) + 2) if (name := stem if at == 1 else f"{stem}.{at}") not in used)
