"""The plan of a night, and everything about its stars that the plan's seed decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np

from astra.errors import ConfigurationError
from astra.simulate.layouts.base import Layout
from astra.simulate.layouts.dr13 import DR13
from astra.simulate.layouts.dr17 import DR17
from astra.simulate.layouts.sdss5 import DR19, SDSSWORK
from astra.simulate.motion import SITES, Site, barycentric, galactic, heliocentric_delay, sidereal
from astra.simulate.spectra import Exposure, Look, observe

LAYOUTS: dict[str, Layout] = {layout.release: layout for layout in (DR13, DR17, DR19, SDSSWORK)}
_FIBERS = 300
_LONGEST_PAUSE = 3600.0
_MJD = (10_000, 99_999)
_CATALOGID_STEPS = (0, 3 << 53, 7 << 53)
_LAST_MJD = {"dr13": 56840, "dr17": 59230, "dr19": 60129, "sdsswork": 60500}


@dataclass(frozen=True, slots=True)
class Night:
    """What to write.

    Parameters
    ----------
    release : str
        One of `LAYOUTS`.
    telescopes : tuple of str
        Empty: all that the release has.
    configurations, stars, visits : int
        Fields observed by each telescope, stars in each, visits to each star (one a night, the last on `mjd`).
    mjd : int
        The night; 0: one of the release's time.
    pause : float
        Seconds to let pass between two steps.
    writers : int
        How many configurations are written at the same time, their steps interleaved.
    combinations : int
        How many times each star is combined: the last time from all its visits, the times before from one fewer each.
    """

    release: str = "dr19"
    telescopes: tuple[str, ...] = ()
    configurations: int = 2
    stars: int = 6
    visits: int = 2
    mjd: int = 0
    seed: int = 1
    pause: float = 0.0
    writers: int = 4
    combinations: int = 1

    def __post_init__(self) -> None:
        if self.release not in LAYOUTS:
            raise ConfigurationError(
                f"release {self.release!r} cannot be simulated; choose one of {', '.join(LAYOUTS)}"
            )
        strange = [name for name in self.telescopes if name not in self.layout.telescopes]
        if strange:
            known = ", ".join(self.layout.telescopes)
            raise ConfigurationError(f"telescope {strange[0]!r} has no files in {self.release}; choose from {known}")
        for name in ("configurations", "visits", "writers", "combinations"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"a night needs at least 1 for {name!r}, not {getattr(self, name)}")
        for name, most in (("configurations", 500), ("visits", 40), ("writers", 1000)):
            if getattr(self, name) > most:
                raise ConfigurationError(f"a night has at most {most} for {name!r}, not {getattr(self, name)}")
        if not 1 <= self.stars <= _FIBERS:
            raise ConfigurationError(
                f"a configuration has 1 to {_FIBERS} stars, not {self.stars}: each takes one fibre"
            )
        if self.combinations > self.visits:
            raise ConfigurationError(
                f"{self.visits} visits cannot be combined {self.combinations} times, each time with one more"
            )
        if not 0 <= self.pause <= _LONGEST_PAUSE:  # nan is neither
            raise ConfigurationError(f"the pause between steps is 0 to {_LONGEST_PAUSE} seconds, not {self.pause}")
        if self.seed < 0:
            raise ConfigurationError(f"the seed cannot be negative, as {self.seed} is")
        first = self.last_mjd - self.visits + 1
        if not (_MJD[0] <= first and self.last_mjd <= _MJD[1]):
            raise ConfigurationError(
                f"a night has an MJD of five digits, and so has every one before it: {self.mjd} has not"
            )

    @property
    def layout(self) -> Layout:
        """The release's file layouts."""
        return LAYOUTS[self.release]

    @property
    def place(self) -> int:
        """The release's place among those known: two releases of one seed have different skies."""
        return list(LAYOUTS).index(self.release)

    @property
    def last_mjd(self) -> int:
        """The night's MJD."""
        return self.mjd or _LAST_MJD[self.release]

    def fields(self) -> Iterator[Field]:
        """Draw the night's fields, telescope by telescope."""
        for t, telescope in enumerate(self.telescopes or self.layout.telescopes):
            for n in range(self.configurations):
                yield Field(self, SITES[telescope], t * 1000 + n)


@dataclass(frozen=True)
class Field:
    """One pointing of one telescope: a plate (SDSS-IV, one for all visits) or a series of configurations (SDSS-V)."""

    night: Night
    site: Site
    index: int

    def _rng(self, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.night.seed, self.night.place, self.index, *more])

    @cached_property
    def centre(self) -> tuple[float, float]:
        """RA and Dec, high in the sky near the middle of the night."""
        rng = self._rng(1)
        jd = self.night.last_mjd + 2400000.5 + self.site.midnight
        dec = self.site.latitude + rng.uniform(-22, 22)
        return (sidereal(jd, self.site.longitude) + rng.uniform(-40, 40)) % 360.0, dec

    @cached_property
    def name(self) -> str:
        """The field's name in paths: galactic coordinates as in SDSS-IV, its number in SDSS-V."""
        if self.night.layout.versioned:
            return str(self.location)
        glon, glat = galactic(*self.centre)
        return f"{int(glon):03d}{int(glat):+03d}"

    @property
    def location(self) -> int:
        """The location id (SDSS-IV) or field id (SDSS-V)."""
        return (100500 if self.night.layout.versioned else 4100) + self.night.seed % 97 * 3 + self.index

    def plate(self, visit: int) -> int:
        """Return the plate, or the configuration, of one visit."""
        if not self.night.layout.versioned:
            return 5000 + self.night.seed % 997 + 7 * self.index
        return 6000 + self.night.seed % 997 + self.index * 40 + visit

    def mjd(self, visit: int) -> int:
        """Return the night of one visit; earlier visits are two or more nights apart."""
        gap = 2 + self.index % 3
        return self.night.last_mjd - gap * (self.night.visits - 1 - visit)

    @cached_property
    def fibers(self) -> list[list[int]]:
        """The fibre of each star at each visit, never two stars on one."""
        rng = self._rng(2)
        return [
            sorted(int(f) for f in rng.choice(np.arange(1, _FIBERS + 1), self.night.stars, replace=False))
            for _ in range(self.night.visits)
        ]

    def stars(self) -> Iterator[Star]:
        """Draw the field's stars."""
        for n in range(self.night.stars):
            yield Star(self, n)


@dataclass(frozen=True)
class Star:
    """A star with a known velocity: `velocity` is the truth, in km/s, referred to the barycentre."""

    field: Field
    index: int

    @cached_property
    def _drawn(self) -> dict[str, float]:
        rng = self.field._rng(3, self.index)
        ra, dec = self.field.centre
        radius, angle = 1.2 * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        drawn = {
            "dec": round(dec + radius * math.sin(angle), 6),
            "ra": round((ra + radius * math.cos(angle) / math.cos(math.radians(dec))) % 360.0, 6) % 360.0,
            "h": round(rng.uniform(8.5, 12.2), 3),
            "colour": rng.uniform(0.5, 0.95),
            "slope": rng.uniform(1.5, 3.8),
            "teff": rng.uniform(3800, 5400),
            "logg": rng.uniform(0.8, 4.4),
            "feh": rng.uniform(-0.9, 0.4),
            "velocity": float(np.clip(rng.normal(0, 28), -62, 62)),
            "pmra": rng.normal(0, 5),
            "pmdec": rng.normal(0, 5),
            "plx": rng.uniform(0.1, 2.5),
        }
        return {name: float(value) for name, value in drawn.items()}

    @property
    def ra(self) -> float:
        """Right ascension in degrees."""
        return self._drawn["ra"]

    @property
    def dec(self) -> float:
        """Declination in degrees."""
        return self._drawn["dec"]

    @property
    def velocity(self) -> float:
        """The true velocity."""
        return self._drawn["velocity"]

    @property
    def name(self) -> str:
        """The 2MASS-style name; its digits are cut off, not rounded, as in the catalogue."""
        centiseconds = int(self.ra / 15 * 360000)
        deciseconds = int(abs(self.dec) * 36000)
        hours, minutes, seconds = centiseconds // 360000, centiseconds // 6000 % 60, centiseconds % 6000
        degrees, arcminutes, arcseconds = deciseconds // 36000, deciseconds // 600 % 60, deciseconds % 600
        sign = "-" if self.dec < 0 else "+"
        return f"2M{hours:02d}{minutes:02d}{seconds:04d}{sign}{degrees:02d}{arcminutes:02d}{arcseconds:03d}"

    @property
    def number(self) -> int:
        """A number that no other star of any field, telescope, release or (up to 800 of them) seed has."""
        night = self.field.night
        return ((night.seed % 800 + 1) * 10 + night.place) * 10_000_000 + self.field.index * 1000 + self.index

    @property
    def catalogid(self) -> int:
        """A catalogue identifier of cross-match v0.1, v0.5 or v1 in turn; those of the last two are above 2**53."""
        return _CATALOGID_STEPS[self.index % 3] + self.number

    @property
    def look(self) -> Look:
        """What its light looks like."""
        drawn = self._drawn
        return Look(drawn["h"], drawn["slope"], drawn["teff"], drawn["feh"])

    @property
    def magnitudes(self) -> tuple[float, float, float]:
        """J, H and K."""
        h, colour = self._drawn["h"], self._drawn["colour"]
        return round(h + 0.8 * colour, 3), h, round(h - 0.2 * colour, 3)

    def drawn(self, name: str) -> float:
        """Return one of the star's other properties: teff, logg, feh, pmra, pmdec, plx."""
        return self._drawn[name]

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """The star's visits, oldest first."""
        return tuple(Visit(self, n) for n in range(self.field.night.visits))


@dataclass(frozen=True)
class Visit:
    """One visit to one star."""

    star: Star
    index: int

    @property
    def field(self) -> Field:
        """The pointing it belongs to."""
        return self.star.field

    @property
    def mjd(self) -> int:
        """The night."""
        return self.field.mjd(self.index)

    @property
    def plate(self) -> int:
        """Plate or configuration."""
        return self.field.plate(self.index)

    @property
    def fiber(self) -> int:
        """The fibre."""
        return self.field.fibers[self.index][self.star.index]

    @cached_property
    def middle(self) -> float:
        """Julian date of the middle of the exposures, the same for all stars of the pointing."""
        hour = self.field._rng(4, self.index).uniform(-0.06, 0.06)
        return round(self.mjd + 2400000.5 + self.field.site.midnight + hour, 5)

    def at(self, seconds: float) -> datetime:
        """Return the instant so many seconds after the middle (UTC, without a zone, as headers have it)."""
        return datetime(1858, 11, 17) + timedelta(days=self.middle - 2400000.5, seconds=seconds)

    @cached_property
    def correction(self) -> float:
        """The barycentric correction in km/s."""
        return barycentric(self.middle, self.star.ra, self.star.dec, self.field.site)

    @property
    def delay(self) -> float:
        """Heliocentric light travel time in days."""
        return heliocentric_delay(self.middle, self.star.ra, self.star.dec)

    @cached_property
    def measured(self) -> tuple[float, float]:
        """The velocity (barycentric) that the headers give, and its error: near the truth, not equal to it."""
        rng = self.field._rng(5, self.star.index, self.index)
        error = float(rng.uniform(0.02, 0.08))
        return self.star.velocity + float(rng.normal()) * error, error

    @cached_property
    def exposure(self) -> Exposure:
        """The spectrum: computed again each time it is asked of a new `Visit`, so a night never lives in memory."""
        rng = self.field._rng(6, self.star.index, self.index)
        snr = float(rng.uniform(25, 140)) * 10 ** (-0.08 * (self.star.look.h - 10))
        return observe(self.star.look, self.star.velocity - self.correction, snr, rng)
