"""A reader of the guide: a notebook, real spectra and model files, and the functions that the guide leaves to them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Labels = tuple[float, float, float]
SCALE = np.array([100.0, 0.25, 0.1])  # what counts as equally far in temperature, gravity and metallicity


class Notebook:
    """Cells of code, run one after another in one namespace, as text: nothing stands between them and the reader."""

    def __init__(self, **given: Any) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", **given}

    def run(self, *cells: str) -> None:
        for cell in cells:
            exec(compile(cell, "<cell>", "exec"), self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


@dataclass
class GridModel:
    """A model as simple as one can be: labels at the nodes of a grid, of which the nearest to a guess is the answer.

    No two files hold the same nodes, so an answer tells which model was used, and with which guess.
    """

    nodes: NDArray[np.float64]

    def estimate_stellar_properties(self, teff: float, logg: float, fe_h: float) -> Labels:
        distances = (((self.nodes - [teff, logg, fe_h]) / SCALE) ** 2).sum(axis=1)
        found = self.nodes[int(distances.argmin())]
        return float(found[0]), float(found[1]), float(found[2])


def write_model(path: Path, number: int) -> None:
    """Write a model file: a pickle of the nodes of a grid of its own."""
    nodes = np.random.default_rng(number).uniform((4000, 0, -1.5), (6000, 5, 0), size=(200, 3))
    path.write_bytes(pickle.dumps(nodes))


@dataclass
class Reader:
    """The reader's own functions, which keep account of what they were asked for."""

    models: list[str] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)

    def load_model(self, path: str) -> GridModel:
        self.models.append(path)
        return GridModel(pickle.loads(Path(path).read_bytes()))

    def load_data_product(self, path: str) -> NDArray[np.float64]:
        """Return the combined spectrum of an apStar file; which star it is of goes to `stars`."""
        with fits.open(path, memmap=False) as hdus:
            self.stars.append(str(hdus[0].header["OBJID"]))
            flux: NDArray[np.float64] = np.atleast_2d(hdus[1].data)[0]
            return flux
