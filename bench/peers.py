"""huey and procrastinate, asked to do the same work: each turn in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from astra.clock import SYSTEM
from bench.measure import Turn, Way
from bench.stores import Store
from tests.support.processes import CHECKOUT

# In a folder of its own in the virtual environment: procrastinate brings a driver of PostgreSQL that peewee would
# import in every process.
FOLDER = Path(sys.prefix) / "peers"
_WORK = "from bench.peer_work import main; main()"


@dataclass(frozen=True)
class Peer:
    """A queue that others use, and its databases, which hold so many finished tasks from the beginning."""

    name: str
    store: Store
    before: int

    def enqueued(self, count: int) -> Way:
        """Return the way to enqueue `count` tasks."""

        def turn() -> Turn:
            with self.store.made() as url:
                return ask(self.name, "enqueue", url, count)

        return turn

    def executed(self, count: int, processes: int) -> Way:
        """Return the way to execute them, by several processes at once."""

        def turn() -> Turn:
            with self.store.made() as url:
                ask(self.name, "enqueue", url, count)
                made = ask(self.name, "work", url, count, processes)
                finished = ask(self.name, "finished", url, count).done
                assert (made.done, finished) == (count, self.before + count), (made.done, finished, count)
                return made

        return turn


def installed(name: str) -> Distribution | None:
    """Return what is known of a queue that is installed: apart, or among all."""
    apart = next(iter(distributions(name=name, path=[str(FOLDER)])), None)
    try:
        return apart or distribution(name)
    except PackageNotFoundError:
        return None


@contextmanager
def opened(store: Store, before: int) -> Iterator[Peer]:
    """Yield the queue that is measured on this kind of database, beside so many finished tasks."""
    name = name_on(store)
    with store.empty().prepared(partial(_prepare, name, before)) as prepared:
        yield Peer(name, prepared, before)


def name_on(store: Store) -> str:
    """Return which of them is measured on this kind of database."""
    return "huey" if store.server is None else "procrastinate"


def _prepare(name: str, before: int, url: str) -> None:
    ask(name, "prepare", url, before)


def ask(name: str, verb: str, url: str, count: int, processes: int = 1) -> Turn:
    """Have processes do one thing, all at once; what they take to start is not counted."""
    place = url.removeprefix("sqlite:///")
    path = os.pathsep.join([str(CHECKOUT), str(FOLDER)])
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", _WORK, name, verb, place, str(count)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for each in asked:
            _line(each)
        began = SYSTEM.monotonic()
        for each in asked:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        done = sum(int(_line(each)) for each in asked)
        return Turn(done, SYSTEM.monotonic() - began)
    finally:
        for each in asked:
            each.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended with {process.wait()}"
    return line
