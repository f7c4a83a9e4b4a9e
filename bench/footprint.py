"""How much memory the large things take, each in a process of its own, where nothing before it has taken any."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench import stores, taking_in, tasks
from bench.components import Trivial
from bench.measure import Table, Turn, memory, timed


def _take_in(folder: Path, most: int) -> int:
    return taking_in.take_in(folder)


def _by_hand(folder: Path, most: int) -> int:
    Trivial(number=list(range(most))).execute()
    return most


def _claimed(folder: Path, most: int) -> int:
    tasks.enqueue(most)
    return tasks.run_bundles(most, most)


PARTS = {
    "files taken in": _take_in,
    "tasks made and executed by hand, in one bundle": _by_hand,
    "tasks enqueued, claimed and executed, in one bundle": _claimed,
}


def _alone(part: str, files: Path, folder: Path, most: int) -> tuple[Turn, float | None, float | None]:
    """Do one part in this process, which is new; return its turn, and the memory before it and at its highest."""
    store = stores.sqlite(folder)
    with store.opened():
        before = memory("VmRSS")
        made = timed(lambda: PARTS[part](files, most))
        return made, before, memory("VmHWM")


def footprints(files: Path, folder: Path, sizes: Sequence[int]) -> Table:
    """Measure on SQLite; the second size shows what grows with the number of tasks."""
    table = Table("Memory: SQLite", ("work", "n", "seconds", "us each", "added at the highest, MB", "bytes each"))
    for part in PARTS:
        for most in sizes if part.startswith("tasks") else sizes[:1]:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                own = folder / f"{len(table.rows)}"
                (count, seconds), before, highest = process.submit(_alone, part, files, own, most).result()
            added = None if before is None or highest is None else highest - before
            shown = ("unknown", "unknown") if added is None else (f"{added:,.0f}", f"{added * 2**20 / count:,.0f}")
            table.rows.append((part, f"{count:,}", f"{seconds:,.1f}", f"{seconds * 1e6 / count:,.0f}", *shown))
    table.notes = [
        "Each once, in a new process; memory beyond what it had with astra and "
        "astropy loaded and the database open, and with SQLite's own cache of at most 64 MB."
    ]
    return table
