"""A careless pipeline: writes, overwrites, appends to, renames, touches and deletes visits while a test lets it.

It keeps count of every content that was ever whole, so that the oracle can tell what never was.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Self

from astra.clock import SYSTEM
from tests.support import fits
from tests.support.oracle import Content, content_of

FIBERS = 40
STARS = 8  # visits that share a star


class Mutator:
    """Changes files below `tree` from a thread of its own; leaving the context leaves every file whole.

    It may be entered again: it knows what it has left.

    Parameters
    ----------
    tree
        The watched folder.
    seed
        Of the random choices.
    pause
        Seconds between two deeds, on average; writing in steps takes its own time.
    fibers
        How many files there are at most: the fewer, the more often each of them changes.
    """

    def __init__(self, tree: Path, seed: int, pause: float = 0.01, fibers: int = FIBERS) -> None:
        self._tree, self._random, self._pause, self._fibers = tree, random.Random(seed), pause, fibers
        self.written: set[Content] = set()
        self._places: dict[int, Path] = {}
        self._stop = threading.Event()
        self.deeds = 0
        self.trouble: BaseException | None = None

    def __enter__(self) -> Self:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.trouble is not None:
            raise self.trouble

    def _run(self) -> None:
        deeds = (
            self._write_in_place, self._write_in_steps, self._write_beside, self._overwrite, self._append,
            self._move, self._touch, self._delete,
        )  # fmt: skip
        try:
            while not SYSTEM.wait(self._stop, self._random.random() * 2 * self._pause):
                self._random.choice(deeds)(self._random.randint(1, self._fibers))
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
        content = self._content(fiber)
        self._place(fiber).write_bytes(content)
        self._is_whole(content)

    def _write_in_steps(self, fiber: int) -> None:
        self._write(fiber, "wb")

    def _overwrite(self, fiber: int) -> None:
        """Write over what is there, which keeps its size meanwhile, so that it looks whole all the time."""
        if self._place(fiber).exists():
            self._write(fiber, "r+b")

    def _write(self, fiber: int, mode: str) -> None:
        content = self._content(fiber)
        with self._place(fiber).open(mode, buffering=0) as file:
            for part in _parts(content):
                file.write(part)
                self._breathe()
        self._is_whole(content)

    def _append(self, fiber: int) -> None:
        """Open the file anew for every HDU, as astropy's own `append` does."""
        content = self._content(fiber)
        place = self._place(fiber)
        place.unlink(missing_ok=True)
        for part in _parts(content):
            with place.open("ab") as file:
                file.write(part)
            self._breathe()
        self._is_whole(content)

    def _write_beside(self, fiber: int) -> None:
        content, place = self._content(fiber), self._place(fiber)
        beside = place.with_suffix(".part")
        beside.write_bytes(content)
        beside.replace(place)
        self._is_whole(content)

    def _breathe(self) -> None:
        SYSTEM.wait(threading.Event(), self._random.random() * min(0.02, 2 * self._pause))

    def _is_whole(self, content: bytes) -> None:
        self.written.add(content_of(content))

    def _move(self, fiber: int) -> None:
        place, target = self._place(fiber), self._new_place(fiber)
        if place.exists() and place != target:
            place.rename(target)
            self._places[fiber] = target

    def _touch(self, fiber: int) -> None:
        place = self._place(fiber)
        if place.exists():
            place.chmod(self._random.choice([0o644, 0o664]))

    def _delete(self, fiber: int) -> None:
        """Remove a file; the next one of its fibre comes in the same place, or in another."""
        self._place(fiber).unlink(missing_ok=True)
        if self._random.random() < 0.5:
            del self._places[fiber]


def _parts(content: bytes) -> list[bytes]:
    ends = fits.hdu_ends(content)
    return [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
