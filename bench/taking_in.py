"""From files on disk to data products committed and linked, against the plain way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from astra import headers, ingest, tree
from astra.clock import SYSTEM
from astra.database.connection import run
from astra.products import might_be_product
from astra.rules import Rule
from astra.standing import Examined, Refused
from bench import plain
from bench.components import Trivial
from bench.measure import COLUMNS, Table, Turn, Way, compare, interleaved, timed
from bench.stores import Store

ROOT = "bench"


def rules() -> tuple[Rule, ...]:
    """Return a rule for each product type, so that every file is given a task."""
    plan = Trivial().plan()
    return tuple(Rule(f"every {name}", name, plan, 100, ()) for name in ("apStar", "apVisit"))


def take_in(folder: Path, given: Sequence[Rule] = (), expected: type[Examined] | type[Refused] = Examined) -> int:
    """Take in a tree as the daemon's sweep does, in one process, and return how many files were recorded.

    Every file must turn out as `expected`.
    """
    root, report, count = ingest.Root(ROOT, folder, None), tree.WalkReport(), 0
    batch: list[Examined | Refused] = []
    for found in tree.differing(ROOT, folder, might_be_product, SYSTEM.now(), report):
        for each in found:
            examined = ingest.examine(root, each.path)
            assert isinstance(examined, expected), examined
            batch.append(examined)
            if len(batch) == ingest.CHUNK:
                count += len(ingest.record(batch, given))
                batch = []
    return count + (len(ingest.record(batch, given)) if batch else 0)


def _ours(store: Store, folder: Path, given: Sequence[Rule]) -> Way:
    def turn() -> Turn:
        with store.opened():
            made = timed(lambda: take_in(folder, given))
            linked = run("SELECT count(*) FROM source_data_product WHERE source_id IS NOT NULL")[0][0]
            tasks = run("SELECT count(*) FROM task")[0][0]
            assert (linked, tasks) == (made.done, made.done if given else 0), (linked, tasks, made.done)
        return made

    return turn


def _plain(store: Store, folder: Path, most: int) -> Way:
    def turn() -> Turn:
        with store.opened():
            return timed(lambda: plain.take_in(folder, most))

    return turn


def read(folder: Path) -> int:
    """Read the beginning of every file, and return how many there are: the floor of taking in."""
    count = 0
    for path in plain.find(folder):
        with open(path, "rb", buffering=0) as file:
            file.read(headers.FIRST_READ)
        count += 1
    return count


def to_linked(store: Store, folders: Iterable[tuple[int, Path]], rounds: int, most: int) -> Table:
    """Measure taking in trees of several sizes; the plain way is timed on the first `most` files of each."""
    table = Table(f"From disk to committed and linked: {store.name}", ("way", *COLUMNS))
    for size, folder in folders:
        found = interleaved(
            {
                f"plain: getheader, get_or_create ({size:,} files)": _plain(store, folder, min(size, most)),
                f"astra ({size:,} files)": _ours(store, folder, ()),
                f"astra, with a task for each ({size:,} files)": _ours(store, folder, rules()),
                f"floor: walk, open, read, close ({size:,} files)": partial(timed, partial(read, folder)),
            },
            rounds,
        )
        table.rows += compare(found)
    table.notes = [
        "One process. Every file in a folder of its own, three files an object; headers and sizes as released, data "
        "left as holes. The plain way commits every row and checks nothing; astra walks, compares with the ledger, "
        "proves each file whole, and commits product, source, link, ledger and task together."
    ]
    return table
