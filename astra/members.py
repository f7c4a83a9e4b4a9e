"""The tasks of a bundle as records, read by ranges of positions: a constant number of statements for each range."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import peewee

from astra import headers
from astra.database.astradb import Bundle, DataProduct, Task
from astra.database.connection import by_index, run
from astra.errors import AstraError, FileError, InputChanged
from astra.signature import Signature

RANGE = 5_000  # tasks read, and ended, at a time


class Given(NamedTuple):
    """A file version that a task was given: where the file is, and what it was."""

    path: str
    signature: Signature
    header_sha256: str | None

    def check(self, task: int) -> None:
        """Raise `InputChanged` unless the file at this path is still this file version.

        A change time or inode of its own may come from a `chmod`, a hard link, a copy put back: then the header tells.
        """
        try:
            found = Signature.of(os.stat(self.path))
            same = found[:2] == self.signature[:2]
            if same and found != self.signature and self.header_sha256 is not None:
                same = headers.digest(self.path) == self.header_sha256
        except OSError as error:
            raise InputChanged(f"input changed: {self.path} cannot be read any more ({error.strerror})") from error
        except FileError as error:
            raise InputChanged(f"input changed: {error}") from error
        if not same:
            raise InputChanged(
                f"input changed: {self.path} is not the file version that task {task} was given; "
                "the new version's own task does the work"
            )


_GIVEN = "g.size, g.mtime_ns, g.ctime_ns, g.inode, g.header_sha256"


@dataclass(slots=True)
class Member:
    """One task of a bundle: its record and data products, and of each the source and the file version given."""

    position: int
    task: Task
    data_products: list[DataProduct] = field(default_factory=list)
    sources: dict[int, int | None] = field(default_factory=dict)
    given: list[Given] = field(default_factory=list)

    def check_inputs(self) -> None:
        """Raise `InputChanged` where an input's size or modification time is not what the task was given."""
        for each in self.given:
            each.check(self.task.id)


def task_keys(bundle: int) -> array[int]:
    """Return the keys of a bundle's tasks by position."""
    rows = run("SELECT task_id FROM task_bundle WHERE bundle_id = ? ORDER BY position", (bundle,))
    return array("q", (row[0] for row in rows))


_TASK = [name.column_name for name in Task._meta.sorted_fields]
_PRODUCT = [name.column_name for name in DataProduct._meta.sorted_fields]


def bundle_by_key(key: int) -> Bundle:
    """Return the record of a bundle: what each one begins with, so without the cost of building the query anew."""
    columns = ", ".join(f'"{each.column_name}"' for each in Bundle._meta.sorted_fields)
    rows = run(f"SELECT {columns} FROM bundle WHERE id = ?", (key,))
    if not rows:
        raise AstraError(f"there is no bundle {key}; nothing was run")
    bundle: Bundle = _record(Bundle, rows[0])
    return bundle


def tasks_of_bundle(bundle: int) -> list[Task]:
    """Return the tasks of a bundle in order; a statement for each range."""
    tasks: list[Task] = []
    while True:
        rows = _task_rows(bundle, len(tasks))
        tasks += [_record(Task, row[1:]) for row in rows]
        if len(rows) < RANGE:
            return tasks


def tasks_by_key(keys: Sequence[int]) -> list[Task]:
    """Return the tasks with these keys, in the order of the keys; a statement for each range."""
    found: dict[int, Task] = {}
    for start in range(0, len(keys), RANGE):
        listed = ", ".join(str(int(key)) for key in keys[start : start + RANGE])
        columns = ", ".join(f't."{name}"' for name in _TASK)
        with by_index():
            rows = run(f"SELECT {columns} FROM task t WHERE t.id IN ({listed})")
        found |= {row[0]: _record(Task, row) for row in rows}
    return [found[key] for key in keys]


def _task_rows(bundle: int, first: int) -> list[Any]:
    columns = ", ".join(f't."{name}"' for name in _TASK)
    return run(
        f"SELECT m.position, {columns} FROM task_bundle m JOIN task t ON t.id = m.task_id "
        "WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position",
        (bundle, first, first + RANGE - 1),
    )


def members_of_range(bundle: int, first: int) -> list[Member]:
    """Return the members of a bundle from position `first` on, in order, `RANGE` at the most; two statements."""
    limits = (bundle, first, first + RANGE - 1)
    members = {row[0]: Member(row[0], _record(Task, row[1:])) for row in _task_rows(bundle, first)}
    rows = run(
        f"SELECT m.position, {_INPUT} FROM task_bundle m JOIN task_input_data_product i ON i.task_id = m.task_id "
        f"{_OF_INPUT} WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position, i.position",
        limits,
    )
    _give(members, rows)
    return list(members.values())


def members_of_tasks(keys: Sequence[int], first: int) -> list[Member]:
    """Return recorded tasks from position `first` of `keys` on as members, in order, `RANGE` at the most."""
    own = keys[first : first + RANGE]
    members = {task.id: Member(first + at, task) for at, task in enumerate(tasks_by_key(own))}
    listed = ", ".join(str(int(key)) for key in own)
    with by_index():
        rows = run(
            f"SELECT i.task_id, {_INPUT} FROM task_input_data_product i {_OF_INPUT} "
            f"WHERE i.task_id IN ({listed}) ORDER BY i.task_id, i.position"
        )
    _give(members, rows)
    return list(members.values())


_INPUT = f"{_GIVEN}, l.source_id, " + ", ".join(f'p."{name}"' for name in _PRODUCT)
_OF_INPUT = (
    "JOIN data_product p ON p.id = i.data_product_id LEFT JOIN ingestion g ON g.id = i.ingestion_id "
    "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL"
)


def _give(members: Mapping[int, Member], rows: Sequence[Any]) -> None:
    """Give members their data products, sources and file versions; each row begins with the member's key."""
    products: dict[int, DataProduct] = {}
    for key, size, mtime_ns, ctime_ns, inode, digest, source, *row in rows:
        member = members[key]
        product = products.get(row[0]) or products.setdefault(row[0], _record(DataProduct, row))
        member.data_products.append(product)
        member.sources[product.id] = source
        if size is not None:
            member.given.append(Given(product.path, Signature(size, mtime_ns, ctime_ns, inode), digest))


def changed_inputs(bundle: int) -> dict[int, InputChanged]:
    """Return, by position, the tasks of a bundle whose inputs are no longer the file versions they were given."""
    found: dict[int, InputChanged] = {}
    first, size = 0, len(task_keys(bundle))
    while first < size:
        rows = run(
            f"SELECT m.position, m.task_id, p.path, {_GIVEN} FROM task_bundle m "
            "JOIN task_input_data_product i ON i.task_id = m.task_id JOIN data_product p ON p.id = i.data_product_id "
            "JOIN ingestion g ON g.id = i.ingestion_id WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ?",
            (bundle, first, first + RANGE - 1),
        )
        for position, task, path, *stamps, digest in rows:
            try:
                Given(path, Signature(*stamps), digest).check(task)
            except InputChanged as error:
                found[position] = error
        first += RANGE
    return found


def _columns(model: type[Any]) -> tuple[list[str], list[tuple[str, Callable[[Any], Any]]]]:
    """Return a model's attributes, and how those of them are made which are not what the driver gives already."""
    kept = (peewee.IntegerField, peewee.DoubleField, peewee.ForeignKeyField)
    fields = model._meta.sorted_fields
    made = [each for each in fields if not isinstance(each, kept) and type(each) is not peewee.TextField]
    return [each.name for each in fields], [(each.name, each.python_value) for each in made]


_COLUMNS = {model: _columns(model) for model in (Bundle, Task, DataProduct)}


def _record(model: type[Any], values: Any) -> Any:
    """Return a model's instance from one row, without the cost of asking peewee to build it."""
    instance: Any = object.__new__(model)
    names, converters = _COLUMNS[model]
    instance.__data__ = data = dict(zip(names, values, strict=True))
    for name, convert in converters:
        data[name] = convert(data[name])
    instance.__rel__ = {}
    instance._dirty = set()
    return instance
