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

from astra.clock import SYSTEM
from astra.ledger import RACY_SECONDS
from bench import by_hand, files, footprint, reading, stores, taking_in, tasks
from bench.measure import Table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PARTS = ("headers", "whole", "intake", "restart", "class", "tasks", "memory")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    repeats: int = 3
    sizes: tuple[int, ...] = (100, 1_000, 10_000)
    plain: int = 300
    tasks: int = 10_000


QUICK = Plan(rounds=1, repeats=1, sizes=(30,), plain=15, tasks=60)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and with ``--write`` keep the report."""
    given = _parser().parse_args(arguments)
    plan = QUICK if given.quick else Plan()
    plan = replace(plan, parts=tuple(given.part or plan.parts), rounds=given.rounds or plan.rounds)
    shown = []
    with tempfile.TemporaryDirectory(prefix="astra-bench-", dir=given.folder) as folder:
        for text in report(plan, Path(folder)):
            print(text, end="\n\n", flush=True)
            shown.append(text)
    if given.write:
        given.write.parent.mkdir(exist_ok=True)
        given.write.write_text("\n\n".join(shown) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure astra beside the plain way.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny sizes, one round")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be given again")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--folder", help="where files and databases are made, and removed; default: the system's")
    parser.add_argument("--write", nargs="?", type=Path, const=DOCUMENT, help=f"keep the report, in {DOCUMENT.name}")
    return parser


def report(plan: Plan, folder: Path) -> Iterator[str]:
    """Yield the report, part by part, as it is measured."""
    with ExitStack() as stack:
        opened = [stores.sqlite(folder / "sqlite")]
        found = stack.enter_context(stores.postgresql(folder, os.environ.get("ASTRA_TEST_POSTGRES")))
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
    if {"intake", "restart", "class", "tasks", "memory"} & set(plan.parts):
        trees = [(size, files.make_tree(folder / f"tree-{size}", size)) for size in plan.sizes]
        # Files this fresh would be looked at a second time, which is right and would be measured too.
        SYSTEM.pause(RACY_SECONDS + 0.2)
        if "intake" in plan.parts:
            yield from (taking_in.to_linked(store, trees, plan.rounds, plan.plain) for store in opened)
        if "restart" in plan.parts:
            yield taking_in.nothing_to_do(opened, trees[-1][1], plan.rounds)
        if "class" in plan.parts:
            for store in opened:
                yield by_hand.by_hand(store, plan.tasks, plan.rounds)
        if "tasks" in plan.parts:
            for store in opened:
                yield tasks.in_bundles(store, plan.tasks, plan.rounds, trees[-1][1])
        if "memory" in plan.parts:
            yield footprint.footprints(trees[-1][1], folder / "memory", (plan.tasks, 50 * plan.tasks))


def _preface(plan: Plan, opened: Sequence[stores.Store], lacking: str | None) -> str:
    kept = ", ".join(f"{name} {version(name)}" for name in ("sdss-astra", "astropy", "peewee", "psycopg2-binary"))
    databases = ", ".join(f"{each.name} {each.version}" for each in opened)
    settings = "SQLite with WAL and synchronous NORMAL; PostgreSQL on a Unix socket, every commit flushed to disk."
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench ARGS=--write`. Everything in one table was measured in the same run, "
            f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, each way in turn, forwards and backwards; ratios "
            "are of the same round. Of another machine expect other times and much the same ratios.",
            "",
            f"- {SYSTEM.now():%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, {_memory():.0f} GB, "
            f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} when it began",
            f"- Python {platform.python_version()}, {kept}; {databases}. {settings}",
            f"- {'real spectra' if os.environ.get('ASTRA_REAL_DATA') else 'synthetic spectra'} in the first two tables",
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
