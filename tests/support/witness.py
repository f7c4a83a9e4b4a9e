"""A component that notes each of its calls outside of all records; and what notes and records must agree on."""

from __future__ import annotations

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from astra.base import Parameter
from astra.database.connection import run
from astra.database.fields import read_instant
from astra.errors import PermanentFailure
from tests.support.components import Trace, Traced


class Acts(Traced):
    """Notes each call as a line of `where`/calls, prints its note, and does what that says."""

    where = Parameter(bundled=True)
    group = Parameter(default=0, bundled=True)
    number = Parameter(default=0)

    def execute(self) -> None:
        where = Path(self.where)
        for task, data_products in self.iterable():
            note = str(task.parameters["note"])
            with (where / "calls").open("a") as calls:
                calls.write(f"{task.id}\n")
            print(f"printed {note}")
            for product in data_products:
                Path(product.path).read_bytes()
            ACTS[note](where)
            product_id = data_products[0].id if data_products else None
            self.record_result(task, Trace(data_product=product_id, pid=os.getpid(), note=note))


def _raise(where: Path) -> None:
    raise PermanentFailure("this one is bad")


def _wait(where: Path, megabytes: int = 0) -> None:
    (where / f"started.{os.getpid()}").touch()
    held = b"x" * (megabytes * 1_000_000)
    (where / "pipe").read_bytes()
    del held


def _hold(where: Path) -> None:
    _wait(where, 400)


ACTS: dict[str, Callable[[Path], object]] = {
    "good": lambda where: None,
    "raise": _raise,
    "exit": lambda where: os._exit(3),
    "kill": lambda where: os.kill(os.getpid(), signal.SIGKILL),
    "busy": lambda where: hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10_000),
    "wait": _wait,
    "hold": _hold,
}


def calls(where: Path) -> Counter[int]:
    """Return how often each task was begun, as its component noted."""
    try:
        return Counter(int(line) for line in (where / "calls").read_text().split())
    except FileNotFoundError:
        return Counter()


def completed_once(where: Path, tasks: Iterable[int]) -> None:
    """Check that each of these completed in one bundle, the last one it was in, was never in two at a time, has one
    result, and was begun no more often than it was in bundles.
    """
    rows = run(
        "SELECT m.task_id, m.outcome, b.created, b.ended FROM task_bundle m JOIN bundle b ON b.id = m.bundle_id "
        "ORDER BY m.task_id, b.id"
    )
    tries: dict[int, list[tuple[str, object, object]]] = {}
    for task, outcome, created, ended in rows:
        tries.setdefault(task, []).append((outcome, read_instant(created), read_instant(ended)))
    results = Counter(task for (task,) in run("SELECT task_id FROM test_trace"))
    states = dict(run("SELECT id, state FROM task"))
    begun = calls(where)
    for task in tasks:
        outcomes = [outcome for outcome, _, _ in tries[task]]
        assert states[task] == "completed", (task, states[task], outcomes)
        assert outcomes.count("completed") == 1, (task, outcomes)
        assert outcomes[-1] == "completed", (task, outcomes)
        assert results[task] == 1, task
        assert 1 <= begun[task] <= len(outcomes), (task, begun[task], outcomes)
        for (_, _, ended), (_, created, _) in pairwise(tries[task]):
            assert ended <= created, f"task {task} was in two bundles at a time"  # type: ignore[operator]
