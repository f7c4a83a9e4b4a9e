"""Places on the sky where searches go wrong: the poles, the seam, the borders of HEALPix; and sources around them."""

from __future__ import annotations

import math
import random

from astra.database.astradb import Source
from astra.healpix import NSIDE, ang2pix
from tests.support.stars import NOW

CORNERS = [
    (0.0, 90.0),
    (0.0, -90.0),
    (0.0, 0.0),
    (45.0, math.degrees(math.asin(2 / 3))),
    (90.0, -41.8103149),
    (209.9, 63.6),
]


def place_of(middle: tuple[float, float], away: float, towards: float) -> tuple[float, float]:
    """Return the position so many degrees away from another, in a direction (radians from north)."""
    ra, dec, size = math.radians(middle[0]), math.radians(middle[1]), math.radians(away)
    sine = math.sin(dec) * math.cos(size) + math.cos(dec) * math.sin(size) * math.cos(towards)
    north = math.asin(max(-1.0, min(1.0, sine)))
    east = math.atan2(math.sin(towards) * math.sin(size) * math.cos(dec), math.cos(size) - math.sin(dec) * sine)
    return math.degrees(ra + east) % 360.0, math.degrees(north)


def bearing(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Return in which direction a position is from another (radians from north)."""
    turn, own, other = math.radians(there[0] - here[0]), math.radians(here[1]), math.radians(there[1])
    east = math.cos(other) * math.sin(turn)
    return math.atan2(east, math.cos(own) * math.sin(other) - math.sin(own) * math.cos(other) * math.cos(turn))


def scatter(seed: int, each: int) -> list[Source]:
    """Insert sources around every corner, at all distances, of which some move, and some are fast."""
    dice, rows = random.Random(seed), []
    for corner in CORNERS:
        for _ in range(each):
            ra, dec = place_of(corner, 10 ** dice.uniform(-4.5, 0.3), dice.uniform(0, math.tau))
            epoch = dice.choice([None, 1975.0, 2000.0, 2015.5, 2016.0, 2035.0])
            speed = dice.choice([None, 0.0, 10.0, 499.0, 501.0, 10400.0])
            towards = dice.uniform(0, math.tau)
            motion = (None, None) if speed is None else (speed * math.sin(towards), speed * math.cos(towards))
            rows.append((ra, dec, epoch, *motion, ang2pix(NSIDE, ra, dec), False, NOW))
    columns = [Source.ra, Source.dec, Source.epoch, Source.pmra, Source.pmdec, Source.healpix, Source.provisional]
    Source.insert_many(rows, [*columns, Source.created]).execute()
    return list(Source.select())
