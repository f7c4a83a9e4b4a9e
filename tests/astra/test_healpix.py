"""The oracle for pixels is astropy-healpix."""

from __future__ import annotations

import math
import random

import pytest
from astropy import units
from astropy.coordinates import SkyCoord
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


@settings(max_examples=300)
@given(
    ra=st.floats(0, 360),
    z=st.floats(-1, 1),
    radius=st.sampled_from([0.001, 0.005, 0.09]),
    turn=st.floats(0, 360),
    part=st.floats(0, 1),
)
def test_a_disc_leaves_out_no_pixel_that_it_touches(
    ra: float, z: float, radius: float, turn: float, part: float
) -> None:
    dec = math.degrees(math.asin(z))
    centre = SkyCoord(ra, dec, unit="deg")
    within = centre.directional_offset_by(turn * units.deg, part * radius * units.deg)
    found = healpix.disc(128, ra, dec, radius)
    assert healpix.ang2pix(128, within.ra.deg, within.dec.deg) in found
    assert len(set(found)) == len(found) <= 40
    assert found[0] == healpix.ang2pix(128, ra, dec)


def test_the_corners_of_pixels_have_all_that_meet_there() -> None:
    generator = random.Random(7)
    for _ in range(3000):  # at a corner of the belt both of its coordinates are whole
        along, across = generator.randrange(512) + 0.5, generator.randrange(-64, 64)
        z, ra = across / (128 * 0.75), (along / 128 - 0.5) * 90 % 360
        dec = math.degrees(math.asin(max(-2 / 3, min(2 / 3, z))))
        near = {healpix.ang2pix(128, ra + east, dec + north) for east in (-1e-4, 0, 1e-4) for north in (-1e-4, 0, 1e-4)}
        assert near <= set(healpix.disc(128, ra, dec, 0.001))


def test_a_disc_well_inside_a_pixel_is_that_pixel() -> None:
    inside = [len(healpix.disc(128, random.Random(at).uniform(0, 360), 20.0, 0.005)) for at in range(1000)]
    assert inside.count(1) > 850
