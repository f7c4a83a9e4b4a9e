"""The tables of visit and star files: velocities and their cross-correlations, a row a visit or a row for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from astra.simulate import cards
from astra.simulate.layouts.base import LSF_HISTORY, Layout, columns
from astra.simulate.night import Visit
from astra.simulate.paths import visit_path

Array = np.ndarray[Any, Any]
_UNKNOWN = -9999.99
# Columns named otherwise than the fact they hold.
_FACT_OF_COLUMN = {
    "APOGEE_ID": "objid",
    "TARGET_ID": "objid",
    "FIBERID": "fiber",
    "LOCATION_ID": "locid",
    "APOGEE_TARGET1": "targ1",
    "APOGEE_TARGET2": "targ2",
    "JD": "jdmid",
    "VREL": "vrad",
    "VRELERR": "verr",
    "RV_TEFF": "gridteff",
    "RV_FEH": "gridfeh",
    "RV_LOGG": "gridlogg",
    "CATALOGID": "catid",
    "GAIA_SOURCEID": "gaia",
    "APRED_VERS": "apred",
    "JMAG": "j",
    "HMAG": "h",
    "KMAG": "k",
    "GAIA_PLX": "plx",
    "GAIA_PMRA": "pmra",
    "GAIA_PMDEC": "pmdec",
    "GAIA_GMAG": "gmag",
    "GAIA_BPMAG": "bpmag",
    "GAIA_RPMAG": "rpmag",
}
_FIXED_COLUMNS = {
    "VTYPE": 2,
    "ASSIGNED": 1,
    "ON_TARGET": 1,
    "VALID": 1,
    "NFRAMES": 1,
    "SRC_H": b"2MASS",
    "OBJTYPE": b"STAR",
    "GAIA_RELEASE": b"dr3",
    "AK_TARG_METHOD": b"NONE",
    "SYNTHFILE": b"none",
}


def lsf_coefficients(rows: int) -> Array:
    """Return the parameters of a plain Gaussian line-spread function, in the places where the pipeline keeps them."""
    found = np.zeros((rows, 26))
    found[:, :10] = 1.0, 2048.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.8
    return found


def visit_row(layout: Layout, facts: dict[str, Any]) -> Array:
    """Return the one row of a visit's table."""
    row = np.zeros(1, columns(layout.visit_columns))
    for name in row.dtype.names or ():
        fact = facts.get(_FACT_OF_COLUMN.get(name, name.lower()), _FIXED_COLUMNS.get(name))
        kind = row.dtype[name].kind
        if kind == "S":
            row[name] = str(fact).encode() if not isinstance(fact, bytes | None) else (fact or b"")
        else:
            row[name] = fact if fact is not None else (0 if kind == "i" else _UNKNOWN)
    return row


def star_tables(layout: Layout, visits: tuple[Visit, ...], facts: dict[str, Any]) -> list[bytes]:
    """Return the HDUs after a star's images, as each generation has them: line-spread function, velocities."""
    if layout.star_writer == "idl":
        lines = ["CTYPE1|'Parameters'|", "BUNIT|'LSF Coefficients'|", *LSF_HISTORY.splitlines()]
        return [cards.image(lsf_coefficients(1)[0], lines, "idl"), cards.table(_one_row(visits, facts), (), "idl")]
    if layout.versioned:
        empty = cards.table(np.zeros(0, np.dtype([])), (), "astropy")
        return [empty, cards.table(_row_a_visit(visits, facts, 801, full=False), (), "astropy")]
    summary = _row_a_visit(visits[:1], facts, 243, full=True)
    summary["filename"], summary["vhelio"], summary["vrel"], summary["bc"] = b"", facts["vhelio"], facts["vhelio"], 0.0
    return [
        cards.image(np.zeros(0, "u1"), (), "astropy"),
        cards.table(_row_a_visit(visits, facts, 765, full=True), (), "astropy"),
        cards.table(summary, (), "astropy"),
    ]


def _peak(grid: Array, velocity: float) -> Array:
    """Return a cross-correlation function with its peak at a velocity."""
    return np.asarray(0.75 * np.exp(-0.5 * ((grid - velocity) / 9.0) ** 2))


def _file_name(visit: Visit) -> bytes:
    return visit_path(visit).rsplit("/", 1)[1].encode()


def _one_row(visits: tuple[Visit, ...], facts: dict[str, Any]) -> Array:
    """Return the table of the old pipeline: one row, its columns vectors with one number a visit."""
    n, lags = len(visits), 401
    rows = n + 2 if n > 1 else 1
    each = (n,) if n > 1 else ()
    ccf = (rows, lags) if n > 1 else (lags,)
    names = [_file_name(visit) for visit in visits]
    lag = np.arange(lags) - 200
    velocity = np.array([visit.measured[0] for visit in visits])
    error = np.array([visit.measured[1] for visit in visits])
    bc = np.array([visit.correction for visit in visits])
    values: list[tuple[str, str, tuple[int, ...], Any]] = [
        ("FILE", f"S{max(map(len, names))}", each, names),
        ("FIBER", ">i2", each, [visit.fiber for visit in visits]),
        ("PLATE", "S4", each, [str(visit.plate).encode() for visit in visits]),
        ("MJD", ">i4", each, [visit.mjd for visit in visits]),
        ("LOCID", ">i2", each, [visit.field.location for visit in visits]),
        ("JD", ">f8", each, [visit.middle for visit in visits]),
        ("VREL", ">f4", each, velocity - bc),
        ("VRELERR", ">f4", each, error),
        ("VHELIO", ">f4", each, velocity),
        ("BC", ">f4", each, bc),
        ("BINARY", ">i2", (2,), -1),
        ("STABLERV_CHI2", ">f4", (2,), -1),
        ("STABLERV_RCHI2", ">f4", (2,), -1),
        ("CHI2_THRESHOLD", ">f4", (2,), -1),
        ("STABLERV_CHI2_PROB", ">f4", (2,), -1),
        ("TEFF", ">f4", (), facts["gridteff"]),
        ("LOGG", ">f4", (), facts["gridlogg"]),
        ("FEH", ">f4", (), facts["gridfeh"]),
        ("ALPHA", ">f4", (), 0),
        ("CARBON", ">f4", (), 0),
        ("SYNTHVREL", ">f4", each, velocity - bc),
        ("SYNTHVHELIO", ">f4", each, velocity),
        ("SYNTHVRELERR", ">f4", each, error),
        ("CCF", ">f4", ccf, _peak(lag * 4.14, 0.0)),
        ("CCFERR", ">f4", ccf, 0.001),
        ("CCFLAG", ">f4", (lags,), lag),
        ("CCFW0", ">f8", (), 15100.8),
        ("CCFDW", ">f8", (), 6e-6),
        ("AUTOCF", ">f4", (lags,), _peak(lag * 4.14, 0.0)),
    ]
    row = np.zeros(1, np.dtype([(name, kind, shape) for name, kind, shape, _ in values]))
    for name, _, shape, value in values:
        row[name][0] = value if shape or not isinstance(value, list | np.ndarray) else value[0]
    return row


def _row_a_visit(visits: tuple[Visit, ...], facts: dict[str, Any], lags: int, *, full: bool) -> Array:
    """Return a table with a row a visit: `full` as in DR17, else as in SDSS-V, without date and auto-correlation."""
    name, width = ("filename", 72) if full else ("filename", 300)
    scalars = ["snr", "vhelio", "vrel", "vrelerr", "teff", "tefferr", "logg", "loggerr", "feh", "feherr", "chisq", "bc"]
    last = ["xcorr_vrel", "xcorr_vrelerr", "xcorr_vhelio"] + (["ccpfwhm", "autofwhm"] if full else [])
    types: list[Any] = [(name, f"S{width}"), *[("jd", ">f8")] * full, *[(key, ">f8") for key in scalars]]
    types += [*[(key, ">f8", (lags,)) for key in ("x_ccf", "ccf", "ccferr")], *[(key, ">f8") for key in last]]
    rows = np.zeros(len(visits), np.dtype([*types, *[("autoccf", ">f8", (lags,))] * full]))
    grid = np.linspace(-1000.0, 1000.0, lags)
    for row, visit in zip(rows, visits, strict=True):
        velocity, error = visit.measured
        shift = velocity - visit.correction
        known = {
            "snr": visit.exposure.snr,
            "vhelio": velocity,
            "vrel": shift,
            "vrelerr": error,
            "xcorr_vrel": shift,
            "xcorr_vrelerr": error,
            "xcorr_vhelio": velocity,
            "bc": visit.correction,
            "jd": visit.middle,
            "filename": _file_name(visit),
            "x_ccf": grid,
            "ccf": _peak(grid, shift),
            "ccferr": 0.002,
            "autoccf": _peak(grid, 0.0),
            "ccpfwhm": facts["ccfwhm"],
            "tefferr": 8.0,
            "loggerr": 0.03,
            "feherr": 0.02,
        }
        for key in rows.dtype.names or ():
            row[key] = known[key] if key in known else facts[key]
    return rows
