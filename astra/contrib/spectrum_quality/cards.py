"""What a primary header says of signal-to-noise and velocities, as plain numbers whatever the release.

Up to DR17 `VRADn` is the measured shift and `VHELIOn` (barycentric in spite of its name) is shift plus correction.
From SDSS-V on `VRADn` is barycentric, `VHELIOn` is gone, and only the newest files give the shift, as `VRELn`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.io.fits import Header

# Sentinels are -9999.99, 9999.99 and 999999.0; no velocity, scatter or S/N of a star comes near them.
_LIMIT = 9000.0


class Kind(StrEnum):
    """Which of the two shapes of file this is."""

    VISIT = "apVisit"
    STAR = "apStar"


@dataclass(frozen=True, slots=True)
class Observation:
    """One visit as its own header or the star's numbered cards tell it; None where they do not.

    `shift` is the measured velocity and `correction` the barycentric correction, `barycentric` their sum as printed,
    all km/s; `snr` per pixel; `jd` the Julian date (UTC) at mid-exposure. `unmeasured` where a velocity is a sentinel.
    """

    shift: float | None
    correction: float | None
    barycentric: float | None
    snr: float | None
    jd: float | None
    unmeasured: bool = False

    @property
    def velocity(self) -> float | None:
        """Barycentric velocity, km/s: our sum where both parts are known, else the printed one.

        None where the pipeline says of a part, by a sentinel, that it could not be measured.
        """
        if self.unmeasured:
            return None
        if self.shift is not None and self.correction is not None:
            return self.shift + self.correction
        return self.barycentric

    @property
    def closure(self) -> float | None:
        """Shift plus correction minus the printed sum, km/s; zero when the books balance."""
        if self.shift is None or self.correction is None or self.barycentric is None:
            return None
        return self.shift + self.correction - self.barycentric


@dataclass(frozen=True, slots=True)
class Facts:
    """What a header says: S/N per pixel, velocity and scatter in km/s, place in degrees, and its visits."""

    snr: float | None
    velocity: float | None
    scatter: float | None
    ra: float | None
    dec: float | None
    telescope: str
    synthetic: bool
    visits: tuple[Observation, ...]


def read_facts(header: Header, kind: Kind) -> Facts:
    """Return the facts of a primary header of this kind."""
    star = kind is Kind.STAR
    visits = _visits_of_star(header) if star else (_single_visit(header),)
    # VHBARY stood in for VHELIO for a while in 2022; a star's VRAD is its velocity only where both are absent.
    velocity = number(header, "VHELIO")
    for card in ("VHBARY", "VRAD") if star else ("VHBARY",):
        if velocity is None and "VHELIO" not in header:
            velocity = number(header, card)
    return Facts(
        snr=number(header, "SNR"),
        velocity=velocity,
        # A visit's VSCATTER is that of its own fit, not of visits: nothing of ours stands beside it.
        scatter=number(header, "VSCATTER") if star else None,
        ra=number(header, "RA"),
        dec=number(header, "DEC"),
        telescope=str(header.get("TELESCOP", "")).strip(),
        synthetic=_says_synthetic(header),
        visits=visits,
    )


def number(header: Header, card: str, limit: float = _LIMIT) -> float | None:
    """Return a card as a number; None where it is absent, undefined, not a number, or a sentinel beyond `limit`."""
    from astropy.io.fits import VerifyError

    try:
        value = float(header[card])
    except (KeyError, TypeError, ValueError, VerifyError):
        # VerifyError is astropy's answer to an unquoted NAN; text such as 'nan ' or '' passes through float().
        return None
    return value if math.isfinite(value) and abs(value) < limit else None


def _is_sentinel(header: Header, card: str) -> bool:
    """Return whether a card holds a number that stands for "not measured"."""
    value = number(header, card, math.inf)
    return value is not None and abs(value) >= _LIMIT


def _single_visit(header: Header) -> Observation:
    return Observation(
        shift=number(header, "VRAD"),
        correction=number(header, "BC"),
        barycentric=number(header, "VHELIO"),
        snr=number(header, "SNR"),
        jd=number(header, "JD-MID", math.inf),
        unmeasured=_is_sentinel(header, "VRAD") or _is_sentinel(header, "VHELIO"),
    )


def _visits_of_star(header: Header) -> tuple[Observation, ...]:
    shift, barycentric = ("VRAD", "VHELIO") if "VHELIO" in header or "VHELIO1" in header else ("VREL", "VRAD")
    return tuple(
        Observation(
            shift=number(header, f"{shift}{n}"),
            correction=number(header, f"BC{n}"),
            barycentric=number(header, f"{barycentric}{n}"),
            snr=number(header, f"SNRVIS{n}"),
            jd=number(header, f"JD{n}", math.inf),
            unmeasured=_is_sentinel(header, f"{shift}{n}") or _is_sentinel(header, f"{barycentric}{n}"),
        )
        for n in range(1, _count_visits(header) + 1)
    )


def _count_visits(header: Header) -> int:
    n = 0
    while any(f"{card}{n + 1}" in header for card in ("SFILE", "VRAD", "SNRVIS")):
        n += 1
    return n


def _says_synthetic(header: Header) -> bool:
    notes = [str(line) for card in ("HISTORY", "COMMENT") if card in header for line in header[card]]
    return any("SYNTHETIC" in note.upper() for note in notes)
