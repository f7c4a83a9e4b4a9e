"""A sky of as many objects as wanted, each made from its number alone: as a catalogue's table, and as headers see it.

Positions are even over the sky and nowhere nearer than some arcseconds, so that what is linked wrongly is a mistake.
Numbers of SDSS rise together; Gaia's begin with the HEALPix pixel, in nested order, as real ones do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astra.identifiers import Identifier
from astra.products.base import Target
from astra.sky import Epochs

EPOCH = 2015.5  # what astra takes positions of a table with these columns for
TMASS_EPOCHS = Epochs(1997.4, 2001.2)
COLUMNS: Final = {
    "sdss_id": "sdss_id", "catalogid21": "catalogid21", "catalogid25": "catalogid25", "catalogid31": "catalogid31",
    "gaia_dr3": "gaia_dr3_source_id", "tmass": "tmass",
}  # fmt: skip
_PLACES = ("ra_sdss_id", "dec_sdss_id", "pmra", "pmdec")
_ROW = np.dtype(
    [(name, "S16" if name == "tmass" else ">i8") for name in COLUMNS.values()] + [(name, ">f8") for name in _PLACES]
)
_CHUNK = 100_000
_BLOCK = 2880
_OFF = 0.05 / 3600  # of a header's position, in degrees

_LEVEL = 12  # of the pixels in Gaia's numbers, and of those of which each object has one to itself
_PIXELS = 12 << 2 * _LEVEL
_STRIDE = 124_426_675  # without a factor of the number of pixels, and a golden part of it
_RING = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])  # of the twelve faces of HEALPix: where they lie
_TURN = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


def rows(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Return the rows of the objects of these numbers, as the table has them."""
    numbers = numbers + 1  # there is no object 0
    pixel = numbers * _STRIDE % _PIXELS
    ra, dec = _place(pixel, 0.2 + 0.6 * _even(numbers, 0.7548776662), 0.2 + 0.6 * _even(numbers, 0.5698402910))
    found = np.zeros(len(numbers), _ROW)
    found["sdss_id"] = 54_000_000 + numbers
    found["catalogid21"] = 4_200_000_000 + 3 * numbers
    found["catalogid25"] = (3 << 53) + 1_000_000_000 + 5 * numbers
    found["catalogid31"] = (7 << 53) + 1_000_000_000 + 7 * numbers
    found["gaia_dr3_source_id"] = (pixel << 35) + numbers
    found["tmass"] = _designations(ra, dec)
    found["ra_sdss_id"], found["dec_sdss_id"] = ra, dec
    found["pmra"] = 40.0 * _even(numbers, 0.8191725134) - 20.0
    found["pmdec"] = 40.0 * _even(numbers, 0.6710436067) - 20.0 + 600.0 * (numbers % 5_000 == 17)  # some are fast
    return found


def _even(numbers: NDArray[np.int64], step: float) -> NDArray[np.float64]:
    """Return numbers from 0 to 1 that look like random ones, and are spread more evenly."""
    found: NDArray[np.float64] = np.remainder(numbers * step, 1.0)
    return found


def _place(
    pixel: NDArray[np.int64], along: NDArray[np.float64], across: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension and declination of a place within pixels of the nested order (Gorski et al. 2005)."""
    face, side = pixel >> 2 * _LEVEL, 1 << _LEVEL
    x, y = (_every_second_bit(pixel) + along) / side, (_every_second_bit(pixel >> 1) + across) / side
    ring = _RING[face] - x - y
    width = np.where(ring < 1.0, ring, np.where(ring > 3.0, 4.0 - ring, 1.0))
    polar = 1.0 - width**2 / 3.0
    z = np.where(ring < 1.0, polar, np.where(ring > 3.0, -polar, (2.0 - ring) * 2.0 / 3.0))
    turn = 45.0 * (_TURN[face] * width + x - y) / width
    return turn % 360.0, np.degrees(np.arcsin(z))


def _every_second_bit(pixel: NDArray[np.int64]) -> NDArray[np.int64]:
    found = pixel & 0x555555
    for shift, mask in ((1, 0x333333), (2, 0x0F0F0F), (4, 0x00FF00FF), (8, 0xFFFF)):
        found = (found | found >> shift) & mask
    return found


def _designations(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bytes_]:
    """Return 2MASS designations: hhmmssss+ddmmsss."""
    east, north = (ra * 24_000.0).astype(np.int64), (np.abs(dec) * 36_000.0).astype(np.int64)
    signs = np.where(dec < 0.0, ord("-"), ord("+")).astype(np.uint8)[:, None]
    hours = ((360_000, 24, 2), (6_000, 60, 2), (1, 6_000, 4))
    degrees = ((36_000, 91, 2), (600, 60, 2), (1, 600, 3))
    parts = [
        *(_digits(east // unit % size, width) for unit, size, width in hours),
        signs,
        *(_digits(north // unit % size, width) for unit, size, width in degrees),
    ]
    return np.ascontiguousarray(np.hstack(parts)).view("S16").ravel()


def _digits(values: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    return (values[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10 + ord("0")).astype(np.uint8)


def write(path: Path, first: int, end: int) -> Path:
    """Write the objects from one number to before another as a FITS table, some at a time, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.BinTableHDU(np.zeros(0, _ROW)).header
    header["NAXIS2"] = end - first
    with open(path, "wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
        for start in range(first, end, _CHUNK):
            file.write(rows(np.arange(start, min(end, start + _CHUNK))).tobytes())
        file.write(bytes(-file.tell() % _BLOCK))
    return path


def some(count: int, of: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of some objects, at random."""
    draw = random.Random(seed)
    return np.array([draw.randrange(of) for _ in range(count)])


def targets(seen: NDArray[Any], kind: str | None, designations: Sequence[str] | None = None) -> list[Target]:
    """Return what headers say of objects: an identifier, if any, their names, a place at 2MASS's time.

    Parameters
    ----------
    seen
        Their rows.
    kind
        The kind of identifier.
    designations
        What their names are made of; by default their own 2MASS designations.
    """
    years = sum(TMASS_EPOCHS) / 2 - EPOCH
    north = seen["dec_sdss_id"] + seen["pmdec"] * years / 3.6e6 + _OFF
    east = (seen["ra_sdss_id"] + seen["pmra"] * years / 3.6e6 / np.cos(np.radians(north))) % 360.0
    names = designations or seen[COLUMNS["tmass"]].astype(str).tolist()
    each = zip(_identifiers(seen, None if kind == "tmass" else kind), names, east.tolist(), north.tolist(), strict=True)
    return [
        Target((*own, Identifier("tmass", name), Identifier("apogee", f"2M{name}")), ra, dec, TMASS_EPOCHS)
        for own, name, ra, dec in each
    ]


def _identifiers(seen: NDArray[Any], kind: str | None) -> list[tuple[Identifier, ...]]:
    if kind is None:
        return [()] * len(seen)
    values = seen[COLUMNS[kind]]
    texts = values.astype(str).tolist() if kind == "tmass" else map(str, values.tolist())
    return [(Identifier(kind, text),) for text in texts]
