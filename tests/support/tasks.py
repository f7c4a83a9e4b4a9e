"""Tasks, inputs and bundles to fill a queue with, without a component or a file behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

import peewee

from astra import provenance, queue
from astra.database.astradb import DataProduct, Ingestion
from astra.database.connection import database, execute, run
from astra.provenance import Code, Owner
from astra.states import IngestionOutcome, TaskOutcome
from astra.work import ByHand, Claimed, Ended, Input, NewTask, Pick, Totals
from tests.support.clock import START

OWNER = Owner("boot", 4242, 99, "host", "user")
OTHER = replace(OWNER, pid=4343)
CODE = Code("0.1.0", "1", "ab" * 32, None, None)
TIMES = (0.25, 1.5, 0.125)
TOTALS = Totals(((0.5, 0.25), (3.0, 1.5), (0.25, 0.125)))
_numbers = count()


def empty_queue() -> None:
    """Leave no task and no bundle: each example of a state machine begins anew in one database."""
    with database.atomic():
        execute("DELETE FROM task_bundle")
        execute("UPDATE task SET bundle_id = NULL")
        execute("DELETE FROM task")
        execute("DELETE FROM bundle")


def new_task(key: str = "thing {}", **values: Any) -> NewTask:
    """Return a task that no other is a twin of, unless `identity` says so."""
    number = next(_numbers)
    given: dict[str, Any] = {"parameters": f'{{"n":{number}}}', "identity": f"identity {number}", **values}
    return NewTask("tests.Thing", "1", given.pop("parameters"), key, **given)


def fill(count: int, now: datetime = START, key: str = "thing {}", **values: Any) -> list[int]:
    """Enqueue so many tasks, and return their keys."""
    return queue.enqueue([new_task(key, **values) for _ in range(count)], now)


def claim(limit: int = 10, now: datetime = START, key: str = "thing {}") -> Claimed:
    [claimed] = queue.claim([Pick(None, 100, key, limit)], OWNER, "local", now)
    return claimed


def start(claimed: Claimed, lease: datetime = START, now: datetime = START) -> Claimed:
    """Start a claimed bundle, and return it with the token that it has from then on."""
    [started] = queue.start([claimed], OWNER, CODE, provenance.environment_id(), lease, now)[1]
    return started


def running(count: int, now: datetime = START, key: str = "thing {}") -> Claimed:
    """Return a running bundle of so many new tasks."""
    fill(count, now, key)
    return start(claim(count, now, key), now=now)


def by_hand(*new: NewTask, recorded: tuple[int, ...] = ()) -> ByHand:
    tasks: list[NewTask | int] = [*recorded, *new]
    key = new[0].bundle_key if new else "thing {}"
    return ByHand("tests.Thing", key, len(tasks), recorded, [tasks], OWNER, CODE, provenance.environment_id())


def ended(bundle: int, *outcomes: TaskOutcome, first: int = 0) -> list[Ended]:
    """Return the ends of a bundle's tasks from position `first` on, one for each outcome."""
    tasks = dict(run("SELECT position, task_id FROM task_bundle WHERE bundle_id = ?", (bundle,)))
    return [Ended(at, tasks[at], outcome, *TIMES) for at, outcome in enumerate(outcomes, start=first)]


def product(path: str = "/data/one.fits", identity: str | None = None) -> Input:
    """Record a data product with one file version, and return it as an input."""
    name = identity or f"full:{path}:{next(_numbers)}"
    made = DataProduct.create(
        release="", filetype="full", kwargs={"full": path}, identity=name, path=path, metadata={}, created=START
    )
    return Input(made.id, version_of(made.id, path), name, "1:2:")


def version_of(data_product: int, path: str) -> int:
    """Record a new file version of a data product, make it the current one, and return its key."""
    number = next(_numbers)
    version = Ingestion.create(
        root="", path=path, size=number, mtime_ns=number, ctime_ns=0, inode=0, outcome=IngestionOutcome.INGESTED,
        data_product=data_product, started=START, duration=0.0,
    )  # fmt: skip
    DataProduct.update(current_ingestion=version.id).where(DataProduct.id == data_product).execute()
    return int(version.id)


@contextmanager
def statements(database: peewee.Database) -> Iterator[list[str]]:
    """Collect the SQL statements that go through peewee meanwhile, but for notices: there is one now and then."""
    seen: list[str] = []

    def hook(event: Any, *_: Any) -> None:
        text = str(getattr(event, "sql", event))
        if not text.startswith("NOTIFY"):
            seen.append(text)

    database.query_hooks.append(hook)
    try:
        yield seen
    finally:
        database.query_hooks.remove(hook)


@contextmanager
def plans(database: peewee.Database) -> Iterator[list[tuple[str, str]]]:
    """Collect the SELECT and UPDATE statements that go through peewee meanwhile, each with the plan that it had."""
    seen: list[tuple[str, str]] = []
    explain = "EXPLAIN QUERY PLAN" if isinstance(database, peewee.SqliteDatabase) else "EXPLAIN"

    def hook(event: Any) -> None:
        if event.sql.startswith(("SELECT ", "UPDATE ")):
            cursor = database.cursor()  # type: ignore[no-untyped-call]
            cursor.execute(f"{explain} {event.sql}", event.params or ())
            seen.append((event.sql, "\n".join(str(row[-1]) for row in cursor.fetchall())))

    database.query_hooks.append(hook)
    try:
        yield seen
    finally:
        database.query_hooks.remove(hook)


def in_loops(plan: str) -> str:
    """Return the part of a plan that is done again for every row."""
    return "".join(re.split("SubPlan|CORRELATED", plan, maxsplit=1)[1:])
