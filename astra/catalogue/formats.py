"""Files of tables, told by their first bytes: FITS, Parquet, VOTable, ECSV and CSV, read some thousand rows at a time.

Whatever a library says of a broken file comes out as one sentence. Of all of them only VOTables are held in memory
whole.
"""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from astra.catalogue.cells import Cells
from astra.catalogue.columns import PAGE, brief
from astra.errors import FileError, UnreadableFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Block: TypeAlias = Mapping[str, Cells]

_HEAD = 4096
_GZIP = b"\x1f\x8b"
_SUFFIXES = {
    ".fits": "FITS", ".fit": "FITS", ".fts": "FITS", ".parquet": "Parquet", ".ecsv": "ECSV",
    ".vot": "VOTable", ".votable": "VOTable", ".xml": "VOTable",
}  # fmt: skip
_DELIMITER = re.compile(r"# delimiter: (?:'(.)'|\"(.|\\t)\"|(\S))\s*\Z")
# What the libraries raise on bytes that are not as they should be, beside errors of their own.
_BROKEN: Final[tuple[type[Exception], ...]] = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError, OSError, SyntaxError,
    TypeError, ValueError, csv.Error, zlib.error,
)  # fmt: skip


class Column(NamedTuple):
    """A column of one value in each row: its name as the table spells it, and whether it holds texts."""

    name: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a file.

    `columns` are in the table's order, and a name may stand twice. `blocks` gives the cells of the columns asked for,
    so many rows at a time: of a name that stands twice, those of the first.
    """

    columns: Sequence[Column]
    rows: int
    blocks: Callable[[Sequence[str], int], Iterator[Block]]


def parts(path: str) -> tuple[str, tuple[Part, ...]]:
    """Return the format of a file and its tables, of which nothing but names and sizes has been read.

    Raises
    ------
    FileError
        Where the file is empty, broken, of no known format, or needs a library that is not installed.
    """
    kind, packed = _format(path)
    if kind == "FITS":
        return kind, _fits(path, packed)
    if packed and kind == "Parquet":
        raise refused(path, "Parquet is packed inside already; unpack it with gunzip")
    if kind in ("CSV", "ECSV"):
        return kind, (_csv(path, packed),)
    return kind, _parquet(path) if kind == "Parquet" else _votable(path)


def refused(path: str, why: str) -> FileError:
    """Return the error for a file that is no catalogue astra can read."""
    return FileError(f"cannot read {printable(path)} as a catalogue: {why}")


def printable(path: str) -> str:
    """Return the whole path as it was given, in a form that can always be printed, in one line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in path)


@contextmanager
def _reading(path: str, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what a library makes of a broken file into one sentence."""
    broken = _BROKEN + errors
    try:
        yield
    except broken as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise refused(path, f"it is a broken {what} ({why})") from None


def _format(path: str) -> tuple[str, bool]:
    """Return the format that the first bytes show, and whether the file is packed by gzip."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UnreadableFile(f"cannot read {printable(path)} as a catalogue: {error.strerror or error}") from None
    packed = head.startswith(_GZIP)
    if packed:
        with _reading(path, "gzip file"), gzip.open(path) as unpacked:
            head = unpacked.read(_HEAD)
    if not head:
        raise refused(path, "it is empty")
    bare = Path(path.lower())
    suffix = bare.with_suffix("").suffix if packed and bare.suffix == ".gz" else bare.suffix
    found, said = _shown_by(path, head), _SUFFIXES.get(suffix)
    if found == "CSV" and said is not None:
        raise refused(path, f"its name says {said}, and its first bytes are not of that format")
    return found, packed


def _shown_by(path: str, head: bytes) -> str:
    if head.startswith(b"SIMPLE  ="):
        return "FITS"
    if head.startswith(b"PAR1"):
        return "Parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        if b"<VOTABLE" in text or b":VOTABLE" in text:
            return "VOTable"
        raise refused(path, "it is XML or HTML, and no VOTable")
    if text.startswith(b"# %ECSV"):
        return "ECSV"
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        raise refused(path, "it is none of FITS, Parquet, VOTable, ECSV and CSV")
    return "CSV"


# -------------------------------------------------------------------------------------------------------------- FITS


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' warnings to themselves: each is an error here, or of no matter to a catalogue."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _fits(path: str, packed: bool) -> tuple[Part, ...]:
    """Return the tables of a FITS file, of which astropy reads the headers alone.

    Of a file that is cut it only warns, or gives fewer tables: so the bytes are counted, also those of a packed file.
    """
    from astropy.io import fits

    found, end = [], 0
    broken = fits.verify.VerifyError
    # opened here: where its header is broken astropy leaves the file open
    with _reading(path, "FITS file", broken), _quiet(), _bytes(path, packed) as file, fits.open(file) as hdus:
        size = _unpacked_size(path) if packed else Path(path).stat().st_size
        for hdu in hdus:
            place = hdu.fileinfo()
            end = place["datLoc"] + place["datSpan"]
            if place["datLoc"] + hdu.size > size:  # the padding behind it may be missing
                raise ValueError(f"{size} bytes are present, its headers promise {end}")
            if hdu.header.get("XTENSION", "").strip() in ("BINTABLE", "TABLE"):
                found.append(_fits_part(path, packed, hdu))
        if size > end:
            raise ValueError(f"{size - end} bytes after its last whole part are none")
    if not found:
        raise refused(path, "it holds no table")
    return tuple(found)


def _bytes(path: str, packed: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if packed else open(path, "rb")


def _unpacked_size(path: str) -> int:
    """Return the size of what is packed, all of which is unpacked for it, and found whole."""
    with gzip.open(path) as file:
        return sum(map(len, iter(partial(file.read, 1 << 20), b"")))


def _fits_part(path: str, packed: bool, hdu: Any) -> Part:
    ascii_table = hdu.header["XTENSION"].strip() == "TABLE"
    names = list(hdu.columns.names)
    for place, column in enumerate(hdu.columns.columns):
        column.name = f"{place}"  # numpy knows rows of different names only, and a table may have one twice
    kinds, start = hdu.columns.dtype.newbyteorder(">"), hdu.fileinfo()["datLoc"]
    rows, width, plain = int(hdu.header["NAXIS2"]), int(hdu.header["NAXIS1"]), []
    columns: dict[str, Any] = {}
    if width < kinds.itemsize:
        raise ValueError(f"its rows have {width} bytes, their columns {kinds.itemsize}")
    for name, column in zip(names, hdu.columns.columns, strict=True):
        kind = kinds.fields[column.name][0]
        usable = kind.shape == () and kind.kind in "iufS" and kind.itemsize > 0 and not column.dim
        if usable and (ascii_table or column.format != "L"):
            columns.setdefault(name, column)
            plain.append(Column(name, kind.kind == "S"))

    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        # Read, not mapped: of a table stored row by row all pages would be looked at, and counted as ours.
        with _reading(path, "FITS file"), _bytes(path, packed) as file:
            file.seek(start)
            for first in range(0, rows, size):
                held = file.read(min(size, rows - first) * width)
                if len(held) < min(size, rows - first) * width:
                    raise EOFError(f"it ends within its {rows} rows")
                some = _rows(held, kinds, width)
                yield {name: _fits_cells(columns[name], some[columns[name].name]) for name in names}

    return Part(plain, rows, blocks)


def _rows(held: bytes, kinds: Any, width: int) -> NDArray[Any]:
    """Return rows as they stand; those of an ASCII table may have blanks behind their last column."""
    import numpy as np

    formats, offsets = zip(*(kinds.fields[name][:2] for name in kinds.names), strict=True)
    parts: Any = {"names": kinds.names, "formats": formats, "offsets": offsets, "itemsize": width}
    return np.frombuffer(held, np.dtype(parts))


def _fits_cells(column: Any, raw: NDArray[Any]) -> Cells:
    """Return some rows as FITS means them. astropy would convert, and keep, the column of all rows at once."""
    import numpy as np

    if raw.dtype.kind == "S":  # in an ASCII table so are numbers, with D for the exponent of some
        null = None if column.null in (None, "") else str(column.null).strip().encode()
        return Cells(np.array(raw), None if null is None else np.char.strip(raw) != null)
    values = raw.astype(raw.dtype.newbyteorder("="))
    known = values != int(column.null) if values.dtype.kind in "iu" and column.null not in (None, "") else None
    scale, zero = column.bscale or 1, column.bzero or 0
    if scale == 1 and zero == 1 << 63 and values.dtype == np.int64:
        values = values.view(np.uint64) ^ np.uint64(1 << 63)  # the way of FITS to write unsigned numbers
    elif scale == 1 and zero == int(zero) and values.dtype.kind in "iu" and values.dtype.itemsize < 8:
        values = values.astype(np.int64) + int(zero)
    elif scale != 1 or zero != 0:
        values = values * float(scale) + float(zero)
    return Cells(values, known)


# --------------------------------------------------------------------------------------------------- VOTable, Parquet


def _votable(path: str) -> tuple[Part, ...]:
    from astropy.io.votable import parse

    with _reading(path, "VOTable"), _quiet():
        tables = [each for each in parse(path, verify="ignore").iter_tables() if each.array is not None]
        found = tuple(_votable_part(each) for each in tables)
    if not found:
        raise refused(path, "it holds no table")
    return found


def _votable_part(table: Any) -> Part:
    plain, array = [], table.array
    ids: dict[str, str] = {}
    for field in table.fields:
        kind = array.dtype[field.ID]
        if kind.shape == () and kind.kind in "iufSUO" and (kind.kind != "O" or field.datatype in _CHARACTERS):
            plain.append(Column(field.name, kind.kind in "SUO"))
            ids.setdefault(field.name, field.ID)

    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        for first in range(0, len(array), size):
            some = array[first : first + size]
            yield {name: Cells(some[ids[name]].data, ~_mask(some[ids[name]])) for name in names}

    return Part(plain, len(array), blocks)


_CHARACTERS = ("char", "unicodeChar")


def _mask(values: Any) -> NDArray[np.bool_]:
    import numpy as np

    mask: NDArray[np.bool_] = np.ma.getmaskarray(values)
    return mask


def _parquet(path: str) -> tuple[Part, ...]:
    """Return the one table of a Parquet file. astropy would read numbers with gaps as floats: not the same numbers."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise refused(path, 'Parquet needs pyarrow; install it with pip install "sdss-astra[parquet]"') from None
    with _reading(path, "Parquet file"), pq.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        plain = [Column(each.name, _holds_text(each.type)) for each in file.schema_arrow if _is_plain(each.type)]

    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        with _reading(path, "Parquet file"), pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=size, columns=list(names)):
                yield {name: _arrow_cells(batch.column(_place(batch.schema, name)), pa) for name in names}

    return (Part(plain, rows, blocks),)


def _place(schema: Any, name: str) -> int:
    places: list[int] = schema.get_all_field_indices(name)
    return next(place for place in places if _is_plain(schema.field(place).type))


def _holds_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return any(asked(kind) for asked in (types.is_string, types.is_large_string, types.is_string_view))


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    return _holds_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _arrow_cells(column: Any, arrow: Any) -> Cells:
    if not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        return Cells(["" if value is None else str(value) for value in column.to_pylist()])
    known = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
    return Cells(column.fill_null(0).to_numpy(zero_copy_only=False), known)


# ---------------------------------------------------------------------------------------------------------- CSV, ECSV


@contextmanager
def _opened_csv(path: str, packed: bool) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """Give the names of the columns, and the rows as texts: ECSV is this with a header of comments, and blanks."""
    with _reading(path, "text table"), _text(path, packed) as file:
        delimiter, line = ",", file.readline()
        while line.startswith("#"):
            if match := _DELIMITER.match(line):
                delimiter = (match[1] or match[2] or match[3]).replace("\\t", "\t")
            elif line.startswith("# %ECSV"):
                delimiter = " "
            line = file.readline()
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        if delimiter == "," and (found := _other_separator(line)):
            raise refused(path, found)
        names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        yield names, _even(reader, len(names))


def _other_separator(line: str) -> str | None:
    """Return what is wrong with names of columns that something else than commas separates."""
    line = line.strip()
    found = None if "," in line else next((kind for mark, kind in _SEPARATORS.items() if mark in line), None)
    if found is None:
        return None
    return f"its columns seem to be separated by {found} ({brief(line)}), and the separator must be a comma: see {PAGE}"


_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}


def _text(path: str, packed: bool) -> IO[str]:
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _even(reader: Any, width: int) -> Iterator[list[str]]:
    """Give all rows but empty lines; one of another length than the header has lost or gained a cell somewhere."""
    for number, row in enumerate(reader, 1):
        if len(row) == width:
            yield row
        elif row:
            raise ValueError(f"its row {number} has {len(row)} cells, and there are {width} columns")


def _csv(path: str, packed: bool) -> Part:
    """Return the table of a text file; its rows are counted, which also finds a broken one before anything is kept."""
    with _opened_csv(path, packed) as (names, found):
        rows = sum(1 for _ in found)

    def blocks(wanted: Sequence[str], size: int) -> Iterator[Block]:
        with _opened_csv(path, packed) as (_, lines):
            places = [names.index(name) for name in wanted]
            pick = itemgetter(*places, places[0])  # one more: of a single place it would give no tuple
            while some := list(islice(lines, size)):
                columns = zip(*map(pick, some), strict=True)
                yield {name: Cells(list(column)) for name, column in zip(wanted, columns, strict=False)}

    return Part([Column(name, True) for name in names], rows, blocks)
