"""FITS from plain text and arrays: cards, headers, images and tables as the two pipelines' writers lay them out.

Bytes are made here, without astropy, because a night is thousands of small writes, each a few microseconds of text.
A template has one card a line: ``KEY|value|comment``, the value literal text or ``{fact:style}``. A line without "|" is
a whole card already (COMMENT, HISTORY, CONTINUE). The comment keeps its own leading blank: real files have both habits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

BLOCK = 2880
ORIGIN = "astra simulate"
# These two take the places of two HISTORY lines of real files, host and IDL version, which would not be true: so
# headers keep their number of blocks, and files their size.
SYNTHETIC = (
    f"ORIGIN|'{ORIGIN}'| SYNTHETIC: no telescope saw this",
    "COMMENT SYNTHETIC: this file was made by 'astra simulate'; not for science",
)
_TFORM = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
_IDL, _ASTROPY = "idl", "astropy"
_IMAGE_COMMENTS = {
    _IDL: (
        " IMAGE extension",
        " Number of bits per data pixel",
        " Number of data axes",
        "",
        " No Group Parameters",
        " One Data Group",
    ),
    _ASTROPY: (
        " Image extension",
        " array data type",
        " number of array dimensions",
        "",
        " number of parameters",
        " number of groups",
    ),
}


def number(value: float, style: str) -> str:
    """Write a number: ``i`` integer, ``e`` and ``d`` IDL's single and double precision, ``p`` as astropy writes it."""
    if style == "i":
        return str(int(value))
    if style in "ed":
        return f"{value:#.{6 if style == 'e' else 12}G}"
    if not math.isfinite(value):
        return "'NaN'"
    for digits in range(16, 9, -1):
        text = f"{value:.{digits}G}"
        if len(text) <= 20:
            break
    return text if "." in text or "E" in text else text + ".0"


def quoted(text: str) -> str:
    """Return a FITS string: quotes doubled, at least eight characters, so short ones are padded as in real files."""
    doubled = text.replace("'", "''")
    return f"'{doubled:<8}'"


def card(line: str, facts: Mapping[str, Any]) -> str:
    """Return the 80 characters of one template line."""
    parts = line.split("|", 2)
    if len(parts) == 1:
        return f"{line.format_map(facts):<80}"[:80]
    key, value = parts[0].format_map(facts), parts[1]
    if value.startswith("{"):
        name, style = value[1:-1].split(":")
        fact = facts[name]
        value = quoted(fact) if isinstance(fact, str) else number(fact, style)
    elif value.startswith("'"):
        value = quoted(value[1:-1])
    field = f"{value:<20}" if value.startswith("'") else f"{value:>20}"
    comment = f" /{parts[2].format_map(facts)}" if len(parts) == 3 else ""
    return f"{f'{key:<8}= {field}{comment}':<80}"[:80]


def header(lines: Iterable[str], facts: Mapping[str, Any] | None = None) -> bytes:
    """Return a header made of template lines; empty ones are left out."""
    return joined(card(line, facts or {}) for line in lines if line)


def joined(cards: Iterable[str]) -> bytes:
    """Return whole cards as a header block: END, then blanks to a multiple of 2880 bytes."""
    text = "".join(cards) + f"{'END':<80}"
    return (text + " " * (-len(text) % BLOCK)).encode("ascii")


def padded(data: bytes) -> bytes:
    """Return `data` with zeros to a multiple of 2880 bytes."""
    return data + b"\0" * (-len(data) % BLOCK)


def image(data: np.ndarray[Any, Any], lines: Iterable[str], writer: str) -> bytes:
    """Return an image extension, header and data; an array of size zero gives one without axes."""
    comments = _IMAGE_COMMENTS[writer]
    kind, axes = data.dtype.kind, data.shape[::-1] if data.size else ()
    bitpix = data.dtype.itemsize * 8 * (-1 if kind == "f" else 1) if data.size else 8
    head = [f"XTENSION|'IMAGE'|{comments[0]}", f"BITPIX|{bitpix}|{comments[1]}", f"NAXIS|{len(axes)}|{comments[2]}"]
    head += [f"NAXIS{n}|{length}" + ("|" if writer == _IDL else "") for n, length in enumerate(axes, 1)]
    head += [f"PCOUNT|0|{comments[4]}", f"GCOUNT|1|{comments[5]}", *lines, SYNTHETIC[0]]
    return header(head) + padded(data.astype(data.dtype.newbyteorder(">")).tobytes())


def table(rows: np.ndarray[Any, Any], lines: Iterable[str], writer: str) -> bytes:
    """Return a binary table extension made of a structured array, its cards in the writer's order."""
    names = rows.dtype.names or ()
    mandatory = zip(
        ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS"),
        ("'BINTABLE'", 8, 2, rows.dtype.itemsize, len(rows), 0, 1, len(names)),
        strict=True,
    )
    head = [f"{key}|{value}|{'' if writer == _IDL else ' '}binary table" for key, value in mandatory]
    types = [f"TTYPE{n}|'{name}'" for n, name in enumerate(names, 1)]
    forms = [f"TFORM{n}|'{_form(rows.dtype[name])}'" for n, name in enumerate(names, 1)]
    sizes = [_dimensions(rows.dtype[name], n, writer) for n, name in enumerate(names, 1)]
    if writer == _IDL:
        head += ["COMMENT", "COMMENT  *** End of mandatory fields ***", "COMMENT"]
        for title, group in (
            ("Column names", types),
            ("Column formats", forms),
            ("Column dimensions (2 D or greater)", sizes),
        ):
            if any(group):
                head += ["COMMENT", f"COMMENT  *** {title} ***", "COMMENT", *group]
    else:
        head += [line for triple in zip(types, forms, sizes, strict=True) for line in triple]
    return header([*head, *lines, SYNTHETIC[0]]) + padded(rows.tobytes())


def _form(dtype: np.dtype[Any]) -> str:
    count = math.prod(dtype.shape)
    base = dtype.base
    if base.kind == "S":
        return f"{count * base.itemsize}A"
    return f"{count if dtype.shape else ''}{_TFORM[base.str[1:]]}"


def _dimensions(dtype: np.dtype[Any], n: int, writer: str) -> str:
    axes = dtype.shape[::-1]
    if dtype.base.kind == "S" and axes:
        axes = (dtype.base.itemsize, *axes)
    if len(axes) > 1 or (axes and writer == _ASTROPY):
        return f"TDIM{n}|'({','.join(map(str, axes))})'"
    return ""
