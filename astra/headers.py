"""Open a FITS file once: prove it whole, and read the wanted cards straight from the bytes.

astropy answers neither question for us. It opens a file cut at the end of any HDU without a word, and it needs half a
millisecond for a header whose bytes are here in a fiftieth of that. A whole file is one whose headers, walked from HDU
to HDU, add up to exactly its size; how many HDUs there must be, the product type knows, so `Header` counts them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Self, TypeAlias

from astra import cards
from astra.cards import Value
from astra.errors import BadHeader, IncompleteFile, NotFits, UnreadableFile
from astra.signature import Signature

AnyPath: TypeAlias = str | os.PathLike[str]

BLOCK = 2880
FIRST_READ = 10 * BLOCK  # the longest of the known apStar headers, of 15 visits, in one system call
HEADER_LIMIT = 364 * BLOCK  # about 1 MB: some 700 visits; more than that is not a header

MOST_AXES = 999  # of the standard

_BEGIN = b"SIMPLE  ="
_EXTENSION = b"XTENSION="
_FIRST_CARDS = struct.Struct("80x" + "10s21s49x" * 8)  # one column more than a number fills: no number is cut short
_AXES = tuple(f"NAXIS{n}".ljust(8).encode() + b"= " for n in range(1, MOST_AXES + 1))
_NOTHING = frozenset({"", "nan", "none", "null"})
_INT64 = 1 << 63
_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Header:
    """The wanted cards of a whole file, and what proves which file it was.

    `cards` holds the values as FITS defines them; a card that is there without a legal value (undefined, or a bare
    NAN as some released files have) is None, and `raw` shows what stands in the file. A card that is not there is
    not in `cards`. `sha256` is of the primary header's blocks.
    """

    path: str
    signature: Signature
    sha256: str
    cards: Mapping[str, Value]
    hdus: int
    images: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def raw(self, key: str) -> str | None:
        """Return the card's value and comment as they stand in the file, or None where there is no such card."""
        image = self.images.get(key)
        return None if image is None else image[8:].decode("ascii", "backslashreplace").removeprefix("=").strip()

    def text(self, key: str) -> str | None:
        """Return the value as text without blanks around it; None for absent, undefined, empty and 'nan'."""
        value = self.cards.get(key)
        if value is None:
            return None
        text = str(value).strip()
        return None if text.lower() in _NOTHING else text

    def integer(self, key: str) -> int | None:
        """Return the value as a 64-bit integer, never by way of a float; None where it is not one, or a sentinel."""
        value = self.cards.get(key)
        if isinstance(value, str):
            value = cards.whole_number(value)
        elif isinstance(value, float):
            value = int(value) if value.is_integer() and abs(value) < 1 << 53 else None
        if value is None or isinstance(value, bool) or not -_INT64 <= value < _INT64:
            return None
        return None if value in (-9999, -999) else value

    def number(self, key: str) -> float | None:
        """Return the value as a float; None where it is not a finite one, or one of the pipeline's sentinels."""
        value = self.cards.get(key)
        if isinstance(value, str):
            value = cards.real_number(value)
        if value is None or isinstance(value, bool) or not abs(value) <= _LARGEST:  # nan is not <= either
            return None
        return None if is_sentinel(float(value)) else float(value)


def is_sentinel(number: float) -> bool:
    """Return whether the reduction pipeline writes `number`, under any keyword, for "not known"."""
    size = abs(number)
    return 9998.99 < size < 9999.995 or size == 999999.0 or number in (-99.0, -999.0)


def read(path: AnyPath, wanted: Collection[str]) -> Header:
    """Return the `wanted` cards of the primary header of a whole, unchanging file.

    Raises
    ------
    IncompleteFile
        Bytes are missing, there are more than the headers promise, or the file changed meanwhile: look again later.
    NotFits, UnreadableFile, BadHeader
        Waiting will not help.
    """
    with _Opened(path) as opened:
        header = _primary(opened)
        hdus = _walk(opened, header)
        values, images = cards.values(header, frozenset(wanted))
        opened.check_unchanged()
        return Header(opened.path, opened.signature, hashlib.sha256(header).hexdigest(), values, hdus, images)


def read_values(path: AnyPath, wanted: Collection[str]) -> dict[str, Value]:
    """Return only the `wanted` cards' values, with no proof that the file is whole: the first stage of `read`."""
    with _Opened(path) as opened:
        return cards.values(_primary(opened), frozenset(wanted))[0]


def count_hdus(path: AnyPath) -> int:
    """Return the number of HDUs of a whole file, with no value read: the second stage of `read`."""
    with _Opened(path) as opened:
        return _walk(opened, _primary(opened))


def digest(path: AnyPath) -> str:
    """Return the sha256 of the primary header's blocks, as `Header.sha256` has it."""
    with _Opened(path) as opened:
        return hashlib.sha256(_primary(opened)).hexdigest()


def whole_digest(path: AnyPath, signature: Signature) -> str:
    """Return the sha256 of all bytes of a file that is, before and after, the version with this signature.

    Raises
    ------
    IncompleteFile
        If it is another version, or becomes one meanwhile.
    UnreadableFile
        If it cannot be read.
    """
    with _Opened(path) as opened:
        if opened.signature != signature:
            raise opened.incomplete("it has changed since it was looked at")
        with open(opened.descriptor, "rb", closefd=False) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        opened.check_unchanged()
        return sha256


class _Opened:
    """A regular file opened for reading; whatever the system refuses becomes `UnreadableFile`."""

    __slots__ = ("_status", "descriptor", "path", "signature")

    def __init__(self, path: AnyPath) -> None:
        self.path = os.fspath(path)

    def __enter__(self) -> Self:
        try:
            # Without O_NONBLOCK a named pipe under this name would hold us until somebody writes to it.
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _refusal(self.path, error) from error
        try:
            status = os.fstat(self.descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise UnreadableFile(f"cannot read {named(self.path)}: it is {kind}")
        except BaseException:
            os.close(self.descriptor)
            raise
        self.signature, self._status = Signature.of(status), status
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self.descriptor)
        if isinstance(error, OSError):
            raise _refusal(self.path, error) from error

    def check_unchanged(self) -> None:
        """Raise `IncompleteFile` unless the path still shows what was opened: the same file, and unchanged.

        While it is open no other file can have its inode, so what the path shows then is what the descriptor shows.
        """
        if _telling(os.stat(self.path)) != _telling(self._status):
            raise self.incomplete("it changed while it was read")

    def incomplete(self, why: str) -> IncompleteFile:
        return IncompleteFile(f"cannot take in {named(self.path)}: {why}")


def _telling(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells whether a file has changed, as the system has it."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def named(path: str) -> str:
    """Return the base name of `path` in a form that can always be printed."""
    return os.path.basename(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _refusal(path: str, error: Exception) -> UnreadableFile:
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE):
        return UnreadableFile(f"cannot read {named(path)}: it is gone")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UnreadableFile(f"cannot read {named(path)}: {why}")


def _primary(opened: _Opened) -> bytes:
    """Return the blocks of the primary header, up to END and its padding."""
    size = opened.signature.size
    if size == 0:
        raise opened.incomplete("it is empty")
    content = os.pread(opened.descriptor, FIRST_READ, 0)
    begin = content[: len(_BEGIN)]
    if begin != _BEGIN:
        if not content[:BLOCK].strip(b"\0"):
            raise opened.incomplete("its first bytes are zeros, room that its writer has not filled yet")
        if not _BEGIN.startswith(begin):
            raise NotFits(f"{named(opened.path)} is not a FITS file: it begins {begin!r}; set aside until it changes")
    return _to_end(opened, content, 0, 0)


def _to_end(opened: _Opened, content: bytes, start: int, hdu: int) -> bytes:
    """Return one header, whose first bytes are `content`, reading on until the block that ends with END."""
    length = BLOCK
    while True:
        if length > len(content):
            content += _more(opened, start + len(content), length > HEADER_LIMIT, hdu)
            continue
        # The last block of a header holds nothing but blanks after END, so its end tells, without a search.
        block = content[length - BLOCK : length].rstrip()
        if block.endswith(b"END") and len(block) % 80 == 3:
            break
        if b"\0" in block:
            raise opened.incomplete(f"there are zeros inside the header of HDU {hdu}, not written yet")
        length += BLOCK
    header = content[:length]
    if b"\0" in header:
        raise opened.incomplete(f"there are zeros inside the header of HDU {hdu}, not written yet")
    return header


def _more(opened: _Opened, position: int, beyond: bool, hdu: int) -> bytes:
    """Return the next bytes of a header whose END has not come yet."""
    if position >= opened.signature.size:
        raise opened.incomplete(f"it ends inside the header of HDU {hdu}, at {opened.signature.size:,} bytes")
    if beyond:
        text = f"the header of HDU {hdu} of {named(opened.path)} has no END within {HEADER_LIMIT:,} bytes"
        raise BadHeader(f"{text}; set aside until the file changes")
    more = os.pread(opened.descriptor, FIRST_READ, position)
    if not more:
        raise opened.incomplete("it was cut while it was read")
    return more


def _walk(opened: _Opened, header: bytes) -> int:
    """Return the number of HDUs, or raise unless their lengths add up to the size of the file exactly."""
    size, hdus = opened.signature.size, 1
    position = len(header) + _data_length(opened, header, 0)
    alike = _layouts.get((size, position), ())
    for at, each in alike:
        if os.pread(opened.descriptor, len(each), at) != each:
            break
    else:
        if alike:
            return len(alike) + 1
    layout: list[tuple[int, bytes]] = []
    start = position
    while position < size:
        block = os.pread(opened.descriptor, BLOCK, position)
        length = _short_hdu(block)
        if length is None:
            if not block.startswith(_EXTENSION):
                raise opened.incomplete(_no_extension(block, hdus, size - position))
            block = _to_end(opened, block, position, hdus)
            length = len(block) + _data_length(opened, block, hdus)
        layout.append((position, block))
        position += length
        hdus += 1
    if position > size:
        raise opened.incomplete(f"{size:,} bytes present, its headers promise {position:,}")
    _remember(size, start, layout)
    return hdus


# By size and the end of the first HDU: where the others of a whole file began, with their headers. Files of one product
# type mostly differ in data alone, so one that shows the same headers in the same places is whole too.
_layouts: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
_LAYOUTS_KEPT = 256


def _remember(size: int, start: int, layout: list[tuple[int, bytes]]) -> None:
    if sum(len(header) for _, header in layout) <= FIRST_READ * 2:
        if len(_layouts) >= _LAYOUTS_KEPT:
            _layouts.clear()
        _layouts[size, start] = layout


@lru_cache(maxsize=1024)
def _short_hdu(block: bytes) -> int | None:
    """Return the length of an extension whose header is this one whole block; None where that is not so plain.

    Most extensions of one product type begin with the same block, byte for byte, so the answer is mostly known.
    """
    cards = block.rstrip()
    plain = block.startswith(_EXTENSION) and cards.endswith(b"END") and len(cards) % 80 == 3 and b"\0" not in block
    promised = _promised(block[: _FIRST_CARDS.size]) if plain and len(block) == BLOCK else None
    return None if promised is None else BLOCK + promised


def _no_extension(content: bytes, hdus: int, rest: int) -> str:
    if not content.strip(b"\0"):
        return f"there are {rest:,} bytes of zeros, or more, where HDU {hdus} should begin, not written yet"
    if _EXTENSION.startswith(content):
        return f"it ends inside the header of HDU {hdus}"
    # A writer may still be appending, so this is no verdict yet; if it stays so, patience ends it.
    return f"there are {rest:,} extra bytes after {hdus} HDUs that are no HDU"


def _data_length(opened: _Opened, header: bytes, hdu: int) -> int:
    """Return the bytes that follow `header`: its data, filled up to whole blocks."""
    try:
        promised = _promised(header[: _FIRST_CARDS.size])
        return _length(*_shape_anywhere(header)) if promised is None else promised
    except (KeyError, ValueError):
        text = f"the header of HDU {hdu} of {named(opened.path)} does not say how long its data are"
        raise BadHeader(f"{text}; set aside until the file changes") from None


@lru_cache(maxsize=4096)
def _promised(start: bytes) -> int | None:
    """Return what the first cards promise, or None where they do not keep the standard's order and columns.

    The files of one product type share most of their headers' beginnings, so most answers are already known.
    """
    fields = _FIRST_CARDS.unpack(start)
    cards = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        number = int(cards[b"NAXIS   = "])
        if number < 0:
            return None
        shape = [int(cards[key]) for key in _AXES[:number]]
        extension = start.startswith(_EXTENSION)
        counts = (int(cards[b"PCOUNT  = "]), int(cards[b"GCOUNT  = "])) if extension else (0, 1)
        return _length(int(cards[b"BITPIX  = "]), shape, *counts)
    except (KeyError, ValueError):
        return None


def _shape_anywhere(header: bytes) -> tuple[int, list[int], int, int]:
    """Return BITPIX, the axes, PCOUNT and GCOUNT wherever in the header they stand."""
    values = cards.values(header, frozenset({"BITPIX", "NAXIS", "PCOUNT", "GCOUNT"}))[0]
    number = _whole(values["NAXIS"])
    if not 0 <= number <= MOST_AXES:
        raise ValueError("no such number of axes")
    names = [f"NAXIS{n}" for n in range(1, number + 1)]
    axes = cards.values(header, frozenset(names))[0]
    counts = (0, 1)
    if header.startswith(_EXTENSION):
        counts = _whole(values.get("PCOUNT", 0)), _whole(values.get("GCOUNT", 1))
    return _whole(values["BITPIX"]), [_whole(axes[name]) for name in names], *counts


def _length(bits: int, shape: list[int], pcount: int, gcount: int) -> int:
    if abs(bits) not in (8, 16, 32, 64) or min(pcount, gcount, *shape) < 0:
        raise ValueError("no such array")
    if not shape:
        return 0
    cells = 1
    for length in shape:
        cells *= length
    length = -(-(abs(bits) // 8 * gcount * (pcount + cells)) // BLOCK) * BLOCK
    if length >= _INT64:
        raise ValueError("longer than any file")
    return length


def _whole(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= abs(value) < _INT64:
        raise ValueError("no whole number")
    return value
