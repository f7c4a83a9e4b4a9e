"""The command: which parts at which sizes, where the report goes, and on what machine it was made."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from astra.clock import SYSTEM
from bench import by_hand, catalogue, files, footprint, growth, passes, reading, stores, taking_in, tasks, waking
from bench.catalogue import Extent
from bench.measure import Table
from bench.tasks import Amount
from tests.support.postgres import ON_DISK

DOCS = Path(__file__).resolve().parent.parent / "docs"
PARTS = ("headers", "whole", "idle", "intake", "restart", "class", "queue", "memory", "catalogue")
GROWTH = "growth"  # takes hours and tens of gigabytes, so it is made only when it is asked for
EXTENT = Extent(sizes=(10_000, 100_000, 1_000_000), products=10_000, plain_rows=2_000, plain_products=300)


class Page(NamedTuple):
    """A page of the documentation: a run of exactly these parts writes it anew."""

    name: str
    title: str
    arguments: str
    parts: tuple[str, ...]


PAGES = (
    Page("benchmarks.md", "Benchmarks", "--write", PARTS),
    Page("growth.md", "Growth", f'"--part {GROWTH} --write"', (GROWTH,)),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    repeats: int = 3
    sizes: tuple[int, ...] = (100, 1_000, 10_000)
    plain: int = 300
    tasks: int = 10_000
    finished: int = 1_000_000  # tasks that lie beside
    claimers: int = 4
    waits: int = 20  # tasks that find an idle service
    kills: int = 5
    folders: int = 5_000
    growth: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    tree: int = 10_000  # few enough to be read from memory, as in the other tables
    extent: Extent = EXTENT
    skies: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    home: Path = ON_DISK  # where PostgreSQL keeps its data

    def up_to(self, largest: int) -> Plan:
        """Return the plan with a growth that ends at `largest` files, and no later than at as many catalogue rows."""
        growth = (*(size for size in self.growth if size < largest), largest)
        skies = tuple(size for size in self.skies if size <= largest) or (largest,)
        return replace(self, growth=growth, skies=skies)

    @property
    def queue(self) -> Amount:
        """How much of the queue is measured."""
        return Amount(self.tasks, self.finished, self.claimers)

    @property
    def page(self) -> Page | None:
        """The page that is of these parts, no more and no less."""
        return next((page for page in PAGES if set(page.parts) == set(self.parts)), None)


QUICK = Plan(
    rounds=1,
    repeats=1,
    sizes=(30,),
    plain=15,
    tasks=60,
    finished=200,
    claimers=2,
    waits=2,
    kills=1,
    folders=50,
    growth=(10, 30),
    tree=20,
    extent=Extent((100, 2_000), 600, 30, 30),
    skies=(100, 2_000),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and with ``--write`` keep the report."""
    parser = _parser()
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else Plan()
    plan = replace(plan, parts=tuple(given.part or plan.parts), rounds=given.rounds or plan.rounds)
    plan = plan.up_to(given.largest) if given.largest else plan
    target = given.write
    if target == DOCS:
        if given.quick or plan.page is None:
            parser.error("this does not measure a whole page of the documentation: --write needs a file")
        target = DOCS / plan.page.name
    shown = []
    with tempfile.TemporaryDirectory(prefix="astra-bench-", dir=given.folder) as folder:
        for text in report(plan, Path(folder)):
            print(text, end="\n\n", flush=True)
            shown.append(text)
    if target:
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n\n".join(shown) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure astra beside the plain way.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny sizes, one round")
    parser.add_argument("--part", action="append", choices=(*PARTS, GROWTH), help="only this part; may be given again")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--folder", help="where files and databases are made, and removed; default: the system's")
    parser.add_argument(
        "--largest",
        type=int,
        help=f"where the part {GROWTH} ends; default: a million files and ten million catalogue rows",
    )
    kept = " or ".join(page.name for page in PAGES)
    parser.add_argument(
        "--write", nargs="?", type=Path, const=DOCS, help=f"keep the report, in a file; default: {kept}"
    )
    return parser


def report(plan: Plan, folder: Path) -> Iterator[str]:
    """Yield the report, part by part, as it is measured."""
    with ExitStack() as stack:
        opened = [stores.sqlite(folder / "sqlite")]
        found = stack.enter_context(stores.postgresql(folder, os.environ.get("ASTRA_TEST_POSTGRES"), plan.home))
        if isinstance(found, stores.Store):
            opened.append(found)
        yield _preface(plan, opened, found if isinstance(found, str) else None)
        for table in _tables(plan, opened, folder):
            yield table.text()


def _tables(plan: Plan, opened: Sequence[stores.Store], folder: Path) -> Iterator[Table]:
    if {"headers", "whole"} & set(plan.parts):
        paths = files.make_samples(folder / "samples")
        if "headers" in plan.parts:
            yield reading.header_values(paths, plan.rounds, plan.repeats)
        if "whole" in plan.parts:
            yield reading.completeness(paths, plan.rounds, plan.repeats, folder)
    if "idle" in plan.parts:
        yield passes.idle(folder / "idle", plan.folders, plan.rounds, plan.repeats)
    if {"intake", "restart", "class", "queue", "memory"} & set(plan.parts):
        trees = [(size, files.make_tree(folder / f"tree-{size}", size)) for size in plan.sizes]
        files.settle()
        if "intake" in plan.parts:
            yield from (taking_in.to_linked(store, trees, plan.rounds, plan.plain) for store in opened)
        if "restart" in plan.parts:
            yield passes.nothing_to_do(opened, trees[-1][1], plan.rounds)
        if "class" in plan.parts:
            for store in opened:
                yield by_hand.by_hand(store, plan.tasks, plan.rounds)
        if "queue" in plan.parts:
            for store in opened:
                yield tasks.queue(store, plan.queue, plan.rounds, trees[len(trees) // 2][1])
            yield waking.waking(opened, plan.waits, plan.kills)
        if "memory" in plan.parts:
            yield footprint.footprints(trees[-1][1], folder / "memory", (plan.tasks, 50 * plan.tasks))
    if "catalogue" in plan.parts:
        for store in opened:
            yield from catalogue.loaded_and_linked(store, folder / "catalogue", plan.extent, plan.rounds)
    if GROWTH in plan.parts:
        yield from growth.growth(opened, folder / GROWTH, plan.growth, plan.tree)
        yield from catalogue.growth(opened, folder / GROWTH, plan.skies, plan.extent.products)


def _preface(plan: Plan, opened: Sequence[stores.Store], lacking: str | None) -> str:
    kept = ", ".join(f"{name} {version(name)}" for name in ("sdss-astra", "astropy", "peewee", "psycopg2-binary"))
    databases = ", ".join(f"{each.name} {each.version}" for each in opened)
    settings = "SQLite with WAL and synchronous NORMAL; PostgreSQL on a Unix socket, every commit flushed to disk, "
    settings += "but for that of a claim, which the start that follows takes along."
    page = plan.page or PAGES[0]
    turns = (
        "Everything was measured once. Of another machine expect other times."
        if page.parts == (GROWTH,)
        else "Everything in one table was measured in the same run, "
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, each way in turn, forwards and backwards; ratios "
        "are of the same round. Of another machine expect other times and much the same ratios."
    )
    spectra = "real spectra" if os.environ.get("ASTRA_REAL_DATA") else "synthetic spectra"
    return "\n".join(
        [
            f"# {page.title}",
            "",
            f"Written by `make bench ARGS={page.arguments}`. {turns}",
            "",
            f"- {SYSTEM.now():%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, {_memory():.0f} GB, "
            f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} when it began",
            f"- Python {platform.python_version()}, {kept}; {databases}. {settings}",
            *(
                [f"- {spectra} in the tables of headers and whole files"]
                if {"headers", "whole"} & set(plan.parts)
                else []
            ),
            *([f"- PostgreSQL was not measured: {lacking}"] if lacking else []),
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


if __name__ == "__main__":
    sys.exit(main())
