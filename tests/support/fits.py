"""Small, valid, synthetic FITS files made by hand: cheap enough to make thousands, and easy to damage on purpose.

`apvisit` and `apstar` return whole files that `astra.products` takes in under the names that `visit_name` and
`star_name` give; keyword arguments replace single cards (`OBJID="..."`), and `None` leaves a card out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

BLOCK = 2880


@dataclass(frozen=True)
class Bare:
    """A value to be written as it is, without quotes: `Bare("NAN")`, `Bare("")` for an undefined value."""

    text: str


CardValue: TypeAlias = str | int | float | bool | Bare | None
Cards: TypeAlias = Mapping[str, CardValue]


def card(key: str, value: CardValue, comment: str = "") -> bytes:
    """Return one card of 80 bytes, fixed format where the value allows it."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = "'" + value.replace("'", "''").ljust(8) + "'"
    elif isinstance(value, Bare):
        text = f"{value.text:>20}"
    else:
        text = f"{value!r:>20}".upper()
    line = f"{key:<8}= {text}" + (f" / {comment}" if comment else "")
    assert len(line) <= 80, f"too long for one card: {line}"
    return line.ljust(80).encode("ascii")


def header(*cards: bytes) -> bytes:
    """Return the cards, END and the padding."""
    content = b"".join(cards) + b"END".ljust(80)
    return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def primary(cards: Cards, *extra: bytes) -> bytes:
    """Return a primary HDU without data; a card whose value is None is left out, `extra` cards come last."""
    start = [card("SIMPLE", True), card("BITPIX", 16), card("NAXIS", 0), card("EXTEND", True)]
    return header(*start, *(card(key, value) for key, value in cards.items() if value is not None), *extra)


def extension(kind: str, bitpix: int, shape: tuple[int, ...], data: bytes | None = None) -> bytes:
    """Return one extension HDU; `shape` in FITS order (fastest axis first), data zeros unless given."""
    axes = [card(f"NAXIS{n}", length) for n, length in enumerate(shape, start=1)]
    counts = [card("PCOUNT", 0), card("GCOUNT", 1), *([card("TFIELDS", 0)] if kind == "BINTABLE" else [])]
    start = [card("XTENSION", kind), card("BITPIX", bitpix), card("NAXIS", len(shape))]
    size = abs(bitpix) // 8 if shape else 0
    for length in shape:
        size *= length
    content = b"\1" * size if data is None else data
    return header(*start, *axes, *counts) + content.ljust(-(-size // BLOCK) * BLOCK, b"\0")


def image(bitpix: int = -32, shape: tuple[int, ...] = (16, 3)) -> bytes:
    """Return an image extension."""
    return extension("IMAGE", bitpix, shape)


def table(width: int = 24, rows: int = 1) -> bytes:
    """Return a table extension without columns."""
    return extension("BINTABLE", 8, (width, rows))


VISIT: dict[str, CardValue] = {
    "LOCID": 4264, "PLATE": "5094", "TELESCOP": "apo25m", "MJD5": 55874, "FIBERID": 88,
    "DATE-OBS": "2011-11-09T02:11:07.482", "EXPTIME": 2002.04, "JD-MID": 2455874.61, "NCOMBINE": 8,
    "OBJID": "2M00005143+5615568", "OBJTYPE": "STAR", "RA": 0.214312, "DEC": 56.265797,
    "J": 9.871, "H": 9.117, "K": 8.923, "SNR": 101.25, "STARFLAG": 0, "V_APRED": "v3_15",
    "BC": -3.25, "VRAD": 12.5, "VHELIO": 9.25,
}  # fmt: skip

STAR: dict[str, CardValue] = {
    "OBJID": "2M00005143+5615568", "TELESCOP": "apo25m", "LOCID": 4264, "FIELD": "N7789",
    "RA": 0.214312, "DEC": 56.265797, "J": 9.871, "H": 9.117, "K": 8.923, "SNR": 150.5, "NVISITS": 3,
    "STARFLAG": 0, "ANDFLAG": 0, "VHELIO": 9.25, "VSCATTER": 0.25, "VERR": 0.05,
}  # fmt: skip


def apvisit(hdus: int = 12, **cards: CardValue) -> bytes:
    """Return a small whole apVisit; a card name with a hyphen is spelt with `__` (`DATE__OBS`)."""
    return primary(_changed(VISIT, cards)) + image() * (hdus - 2) + table()


def apstar(hdus: int = 10, **cards: CardValue) -> bytes:
    """Return a small whole apStar: 10 HDUs, or 11 as DR17 has."""
    return primary(_changed(STAR, cards)) + image() * (hdus - 2) + table()


def _changed(cards: Cards, changes: Cards) -> dict[str, CardValue]:
    return {**cards, **{key.replace("__", "-"): value for key, value in changes.items()}}


def visit_name(apred: str = "r6", plate: int = 5094, mjd: int = 55874, fiber: int = 88) -> str:
    """Return the name of an SDSS-IV visit."""
    return f"apVisit-{apred}-{plate}-{mjd}-{fiber:03d}.fits"


def star_name(apred: str = "r6", obj: str = "2M00005143+5615568") -> str:
    """Return the name of an SDSS-IV star."""
    return f"apStar-{apred}-{obj}.fits"


def write(path: Path, content: bytes) -> Path:
    """Write `content` under `path`, making the folders on the way, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hdu_ends(content: bytes) -> list[int]:
    """Return where each HDU of a file made here ends, by looking for the next one's first card."""
    ends = []
    for at in range(BLOCK, len(content), BLOCK):
        if content[at : at + 9] == b"XTENSION=":
            ends.append(at)
    return [*ends, len(content)]


def damaged(content: bytes) -> dict[str, bytes]:
    """Return every way in which a file of at least four HDUs can be cut or half written, by what was done to it."""
    ends = hdu_ends(content)
    first, second = ends[0], ends[1]
    return {
        "empty": b"",
        "three bytes": content[:3],
        "a hundred bytes": content[:100],
        "cut inside the primary header, between cards": content[: 80 * 7],
        "cut inside the primary header, inside a card": content[: 80 * 7 + 13],
        "cut inside an extension's header": content[: first + 200],
        "an extension's header begun": content[: first + 4],
        "an extension's header without its data": content[: first + BLOCK],
        "cut inside data": content[: second - BLOCK + 17],
        "last byte missing": content[:-1],
        "last block missing": content[:-BLOCK],
        "a block of zeros appended": content + bytes(BLOCK),
        "a block of rubbish appended": content + b"rubbish " * (BLOCK // 8),
        "one byte appended": content + b"x",
        "made to full size, zeros after the first extension": content[:second].ljust(len(content), b"\0"),
        "made to full size, zeros inside the primary header": content[:560].ljust(len(content), b"\0"),
        "a hole of zeros inside the primary header": content[:400] + bytes(240) + content[640:],
        "all zeros": bytes(len(content)),
    }
