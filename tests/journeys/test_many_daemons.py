"""Several services on one database, killed again and again: each task completes exactly once, and records say how.

What was begun is also written down by the component itself, outside of all records, so that the history can be checked.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.connection import run as query
from astra.database.fields import read_instant
from tests.support.components import Trace, Witnessed
from tests.support.processes import Daemon, until
from tests.support.site import Site

BETWEEN_KILLS = 1.0
LEAST_KILLS = 4


@dataclass
class Fleet:
    """So many services on one database, each with a folder of its own."""

    sites: list[Site]
    stack: ExitStack
    running: list[Daemon] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    kills: int = 0

    def start(self) -> None:
        self.running = [self._daemon(site) for site in self.sites]
        self.order = list(range(len(self.sites)))

    def _daemon(self, site: Site) -> Daemon:
        return self.stack.enter_context(site.daemon())

    def kill_one(self) -> bool:
        """Kill the service that has been up for longest, as the kernel would, and start it again; False if none is."""
        at = next((at for at in self.order if " submitted " in self.running[at].output()), None)
        if at is None:  # on a busy machine a start takes its time
            return False
        os.kill(self.running[at].pid, signal.SIGKILL)
        self.running[at].process.wait()
        self.running[at] = self._daemon(self.sites[at])
        self.order.remove(at)
        self.order.append(at)
        self.kills += 1
        return True

    def kill_until(self, done: int) -> None:
        """Kill one every second until so many tasks have completed."""
        last = SYSTEM.monotonic()

        def is_over() -> bool:
            nonlocal last
            if SYSTEM.monotonic() - last > BETWEEN_KILLS and self.kill_one():
                last = SYSTEM.monotonic()
            return completed() == done

        until(is_over, timeout=420)


@pytest.fixture
def services(database_url: str) -> int:
    return 2 if database_url.startswith("sqlite") else 4


@pytest.fixture
def fleet(tmp_path: Path, database_url: str, database: peewee.Database, services: int) -> Iterator[Fleet]:
    sites = []
    for number in range(services):
        (folder := tmp_path / f"service{number}").mkdir()
        site = Site(folder, database_url, watch={"name": f"redux{number}"})
        site.sections = {"scheduler": {"max_bundle_size": 200}, "executor": {"workers": 1}, "log": {"level": "info"}}
        sites.append(site)
    with ExitStack() as stack:
        yield Fleet(sites, stack)


def completed() -> int:
    count: int = query("SELECT count(*) FROM task WHERE state = 'completed'")[0][0]
    return count


def enqueue(folder: Path, many: int, alone: int) -> int:
    """Enqueue tasks of five keys, and some that are alone under theirs."""
    folder.mkdir()
    for group in range(5):
        Witnessed(where=str(folder), group=group, number=list(range(many // 5))).enqueue()
    for group in range(100, 100 + alone):
        Witnessed(where=str(folder), group=group).enqueue()
    return many + alone


@pytest.mark.system
def test_services_that_are_killed_every_second_complete_each_task_exactly_once(
    fleet: Fleet, tmp_path: Path, database: peewee.Database
) -> None:
    migrate.create_result_tables([Trace])
    tasks = enqueue(tmp_path / "witness", 19_500, 500)
    fleet.start()
    fleet.kill_until(tasks)
    assert fleet.kills >= LEAST_KILLS
    check_history(tmp_path / "witness", tasks)
    killed = "SELECT count(DISTINCT bundle_id) FROM task_bundle WHERE error_kind = 'interrupted'"
    assert query(killed)[0][0] > 0, "some were killed in mid-bundle"


def check_history(witness: Path, tasks: int) -> None:
    """Check that each task completed once, has one result, and was never in two bundles at a time."""
    assert query("SELECT state, count(*) FROM task GROUP BY state") == [("completed", tasks)]
    assert query("SELECT count(*), count(DISTINCT task_id) FROM test_trace") == [(tasks, tasks)]
    assert query("SELECT count(*) FROM bundle WHERE state IN ('submitted', 'running')") == [(0,)]
    history: dict[int, list[tuple[datetime, datetime, str, str | None]]] = {}
    rows = query(
        "SELECT m.task_id, b.created, b.ended, m.outcome, m.error_kind FROM task_bundle m "
        "JOIN bundle b ON b.id = m.bundle_id ORDER BY m.task_id, b.id"
    )
    for task, created, ended, outcome, kind in rows:
        first, last = read_instant(created), read_instant(ended)
        assert first is not None
        assert last is not None
        history.setdefault(task, []).append((first, last, outcome, kind))
    assert len(history) == tasks
    for task, tries in history.items():
        assert [outcome for _, _, outcome, _ in tries].count("completed") == 1, task
        assert tries[-1][2] == "completed", task
        assert {outcome for _, _, outcome, _ in tries[:-1]} <= {"released"}, task
        for (_, ended, _, _), (created, _, _, _) in pairwise(tries):
            assert ended <= created, f"task {task} was in two bundles at a time"
    begun = Counter(int(line) for path in witness.glob("*.begun") for line in path.read_text().split())
    assert begun.keys() == history.keys(), "each was begun"
    assert all(count <= len(history[task]) for task, count in begun.items()), "none was begun unrecorded"
