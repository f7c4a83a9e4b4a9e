"""Where on the local sky a search must look, so that it misses nothing that was near a position at some time.

Who asks what is near (`asking`) and who links (`sources.pool`) both look here, so they find the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from astra.healpix import NSIDE, cover, disc
from astra.sky import Epochs

# A star is fast beyond half an arcsecond a year; there are a few thousand on the whole sky, and they have an index of
# their own. In (mas/yr)^2, and to the letter as that index, source_fast, has it.
FAST: Final = "pmra * pmra + pmdec * pmdec > 250000"
_SLOW, _FASTEST = 0.5, 11.0  # arcseconds a year; nothing is faster than Barnard's star, 10.4
_CATALOGUES: Final = Epochs(1975.0, 2035.0)  # those of the positions that catalogues have

_SMALL = 0.15  # degrees: a disc so small is found 20 times as fast as one of any size, and in fewer pixels


class Area(NamedTuple):
    """Pixels, and the first and the last declination in them (degrees)."""

    pixels: Sequence[int]
    low: float
    high: float


def slow(ra: float, dec: float, radius: float, epochs: Epochs) -> Area:
    """Return where all but fast sources are that came within `radius` arcseconds of a position within `epochs`."""
    wide = (radius + _SLOW * _years(epochs)) / 3600.0
    return Area(_pixels(ra, dec, wide), dec - wide, dec + wide)


def fast(ra: float, dec: float, radius: float, epochs: Epochs) -> Sequence[int]:
    """Return the pixels that hold the fast sources that did."""
    return _pixels(ra, dec, (radius + _FASTEST * _years(epochs)) / 3600.0)


def _years(epochs: Epochs) -> float:
    """Return how long before or after a catalogue's position one within `epochs` can be."""
    return max(abs(epochs.last - _CATALOGUES.first), abs(_CATALOGUES.last - epochs.first))


def _pixels(ra: float, dec: float, wide: float) -> Sequence[int]:
    return (disc if wide <= _SMALL else cover)(NSIDE, ra, dec, wide)
