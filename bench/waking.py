"""How soon work starts: a task that is enqueued while the service idles, and tasks whose service was killed.

Both with a real `astrad` and its own processes, as an operator starts it; only its folders are the bench's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from astra.clock import SYSTEM
from bench.components import Noted
from bench.measure import Table, summary
from bench.stores import Store, opened_at
from tests.support.processes import Daemon, until, write_config

TASKS = 10  # of the bundle in which the service is killed
LONGEST = 60.0
AIM = "10"  # on PostgreSQL, which sends notices
_GOLDEN = 0.618  # its multiples fall anywhere in the service's beat


def waking(stores: Sequence[Store], waits: int, kills: int) -> Table:
    """Measure on each kind of database: so many tasks that find the service idle, and so many kills."""
    columns = ("what", "n", "ms: median (min to max)", "aim, ms")
    table = Table("A service that waits, and one that is killed", columns)
    for store in stores:
        idle = [each * 1e3 for each in _from_idle(store, waits)]
        killed = [each * 1e3 for each in _after_kills(store, kills)]
        started = f"{store.name}: from enqueue() to the task's start, idle service"
        again = f"{store.name}: kill -9 in mid-bundle, from the next start to the tasks running again"
        table.rows += [
            (started, f"{waits}", summary(idle), AIM if store.server else ""),
            (again, f"{kills}", summary(killed), "1,000"),
        ]
    table.notes = [
        "A real astrad with its processes and every setting at its default. It looks for work twice a second; on "
        "PostgreSQL a notice also wakes it. enqueue() is called in another process, and its own time is in the first "
        "rows; the component notes when it is at its first task. The service alone "
        f"is killed, with {TASKS} tasks in hand; the other time runs from the start of the new process, so the imports "
        "are in it."
    ]
    return table


def _from_idle(store: Store, times: int) -> list[float]:
    """Return the seconds that each of so many tasks took to start, enqueued at all moments of the service's beat."""
    seconds: list[float] = []
    with _site(store) as (folder, config), Daemon(config) as service:
        service.says("started")
        for number in range(times + 1):
            note = folder / f"note-{number}"
            SYSTEM.pause(1 + _GOLDEN * number % 1)
            began = SYSTEM.monotonic()
            Noted(note=str(note)).enqueue()
            seconds.append(_noted(note, began) - began)
    return seconds[1:]  # the first found processes that had not imported the component yet


def _after_kills(store: Store, times: int) -> list[float]:
    """Return the seconds from each start that follows a kill to the tasks running again."""
    seconds: list[float] = []
    for _ in range(times):
        with _site(store) as (folder, config):
            note = folder / "note"
            with Daemon(config) as service:
                Noted(note=[str(note)] * TASKS, number=list(range(TASKS)), seconds=LONGEST).enqueue()
                _noted(note, 0.0)
                service.kill()
                began = SYSTEM.monotonic()
                with Daemon(config):
                    seconds.append(_noted(note, began) - began)
    return seconds


@contextmanager
def _site(store: Store) -> Iterator[tuple[Path, Path]]:
    """Yield a folder and settings in it, with a new database open."""
    with TemporaryDirectory(prefix="astra-bench-") as name, store.made() as url, opened_at(url):
        folder = Path(name)
        settings = {
            "database": {"url": url},
            "service": {"state": str(folder / "state")},
            "output": {"root": str(folder / "output")},
        }
        yield folder, write_config(folder / "config.toml", settings)


def _noted(note: Path, since: float) -> float:
    """Wait until a component has noted, after an instant, that it runs; return when it did so first."""

    def later() -> list[float]:
        found = map(float, note.read_text().splitlines()) if note.exists() else ()
        return sorted(each for each in found if each > since)

    return until(later, LONGEST, every=0.002)[0]
