"""What a spectrograph would see: continuum, absorption lines at a known velocity, noise that the error arrays describe.

Line wavelengths (air) are of the kind that Smith et al. 2013 (ApJ 765, 16) selected for APOGEE, airglow lines are
rounded to 1 A; depths, telluric bands and sky levels are drawn by eye. Good for telling right velocities from wrong
ones, not for measuring stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from astra.simulate.motion import LIGHT

Floats = npt.NDArray[np.float64]
Array = np.ndarray[Any, Any]

PIXELS, GRID_PIXELS = 4096, 8575
GRID = 10 ** (4.179 + 6e-6 * np.arange(GRID_PIXELS))
_CHIPS = ((16954.906, 16725.598, 16472.913), (16435.617, 16157.440, 15857.518), (15810.409, 15486.686, 15142.816))
_BAD, _SKY_LINE, _MISSING = 1, 1 << 12, 1
_HUGE = 1e10
# (air wavelength in Angstrom, depth in a cool giant)
_LINES = (
    (15163.07, 0.30), (15168.38, 0.32), (15194.49, 0.26), (15207.53, 0.38), (15294.56, 0.42), (15361.16, 0.20),
    (15376.83, 0.22), (15395.72, 0.27), (15490.34, 0.22), (15531.75, 0.24), (15588.26, 0.25), (15591.49, 0.34),
    (15621.65, 0.40), (15631.95, 0.38), (15648.51, 0.24), (15662.01, 0.33), (15686.44, 0.30), (15691.85, 0.32),
    (15723.59, 0.28), (15740.72, 0.50), (15748.99, 0.56), (15765.84, 0.52), (15818.14, 0.31), (15833.60, 0.24),
    (15879.56, 0.38), (15886.19, 0.34), (15888.41, 0.48), (15954.48, 0.28), (15960.06, 0.42), (15964.87, 0.24),
    (16006.76, 0.26), (16040.66, 0.26), (16060.01, 0.40), (16094.79, 0.40), (16102.41, 0.30), (16136.82, 0.24),
    (16150.76, 0.28), (16153.25, 0.22), (16157.36, 0.26), (16165.03, 0.30), (16215.67, 0.36), (16316.32, 0.28),
    (16324.45, 0.26), (16486.67, 0.32), (16524.47, 0.26), (16561.76, 0.26), (16645.87, 0.24), (16680.77, 0.40),
    (16718.96, 0.44), (16750.56, 0.46), (16763.36, 0.38), (16828.16, 0.32),
)  # fmt: skip
_AIRGLOW = (
    15187, 15241, 15288, 15332, 15395, 15432, 15510, 15540, 15597, 15631, 15655, 15702, 15833, 15848, 15869, 15973,
    16031, 16080, 16129, 16195, 16235, 16317, 16351, 16388, 16442, 16502, 16554, 16692, 16709, 16840, 16904,
)  # fmt: skip
_TELLURIC = (
    (15150, 60, 0.05),
    (15300, 40, 0.02),
    (15720, 25, 0.06),
    (16030, 25, 0.07),
    (16095, 30, 0.05),
    (16650, 60, 0.03),
    (16930, 60, 0.06),
)


@dataclass(frozen=True, slots=True)
class Look:
    """What a star looks like: H magnitude, slope of its continuum, temperature, metallicity."""

    h: float
    slope: float
    teff: float
    feh: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """Three chips of one visit (rows red, green, blue; wavelength falling), and the shift (km/s) that was put in."""

    wavelength: Floats
    planes: dict[str, Array]
    shift: float

    @property
    def snr(self) -> float:
        """Median of flux over error in the middle chip, as headers give it."""
        return float(np.median(self.planes["flux"][1] / self.planes["error"][1]))


@dataclass(frozen=True, slots=True)
class Combination:
    """A star's visits on the common rest-frame grid: rows are two combinations, then the visits."""

    planes: dict[str, Array]
    limits: dict[str, int]

    @property
    def snr(self) -> float:
        """Median over all pixels of flux over error in the first row, gaps that are not numbers left out."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.nanmedian(self.planes["flux"][0] / self.planes["error"][0]))


@cache
def _vacuum_lines() -> tuple[tuple[float, float], ...]:
    return tuple((w * (1 + 2.735182e-4 + 131.4182 / w**2 + 2.76249e8 / w**4), depth) for w, depth in _LINES)


def wavelengths(offset: float) -> Floats:
    """Return the wavelengths (vacuum, Angstrom) of the three chips, shifted by `offset` pixels."""
    x = np.arange(PIXELS) + offset
    anchors = (0.0, 2047.0, 4095.0)
    return np.array([np.polyval(np.polyfit(anchors, chip, 2), x) for chip in _CHIPS])


def star_light(rest: Floats, look: Look) -> Floats:
    """Return a star's noiseless flux at rest-frame wavelengths, which rise or fall along the array."""
    level = 471.0 * 10 ** (-0.4 * (look.h - 10.941))
    flux = level * (rest / 16000.0) ** -look.slope
    rising = rest[-1] > rest[0]
    ordered = rest if rising else rest[::-1]
    strength = min(1.0, max(0.25, (7200.0 - look.teff) / 3000.0)) * 10 ** (0.15 * look.feh)
    kept = np.ones(len(rest))
    for line, depth in _vacuum_lines():
        width = line * 7.5 / LIGHT
        low, high = np.searchsorted(ordered, (line - 5 * width, line + 5 * width))
        if high > low:
            kept[low:high] *= 1 - depth * strength * np.exp(-0.5 * ((ordered[low:high] - line) / width) ** 2)
    return np.asarray(flux * (kept if rising else kept[::-1]))


def _bumps(wavelength: Floats, bumps: tuple[tuple[float, float, float], ...]) -> Floats:
    total = np.zeros(wavelength.shape)
    for centre, width, height in bumps:
        near = np.abs(wavelength - centre) < 6 * width
        total[near] += height * np.exp(-0.5 * ((wavelength[near] - centre) / width) ** 2)
    return total


def observe(look: Look, shift: float, snr: float, rng: np.random.Generator) -> Exposure:
    """Return one visit of a star whose light arrives shifted by `shift` km/s, near the wanted signal-to-noise."""
    wavelength = wavelengths(rng.uniform(-0.5, 0.5))
    clean = np.array([star_light(chip / (1 + shift / LIGHT), look) for chip in wavelength])
    telluric = 1 - _bumps(wavelength, _TELLURIC)
    glow = _bumps(wavelength, tuple((float(line), 0.35, 900.0 + 37.0 * (line % 83)) for line in _AIRGLOW))
    level = float(np.median(clean[1]))
    error = level / snr * np.sqrt((np.maximum(clean, 0.02 * level) + 0.02 * level) / (1.02 * level)) / telluric
    flux = clean + rng.normal(size=clean.shape) * error
    mask = np.where(glow > 200.0, _SKY_LINE, 0)
    error[glow > 200.0] *= 10.0
    bad = rng.random(clean.shape) < 0.002
    mask[bad] |= _BAD
    error[bad] = _HUGE
    planes = {
        "flux": flux, "error": error, "sky": 25.0 + glow, "sky_error": 1.5 + 0.1 * np.sqrt(glow),
        "telluric": telluric, "telluric_error": np.full(clean.shape, 2e-4),
    }  # fmt: skip
    return Exposure(wavelength, {k: v.astype("f4") for k, v in planes.items()} | {"mask": mask.astype("i2")}, shift)


def _resample(exposure: Exposure) -> dict[str, Array]:
    """Put one visit on the rest-frame grid; pixels that no chip covers have flux 0 and error 0."""
    seen = GRID * (1 + exposure.shift / LIGHT)
    rows: dict[str, Array] = {name: np.zeros(GRID_PIXELS) for name in exposure.planes}
    rows["chip"] = np.full(GRID_PIXELS, -1)
    for chip in range(3):
        wavelength = exposure.wavelength[chip][::-1]
        inside = (seen >= wavelength[0]) & (seen <= wavelength[-1])
        rows["chip"][inside] = chip
        nearest = np.searchsorted(wavelength, seen[inside]).clip(0, PIXELS - 1)
        for name, plane in exposure.planes.items():
            values = plane[chip][::-1]
            rows[name][inside] = values[nearest] if name == "mask" else np.interp(seen[inside], wavelength, values)
    return rows


def combine(exposures: list[Exposure], missing: float, alone: bool) -> Combination:
    """Combine visits: weighted by pixel, weighted as a whole, then each by itself.

    Parameters
    ----------
    missing : float
        Flux of the combined rows where no visit has data. Zero: the error is 1e10 there and bit 0 of the mask is set,
        as before 2020; not a number: so is the error.
    alone : bool
        Whether a single visit is written as one row.
    """
    visits = [_resample(exposure) for exposure in exposures]
    stacked = {name: np.array([visit[name] for visit in visits]) for name in visits[0]}
    covered = stacked["chip"] >= 0
    everywhere_missing = ~covered.any(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(covered, 1 / stacked["error"] ** 2, 0.0)
        whole = np.where(covered, [[exposure.snr**2] for exposure in exposures], 0.0)
        combined = []
        for w in (weight, whole):
            share = w / w.sum(axis=0)
            combined.append((
                np.where(covered, stacked["flux"] * share, 0).sum(axis=0),
                np.sqrt(np.where(covered, (stacked["error"] * share) ** 2, 0).sum(axis=0)),
            ))  # fmt: skip
    bits = stacked["mask"].astype(int)
    tops = {name: np.zeros((2, GRID_PIXELS)) for name in ("sky", "sky_error", "telluric", "telluric_error")}
    tops |= {"flux": np.array([flux for flux, _ in combined]), "error": np.array([error for _, error in combined])}
    tops["mask"] = np.array([np.bitwise_or.reduce(bits, axis=0), np.bitwise_and.reduce(bits, axis=0)])
    tops["flux"][:, everywhere_missing] = missing
    tops["error"][:, everywhere_missing] = missing
    planes = {name: np.concatenate([tops[name], stacked[name]]) for name in tops}
    if missing == 0:
        gap = planes["error"] == 0
        planes["error"][gap] = _HUGE
        planes["mask"] = np.where(gap, planes["mask"].astype(int) | _MISSING, planes["mask"])
    if len(exposures) == 1:
        planes = {name: rows[:1] if alone else rows[:2] for name, rows in planes.items()}
    return Combination(planes, _limits(stacked["chip"]))


def _limits(chips: Array) -> dict[str, int]:
    """Return the first and last grid pixel of each chip: in any visit, and (`over`) in all of them."""
    found = {}
    for n, letter in enumerate("rgb"):
        for key, pixels in ((letter, (chips == n).any(axis=0)), (f"{letter}over", (chips == n).all(axis=0))):
            where = np.flatnonzero(pixels)
            found[f"{key}min"], found[f"{key}max"] = int(where[0]), int(where[-1])
    return found
