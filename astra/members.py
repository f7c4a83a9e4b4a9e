"""The tasks of a bundle as records, read by ranges of positions: a constant number of statements for each range."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import peewee

from astra.database.astradb import DataProduct, Task
from astra.database.connection import run
from astra.errors import InputChanged

RANGE = 5_000  # tasks read, and ended, at a time


@dataclass(slots=True)
class Member:
    """One task of a bundle: its record and data products, and of each the source and the file version given."""

    position: int
    task: Task
    data_products: list[DataProduct] = field(default_factory=list)
    sources: dict[int, int | None] = field(default_factory=dict)
    given: list[tuple[str, int, int]] = field(default_factory=list)

    def check_inputs(self) -> None:
        """Raise `InputChanged` where an input's size or modification time is not what the task was given."""
        for path, size, mtime_ns in self.given:
            check_input(self.task.id, path, size, mtime_ns)


def task_keys(bundle: int) -> array[int]:
    """Return the keys of a bundle's tasks by position."""
    rows = run("SELECT task_id FROM task_bundle WHERE bundle_id = ? ORDER BY position", (bundle,))
    return array("q", (row[0] for row in rows))


def members_of_bundle(bundle: int) -> Iterator[Member]:
    """Yield the members of a bundle in order, holding one range of them at a time."""
    first = 0
    while True:
        members = _read(bundle, first)
        yield from members
        if len(members) < RANGE:
            return
        first += RANGE


_TASK = [name.column_name for name in Task._meta.sorted_fields]
_PRODUCT = [name.column_name for name in DataProduct._meta.sorted_fields]


def _read(bundle: int, first: int) -> list[Member]:
    limits = (bundle, first, first + RANGE - 1)
    columns = ", ".join(f't."{name}"' for name in _TASK)
    rows = run(
        f"SELECT m.position, {columns} FROM task_bundle m JOIN task t ON t.id = m.task_id "
        "WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position",
        limits,
    )
    members = {row[0]: Member(row[0], _record(Task, row[1:])) for row in rows}
    columns = ", ".join(f'p."{name}"' for name in _PRODUCT)
    products: dict[int, DataProduct] = {}
    for position, size, mtime_ns, source, *row in run(
        f"SELECT m.position, g.size, g.mtime_ns, l.source_id, {columns} FROM task_bundle m "
        "JOIN task_input_data_product i ON i.task_id = m.task_id JOIN data_product p ON p.id = i.data_product_id "
        "LEFT JOIN ingestion g ON g.id = i.ingestion_id "
        "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL "
        "WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position, i.position",
        limits,
    ):
        member = members[position]
        product = products.get(row[0]) or products.setdefault(row[0], _record(DataProduct, row))
        member.data_products.append(product)
        member.sources[product.id] = source
        if size is not None:
            member.given.append((product.path, size, mtime_ns))
    return list(members.values())


def changed_inputs(bundle: int) -> dict[int, InputChanged]:
    """Return, by position, the tasks of a bundle whose inputs are no longer the file versions they were given."""
    found: dict[int, InputChanged] = {}
    first, size = 0, len(task_keys(bundle))
    while first < size:
        rows = run(
            "SELECT m.position, m.task_id, p.path, g.size, g.mtime_ns FROM task_bundle m "
            "JOIN task_input_data_product i ON i.task_id = m.task_id JOIN data_product p ON p.id = i.data_product_id "
            "JOIN ingestion g ON g.id = i.ingestion_id WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ?",
            (bundle, first, first + RANGE - 1),
        )
        for position, task, path, recorded_size, mtime_ns in rows:
            try:
                check_input(task, path, recorded_size, mtime_ns)
            except InputChanged as error:
                found[position] = error
        first += RANGE
    return found


def check_input(task: int, path: str, size: int, mtime_ns: int) -> None:
    """Raise `InputChanged` where a file's size or modification time is not what the task was given."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputChanged(f"input changed: {path} cannot be read any more ({error.strerror})") from error
    if (found.st_size, found.st_mtime_ns) != (size, mtime_ns):
        raise InputChanged(
            f"input changed: {path} is not the file version that task {task} was given; "
            "the new version's own task does the work"
        )


def _converters(model: type[Any]) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Return how each column of a model becomes its attribute; most are what the driver gives already."""
    kept = (peewee.IntegerField, peewee.DoubleField, peewee.ForeignKeyField)
    return [
        (each.name, None if isinstance(each, kept) or type(each) is peewee.TextField else each.python_value)
        for each in model._meta.sorted_fields
    ]


_CONVERTERS = {model: _converters(model) for model in (Task, DataProduct)}


def _record(model: type[Any], values: Any) -> Any:
    """Return a model's instance from one row, without the cost of asking peewee to build it."""
    instance: Any = object.__new__(model)
    instance.__data__ = {
        name: value if convert is None else convert(value)
        for (name, convert), value in zip(_CONVERTERS[model], values, strict=True)
    }
    instance.__rel__ = {}
    instance._dirty = set()
    return instance
