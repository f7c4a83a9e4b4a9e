"""How far a search goes on the local sky, and that whoever asks and whoever links find the same there."""

from __future__ import annotations

import math
import random

import peewee
from hypothesis import given, settings
from hypothesis import strategies as st

from astra import around, asking, sky, sources
from astra.database.astradb import Catalogue, Source
from astra.database.connection import alone
from astra.healpix import NSIDE, ang2pix
from astra.products.base import Target
from astra.products.releases import RELEASES
from astra.sources.pool import Pool
from tests.support.corners import CORNERS, place_of, scatter
from tests.support.stars import NOW

EPOCHS = [*{each.epochs for each in RELEASES.values()}, asking.ANY_EPOCH, sky.Epochs(1950.0, 2050.0)]


@settings(deadline=None, max_examples=300)
@given(
    middle=st.tuples(st.floats(0, 360), st.floats(-1, 1).map(lambda z: math.degrees(math.asin(z)))),
    radius=st.floats(0, 120) | st.floats(0, 3600),
    epochs=st.sampled_from(EPOCHS),
    speed=st.floats(0, 10.9),
    epoch=st.floats(1975, 2035),
    towards=st.floats(0, math.tau),
)
def test_an_area_holds_whatever_a_star_may_have_left(
    middle: tuple[float, float], radius: float, epochs: sky.Epochs, speed: float, epoch: float, towards: float
) -> None:
    years = max(abs(epochs.first - epoch), abs(epochs.last - epoch))
    ra, dec = place_of(middle, (radius + speed * years) * 0.9999 / 3600, towards)
    pixel = ang2pix(NSIDE, ra, dec)
    assert pixel in around.fast(*middle, radius, epochs)
    if speed <= 0.5:
        pixels, low, high = around.slow(*middle, radius, epochs)
        assert pixel in pixels
        assert low <= dec <= high


def test_who_asks_and_who_links_find_the_same(database: peewee.Database) -> None:
    scatter(3, 80)
    edition = Catalogue.create(version="v1", origin="x", rows=1, left_out=0, created=NOW)
    dice = random.Random(3)
    known = [each.id for each in Source.select() if dice.random() < 0.9]
    Source.update(catalogue=edition).where(Source.id.in_(known)).execute()
    Source.update(provisional=True, catalogue=None).where(Source.id.not_in(known)).execute()

    @settings(deadline=None, max_examples=100)
    @given(
        corner=st.sampled_from(CORNERS),
        away=st.floats(-5, 0.2).map(lambda power: 10**power),
        towards=st.floats(0, math.tau),
        radius=st.floats(0, 60) | st.floats(0, 3600),
        epochs=st.sampled_from(EPOCHS),
    )
    def check(corner: tuple[float, float], away: float, towards: float, radius: float, epochs: sky.Epochs) -> None:
        ra, dec = place_of(corner, away, towards)
        asked = [each for each in asking.near(ra, dec, radius, epochs) if not each.source.provisional]
        target = Target((), ra, dec, epochs)
        with alone(sources.LOCK):
            linked = Pool().around([target], radius)[target]
        assert [(each.source.id, each.separation) for each in linked] == [
            (each.source.id, each.separation) for each in asked
        ]

    check()
