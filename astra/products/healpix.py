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
