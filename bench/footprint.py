"""How much memory the large things take, each in a process of its own, where nothing before it has taken any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from bench import serving, stores, taking_in
from bench.components import Trivial
from bench.measure import Table, Turn, memory, timed


def _take_in(folder: Path, most: int) -> int:
    return taking_in.take_in(folder)


def _by_hand(folder: Path, most: int) -> int:
    Trivial(number=list(range(most))).execute()
    return most


def _claimed(folder: Path, most: int) -> int:
    serving.enqueue(most)
    return serving.serve(most)


PARTS = {
    "files taken in": _take_in,
    "tasks made and executed by hand, in one bundle": _by_hand,
    "tasks enqueued, claimed and executed, in one bundle": _claimed,
}


class Footprint(NamedTuple):
    """A turn of work in a process of its own, and that process's memory before it and at its highest, in megabytes."""

    turn: Turn
    before: float | None
    highest: float | None


def alone(url: str, work: Callable[[], int]) -> Footprint:
    """Do `work` in a new process, with the database at `url` open."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_here, url, work).result()


def _here(url: str, work: Callable[[], int]) -> Footprint:
    with stores.opened_at(url):
        before = memory("VmRSS")
        return Footprint(timed(work), before, memory("VmHWM"))


def footprints(files: Path, folder: Path, sizes: Sequence[int]) -> Table:
    """Measure on SQLite; the second size shows what grows with the number of tasks."""
    store = stores.sqlite(folder)
    table = Table("Memory: SQLite", ("work", "n", "seconds", "us each", "added at the highest, MB", "bytes each"))
    for part in PARTS:
        for most in sizes if part.startswith("tasks") else sizes[:1]:
            with store.made() as url:
                (count, seconds), before, highest = alone(url, partial(PARTS[part], files, most))
            added = None if before is None or highest is None else highest - before
            shown = ("unknown", "unknown") if added is None else (f"{added:,.0f}", f"{added * 2**20 / count:,.0f}")
            table.rows.append((part, f"{count:,}", f"{seconds:,.1f}", f"{seconds * 1e6 / count:,.0f}", *shown))
    table.notes = [
        "Each once, in a new process; memory beyond what it had with astra and "
        "astropy loaded and the database open, and with SQLite's own cache of at most 64 MB."
    ]
    return table
