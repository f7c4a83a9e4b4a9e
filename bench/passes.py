"""Walks that find nothing to take in: a restart, and the sweep of changed folders that comes every half minute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from watchdog.utils.dirsnapshot import DirectorySnapshot, DirectorySnapshotDiff

from astra import tree
from astra.clock import SYSTEM
from astra.products import might_be_product
from bench.files import make_hollow, settle
from bench.measure import COLUMNS, Table, Way, compare, interleaved, summary, timed
from bench.stores import Store
from bench.taking_in import ROOT, take_in


def restart(folder: Path) -> int:
    """Sweep a tree that is in the ledger already, as a daemon that starts does, and return how many files it has."""
    return _nothing(tree.sweep, folder)


def walk(folder: Path) -> int:
    """Do what `restart` does, but look for no file that is missing."""
    return _nothing(tree.differing, folder)


def _nothing(find: Callable[..., Iterator[list[tree.Found]]], folder: Path) -> int:
    report = tree.WalkReport(began=SYSTEM.now().timestamp())
    for found in find(ROOT, folder, might_be_product, SYSTEM.now(), report):
        assert not found, found[0]
    assert (report.complete, report.missing) == (True, 0), report.problems
    return report.files


def look(folder: Path) -> int:
    """List every folder, ask for the stamps of every file, and return how many there are: the floor of a restart."""
    count, waiting = 0, [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    count += 1
    return count


def nothing_to_do(stores: Sequence[Store], folder: Path, rounds: int) -> Table:
    """Measure a restart: the walk of a tree that is in the ledger already."""
    table = Table("Restart with nothing to do", ("way", *COLUMNS))
    for store in stores:
        with store.opened():
            take_in(folder)
            ways: dict[str, Way] = {
                store.name: partial(timed, partial(restart, folder)),
                "floor: scandir, stat": partial(timed, partial(look, folder)),
            }
            table.rows += compare(interleaved(ways, rounds))
    table.notes = [
        "Every file in a folder of its own. No file is opened: the version of each is compared with the ledger, whose "
        "paths are counted at the end. Were one not found, each would be looked for on the disk."
    ]
    return table


def idle(folder: Path, size: int, rounds: int, repeats: int) -> Table:
    """Measure the sweep of changed folders where none has changed, in a tree of `size` folders with a file each."""
    settled = tree.WalkReport()
    make_hollow(folder, range(size), 1)
    settle()
    settled.began = SYSTEM.now().timestamp()
    for _ in tree.walk(folder, might_be_product, settled):
        pass
    places = [os.path.join(folder, each) for each in settled.listed]
    snapshot = DirectorySnapshot(os.fspath(folder))

    def floor() -> int:
        for each in places:
            os.stat(each)
        return 1

    def ours() -> int:
        report = tree.WalkReport(began=SYSTEM.now().timestamp(), before=settled.listed)
        found = [each for part in tree.sweep(ROOT, folder, might_be_product, SYSTEM.now(), report) for each in part]
        assert (len(found), report.unchanged) == (0, len(places)), (len(found), report.unchanged)
        return 1

    def watchdog() -> int:
        found = DirectorySnapshotDiff(snapshot, DirectorySnapshot(os.fspath(folder)))
        assert not [*found.files_created, *found.dirs_modified]
        return 1

    works = {"floor: os.stat of each folder": floor, "astra": ours, "watchdog: snapshot, difference": watchdog}
    ways: dict[str, Way] = {name: partial(timed, partial(_repeated, work, repeats)) for name, work in works.items()}
    table = Table("Idle pass", ("way", "folders", "ms a pass: median (min to max)"))
    for name, turns in interleaved(ways, rounds).items():
        milliseconds = [each.seconds / each.done * 1e3 for each in turns]
        table.rows.append((name, f"{len(places):,}", summary(milliseconds)))
    table.notes = [
        "The sweep of changed folders, where none has changed; one file in each. It finds what was made, removed or "
        "renamed. watchdog's polling takes a snapshot of folders and files, and compares it with the one before."
    ]
    return table


def _repeated(work: Callable[[], int], times: int) -> int:
    return sum(work() for _ in range(times))
