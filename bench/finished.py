"""Finished tasks, very many, made by bare SQL: what a queue that has worked for months lies beside."""

from __future__ import annotations

from typing import Any

from astra.database.astradb import Bundle, Task, TaskBundle
from astra.database.connection import database, execute, is_sqlite, run
from bench.components import Trivial
from bench.serving import serve

SIZE = 100  # tasks of each bundle
_NUMBERS = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"


def fill(count: int) -> None:
    """Run one bundle, then copy its rows until there are `count` finished tasks, each with an identity of its own."""
    Trivial(number=list(range(-SIZE, 0))).enqueue()
    serve(SIZE)
    copies = count // SIZE
    number = f"CAST(CAST({SIZE} * n + t.id AS TEXT) AS BYTEA)"
    digest = "lower(hex(randomblob(32)))" if is_sqlite() else f"encode(sha256({number}), 'hex')"
    with database.atomic():
        _copy(Bundle, copies, {"id": "b.id + n"}, "b")
        _copy(Task, copies, {"id": f"t.id + {SIZE} * n", "bundle_id": "t.bundle_id + n", "identity": digest}, "t")
        _copy(TaskBundle, copies, {"bundle_id": "m.bundle_id + n", "task_id": f"m.task_id + {SIZE} * n"}, "m")
    if not is_sqlite():
        for table in ("bundle", "task"):
            execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
        execute("VACUUM ANALYZE")
    assert run("SELECT count(*) FROM task WHERE state = 'completed'")[0][0] == (copies + 1) * SIZE


def _copy(model: type[Any], copies: int, own: dict[str, str], alias: str) -> None:
    """Insert so many copies of all rows of a table; columns in `own` as it says, the others as they are."""
    names = [field.column_name for field in model._meta.sorted_fields]
    values = ", ".join(own.get(name, f'{alias}."{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    table = model._meta.table_name
    execute(f"INSERT INTO {table} ({listed}) {_NUMBERS} SELECT {values} FROM {table} {alias}, number", (copies,))
