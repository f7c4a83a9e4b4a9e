"""Catalogue tables from files: each row becomes the object's identifiers and place, and nothing is kept of the rest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final, NamedTuple, TypeAlias

from astra.catalogue import cells, columns, formats
from astra.catalogue.columns import Plan, Taken
from astra.catalogue.formats import Block, Part
from astra.catalogue.rows import CatalogueName, CatalogueRow
from astra.collector import uncollected
from astra.errors import IncompleteFile, UnreadableFile
from astra.identifiers import catalogid_kind, valid
from astra.products.apogee import designation
from astra.products.releases import GAIA_RELEASES
from astra.signature import Signature
from astra.sky import Star

CHUNK: Final = 5000
_LARGEST_RANK: Final = 1 << 31  # of a 32-bit column

# Why an identifier is dropped.
NO_NUMBER: Final = "no number above 0 that fits 64 bits"
NO_CROSS_MATCH: Final = "catalogid of no cross-match we know"
NO_RELEASE: Final = "number of no Gaia release that is kept"
NO_TMASS: Final = "no 2MASS designation"
NO_DESIGNATION: Final = "designation neither of 2MASS nor of a Gaia release that is kept"
NO_APOGEE: Final = "no APOGEE name"

_Names: TypeAlias = list[CatalogueName | None]


class _Read(NamedTuple):
    part: Part
    plan: Plan


@dataclass(slots=True)
class Table:
    """A catalogue's file: what is known before its rows are read, and what the reading has left out so far.

    Attributes
    ----------
    sha256
        Of the file's bytes, which is what makes it this edition of the catalogue.
    kinds
        The kinds of table, of `columns.KINDS`, that it holds, where they are known.
    taken
        Its columns that are read, and what they are taken for.
    rows
        How many rows it has, whether they name an object or not.
    gaia, epoch
        What the user said of it, as it was given to `read`.
    left_out
        How many rows gave no object, for they have no valid identifier; this and what follows is of the last reading,
        so far.
    unplaced
        How many objects the table gives without a position.
    dropped
        How many identifiers were not taken, by reason: of values that mean to be one, not of empty ones, nor of
        sentinels such as -1 or NaN.
    misplaced
        How many rows have a position that is none on the sky: outside 0 to 360 and -90 to +90, or no degrees.
    undated
        How many rows have an epoch that cannot be used: no number, or no year from 1800 to 2200.
    """

    path: str
    format: str
    sha256: str
    rows: int
    kinds: tuple[str, ...]
    taken: tuple[Taken, ...]
    gaia: str | None = None
    epoch: float | None = None
    left_out: int = 0
    unplaced: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    misplaced: int = 0
    undated: int = 0
    _reads: tuple[_Read, ...] = field(default=(), repr=False)
    _signature: Signature | None = field(default=None, repr=False)

    def chunks(self, size: int = CHUNK) -> Iterator[list[CatalogueRow]]:
        """Give the objects, those of at most `size` rows at a time, from the first row on.

        Memory is that of one chunk, whatever the size of the file, but for VOTables, which are held whole.

        Raises
        ------
        FileError
            Where rows cannot be read, or identifiers are floats that may have been rounded; `IncompleteFile` at the
            end where the file has changed since its sha256 was taken: what was given may be of neither edition.
        """
        self.left_out = self.unplaced = self.misplaced = self.undated = 0
        self.dropped = {}
        for part, plan in self._reads:
            for block in part.blocks(list(dict.fromkeys(each.column for each in plan.taken)), size):
                try:
                    with uncollected():
                        found = _objects(plan, block, self)
                except ValueError as error:
                    raise formats.refused(self.path, str(error)) from None
                self.left_out += _length(block) - len(found)
                self.unplaced += sum(1 for each in found if each.star is None)
                yield found
        if _signature(self.path) != self._signature:
            raise IncompleteFile(
                f"cannot read {formats.printable(self.path)} as a catalogue: it changed while it was read"
            )

    def _drop(self, why: str, count: int) -> None:
        if count:
            self.dropped[why] = self.dropped.get(why, 0) + count


def read(path: str | os.PathLike[str], gaia: str | None = None, epoch: float | None = None) -> Table:
    """Return the catalogue in a file, of which only names, sizes and the checksum have been read.

    Parameters
    ----------
    path
        FITS, Parquet, VOTable, ECSV or CSV, as its first bytes say; all but Parquet may be packed by gzip. Of a file
        with several tables, all are read that have columns of identifiers.
    gaia
        Of which release the numbers in a column such as ``source_id`` are, where the table does not say: "dr2" or
        "dr3"; "none" to leave the column aside.
    epoch
        The epoch of the positions, in Julian years, whatever the table says.

    Raises
    ------
    FileError
        With one sentence, where the file is no catalogue that can be read.
    """
    path = os.fspath(path)
    signature = _signature(path)
    kind, parts = formats.parts(path)
    reads = _planned(path, parts, gaia, epoch)
    rows = sum(each.part.rows for each in reads)
    if not rows:
        raise formats.refused(path, "its table has no rows")
    return Table(
        path,
        kind,
        _sha256(path),
        rows,
        tuple(dict.fromkeys(each.plan.kind for each in reads if each.plan.kind)),
        tuple(dict.fromkeys(taken for each in reads for taken in each.plan.taken)),
        gaia,
        epoch,
        _reads=reads,
        _signature=signature,
    )


def _planned(path: str, parts: Sequence[Part], gaia: str | None, epoch: float | None) -> tuple[_Read, ...]:
    """Return the tables of a file that have identifiers, and what to read of them; raise `FileError` if none has."""
    reads, refusals = [], []
    for part in parts:
        try:
            reads.append(_Read(part, columns.plan(_usable(part), _peek(part), gaia, epoch)))
        except columns.Unknown as error:
            refusals.append(str(error))
        except ValueError as error:
            raise formats.refused(path, str(error)) from None
    if not reads:
        raise formats.refused(path, refusals[0])
    return tuple(reads)


def _signature(path: str) -> Signature:
    """Return which version of a file this is; a pipe has none, and to open it would wait for who writes to it."""
    try:
        status = os.stat(path)
    except OSError as error:
        why = error.strerror or str(error)
    else:
        if stat.S_ISREG(status.st_mode):
            return Signature.of(status)
        if stat.S_ISFIFO(status.st_mode):
            why = "it is a pipe, which can be read but once: save it to a file"
        else:
            why = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file"
    raise UnreadableFile(f"cannot read {formats.printable(path)} as a catalogue: {why}")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _usable(part: Part) -> list[str]:
    """Return the columns that can be what their names say: a number in a column of names is some other table's."""
    texts = {name for meaning, names in columns.IDENTIFIERS.items() if meaning not in columns.NUMBERS for name in names}
    held = [each.name for each in part.columns]
    return [
        name
        for name, is_text in part.columns
        if is_text or name.strip().lower() not in texts or held.count(name) > 1  # which one is meant, nobody knows
    ]


def _peek(part: Part) -> columns.Peek:
    def peek(column: str) -> Sequence[str]:
        first: Mapping[str, cells.Cells] = next(iter(part.blocks([column], CHUNK)), {})
        return cells.shown(first[column]) if first else []

    return peek


def _length(block: Block) -> int:
    return len(next(iter(block.values())).values)


def _objects(plan: Plan, block: Block, table: Table) -> list[CatalogueRow]:
    """Return the objects of some rows, and count at `table` what is lost; raise `ValueError` for a wrong column."""
    named_by = []
    for taken in plan.identifiers:
        numbers = taken.meaning in columns.NUMBERS
        named_by += [_numbered(plan, taken, block, table)] if numbers else _names(taken, block, table)
    stars = _stars(plan, block, table)
    distinct = len({taken.meaning for taken in plan.identifiers} & _ALONE) == len(named_by)
    if distinct and all(map(all, named_by)):
        return list(map(_new, repeat(CatalogueRow), zip(zip(*named_by, strict=True), stars, strict=True)))
    found = []
    for names, star in zip(zip(*named_by, strict=True), stars, strict=True):
        if None in names:
            names = tuple(name for name in names if name is not None)
            if not names:
                continue
        if not distinct:
            names = tuple(dict.fromkeys(names))
        found.append(CatalogueRow(names, star))
    return found


# Meanings that never give what another column of the same table has given.
_ALONE: Final = frozenset({"sdss_id", "catalogid31", "catalogid25", "catalogid21", "gaia_dr3", "gaia_dr2"})


def _names(taken: Taken, block: Block, table: Table) -> list[_Names]:
    """Return the names of a column of texts, row by row; a 2MASS name that stands in an APOGEE name is another list."""
    texts = cells.texts(block[taken.column])
    if taken.meaning == "tmass":
        return [_counted(texts, [_named("tmass", designation(text) or text) for text in texts], NO_TMASS, table)]
    if taken.meaning == "designation":
        return [_counted(texts, [_designated(text) for text in texts], NO_DESIGNATION, table)]
    apogee = texts if taken.meaning == "apogee" else [text if designation(text) else "" for text in texts]
    return [
        _counted(apogee, [_named("apogee", text) for text in apogee], NO_APOGEE, table),
        [_named("tmass", designation(text) or "") if text.startswith("2M") else None for text in apogee],
    ]


def _counted(texts: Sequence[str], names: _Names, why: str, table: Table) -> _Names:
    """Return the names, and count at `table` the texts that mean to be one and are none."""
    if not all(names):
        lost = sum(1 for text, name in zip(texts, names, strict=True) if name is None and cells.meant(text))
        table._drop(why, lost)
    return names


def _numbered(plan: Plan, taken: Taken, block: Block, table: Table) -> _Names:
    """Return the names of a column of numbers, row by row."""
    column, meaning = taken
    numbers, lost = cells.whole(column, block[column])
    table._drop(NO_NUMBER, lost)
    kinds: list[str | None] = []
    if meaning == "gaia" and plan.gaia_release:
        released = cells.texts(block[plan.gaia_release])
        kinds = [GAIA_RELEASES.get(each.lower().removeprefix("gaia").strip(" _")) for each in released]
    elif meaning == "catalogid":
        kinds = [catalogid_kind(number) for number in numbers]
    if kinds and not all(kinds):
        why = NO_RELEASE if meaning == "gaia" else NO_CROSS_MATCH
        table._drop(why, sum(1 for number, kind in zip(numbers, kinds, strict=True) if number and not kind))
    kinds = kinds or [meaning] * len(numbers)
    ranks: Sequence[int | None] | repeat[None] = repeat(None)
    if plan.rank and meaning.startswith("catalogid"):
        found_ranks = cells.whole(plan.rank, block[plan.rank]).numbers
        ranks = [rank if rank and rank < _LARGEST_RANK else None for rank in found_ranks]
    found: _Names = list(map(_new, repeat(CatalogueName), zip(kinds, map(str, numbers), ranks, strict=False)))
    if not (all(numbers) and all(kinds)):
        pairs = zip(found, numbers, kinds, strict=True)
        found = [each if number and kind else None for each, number, kind in pairs]
    return found


# Names, stars and rows are most of the work, and this makes them in a third of the time that their own classes take.
_new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__


def _named(kind: str, text: str) -> CatalogueName | None:
    return CatalogueName(kind, text) if text and valid(kind, text) else None


def _designated(text: str) -> CatalogueName | None:
    """Return what a designation names: "Gaia DR3 123", "00005143+5615568", or nothing we know, as of AllWISE."""
    if text[:5].lower() == "gaia ":
        release, _, number = text[5:].strip().partition(" ")
        kind = GAIA_RELEASES.get(release.lower())
        return _named(kind, number.strip()) if kind else None
    return _named("tmass", designation(text) or text)


def _stars(plan: Plan, block: Block, table: Table) -> Sequence[Star | None] | repeat[None]:
    import numpy as np

    if plan.ra is None or plan.dec is None:
        return repeat(None, _length(block))
    ra, dec = cells.numbers(block[plan.ra]), cells.numbers(block[plan.dec])
    good = (ra >= 0.0) & (ra <= 360.0) & (dec >= -90.0) & (dec <= 90.0)  # never true of NaN
    pmra: Sequence[float | None] = [None] * len(ra)
    pmdec = pmra
    if plan.pmra is not None and plan.pmdec is not None:
        east, north = cells.numbers(block[plan.pmra]), cells.numbers(block[plan.pmdec])
        unknown = np.isnan(east) | np.isnan(north)
        east[unknown] = north[unknown] = np.nan
        pmra, pmdec = cells.listed(east), cells.listed(north)
    epochs = _epochs(plan, block, table)
    places = zip(ra.tolist(), dec.tolist(), epochs, pmra, pmdec, strict=True)
    stars: list[Star | None] = list(map(_new, repeat(Star), places))
    if not good.all():
        given = cells.standing(block[plan.ra], ra) & cells.standing(block[plan.dec], dec)
        table.misplaced += int(np.count_nonzero(given & ~good))
        for index in np.flatnonzero(~good).tolist():
            stars[index] = None
    return stars


def _epochs(plan: Plan, block: Block, table: Table) -> Sequence[float | None]:
    """Return the epochs of some rows, None where there is none, or one that is no year of our reckoning."""
    import numpy as np

    column = plan.epochs or plan.julian_date
    if column is None:
        return [plan.epoch] * _length(block)
    found = cells.numbers(block[column])
    years = found if plan.epochs else 2000.0 + (found - 2_451_545.0) / 365.25
    good = (years >= columns.FIRST_EPOCH) & (years <= columns.LAST_EPOCH)  # never true of NaN
    if not good.all():
        given = cells.standing(block[column], found) & (found != 0) & (found != -1)
        table.undated += int(np.count_nonzero(given & ~good))
        years[~good] = np.nan
    return cells.listed(years)
