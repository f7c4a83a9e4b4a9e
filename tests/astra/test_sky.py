"""Angles and motions on the sky; the oracle is astropy."""

from __future__ import annotations

import math

import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from astra.sky import Epochs, Star, closest, separation

RA, DEC = st.floats(0, 360), st.floats(-90, 90)
EPOCHS = Epochs(1997.4, 2001.2)


@settings(max_examples=60)
@given(RA, DEC, RA, DEC)
def test_the_separation_is_astropy_s(ra: float, dec: float, other_ra: float, other_dec: float) -> None:
    one, other = SkyCoord(ra, dec, unit="deg"), SkyCoord(other_ra, other_dec, unit="deg")
    assert separation(ra, dec, other_ra, other_dec) == pytest.approx(one.separation(other).arcsec, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(RA, st.floats(-89.8, 89.8), st.floats(-11_000, 11_000), st.floats(-11_000, 11_000), st.floats(1997.4, 2001.2))
def test_a_star_is_found_where_astropy_moves_it(ra: float, dec: float, pmra: float, pmdec: float, year: float) -> None:
    star = Star(ra, dec, 2015.5, pmra, pmdec)
    moving = SkyCoord(
        ra * units.deg, dec * units.deg, pm_ra_cosdec=pmra * units.mas / units.yr, pm_dec=pmdec * units.mas / units.yr,
        distance=10 * units.pc, obstime=Time(2015.5, format="jyear"),
    )  # fmt: skip
    there = moving.apply_space_motion(Time(year, format="jyear"))
    assert closest(there.ra.deg, there.dec.deg, EPOCHS, star) < 0.02


@given(st.floats(-80, 80), st.floats(0.1, 60.0))
def test_a_star_that_passes_by_is_nearest_when_it_is_beside(dec: float, beside: float) -> None:
    north = 15.5 * 240 / 3_600_000  # degrees it has moved since 2000
    star = Star(100.0, dec + north, 2015.5, 0.0, 240.0)
    ra = 100.0 + beside / 3600.0 / math.cos(math.radians(dec))
    assert closest(ra, dec, EPOCHS, star) == pytest.approx(beside, rel=1e-3)
    late = math.hypot(beside, north * 3600)
    assert closest(ra, dec, Epochs(2015.5, 2015.5), star) == pytest.approx(late, rel=1e-3)


@pytest.mark.parametrize("motion", [(None, None), (5.0, None), (0.0, 0.0), (0.0, 1e-200)])
def test_a_star_without_a_known_motion_stays(motion: tuple[float | None, float | None]) -> None:
    assert closest(10.0, 20.0, EPOCHS, Star(10.0, 20.001, 2015.5, *motion)) == pytest.approx(3.6)
    assert closest(10.0, 20.0, EPOCHS, Star(10.0, 20.001, None, 5.0, 5.0)) == pytest.approx(3.6)
