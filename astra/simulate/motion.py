"""Where the Earth goes: barycentric correction, light travel time and sky coordinates, good to a few metres a second.

Orbits follow the approximate Keplerian elements of Standish & Williams (the JPL table for 1800-2050, ecliptic of
J2000); the Sun's own motion is that due to Jupiter and Saturn, the Earth's wobble that due to the Moon. Enough that a
check of a header's BC against a real ephemeris passes (within 20 m/s), with no ephemeris to load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LIGHT = 299792.458
_AU_KM, _DAY_S = 149597870.7, 86400.0
_OBLIQUITY = math.radians(23.4392911)
_EARTH = (1.00000261, 0.01671123, 100.46457166, 35999.37244981, 102.93768193, 0.32327364)
_GIANTS = (
    (5.20288700, 0.04838624, 34.39644051, 3034.74612775, 14.72847983, 0.21252668, 1 / 1047.349),
    (9.53667594, 0.05386179, 49.95424423, 1222.49362201, 92.59887831, -0.41897216, 1 / 3497.898),
)
Vector = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Site:
    """A telescope: name in paths, east longitude and latitude in degrees, UT of its midnight as part of a day."""

    name: str
    longitude: float
    latitude: float
    midnight: float


SITES = {
    "apo25m": Site("apo25m", -105.8197, 32.7797, 0.294),
    "lco25m": Site("lco25m", -70.6926, -29.0146, 0.196),
}


def _kepler(elements: tuple[float, ...], century: float) -> tuple[Vector, Vector]:
    """Return position (au) and velocity (km/s) in the ecliptic, from a, e, L, perihelion and the rates of the two."""
    a, e, mean0, mean1, peri0, peri1 = elements[:6]
    perihelion = math.radians(peri0 + peri1 * century)
    mean = math.radians(mean0 + mean1 * century) - perihelion
    anomaly = mean
    for _ in range(6):
        anomaly -= (anomaly - e * math.sin(anomaly) - mean) / (1 - e * math.cos(anomaly))
    root = math.sqrt(1 - e * e)
    x, y = a * (math.cos(anomaly) - e), a * root * math.sin(anomaly)
    rate = math.radians(mean1) / (36525 * _DAY_S) * a * _AU_KM / (1 - e * math.cos(anomaly))
    u, v = -rate * math.sin(anomaly), rate * root * math.cos(anomaly)
    c, s = math.cos(perihelion), math.sin(perihelion)
    return (c * x - s * y, s * x + c * y), (c * u - s * v, s * u + c * v)


def _toward(vector: Vector, ra: float, dec: float) -> float:
    """Return the part along a direction (degrees, J2000) of a vector that lies in the ecliptic."""
    a, d = math.radians(ra), math.radians(dec)
    x, y = vector
    along = math.cos(_OBLIQUITY) * math.sin(a) * math.cos(d) + math.sin(_OBLIQUITY) * math.sin(d)
    return x * math.cos(a) * math.cos(d) + y * along


def sidereal(jd: float, longitude: float) -> float:
    """Return the local sidereal time in degrees."""
    return (280.46061837 + 360.98564736629 * (jd - 2451545.0) + longitude) % 360.0


def barycentric(jd: float, ra: float, dec: float, site: Site) -> float:
    """Return the velocity (km/s) to add to one measured at `site` to refer it to the barycentre."""
    century = (jd - 2451545.0) / 36525
    (_, (u, v)) = _kepler(_EARTH, century)
    for giant in _GIANTS:
        (_, (gu, gv)) = _kepler(giant, century)
        u, v = u - giant[6] * gu, v - giant[6] * gv
    moon = math.radians(218.3165 + 481266.48 * century)
    u, v = u + 0.01243 * math.sin(moon), v - 0.01243 * math.cos(moon)
    hour_angle = math.radians(sidereal(jd, site.longitude) - ra)
    spin = 0.46510 * math.cos(math.radians(site.latitude)) * math.cos(math.radians(dec)) * math.sin(hour_angle)
    return _toward((u, v), ra, dec) - spin


def heliocentric_delay(jd: float, ra: float, dec: float) -> float:
    """Return how many days earlier light from a direction reaches the Earth than the Sun (negative: later)."""
    position, _ = _kepler(_EARTH, (jd - 2451545.0) / 36525)
    return _toward(position, ra, dec) * _AU_KM / LIGHT / _DAY_S


def galactic(ra: float, dec: float) -> tuple[float, float]:
    """Return galactic longitude and latitude in degrees of a J2000 position."""
    pole_ra, pole_dec, node = math.radians(192.85948), math.radians(27.12825), 122.93192
    a, d = math.radians(ra) - pole_ra, math.radians(dec)
    sin_b = math.sin(d) * math.sin(pole_dec) + math.cos(d) * math.cos(pole_dec) * math.cos(a)
    y = math.cos(d) * math.sin(a)
    x = math.sin(d) * math.cos(pole_dec) - math.cos(d) * math.sin(pole_dec) * math.cos(a)
    return (node - math.degrees(math.atan2(y, x))) % 360.0, math.degrees(math.asin(max(-1.0, min(1.0, sin_b))))


def separation_cosine(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the cosine of the angle between two directions given in degrees."""
    d1, d2 = math.radians(dec1), math.radians(dec2)
    return math.sin(d1) * math.sin(d2) + math.cos(d1) * math.cos(d2) * math.cos(math.radians(ra1 - ra2))
