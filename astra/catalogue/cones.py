"""Where on the sky a catalogue is searched for a product's object: around its position, with room for motion.

A catalogue has its objects where they were at its epoch. A star that is near the position in the file may have been
elsewhere then: up to half an arcsecond for each year is looked for around every position, and as far as the fastest
star goes where nothing else tells what the object is, among fast stars only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from astra.products.base import Target

EPOCH: Final = 2015.5  # of the positions in catalogdb
FAST: Final = 500.0  # milliarcseconds a year; some ten thousand stars in all the sky are faster
_FASTEST: Final = 10_500.0  # Barnard's star: 10,390
_MARGIN: Final = 0.01  # arcseconds by which the server may be wider than the exact look at what it returns


class Cone(NamedTuple):
    """One place to search, `at` the target of this number; `ra_low` and those after it bound a cone from outside.

    Angles are in degrees, `room` in arcseconds; `years` is how far from the catalogue's epoch the file may be. A `fast`
    cone is of stars faster than `FAST` only.
    """

    at: int
    ra: float
    dec: float
    search: float
    room: float
    years: float
    fast: bool
    ra_low: float
    ra_high: float
    dec_low: float
    dec_high: float


def cones(targets: Sequence[Target], named: Collection[int], radius: float) -> list[Cone]:
    """Return where to search for targets with a position; those whose numbers are in `named` are known by a name."""
    found: list[Cone] = []
    room = radius + _MARGIN
    for at, target in enumerate(targets):
        if target.ra is None or target.dec is None or not (math.isfinite(target.ra) and abs(target.dec) <= 90.0):
            continue
        ra, dec = target.ra % 360.0, target.dec
        years = max(abs(target.epochs.first - EPOCH), abs(target.epochs.last - EPOCH))
        for speed in (FAST,) if at in named else (FAST, _FASTEST):
            search = (room + speed / 1000.0 * years) / 3600.0
            found += [
                Cone(at, ra, dec, search, room, years, speed > FAST, low, high, dec - search, dec + search)
                for low, high in _right_ascensions(ra, dec, search)
            ]
    return found


def columns(searched: Sequence[Cone]) -> list[list[Any]]:
    """Return cones as the parameters of a query: a list for each field."""
    return [list(column) for column in zip(*searched, strict=True)]


def _right_ascensions(ra: float, dec: float, search: float) -> Iterator[tuple[float, float]]:
    """Yield the ranges of right ascension that a cone reaches into: two where it lies across 0, all at a pole."""
    if abs(dec) + search >= 90.0:
        yield -1.0, 361.0
        return
    half = math.degrees(math.asin(math.sin(math.radians(search)) / math.cos(math.radians(dec))))
    yield ra - half, ra + half
    if ra - half < 0.0:
        yield ra - half + 360.0, 361.0
    if ra + half >= 360.0:
        yield -1.0, ra + half - 360.0
