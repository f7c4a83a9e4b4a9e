"""The bytes of one visit or star file, HDU by HDU, and where the release keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from astra.products.apogee import pixel
from astra.simulate import cards
from astra.simulate.layouts.base import LSF_HISTORY, STAR_PLANES, VISIT_PLANES, WAVE_HISTORY, Layout
from astra.simulate.motion import galactic, separation_cosine
from astra.simulate.night import Star, Visit
from astra.simulate.paths import star_path, visit_path
from astra.simulate.spectra import combine
from astra.simulate.tables import lsf_coefficients, star_tables, visit_row

_STAMP = "%a %b %d %H:%M:%S %Y"
_EXPOSURE_TIME = 2002.04
_GRID_CARDS = {
    "idl": ("CRVAL1|4.17900000000|", "CDELT1|6.00000000000E-06|", "CRPIX1|1|", "CTYPE1|'LOG-LINEAR'|", "DC-FLAG|1|"),
    "astropy": ("CRVAL1|4.179", "CDELT1|6E-06", "CRPIX1|1", "CTYPE1|'LOG-LINEAR'"),
}


def star_facts(star: Star) -> dict[str, Any]:
    """Return what every header of a star's files says of the star."""
    layout, field, (glon, glat) = star.field.night.layout, star.field, galactic(star.ra, star.dec)
    return _appearance(star) | {
        "objid": star.name,
        "ra": star.ra,
        "dec": star.dec,
        "glon": glon,
        "glat": glat,
        "healpix": int(pixel(star.name) or 0),
        "catid": star.catalogid,
        "sdss_id": 50_000_000 + star.number,
        "gaia": 5_900_000_000_000_000_000 + star.number,
        "survey": layout.survey,
        "apred": layout.apred,
        "locid": field.location,
        "field": field.name,
        "telescope": field.site.name,
        # The visit writer puts this name into TELESCOP whatever the telescope; only the path tells.
        "telescope_card": "apo25m",
        "targ1": -2147481600 + (star.index % 4) * 16,
        "targ2": 0,
        "starflag": 0,
        "zero": 0.0,
    }


def _appearance(star: Star) -> dict[str, float]:
    """Return magnitudes, motion, and what a fit of templates would say of the star."""
    j, h, k = star.magnitudes
    teff, logg, feh = (star.drawn(name) for name in ("teff", "logg", "feh"))
    return {
        "j": j,
        "h": h,
        "k": k,
        "mag_err": 0.025,
        "irac": k - 0.05,
        "gmag": j + 1.6,
        "bpmag": j + 2.3,
        "rpmag": j + 0.8,
        "aktarg": 0.15,
        "plx": star.drawn("plx"),
        "pmra": star.drawn("pmra"),
        "pmdec": star.drawn("pmdec"),
        "teff": teff,
        "logg": logg,
        "feh": feh,
        "gridteff": 250.0 * round(teff / 250),
        "gridlogg": 0.5 * round(logg / 0.5),
        "gridfeh": 0.5 * round(feh / 0.5),
        "chisq": 1.6,
        "ccfwhm": 21.3,
        "autofwhm": 20.9,
    }


def visit_facts(visit: Visit) -> dict[str, Any]:
    """Return what the headers of a visit file, and the visit's part of a star's, say of the visit."""
    layout, path = visit.field.night.layout, visit_path(visit)
    stamp = visit.at(0) + timedelta(hours=20)
    frame = (visit.mjd - 55562) * 10000 + 36
    facts = star_facts(visit.star) | _velocities(visit) | {f"frame{n}": frame + n - 1 for n in range(1, 9)}
    return facts | {
        "plate": str(visit.plate) if layout.rv_stage else visit.plate,
        "mjd": visit.mjd,
        "fiber": visit.fiber,
        "dateobs": visit.at(-_EXPOSURE_TIME / 2).isoformat(timespec="milliseconds"),
        "utmid": visit.at(0).isoformat(timespec="milliseconds")[:-2],
        "jdmid": visit.middle,
        "jd": visit.middle - _EXPOSURE_TIME / 2 / 86400,
        "exptime": _EXPOSURE_TIME,
        "snr": visit.exposure.snr,
        "hplus": 1.2,
        "hminus": -0.8,
        "fluxflam": 7.5e-19,
        "relflux": 0.91,
        "mtpflux": 0.95,
        "cartid": 1 + visit.plate % 9,
        "waveid": frame - 36,
        "lsfid": frame + 60,
        "v_apred": layout.v_apred,
        "v_apred_text": _version(layout, layout.v_apred),
        "file": path.rsplit("/", 1)[1],
        "uri": path,
        "created": stamp.date().isoformat(),
        "written": stamp.strftime(_STAMP),
        "updated": (stamp + timedelta(minutes=27)).strftime(_STAMP),
    }


def _velocities(visit: Visit) -> dict[str, float]:
    """Return the visit's velocities in every frame that a header gives."""
    star, (velocity, error) = visit.star, visit.measured
    glon, glat = np.radians(galactic(star.ra, star.dec))
    lsr = velocity + 20.0 * separation_cosine(star.ra, star.dec, 271.0, 30.0)
    return {
        "bc": visit.correction,
        "hjd": visit.middle - 2400000 + visit.delay,
        "vrad": velocity - visit.correction,
        "vhelio": velocity,
        "verr": error,
        "scatter": 0.4,
        "vlsr": lsr,
        "vgsr": lsr + 220.0 * float(np.sin(glon) * np.cos(glat)),
        "xshift": (velocity - visit.correction) / 3.3,
        "ccpeak": 0.72,
    }


def _version(layout: Layout, code: str) -> str:
    return code if len(code) < 20 else layout.apred


@dataclass(frozen=True, slots=True)
class VisitFile:
    """A visit file: `hdus` as first appended; `rewritten` is HDU 0 after the radial-velocity stage, if there is one."""

    path: str
    hdus: tuple[bytes, ...]
    rewritten: bytes | None


def visit_file(visit: Visit) -> VisitFile:
    """Make a visit's file: primary header, eight images, two arrays of coefficients, the last stage's table."""
    layout, exposure, facts = visit.field.night.layout, visit.exposure, visit_facts(visit)
    primary = [*layout.visit.splitlines(), *cards.SYNTHETIC]
    hdus = [cards.header(primary, facts)]
    for plane, unit, name in VISIT_PLANES:
        data = exposure.wavelength if plane == "wavelength" else exposure.planes[plane]
        hdus.append(
            cards.image(data, ["CTYPE1|'Pixel'|", "CTYPE2|'Chip'|", f"BUNIT|'{unit}'|", _named(layout, name)], "idl")
        )
    for data, unit, history, name in (
        (_wave_coefficients(exposure.wavelength), "Wavelength Coefficients", WAVE_HISTORY, "WAVE COEFFICIENTS"),
        (lsf_coefficients(3), "LSF Coefficients", LSF_HISTORY, "LSF COEFFICIENTS"),
    ):
        lines = [
            "CTYPE1|'Fiber'|",
            "CTYPE2|'Parameters'|",
            f"BUNIT|'{unit}'|",
            _named(layout, name),
            *history.splitlines(),
        ]
        hdus.append(cards.image(data, lines, "idl"))
    hdus.append(cards.table(visit_row(layout, facts), (), "idl"))
    rewritten = cards.header([*primary, *layout.rv_stage.splitlines()], facts) if layout.rv_stage else None
    return VisitFile(visit_path(visit), tuple(hdus), rewritten)


def _named(layout: Layout, name: str) -> str:
    return f"EXTNAME|'{name}'|" if layout.named_hdus else ""


def _wave_coefficients(wavelength: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return 14 numbers a chip: offset and sines (none), polynomial in (pixel - 2048) / 2048, lowest order first."""
    found = np.zeros((3, 14))
    x = (np.arange(wavelength.shape[1]) - 2048.0) / 2048.0
    for chip, row in enumerate(wavelength):
        found[chip, 6:9] = np.polyfit(x[::64], row[::64], 2)[::-1]
    return found


@dataclass(frozen=True, slots=True)
class StarFile:
    """A star file and the numbers its header gives for the star."""

    path: str
    link: str | None
    hdus: tuple[bytes, ...]
    snr: float
    velocity: float
    scatter: float


def star_file(star: Star, used: int) -> StarFile:
    """Combine a star's first `used` visits into its file."""
    layout, visits = star.field.night.layout, star.visits[:used]
    combined = combine([visit.exposure for visit in visits], layout.gaps, layout.alone)
    facts = star_facts(star) | _means(visits) | combined.limits
    stamp = visits[-1].at(0) + timedelta(hours=34)
    facts |= {
        "snr": combined.snr,
        "nvisits": used,
        "starver": str(visits[-1].mjd),
        "v_apred": layout.v_apred_star,
        "snrev": combined.snr * 1.04,
        "v_apred_text": _version(layout, layout.v_apred_star),
        "written": stamp.strftime(_STAMP),
        "created": stamp.date().isoformat(),
    }
    primary = [cards.card(line, facts) for line in layout.star.splitlines()]
    for n, visit in enumerate(visits, 1):
        primary += [cards.card(line, visit_facts(visit) | {"n": n}) for line in layout.per_visit.splitlines()]
    primary += [cards.card(line, facts) for line in (*layout.star_tail.splitlines(), *cards.SYNTHETIC)]
    hdus = [cards.joined(primary)]
    for plane, unit in zip(STAR_PLANES, layout.star_units, strict=True):
        data = combined.planes[plane].astype(layout.mask_type if plane == "mask" else layout.float_type)
        lines = [*_GRID_CARDS[layout.star_writer], f"BUNIT|'{unit}'" + ("|" if layout.star_writer == "idl" else "")]
        hdus.append(cards.image(data[0] if layout.alone and len(data) == 1 else data, lines, layout.star_writer))
    hdus += star_tables(layout, visits, facts)
    path, link = star_path(star, visits[-1].mjd)
    return StarFile(path, link, tuple(hdus), combined.snr, facts["vhelio"], facts["scatter"])


def _means(visits: tuple[Visit, ...]) -> dict[str, float]:
    """Return the star's mean velocity weighted by S/N, its scatter (N - 1), and the means of fibres and errors."""
    velocity, error = np.array([visit.measured for visit in visits]).T
    snr = np.array([visit.exposure.snr for visit in visits])
    fiber = np.array([visit.fiber for visit in visits], dtype=float)
    several = len(visits) > 1
    return {
        "vhelio": float((velocity * snr).sum() / snr.sum()),
        "scatter": float(velocity.std(ddof=1)) if several else 0.0,
        "verr": float(1 / np.sqrt((1 / error**2).sum())),
        "verr_med": float(np.median(error)),
        "meanfib": float((fiber * snr).sum() / snr.sum()),
        "sigfib": float(fiber.std(ddof=1)) if several else 0.0,
    }
