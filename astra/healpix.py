"""Where on the HEALPix grid a position lies (Gorski et al. 2005, ApJ 622, 759): ring order, as in SDSS-V's folders."""

from __future__ import annotations

import math

NSIDE = 128


def ang2pix(nside: int, ra: float, dec: float) -> int:
    """Return the number of the pixel, counted in rings from the north pole, that holds `ra`, `dec` (degrees)."""
    if not (math.isfinite(ra) and -90.0 <= dec <= 90.0):
        raise ValueError(f"no position on the sky: ra {ra}, dec {dec}")
    z = math.sin(math.radians(dec))
    quarter = (ra % 360.0) / 90.0 % 4.0  # right ascension in quarter turns, 0 <= quarter < 4
    if abs(z) <= 2.0 / 3.0:
        return _belt(nside, z, quarter)
    return _cap(nside, z, dec, quarter)


def _belt(nside: int, z: float, quarter: float) -> int:
    """The equatorial belt: rings of 4 nside pixels each, every second one shifted by half a pixel."""
    along, across = nside * (0.5 + quarter), nside * z * 0.75
    rising, falling = math.floor(along - across), math.floor(along + across)
    ring = nside + 1 + rising - falling
    column = (rising + falling - nside + 1 + (1 - ring % 2)) // 2 % (4 * nside)
    return 2 * nside * (nside - 1) + 4 * nside * (ring - 1) + column


def _cap(nside: int, z: float, dec: float, quarter: float) -> int:
    """A polar cap: ring n from the pole has 4 n pixels."""
    # 1 - |z| loses its digits near the pole; the same from the angle to the pole does not.
    distance = nside * math.sqrt(6.0) * math.sin(math.radians(90.0 - abs(dec)) / 2.0)
    part = quarter % 1.0
    ring = math.floor(part * distance) + math.floor((1.0 - part) * distance) + 1
    column = math.floor(quarter * ring) % (4 * ring)
    if z > 0:
        return 2 * ring * (ring - 1) + column
    return 12 * nside * nside - 2 * ring * (ring + 1) + column


_AROUND = tuple((math.cos(math.tau * at / 16), math.sin(math.tau * at / 16)) for at in range(16))
_POLE = 89.9  # degrees: nearer to a pole, a disc may touch any pixel of the inmost rings


def disc(nside: int, ra: float, dec: float, radius: float) -> tuple[int, ...]:
    """Return the pixels that a small disc touches, its centre's first; `radius` in degrees, far less than a pixel.

    A pixel that the disc misses by less than its own radius may be among them.
    """
    own = ang2pix(nside, ra, dec)
    z = math.sin(math.radians(dec))
    inside = _inside_belt if abs(z) <= 2.0 / 3.0 else _inside_cap
    if inside(nside, z, ra, dec, radius):
        return (own,)
    if abs(dec) + 4.0 * radius > _POLE:
        return (own, *_near_pole(nside, dec, own, radius))
    found = {own: None}
    # Where four pixels meet, each takes up a sixth of the circle or more: sixteen points, twice as far out, miss none.
    for east, north in _AROUND:
        other = dec + 2.0 * radius * north
        along = ra + 2.0 * radius * east / math.cos(math.radians(other))
        found[ang2pix(nside, along, other)] = None
    return tuple(found)


def _inside_belt(nside: int, z: float, ra: float, dec: float, radius: float) -> bool:
    """Whether a disc in the equatorial belt lies within one pixel: its borders are where these two are whole."""
    along, across = nside * ((ra % 360.0) / 90.0 + 0.5), nside * z * 0.75
    margin = nside * math.radians(radius) * (2.0 / math.pi / math.cos(math.radians(dec)) + 0.75)
    rising, falling = (along - across) % 1.0, (along + across) % 1.0
    inside = margin < rising < 1.0 - margin and margin < falling < 1.0 - margin
    return inside and abs(z) + math.radians(radius) <= 2.0 / 3.0


def _inside_cap(nside: int, z: float, ra: float, dec: float, radius: float) -> bool:
    """Whether a disc in a polar cap lies within one pixel: its borders are where these are whole, and every quarter."""
    if abs(dec) + radius >= 90.0 or abs(z) - math.radians(radius) <= 2.0 / 3.0:
        return False
    part = (ra % 360.0) / 90.0 % 1.0
    distance = nside * math.sqrt(6.0) * math.sin(math.radians(90.0 - abs(dec)) / 2.0)
    turn = radius / 90.0 / math.cos(math.radians(abs(dec) + radius))
    margin = turn * distance + nside * math.sqrt(1.5) * math.radians(radius)
    rising, falling = part * distance % 1.0, (1.0 - part) * distance % 1.0
    inside = margin < rising < 1.0 - margin and margin < falling < 1.0 - margin
    return inside and turn < part < 1.0 - turn


def _near_pole(nside: int, dec: float, own: int, radius: float) -> list[int]:
    """Return the other pixels of the rings that a disc about a pole may touch."""
    distance = nside * math.sqrt(6.0) * math.sin(math.radians(90.0 - abs(dec) + 2.0 * radius) / 2.0)
    rings = math.ceil(distance) + 1
    count, last = 2 * rings * (rings + 1), 12 * nside * nside - 1
    pixels = range(count) if dec > 0 else range(last, last - count, -1)
    return [pixel for pixel in pixels if pixel != own]


def cover(nside: int, ra: float, dec: float, radius: float) -> list[int]:
    """Return pixels that together hold a disc of any size; `radius` in degrees.

    They are those whose centres are no farther away than the radius and the largest half of a pixel, so some of them
    may lie outside.
    """
    reach = radius + _HALF / nside
    pixels: list[int] = []
    for ring in range(1, 4 * nside):
        z, first, count, shift = _ring(nside, ring)
        if abs(math.degrees(math.asin(z)) - dec) > reach:
            continue
        middle = (ra % 360.0) / 360.0 * count - shift  # the column of the centre, and how many of them to each side
        aside = _half_width(z, dec, reach) / 360.0 * count
        if 2.0 * aside + 2.0 >= count:
            pixels += range(first, first + count)
        else:
            columns = range(math.floor(middle - aside), math.ceil(middle + aside) + 1)
            pixels += [first + column % count for column in columns]
    return pixels


_HALF = 64.0  # degrees, times nside: from a pixel's centre to its farthest corner it is less, 61.3 for large nside


def _ring(nside: int, ring: int) -> tuple[float, int, int, float]:
    """Return of a ring: its z, its first pixel, how many it has, and the first one's centre in pixels from ra 0."""
    last, cap = 12 * nside * nside, min(ring, 4 * nside - ring)
    if cap < nside:
        z, count = 1.0 - cap * cap / (3.0 * nside * nside), 4 * cap
        return (z, 2 * ring * (ring - 1), count, 0.5) if ring == cap else (-z, last - 2 * cap * (cap + 1), count, 0.5)
    first = 2 * nside * (nside - 1) + 4 * nside * (ring - nside)
    return 4.0 / 3.0 - 2.0 * ring / (3.0 * nside), first, 4 * nside, 0.5 * ((ring - nside + 1) % 2)


def _half_width(z: float, dec: float, reach: float) -> float:
    """Return how far in right ascension a disc about `dec` extends on the circle at `z`, in degrees."""
    sine, cosine = math.sin(math.radians(dec)), math.cos(math.radians(dec))
    across = cosine * math.sqrt(1.0 - z * z)  # above 0: no centre is at a pole, and of 90 degrees the cosine is not 0
    return math.degrees(math.acos(min(1.0, max(-1.0, (math.cos(math.radians(reach)) - sine * z) / across))))
