"""What a layout says of a release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

IDL_HEAD = """\
SIMPLE|T|image conforms to FITS standard
BITPIX|16|bits per data value
NAXIS|0|number of axes
EXTEND|T|file may contain extensions
DATE|{created:s}| Creation UTC (CCCC-MM-DD) date of FITS header
COMMENT FITS (Flexible Image Transport System) format is defined in 'Astronomy
COMMENT and Astrophysics', volume 376, page 359; bibcode 2001A&A...376..359H
"""
FRAMES = "".join(f"FRAME{n}|{{frame{n}:i}}|Constituent frame\n" for n in range(1, 9))
LSF_HISTORY = """\
HISTORY LSF Coefficients to be used with LSF_GH.PRO:
HISTORY   binsize  The width of a pixel in X-units.  If this is non-zero
HISTORY              then a "binned" Gauss-Hermite function is used.  If
HISTORY              binsize=0 then a "normal, unbinned" Gauss-Hermite
HISTORY              function is used.
HISTORY   X0       An additive x-offset.  This is only used to
HISTORY              evaluate the GH parameters that vary globally
HISTORY              with X.
HISTORY   Horder   The highest Hermite order, Horder=0 means
HISTORY              only a constant term (i.e. only Gaussian).
HISTORY              There are Horder Hermite coefficients (since we fix H0=1).
HISTORY   Porder   This array gives the polynomial order for the
HISTORY              global variation (in X) of each LSF parameter.
HISTORY              That includes sigma and the Horder Hermite
HISTORY              coefficients (starting with H1 because we fix H0=1)
HISTORY              There will be Porder[i]+1 coefficients for
HISTORY              parameter i.
HISTORY   GHcoefs  The polynomial coefficients for sigma and the
HISTORY              Horder Hermite parameters.  There are Porder[i]+1
HISTORY              coefficients for parameter i.  The Hermite parameters
HISTORY              start with H1 since we fix H0=1."""
WAVE_HISTORY = """\
HISTORY Wavelength Coefficients to be used with PIX2WAVE.PRO:
HISTORY  1 Global additive pixel offset
HISTORY  4 Sine Parameters
HISTORY  7 Polynomial parameters (first is a zero-point offset
HISTORY                      in addition to the pixel offset)"""
VISIT_HISTORY = """\
HISTORY AP1DVISIT: {written}
HISTORY AP1DVISIT:  APOGEE Reduction Pipeline Version: {v_apred_text}
HISTORY AP1DVISIT: The data for the individual visit spectrum are in
HISTORY AP1DVISIT:   separate extensions.  All HDUs have data for each chip in
HISTORY AP1DVISIT:   a separate row (i.e. 4096x3) except for Wavelength and LSF
HISTORY AP1DVISIT:  HDU0 = Header only
HISTORY AP1DVISIT:  HDU1 - Flux (10^-17 ergs/s/cm^2/Ang)
HISTORY AP1DVISIT:  HDU2 - Error (10^-17 ergs/s/cm^2/Ang)
HISTORY AP1DVISIT:  HDU3 - Flag mask (bitwise OR combined)
HISTORY AP1DVISIT:  HDU4 - Wavelength (Ang)
HISTORY AP1DVISIT:  HDU5 - Sky (10^-17 ergs/s/cm^2/Ang)
HISTORY AP1DVISIT:  HDU6 - Sky Error (10^-17 ergs/s/cm^2/Ang)
HISTORY AP1DVISIT:  HDU7 - Telluric
HISTORY AP1DVISIT:  HDU8 - Telluric Error
HISTORY AP1DVISIT:  HDU9 - Wavelength coefficients
HISTORY AP1DVISIT:  HDU10 - LSF coefficients"""
# (plane, unit, EXTNAME since SDSS-V), in the order of the HDUs
VISIT_PLANES = (
    ("flux", "Flux (10^-17 erg/s/cm^2/Ang)", "FLUX"), ("error", "Flux Error (10^-17 erg/s/cm^2/Ang)", "ERROR"),
    ("mask", "Flag Mask (bitwise)", "MASK"), ("wavelength", "Wavelength (Ang)", "WAVELENGTH"),
    ("sky", "Sky (10^-17 erg/s/cm^2/Ang)", "SKY FLUX"), ("sky_error", "Sky Error (10^-17 erg/s/cm^2/Ang)", "SKY ERROR"),
    ("telluric", "Telluric", "TELLURIC"), ("telluric_error", "Telluric Error", "TELLURIC ERROR"),
)  # fmt: skip
STAR_PLANES = ("flux", "error", "mask", "sky", "sky_error", "telluric", "telluric_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One release, as its pipeline writes it.

    `visit`, `star`, `per_visit` and `star_tail` are card templates (see `astra.simulate.cards`); `rv_stage` is what the
    old radial-velocity stage adds to a visit's header, in place, once all visits of the plate are on disk (empty since
    DR17). `versioned` stars carry the last visit's MJD in their name, with a link to the newest. `stepwise` stars are
    appended HDU by HDU like visits; the others are written in one go, through one open file.
    """

    release: str
    apred: str
    telescopes: tuple[str, ...]
    v_apred: str
    v_apred_star: str
    visit: str
    rv_stage: str
    visit_columns: str
    named_hdus: bool
    star: str
    per_visit: str
    star_tail: str
    star_units: tuple[str, ...]
    star_writer: str
    float_type: str
    mask_type: str
    gaps: float
    alone: bool
    versioned: bool
    stepwise: bool
    survey: str


def columns(text: str) -> np.dtype[Any]:
    """Return the big-endian record type of ``NAME:type`` words."""
    pairs = [word.split(":") for word in text.split()]
    return np.dtype([(name, kind if kind.startswith("S") else f">{kind}") for name, kind in pairs])
