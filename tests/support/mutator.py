"""A careless pipeline: writes, rewrites, renames and half-writes visits while a test lets it; and an oracle."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Self

from astropy.io import fits as astropy_fits

from astra.clock import SYSTEM
from tests.support import fits

FIBERS = 40
STARS = 8  # visits that share a star


class Mutator:
    """Changes files below `tree` from a thread of its own; leaving the context leaves every file whole."""

    def __init__(self, tree: Path, seed: int, pause: float = 0.01) -> None:
        self._tree, self._random, self._pause = tree, random.Random(seed), pause
        self._places: dict[int, Path] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.deeds = 0
        self.trouble: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.trouble is not None:
            raise self.trouble

    def _run(self) -> None:
        deeds = (self._write_in_place, self._write_in_steps, self._write_beside, self._move, self._touch)
        try:
            while not SYSTEM.wait(self._stop, self._random.random() * 2 * self._pause):
                self._random.choice(deeds)(self._random.randint(1, FIBERS))
                self.deeds += 1
        except BaseException as error:
            self.trouble = error

    def _content(self, fiber: int) -> bytes:
        obj = f"2M0000{fiber % STARS:04d}+0000000"
        return fits.apvisit(PLATE="3000", FIBERID=fiber, OBJID=obj, SNR=round(self._random.uniform(1, 999), 3))

    def _place(self, fiber: int) -> Path:
        if fiber not in self._places:
            self._places[fiber] = self._new_place(fiber)
        return self._places[fiber]

    def _new_place(self, fiber: int) -> Path:
        place = self._tree / f"night{self._random.randint(1, 4)}" / fits.visit_name(plate=3000, fiber=fiber)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _write_in_place(self, fiber: int) -> None:
        self._place(fiber).write_bytes(self._content(fiber))

    def _write_in_steps(self, fiber: int) -> None:
        content = self._content(fiber)
        ends = fits.hdu_ends(content)
        with self._place(fiber).open("wb", buffering=0) as file:
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                file.write(content[start:end])
                SYSTEM.wait(threading.Event(), self._random.random() * 0.02)

    def _write_beside(self, fiber: int) -> None:
        place = self._place(fiber)
        beside = place.with_suffix(".part")
        beside.write_bytes(self._content(fiber))
        beside.replace(place)

    def _move(self, fiber: int) -> None:
        place, target = self._place(fiber), self._new_place(fiber)
        if place.exists() and place != target:
            place.rename(target)
            self._places[fiber] = target

    def _touch(self, fiber: int) -> None:
        place = self._place(fiber)
        if place.exists():
            place.chmod(self._random.choice([0o644, 0o664]))


def true_facts(tree: Path) -> dict[Path, dict[str, object]]:
    """Return what astropy reads of every visit below `tree`, which must be whole."""
    found = {}
    for path in tree.rglob("apVisit*.fits"):
        with astropy_fits.open(path) as hdus:
            assert len(hdus) == 12
            header = hdus[0].header
            found[path] = {name: header[name] for name in ("PLATE", "MJD5", "FIBERID", "OBJID", "SNR")}
    return found
