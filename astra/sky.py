"""Angles on the sky, with proper motion. Positions are right ascension and declination in degrees (ICRS)."""

from __future__ import annotations

import math
from typing import NamedTuple

_TO_RADIANS = math.pi / (180.0 * 3_600_000.0)  # milliarcseconds
_TO_ARCSECONDS = 180.0 * 3600.0 / math.pi


class Epochs(NamedTuple):
    """The first and the last epoch, in Julian years, at which a position may have been true."""

    first: float
    last: float


class Star(NamedTuple):
    """Where a catalogue has an object at `epoch` (Julian year), and how it moves, in milliarcseconds a year.

    `pmra` is the motion along the circle of declination, cos(dec) included, as Gaia and SDSS give it.
    """

    ra: float
    dec: float
    epoch: float | None = None
    pmra: float | None = None
    pmdec: float | None = None


def separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Return the angle between two positions in arcseconds, by the haversine formula."""
    half_ra, half_dec = math.radians(ra - other_ra) / 2, math.radians(dec - other_dec) / 2
    across = math.cos(math.radians(dec)) * math.cos(math.radians(other_dec)) * math.sin(half_ra) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(math.sin(half_dec) ** 2 + across)))) * 3600


def closest(ra: float, dec: float, epochs: Epochs, star: Star) -> float:
    """Return how near a star came to a position within `epochs`, in arcseconds.

    A star without a known motion, or without an epoch, is where the catalogue has it.
    """
    if star.pmra is None or star.pmdec is None or star.epoch is None:
        return separation(ra, dec, star.ra, star.dec)
    speed_east, speed_north = star.pmra * _TO_RADIANS, star.pmdec * _TO_RADIANS
    squared = speed_east**2 + speed_north**2
    # Unit vector to the position, in the axes east, north and outward at the star.
    turn, own, other = math.radians(ra - star.ra), math.radians(star.dec), math.radians(dec)
    sin_own, cos_own, sin_other, cos_other = math.sin(own), math.cos(own), math.sin(other), math.cos(other)
    along = cos_other * math.cos(turn)
    up = sin_own * sin_other + cos_own * along
    if up <= 0.0 or not squared:
        return separation(ra, dec, star.ra, star.dec)
    # Straight on in the tangent plane at the star: after a third of a degree this is off by less than a milliarcsecond.
    east, north = cos_other * math.sin(turn) / up, (cos_own * sin_other - sin_own * along) / up
    years = (east * speed_east + north * speed_north) / squared
    years = min(max(years, epochs.first - star.epoch), epochs.last - star.epoch)
    return math.hypot(east - speed_east * years, north - speed_north * years) * _TO_ARCSECONDS
