"""Measure one apVisit or apStar and compare with its own header: a path in, plain numbers and flags out.

No database and no clock here. Astropy is imported when a file is read, and only the image rows needed are read.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import IntFlag
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astra.contrib.spectrum_quality.barycentric import (
    APACHE_POINT,
    LAS_CAMPANAS,
    Observatory,
    barycentric_correction,
)
from astra.contrib.spectrum_quality.cards import Facts, Kind, Observation, read_facts
from astra.errors import BadHeader, IncompleteFile, UnreadableFile

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

# APOGEE_PIXMASK: bits 0-7 and 14 mean that a pixel cannot be used, bit 12 that a sky line was subtracted there.
BAD_PIXEL_BITS = 0b0100_0000_1111_1111
SKY_LINE_BIT = 1 << 12

_STAR_PIXELS = 8575
# 4096 where two dither positions were combined, else 2048.
_VISIT_PIXELS = (4096, 2048)
_CHIPS = 3
_MIDDLE_CHIP = 1


class Flag(IntFlag):
    """What a measurement found; stored as one integer. `DISAGREEMENTS` are those that deserve a look."""

    SNR_DIFFERS = 1 << 0
    """Our S/N and the header's differ by more than the tolerance."""
    SNR_ABSENT = 1 << 1
    """The header gives no S/N."""
    SNR_UNMEASURED = 1 << 2
    """No pixel has a finite flux and error: the spectrum is empty."""
    VELOCITY_DIFFERS = 1 << 3
    """Our barycentric velocity and the header's differ by more than the tolerance."""
    VELOCITY_ABSENT = 1 << 4
    """The header gives no velocity that ours could be compared with."""
    VISIT_VELOCITY_DIFFERS = 1 << 5
    """For at least one visit, shift plus barycentric correction is not the printed velocity."""
    VISIT_LEFT_OUT = 1 << 6
    """A visit's velocity is a sentinel or missing; the star's velocity was formed without it."""
    PLAIN_MEAN = 1 << 7
    """No visit has a usable S/N: the star's velocity is a plain mean."""
    SCATTER_DIFFERS = 1 << 8
    """The scatter of the visits and the header's differ by more than the tolerance."""
    BC_DIFFERS = 1 << 9
    """A barycentric correction does not fit time, place on the sky and observatory."""
    BC_UNCHECKED = 1 << 10
    """No barycentric correction could be checked: value, time or coordinates are missing."""

    @property
    def labels(self) -> list[str]:
        """The names of the flags that are set, in lower case, in a fixed order."""
        return [str(flag.name).lower() for flag in Flag if flag in self]


DISAGREEMENTS = (
    Flag.SNR_DIFFERS
    | Flag.SNR_UNMEASURED
    | Flag.VELOCITY_DIFFERS
    | Flag.VISIT_VELOCITY_DIFFERS
    | Flag.SCATTER_DIFFERS
    | Flag.BC_DIFFERS
)


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What counts as a difference: S/N relative, velocities in km/s, the barycentric correction in m/s."""

    snr: float = 1e-3
    velocity: float = 1e-3
    barycentric: float = 50.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Our numbers beside the header's; None where there is none. The result table says what each one is."""

    snr: float | None
    snr_header: float | None
    v_bary: float | None
    v_header: float | None
    v_scatter: float | None
    v_scatter_header: float | None
    velocity_difference: float | None
    n_visits: int
    n_visits_used: int
    bc_header: float | None
    bc_difference_m_s: float | None
    bad_pixel_fraction: float
    sky_pixel_fraction: float
    n_pixels: int
    flags: Flag
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What is read of a file: the row its S/N comes from, the mask of all pixels that count, the header's facts."""

    kind: Kind
    flux: NDArray[np.floating[Any]]
    error: NDArray[np.floating[Any]]
    mask: NDArray[np.integer[Any]]
    facts: Facts


def measure(path: str | Path, telescope: str | None = None, tolerances: Tolerances | None = None) -> Measurement:
    """Measure the file at `path`.

    Parameters
    ----------
    path : str or Path
        An apVisit or apStar of any release; told by its content.
    telescope : str, optional
        Such as "lco25m". The header is not to be trusted here: the pipeline wrote apo25m into southern visits.
        Left out, it is taken from the path, then the header, then assumed to be at Apache Point.
    tolerances : Tolerances, optional
        What counts as a difference.
    """
    spectrum = read_spectrum(path)
    observatory = observatory_of(telescope or guess_telescope(path, spectrum.facts))
    return compare(spectrum, observatory, tolerances or Tolerances())


def observatory_of(telescope: str) -> Observatory:
    """Return where a telescope stands, by the name it has in paths: apo25m, apo1m or lco25m."""
    return LAS_CAMPANAS if telescope.startswith("lco") else APACHE_POINT


def guess_telescope(path: str | Path, facts: Facts) -> str:
    """Return the likely telescope of a file of which nothing is known but its path and header."""
    southern = "lco25m" in str(path) or Path(path).name.startswith("as") or facts.telescope == "lco25m"
    return "lco25m" if southern else "apo25m"


def read_spectrum(path: str | Path) -> Spectrum:
    """Read the rows needed of one file.

    Raises
    ------
    BadHeader
        The file is of another kind.
    IncompleteFile
        Bytes that it promises are missing.
    UnreadableFile
        It cannot be opened, or is not FITS.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    try:
        # Of missing bytes astropy only warns.
        with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus:
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            return _extract(hdus, path)
    except OSError as error:
        raise UnreadableFile(f"cannot read {path}: {error}; it was not measured") from error
    except (AstropyUserWarning, ValueError, TypeError) as error:
        raise IncompleteFile(f"cannot read all of {path}: {error}; it was not measured") from error


def _extract(hdus: HDUList, path: str | Path) -> Spectrum:
    try:
        flux, error, mask = images = [hdus[1], hdus[2], hdus[3]]
    except IndexError as missing:
        raise BadHeader(f"{path} has no HDUs 1 to 3 (flux, error, mask), so it is no apVisit or apStar") from missing
    shapes = {tuple(image.shape) for image in images if image.is_image}
    if not all(image.is_image for image in images) or len(shapes) != 1 or mask.header["BITPIX"] < 0:
        raise BadHeader(f"{path} has no flux and error images with a mask of the same shape, so nothing is measured")
    (shape,) = shapes
    if len(shape) == 2 and shape[0] == _CHIPS and shape[1] in _VISIT_PIXELS:
        kind, row, rows = Kind.VISIT, _MIDDLE_CHIP, slice(None)
    elif len(shape) in (1, 2) and shape[-1] == _STAR_PIXELS:
        kind, row, rows = Kind.STAR, 0, slice(0, 1)
    else:
        raise BadHeader(f"{path} has images of shape {shape}, neither those of an apVisit nor of an apStar")
    one_dimensional = len(shape) == 1
    facts = read_facts(hdus[0].header, kind)
    if one_dimensional:
        return Spectrum(kind, flux.data, error.data, mask.data, facts)
    return Spectrum(kind, flux.section[row], error.section[row], mask.section[rows], facts)


def compare(spectrum: Spectrum, observatory: Observatory, tolerances: Tolerances) -> Measurement:
    """Form our numbers from a spectrum, set them beside its header's, and flag where they differ."""
    facts = spectrum.facts
    snr = signal_to_noise(spectrum)
    velocities = combine(facts.visits)
    # A visit's own sum is compared with its printed one; a star's mean with the mean in its header.
    difference = _minus(velocities.mean, facts.velocity)
    scatter_difference = _minus(velocities.scatter, facts.scatter)
    bc_header, bc_difference = worst_correction(facts, observatory)
    closures = [abs(visit.closure) for visit in facts.visits if visit.closure is not None]
    snr_tolerance = tolerances.snr * abs(facts.snr or 0.0)
    conditions = {
        Flag.SNR_DIFFERS: _beyond(_minus(snr, facts.snr), snr_tolerance),
        Flag.SNR_ABSENT: facts.snr is None,
        Flag.SNR_UNMEASURED: snr is None,
        Flag.VELOCITY_DIFFERS: _beyond(difference, tolerances.velocity),
        Flag.VELOCITY_ABSENT: facts.velocity is None,
        Flag.VISIT_VELOCITY_DIFFERS: any(closure > tolerances.velocity for closure in closures),
        Flag.VISIT_LEFT_OUT: 0 < velocities.used < len(facts.visits) or any(each.unmeasured for each in facts.visits),
        Flag.PLAIN_MEAN: velocities.plain,
        Flag.SCATTER_DIFFERS: _beyond(scatter_difference, tolerances.velocity),
        Flag.BC_DIFFERS: _beyond(bc_difference, tolerances.barycentric),
        Flag.BC_UNCHECKED: bc_difference is None,
    }
    return Measurement(
        snr=snr,
        snr_header=facts.snr,
        v_bary=velocities.mean,
        v_header=facts.velocity,
        v_scatter=velocities.scatter,
        v_scatter_header=facts.scatter,
        velocity_difference=difference,
        n_visits=len(facts.visits),
        n_visits_used=velocities.used,
        bc_header=bc_header,
        bc_difference_m_s=bc_difference,
        bad_pixel_fraction=_fraction(spectrum.mask, BAD_PIXEL_BITS),
        sky_pixel_fraction=_fraction(spectrum.mask, SKY_LINE_BIT),
        n_pixels=int(spectrum.mask.size),
        flags=reduce(or_, (flag for flag, is_set in conditions.items() if is_set), Flag(0)),
        synthetic=facts.synthetic,
    )


def signal_to_noise(spectrum: Spectrum) -> float | None:
    """Return the median of flux over error, leaving out what is not finite; None where nothing is left.

    For a visit's even number of pixels the upper of the two middle values, as the pipeline's language takes it: with
    it the header's S/N is met in every printed digit, with their mean only to a few parts in ten thousand.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(spectrum.flux, spectrum.error, dtype=np.float64)
    ratio = ratio[np.isfinite(ratio)]
    if not ratio.size:
        return None
    if spectrum.kind is Kind.STAR:
        return float(np.median(ratio))
    middle = ratio.size // 2
    return float(np.partition(ratio, middle)[middle])


@dataclass(frozen=True, slots=True)
class Velocities:
    """Mean and scatter of visits in km/s, how many were used, and whether the mean had to do without weights."""

    mean: float | None
    scatter: float | None
    used: int
    plain: bool


def combine(visits: tuple[Observation, ...]) -> Velocities:
    """Return the S/N-weighted mean of the visits' barycentric velocities and their scatter (N - 1).

    Visits without a velocity are left out; where no visit has an S/N above zero the mean is a plain one.
    """
    known = [(visit.velocity, max(visit.snr or 0.0, 0.0)) for visit in visits if visit.velocity is not None]
    if not known:
        return Velocities(None, None, 0, False)
    velocities, weights = np.array(known, dtype=float).T
    plain = not weights.any()
    mean = np.average(velocities, weights=None if plain else weights)
    scatter = float(np.std(velocities, ddof=1)) if len(known) > 1 else None
    return Velocities(float(mean), scatter, len(known), plain)


def worst_correction(facts: Facts, observatory: Observatory) -> tuple[float | None, float | None]:
    """Return the header's barycentric correction (km/s) that is furthest from ours, and ours minus it in m/s."""
    known = [(v.jd, v.correction) for v in facts.visits if v.jd is not None and v.correction is not None]
    first = next((v.correction for v in facts.visits if v.correction is not None), None)
    if not known or facts.ra is None or facts.dec is None:
        return first, None
    jd, printed = np.array(known, dtype=float).T
    differences = 1000.0 * (barycentric_correction(jd, facts.ra, facts.dec, observatory) - printed)
    if np.isnan(differences).all():
        return first, None
    worst = int(np.nanargmax(np.abs(differences)))
    return float(printed[worst]), float(differences[worst])


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _beyond(difference: float | None, tolerance: float) -> bool:
    return difference is not None and abs(difference) > tolerance


def _fraction(mask: NDArray[np.integer[Any]], bits: int) -> float:
    return float(np.count_nonzero(mask & bits)) / mask.size
