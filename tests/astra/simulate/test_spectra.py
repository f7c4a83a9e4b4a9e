"""Spectra whose lines are where a known velocity puts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra.simulate import Night, simulate
from astra.simulate.motion import LIGHT
from astra.simulate.night import LAYOUTS
from astra.simulate.spectra import GRID, Look, star_light


def best_velocity(wavelength: np.ndarray, flux: np.ndarray, error: np.ndarray, steps: np.ndarray) -> float:
    """Fit the depth-weighted line pattern at each trial velocity; return the vertex of a parabola around the best."""
    look = Look(h=10.0, slope=2.5, teff=4500.0, feh=0.0)
    bare = Look(h=10.0, slope=2.5, teff=1e9, feh=-1e3)
    scores = []
    for v in steps:
        rest = wavelength / (1 + v / LIGHT)
        depth = 1 - star_light(rest, look) / star_light(rest, bare)
        scores.append(np.sum((1 - flux / np.median(flux)) * depth / error**2) / np.sqrt(np.sum(depth**2 / error**2)))
    best = int(np.argmax(scores))
    left, middle, right = scores[best - 1 : best + 2]
    return float(steps[best] + (steps[1] - steps[0]) * (left - right) / (2 * (left - 2 * middle + right)))


@pytest.mark.parametrize("release", LAYOUTS)
def test_the_lines_are_where_the_true_velocity_puts_them(tmp_path: Path, release: str) -> None:
    steps = np.arange(-120.0, 121.0, 2.0)
    simulation = simulate(Night(release=release, telescopes=("apo25m",), configurations=1, stars=1), tmp_path)
    assert sum(1 for _ in simulation) == simulation.total
    (truth,) = simulation.truth
    correction = fits.getheader(truth.star)["BC1"]
    with fits.open(truth.visits[0]) as hdus:
        flux, error, wavelength = (hdus[n].data[1].astype(float) for n in (1, 2, 4))
        assert best_velocity(wavelength, flux, error, steps) == pytest.approx(truth.velocity - correction, abs=1.0)
    with fits.open(truth.star) as hdus:
        green = slice(3700, 6000)
        flux, error = (hdus[n].data[0][green].astype(float) for n in (1, 2))
        assert best_velocity(GRID[green], flux, error, steps) == pytest.approx(0.0, abs=1.0)
