"""What taking in and a restart cost, and how much memory they need, as the ledger grows to a million files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from astra.database.connection import run
from astra.standing import Refused
from bench.files import make_hollow, make_tree, settle
from bench.footprint import Footprint, alone
from bench.measure import Table, Turn, timed
from bench.passes import look, restart, walk
from bench.stores import Store, opened_at
from bench.taking_in import read, take_in

IN_A_FOLDER = 1_000
LARGEST_WHOLE = 100_000  # files that are written whole: a million would be 90 GB to write, and to remove
MEMORY = ("MB before", "MB at the highest")


def growth(stores: Sequence[Store], folder: Path, sizes: Sequence[int], most: int) -> Iterator[Table]:
    """Measure ledgers of rising sizes; no more than `most` whole files lie on the disk at a time."""
    yield _taking_in(stores, folder / "whole", [each for each in sizes if each <= LARGEST_WHOLE], most)
    yield _restarts(stores, folder / "hollow", sizes)


def _taking_in(stores: Sequence[Store], root: Path, sizes: Sequence[int], most: int) -> Table:
    columns = ("ledger", "last tree", "us each", "floor: walk, open, read", "nothing to do", *MEMORY)
    table = Table("Taking in, as the ledger grows", columns)
    rows: dict[str, list[tuple[str, ...]]] = {store.name: [] for store in stores}
    with ExitStack() as stack:
        urls = {store.name: stack.enter_context(store.made()) for store in stores}
        known = 0
        for size in sizes:
            while known < size:
                count = min(most, size - known)
                make_tree(root, count, known)
                settle()
                known += count
                last = {name: _taken_in(url, root, known) for name, url in urls.items()}
                shutil.rmtree(root)
            for name, (floor, taken, again) in last.items():
                cost = (_micro(taken.turn), _micro(floor), _micro(again))
                rows[name].append((f"{name}, {size:,} files", f"{taken.turn.done:,}", *cost, *_memory(taken)))
    table.rows = [row for own in rows.values() for row in own]
    table.notes = [
        f"Trees of {most:,} whole files at the most are taken in one after another, and removed; a million would be "
        "90 GB to write. A row tells of the last tree alone, taken in by a new process. The memory is that process's, "
        "SQLite's cache of at most 64 MB in it, PostgreSQL's server not. Just before, the tree is read as the floor "
        "does; then it is walked again and compared with the ledger. All in microseconds for a file."
    ]
    return table


def _taken_in(url: str, root: Path, known: int) -> tuple[Turn, Footprint, Turn]:
    """Read a tree, take it in in a process of its own, then walk it again, which finds nothing."""
    floor = timed(partial(read, root))
    taken = alone(url, partial(take_in, root))
    with opened_at(url):
        linked = run("SELECT count(*) FROM source_data_product WHERE source_id IS NOT NULL")[0][0]
        assert linked == known, (linked, known)
        return floor, taken, timed(partial(walk, root))


def _restarts(stores: Sequence[Store], root: Path, sizes: Sequence[int]) -> Table:
    columns = ("ledger", "us each", "floor: scandir, stat", *MEMORY)
    table = Table("A restart with nothing to do, as the tree grows", columns)
    rows: dict[str, list[tuple[str, ...]]] = {store.name: [] for store in stores}
    with ExitStack() as stack:
        urls = {store.name: stack.enter_context(store.made()) for store in stores}
        for before, size in zip((0, *sizes), sizes, strict=False):
            make_hollow(root, range(before, size), IN_A_FOLDER)
            settle()
            for name, url in urls.items():
                with opened_at(url):
                    take_in(root, expected=Refused)
                floor = timed(partial(look, root))
                swept = alone(url, partial(restart, root))
                assert swept.turn.done == size, (swept.turn.done, size)
                rows[name].append((f"{name}, {size:,} files", _micro(swept.turn), _micro(floor), *_memory(swept)))
    shutil.rmtree(root)
    table.rows = [row for own in rows.values() for row in own]
    table.notes = [
        f"Files of full size without content, {IN_A_FOLDER:,} to a folder: all were refused, and the ledger knows them "
        "as such, which saves the look at their data products. Every sweep by a new process, whose memory it is."
    ]
    return table


def _micro(turn: Turn) -> str:
    return f"{turn.seconds / turn.done * 1e6:,.1f}"


def _memory(found: Footprint) -> tuple[str, str]:
    before, highest = ("unknown" if each is None else f"{each:,.0f}" for each in found[1:])
    return before, highest
