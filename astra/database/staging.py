"""Rows on their way in: a chunk is loaded into a temporary table, and a constant number of statements does the rest.

COPY on PostgreSQL and executemany on SQLite are what each loads fastest; everything after it is the same SQL on both.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import peewee

from astra.database.connection import database, driver_cursor, execute, execute_many
from astra.database.fields import POSTGRESQL_TYPES, SQLITE_TYPES


def stage(table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """Fill the temporary table `table` with `rows`, and nothing else; must run inside a transaction.

    The table is made once in each connection: making it anew each time would have SQLite prepare every statement again,
    and PostgreSQL's own tables grow without end. A name therefore always has the same columns.

    Parameters
    ----------
    table
        The temporary table's name.
    columns
        The columns in the order of each row's values, with their types: ``BIGINT``, ``TEXT``, ``REAL`` or ``INSTANT``.
    rows
        The values, plain; None for NULL.
    """
    sqlite = isinstance(database.obj, peewee.SqliteDatabase)
    kinds = SQLITE_TYPES if sqlite else {**POSTGRESQL_TYPES, "REAL": "DOUBLE PRECISION"}
    declared = ", ".join(f"{name} {kinds.get(kind, kind)}" for name, kind in columns.items())
    kept = "" if sqlite else " ON COMMIT DELETE ROWS"
    execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({declared}){kept}")
    # by its schema: a table of that name which is not temporary may be somebody's own
    execute(f"DELETE FROM {'temp' if sqlite else 'pg_temp'}.{table}")
    load(table, list(columns), rows)
    if not sqlite:
        execute(f"ANALYZE {table}")


def _copy_text(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as COPY reads them, made column by column: what needs no escaping is not looked at one by one."""
    columns = map(_copy_column, zip(*rows, strict=True))
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""])


def _copy_column(values: tuple[Any, ...]) -> Iterable[str]:
    kinds = set(map(type, values))
    if kinds == {int}:
        return map(str, values)
    if kinds == {str} and not _ESCAPED.search("".join(values)):
        return values
    return map(_copy_value, values)


_ESCAPED = re.compile(r"[\\\t\n\r]")


def _copy_value(value: Any) -> str:
    if value is None:
        return "\\N"
    if value is True or value is False:
        return "t" if value else "f"
    text = str(value)
    if _ESCAPED.search(text):
        text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text


def insert_rows(rows: Sequence[peewee.Model]) -> None:
    """Insert unsaved model instances, of one or several tables, a statement for each thousand."""
    tables: dict[type[peewee.Model], list[peewee.Model]] = {}
    for row in rows:
        tables.setdefault(type(row), []).append(row)
    for model, own in tables.items():
        fields = [field for field in model._meta.sorted_fields if not isinstance(field, peewee.AutoField)]
        names = ", ".join(f'"{field.column_name}"' for field in fields)
        marks = ", ".join("?" * len(fields))
        values = [tuple(held(row, field) for field in fields) for row in own]
        execute_many(f'INSERT INTO "{model._meta.table_name}" ({names}) VALUES ({marks})', values)


# What peewee must have made of a value: where it cannot, it hands on what it was given, and SQLite keeps that.
_HELD: dict[type[peewee.Field], Any] = {
    peewee.DoubleField: float,
    peewee.FloatField: float,
    peewee.IntegerField: int,
    peewee.BigIntegerField: int,
    peewee.SmallIntegerField: int,
}


def check_row(row: peewee.Model) -> None:
    """Raise `ValueError` where a column of an unsaved row has no value, or one that it cannot hold."""
    for field in row._meta.sorted_fields:
        place, given = f"{type(row).__name__}.{field.name}", row.__data__.get(field.name)
        if isinstance(field, peewee.ForeignKeyField) and not isinstance(given, int | None):
            raise ValueError(f"{place} cannot hold {given!r}: give a record, or its key")
        if isinstance(field, peewee.IntegerField) and isinstance(given, float) and not given.is_integer():
            raise ValueError(f"{place} cannot hold {given!r}, for it holds whole numbers")
        try:
            value = held(row, field)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place} cannot hold {row.__data__.get(field.name)!r}: {error}") from error
        if value is not None and not (isinstance(value, _HELD.get(type(field), object)) and _fits(field, value)):
            raise ValueError(f"{place} cannot hold {str(row.__data__.get(field.name))[:100]!r}")
        if value is None and not field.null and not isinstance(field, peewee.AutoField):
            raise ValueError(f"{place} needs a value, and has {row.__data__.get(field.name)!r}")


# What PostgreSQL refuses, SQLite must not keep.
_LARGEST = {peewee.SmallIntegerField: 1 << 15, peewee.IntegerField: 1 << 31}
_LARGEST_SINGLE = 3.4e38


def _fits(field: peewee.Field, value: Any) -> bool:
    """Return whether both databases can hold a value in a column."""
    if isinstance(value, int) and not isinstance(value, bool):
        largest = _LARGEST.get(type(field), 1 << 63)
        return -largest <= value < largest
    if isinstance(value, float):
        return not math.isfinite(value) or type(field) is not peewee.FloatField or abs(value) < _LARGEST_SINGLE
    if isinstance(value, str):
        longest = getattr(field, "max_length", None)
        return "\0" not in value and (longest is None or len(value) <= longest)
    return True


def held(row: peewee.Model, field: peewee.Field) -> Any:
    """Return what a column of a row is to hold. NaN is no value: SQLite cannot keep it, so PostgreSQL must not."""
    value = row.__data__.get(field.name)
    if value is None and field.default is not None:
        value = field.default() if callable(field.default) else field.default
    value = field.db_value(value)  # type: ignore[no-untyped-call]
    return None if isinstance(value, float) and math.isnan(value) else value


def reserve_ids(table: str, count: int) -> list[int]:
    """Return `count` keys that `table` will give to nobody else; must run inside a transaction."""
    if isinstance(database.obj, peewee.SqliteDatabase):  # the write lock makes the next keys ours
        first: int = execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0]
        return list(range(first, first + count))
    query = f"SELECT nextval('{table}_id_seq') FROM generate_series(1, ?)"
    return [row[0] for row in execute(query, (count,)).fetchall()]


def key_source(table: str, count: int) -> Callable[[], int]:
    """Return what gives one new key of `table` at a time, `count` at most; it asks the database when first called."""

    def keys() -> Iterator[int]:
        yield from reserve_ids(table, count)

    return keys().__next__


def load(table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert `rows` into `table`, in one statement, as fast as the database takes them."""
    if not rows:
        return
    kept = [at for at in range(len(columns)) if rows[0][at] is not None or {*map(itemgetter(at), rows)} != {None}]
    if 1 < len(kept) < len(columns):  # Python's sqlite3 is slow to bind a None: columns that hold nothing are left out
        columns, rows = [columns[at] for at in kept], list(map(itemgetter(*kept), rows))
    names = ", ".join(columns)
    with driver_cursor() as cursor:
        if isinstance(database.obj, peewee.SqliteDatabase):
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)
        else:
            cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN", io.StringIO(_copy_text(rows)))


def among(column: str, values: Sequence[Any], kind: str = "TEXT") -> tuple[str, Any]:
    """Return the condition that a column of a kind, text or ``BIGINT``, has one of many values, and its parameter."""
    if isinstance(database.obj, peewee.SqliteDatabase):
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values))
    return f"{column} = ANY(CAST(? AS {kind}[]))", list(values)
