"""Positions and radii as people write them: decimal degrees, or sexagesimal with colons, blanks or letters.

Text in, degrees or arcseconds out; what has the shape of a position and cannot be one is said.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from astra.errors import NotUnderstood

LARGEST: Final = 3600.0  # arcseconds: a radius of one degree

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_UP_TO_60 = r"\d{1,2}(?:\.\d*)?"
_DEGREES = re.compile(rf"([+-]?{_DECIMAL}(?:e[+-]?\d+)?)\s*(?:deg|d|°)?\Z", re.ASCII | re.IGNORECASE)
_SEXAGESIMAL = re.compile(
    rf"([+-]?)(\d{{1,3}})(?:\s*([hd°:])\s*|\s+)({_UP_TO_60})"
    rf"(?:(?:\s*[m':]\s*|\s+)(?:({_UP_TO_60})\s*(?:s|\"|'')?)?)?\Z",
    re.ASCII | re.IGNORECASE,
)
_RADIUS = re.compile(rf"({_DECIMAL})\s*([a-z°'\"]*)\Z", re.ASCII | re.IGNORECASE)
_PART, _BLANK = re.compile(_DECIMAL), re.compile(r"\d\s+\d", re.ASCII)
_UNITS = {
    1.0: ("", '"', "''", "arcsec", "arcsecs", "arcsecond", "arcseconds"),
    60.0: ("'", "arcmin", "arcmins", "arcminute", "arcminutes"),
    3600.0: ("d", "°", "deg", "degs", "degree", "degrees"),
}
_ARCSECONDS = {unit: arcseconds for arcseconds, units in _UNITS.items() for unit in units}
# What papers and web pages have where a keyboard has -, ' and ".
_TYPESET = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{PRIME}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{DOUBLE PRIME}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{MASCULINE ORDINAL INDICATOR}": "\N{DEGREE SIGN}",
    }
)


class Position(NamedTuple):
    """Right ascension (0 to 360) and declination, in degrees."""

    ra: float
    dec: float


def plain_signs(text: str) -> str:
    """Return a text with the signs that a keyboard has, and without blanks around it."""
    return text.translate(_TYPESET).strip()


def read_position(text: str) -> Position | None:
    """Return the position that a text gives, or None where it has not the shape of one.

    Parameters
    ----------
    text
        Right ascension, then declination: ``209.88 +63.585``, ``209.88, 63.585``, ``13:59:31.21 +63:35:07.4``,
        ``13 59 31.21 +63 35 07.4`` or ``13h59m31.21s +63d35m07.4s``. A right ascension is in hours if it has minutes,
        unless a ``d`` or ``°`` says degrees.

    Raises
    ------
    NotUnderstood
        If an angle is out of its range, or the two have unlike parts: ``19 39 05.32 +40 27`` lacks something.
    """
    halves = _halves(plain_signs(text))
    if halves is None:
        return None
    ra, dec = _angle(halves[0], hours=True), _angle(halves[1], hours=False)
    if ra is None or dec is None:
        return None
    _check_parts(*halves)
    if not 0.0 <= ra <= 360.0:
        raise NotUnderstood(f"{halves[0]} is no right ascension: give 0 to 360 degrees, or hours as 13:59:31.21")
    if not -90.0 <= dec <= 90.0:
        raise NotUnderstood(f"{halves[1]} is no declination: give -90 to 90 degrees")
    return Position(ra % 360.0, dec)


def _check_parts(ra: str, dec: str) -> None:
    """Refuse parts between blanks that do not pair: the seconds of one angle may be meant for something else."""
    of_ra, of_dec = len(_PART.findall(ra)), len(_PART.findall(dec))
    blanks = _BLANK.search(ra) or _BLANK.search(dec)
    if blanks and of_ra != of_dec and not (of_dec == 1 and "." in dec):
        raise NotUnderstood(
            f"{ra} is in {of_ra} part{'s' if of_ra > 1 else ''} and {dec} in {of_dec}: write both alike, as "
            "13 59 31.21 +63 35 07.4, or with colons"
        )


def written(place: Position) -> str:
    """Return a position as a person reads it: in degrees, and in hours and degrees with minutes and seconds."""
    hours, degrees = round(place.ra / 15.0 * 360_000) % (24 * 360_000), round(abs(place.dec) * 36_000)
    ra = f"{hours // 360_000:02}:{hours // 6000 % 60:02}:{hours // 100 % 60:02}.{hours % 100:02}"
    dec = f"{degrees // 36_000:02}:{degrees // 600 % 60:02}:{degrees // 10 % 60:02}.{degrees % 10}"
    sign = "-" if place.dec < 0.0 else "+"
    return f"{round(place.ra, 6) % 360.0:.6f} {place.dec:+.6f} ({ra} {sign}{dec})"


def position(ra: float, dec: float) -> Position:
    """Return a position given in degrees; raise `NotUnderstood` where it is none."""
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise NotUnderstood(f"ra {ra}, dec {dec} is no position: give 0 to 360 and -90 to 90 degrees")
    return Position(float(ra) % 360.0, float(dec))


def _halves(text: str) -> tuple[str, str] | None:
    """Return the texts of right ascension and declination, or None where they cannot be told apart."""
    if "," in text:
        ra, _, dec = text.partition(",")
        return ra.strip(), dec.strip()
    words = text.split()
    if len(words) == 2:
        return words[0], words[1]
    sign = max(text.rfind("+"), text.rfind("-"))
    if sign > 0:
        ra, dec = text[:sign].strip(), re.sub(r"\A([+-])\s+", r"\1", text[sign:])
        # 123-45 may be anybody's name, 13:59:31+63:35:07 is not
        return None if _DEGREES.match(ra) else (ra, dec)
    if len(words) in (4, 6):
        middle = len(words) // 2
        return " ".join(words[:middle]), " ".join(words[middle:])
    return None


def _angle(text: str, hours: bool) -> float | None:
    """Return an angle in degrees; None where the text is none. With `hours`, minutes are those of an hour."""
    if found := _DEGREES.match(text):
        return float(found[1])
    found = _SEXAGESIMAL.match(text)
    if found is None or ((found[3] or "").lower() == "h" and not hours):
        return None
    sign, whole, mark, minutes, seconds = found.groups()
    if float(minutes) >= 60.0 or float(seconds or 0) >= 60.0:
        raise NotUnderstood(f"{text} is no angle: minutes and seconds are below 60")
    if seconds is not None and "." in minutes:
        return None
    size = int(whole) + float(minutes) / 60.0 + float(seconds or 0.0) / 3600.0
    if hours and (mark or "").lower() not in ("d", "°"):
        if size >= 24.0:
            raise NotUnderstood(f"{text} is no right ascension: hours are below 24; in degrees write 209.88")
        size *= 15.0
    return -size if sign == "-" else size


def read_radius(text: str) -> float:
    """Return a radius in arcseconds: ``3``, ``3"``, ``3arcsec``, ``2'``, ``2arcmin``, ``0.01deg``.

    Raises
    ------
    NotUnderstood
        If it is none, or larger than a degree.
    """
    found = _RADIUS.match(plain_signs(text))
    unit = _ARCSECONDS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise NotUnderstood(f"{text!r} is no radius: write 3 or 3\" (arcseconds), 2' (arcminutes) or 0.01deg")
    return radius(float(found[1]) * unit)


def radius(arcseconds: float) -> float:
    """Return a radius; raise `NotUnderstood` where it is negative, or larger than a degree."""
    if not 0.0 <= arcseconds <= LARGEST:
        raise NotUnderstood(f"a radius of {arcseconds:.10g} arcseconds cannot be searched: give 0 to {LARGEST:.0f}")
    return float(arcseconds)
