"""Bring the tables up to date, under a lock: the migrations' library takes none, and two runners must both end well."""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from astra.database.astradb import ResultModel
from astra.database.connection import database, execute, is_sqlite, place, run
from astra.errors import SchemaError

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = int.from_bytes(hashlib.sha256(b"astra migrations").digest()[:8], "big", signed=True)


def migrate() -> list[str]:
    """Apply the migrations that the open database lacks.

    Returns
    -------
    list of str
        The names of those applied; empty where nothing was to do.

    Raises
    ------
    SchemaError
        If the database holds a migration that this code does not know: it was made by a newer astra.
    """
    with _migration_lock():
        runner = _runner()
        _refuse_newer(runner)
        applied: list[str] = runner.up()
        if applied and is_sqlite() and (broken := run("PRAGMA foreign_key_check")):
            raise SchemaError(f"{place()} has {len(broken)} rows that refer to nothing, the first in {broken[0][0]}")
    return applied


def require_current() -> None:
    """Raise `SchemaError` unless the open database has exactly the tables of this code."""
    runner = _runner()
    _refuse_newer(runner)
    missing = [migration.name for migration in runner.status() if not migration.applied]
    if missing:
        raise SchemaError(f"the database {place()} lacks {', '.join(missing)}: run `astra init`")


def create_result_tables(models: Sequence[type[ResultModel]]) -> None:
    """Make the result tables that do not exist yet, under the migration lock.

    Raises
    ------
    SchemaError
        If a table lacks a column that its model has now.
    """
    absent = [model for model in models if not database.table_exists(model._meta.table_name)]
    if absent:
        with _migration_lock():
            database.create_tables(absent, safe=True)
    for model in models:
        _refuse_lacking(model)


def _refuse_lacking(model: type[ResultModel]) -> None:
    table, there = model._meta.table_name, {each.name for each in database.get_columns(model._meta.table_name)}
    lacking = [field for field in model._meta.sorted_fields if field.column_name not in there]
    if lacking:
        field = lacking[0]
        raise SchemaError(
            f"the table {table} lacks the column {field.column_name} that {model.__name__} has now; nothing was run: "
            f"ALTER TABLE {table} ADD COLUMN {field.column_name}, or give the model another table_name"
        )


def _runner() -> Runner:
    return Runner(database.obj, str(SCRIPTS), table_name="schema_migration")


def _refuse_newer(runner: Runner) -> None:
    unknown = [migration.name for migration in runner.status() if migration.path is None]
    if unknown:
        raise SchemaError(
            f"the database {place()} was made by a newer astra (it has {', '.join(unknown)}): "
            "update astra on this machine; nothing was changed"
        )


@contextmanager
def _migration_lock() -> Iterator[None]:
    opened = database.obj if database.obj is not None else database.connect() and database.obj
    if isinstance(opened, peewee.SqliteDatabase):
        if opened.database == ":memory:":
            yield
            return
        try:
            held = open(f"{opened.database}.migration", "ab")  # noqa: SIM115 -- held below
        except OSError as error:
            raise SchemaError(f"{opened.database}.migration, a lock, cannot be opened: {error.strerror}") from error
        with held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        return
    execute("SELECT pg_advisory_lock(?)", (_LOCK,))
    try:
        yield
    finally:
        execute("SELECT pg_advisory_unlock(?)", (_LOCK,))


def script_numbers() -> list[int]:
    """Return the numbers of the migrations that this code knows, in order."""
    return sorted(int(match[0]) for path in SCRIPTS.glob("[0-9]*.py") if (match := re.match(r"\d+", path.name)))
