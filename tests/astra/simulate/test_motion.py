"""The Earth's motion, against a real ephemeris."""

from __future__ import annotations

import random
import warnings

import pytest
from astropy import units
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from astra.simulate.motion import SITES, barycentric, galactic


def test_the_barycentric_correction_is_that_of_a_real_ephemeris() -> None:
    drawn = random.Random(2)
    with iers.conf.set_temp("auto_download", False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(10):
            site, jd = drawn.choice(list(SITES.values())), 2455800 + drawn.random() * 4500
            ra, dec = drawn.uniform(0, 360), drawn.uniform(-80, 80)
            place = EarthLocation.from_geodetic(site.longitude * units.deg, site.latitude * units.deg, 2500 * units.m)
            sky = SkyCoord(ra, dec, unit="deg")
            real = sky.radial_velocity_correction(obstime=Time(jd, format="jd"), location=place).to_value("km/s")
            assert barycentric(jd, ra, dec, site) == pytest.approx(real, abs=0.02)
            assert galactic(ra, dec) == pytest.approx((sky.galactic.l.deg, sky.galactic.b.deg), abs=1e-3)
