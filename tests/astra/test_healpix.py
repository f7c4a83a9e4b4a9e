"""The oracle for pixels is astropy-healpix."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra import healpix
from astra.products import apogee


def test_the_pixel_of_a_published_path_is_found_from_the_name() -> None:
    assert apogee.pixel("2M13593121+6335074") == "10105"
    assert apogee.pixel("VESTA") is None


@pytest.mark.parametrize(
    ("ra", "dec", "pixel"), [(0, 90, 0), (45, 90, 0), (360, 90, 0), (0, -90, 196604), (0, 0, 98048), (-90, 0, 98432)]
)
def test_the_poles_and_the_seam_have_pixels(ra: float, dec: float, pixel: int) -> None:
    assert healpix.ang2pix(128, ra, dec) == pixel


@settings(deadline=None)
@given(ra=st.floats(0, 360, exclude_max=True), z=st.floats(-1, 1), nside=st.sampled_from([1, 4, 128, 2048]))
def test_every_position_has_the_pixel_astropy_healpix_gives(ra: float, z: float, nside: int) -> None:
    pytest.importorskip("astropy_healpix", reason="astropy-healpix, our oracle for pixels, is not installed")
    from astropy import units
    from astropy_healpix import healpix_to_lonlat

    dec = math.degrees(math.asin(z))
    pixel = healpix.ang2pix(nside, ra, dec)
    assert 0 <= pixel < 12 * nside * nside
    lon, lat = healpix_to_lonlat(pixel, nside, order="ring")
    away = apogee._separation(ra, dec, float(lon.to_value(units.deg)), float(lat.to_value(units.deg)))
    assert away < 3600 * 80 / nside, "the pixel's middle is farther than a pixel is wide"
    assert healpix.ang2pix(nside, float(lon.to_value(units.deg)), float(lat.to_value(units.deg))) == pixel


@pytest.mark.parametrize(("ra", "dec"), [(0, 90.1), (math.nan, 0), (math.inf, 0), (0, math.nan)])
def test_no_position_has_no_pixel(ra: float, dec: float) -> None:
    with pytest.raises(ValueError, match="no position"):
        healpix.ang2pix(128, ra, dec)
