"""The tasks of a bundle as records, read by ranges of positions: a constant number of statements for each range."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import peewee

from astra.database.astradb import Bundle, DataProduct, Task
from astra.database.connection import by_index, run
from astra.errors import AstraError
from astra.given import Given, Use
from astra.signature import Signature
from astra.states import TaskState

RANGE = 1_000  # tasks read at a time
KEYS = 10_000  # keys read at a time


_GIVEN = "g.id, g.size, g.mtime_ns, g.ctime_ns, g.inode, g.header_sha256, g.sha256"


@dataclass(slots=True)
class Member:
    """One task's place in a bundle: its data products, and of each the source and the file version given."""

    position: int
    task: int
    data_products: list[DataProduct] = field(default_factory=list)
    sources: dict[int, int | None] = field(default_factory=dict)
    given: list[Given] = field(default_factory=list)

    def check_inputs(self) -> None:
        """Raise `InputChanged` where an input is not the file version that the task was given."""
        for each in self.given:
            each.check(self.task)

    def uses(self) -> list[Use]:
        """Return the file versions that the task was given."""
        return [Use(self.position, self.task, each) for each in self.given]


def task_keys(bundle: int) -> array[int]:
    """Return the keys of a bundle's tasks by position; a statement for each 10,000."""
    keys, query = array("q"), "SELECT task_id FROM task_bundle WHERE bundle_id = ? AND position BETWEEN ? AND ?"
    while len(keys) % KEYS == 0:
        rows = run(f"{query} ORDER BY position", (bundle, len(keys), len(keys) + KEYS - 1))
        keys.extend(row[0] for row in rows)
        if not rows:
            break
    return keys


_TASK = [name.column_name for name in Task._meta.sorted_fields]
TASK_COLUMNS = ", ".join(f't."{name}"' for name in _TASK)
BUNDLE_COLUMNS = ", ".join(f'b."{name.column_name}"' for name in Bundle._meta.sorted_fields)
_PRODUCT = [name.column_name for name in DataProduct._meta.sorted_fields]


def bundle_by_key(key: int) -> Bundle:
    """Return the record of a bundle: what each one begins with, so without the cost of building the query anew."""
    rows = run(f"SELECT {BUNDLE_COLUMNS} FROM bundle b WHERE b.id = ?", (key,))
    if not rows:
        raise AstraError(f"there is no bundle {key}; nothing was run")
    bundle: Bundle = as_record(Bundle, rows[0])
    return bundle


def versions_of_bundle(bundle: int) -> set[str]:
    """Return the versions of the component that a bundle's tasks were recorded with."""
    query = "SELECT DISTINCT t.component_version FROM task_bundle m JOIN task t ON t.id = m.task_id"
    return {row[0] for row in run(f"{query} WHERE m.bundle_id = ?", (bundle,))}


def parameters_of_bundle(bundle: int, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a bundle's tasks in order, `most` at the most; a statement for each range."""
    first = 0
    query = "SELECT t.parameters FROM task_bundle m JOIN task t ON t.id = m.task_id WHERE m.bundle_id = ?"
    while rows := run(
        f"{query} AND m.position BETWEEN ? AND ? ORDER BY m.position", (bundle, first, first + (most or KEYS) - 1)
    ):
        for row in rows:
            yield Task.parameters.python_value(row[0])
        first += len(rows)
        if most is not None or len(rows) < KEYS:
            return


class Tasks(Sequence[Task]):
    """Recorded tasks by their keys, read when they are asked for, as they are then."""

    def __init__(self, keys: Sequence[int]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> Tasks: ...

    def __getitem__(self, index: int | slice) -> Task | Tasks:
        return Tasks(self._keys[index]) if isinstance(index, slice) else tasks_by_key([self._keys[index]])[0]

    def __iter__(self) -> Iterator[Task]:
        for first in range(0, len(self._keys), RANGE):
            yield from tasks_by_key(self._keys[first : first + RANGE])

    def __reversed__(self) -> Iterator[Task]:
        for last in range(len(self._keys), 0, -RANGE):
            yield from reversed(tasks_by_key(self._keys[max(0, last - RANGE) : last]))

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task.id in self._keys

    def index(self, task: Task, *limits: int) -> int:
        """Return the place of a task among these."""
        return self._keys.index(task.id, *limits)

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"


def tasks_by_key(keys: Sequence[int]) -> list[Task]:
    """Return the tasks with these keys, in the order of the keys; a statement for each range."""
    found: dict[int, Task] = {}
    for start in range(0, len(keys), RANGE):
        listed = ", ".join(str(int(key)) for key in keys[start : start + RANGE])
        with by_index():
            rows = run(f"SELECT {TASK_COLUMNS} FROM task t WHERE t.id IN ({listed})")
        found |= {row[0]: as_record(Task, row) for row in rows}
    return [found[key] for key in keys]


def has_inputs(bundle: int) -> bool:
    """Return whether any task of a bundle was given a data product."""
    query = "SELECT 1 FROM task_bundle m JOIN task_input_data_product i ON i.task_id = m.task_id WHERE m.bundle_id = ?"
    return bool(run(f"{query} LIMIT 1", (bundle,)))


def members_of_range(bundle: int, first: int) -> Iterator[tuple[Task, Member]]:
    """Return the tasks of a bundle from position `first` on, in order, `RANGE` at the most; two statements."""
    return as_members(_tasks_of_range(bundle, first), _inputs_of_range(bundle, first))


def lone_members_of_range(bundle: int, first: int) -> Iterator[tuple[Task, Member]]:
    """Return what `members_of_range` does, of a bundle without inputs; one statement."""
    return as_members(_tasks_of_range(bundle, first), ())


def _tasks_of_range(bundle: int, first: int) -> Iterator[tuple[Task, int]]:
    tasks = run(
        f"SELECT {TASK_COLUMNS}, m.position FROM task_bundle m JOIN task t ON t.id = m.task_id "
        "WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position",
        (bundle, first, first + RANGE - 1),
    )
    return ((as_record(Task, row), row[-1]) for row in tasks)


def _inputs_of_range(bundle: int, first: int) -> list[Any]:
    return run(
        f"SELECT i.task_id, {INPUT_COLUMNS} FROM task_bundle m JOIN task_input_data_product i ON i.task_id = m.task_id "
        f"{OF_INPUT} WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? ORDER BY m.position, i.position",
        (bundle, first, first + RANGE - 1),
    )


def members_of_tasks(keys: Sequence[int], first: int) -> Iterator[tuple[Task, Member]]:
    """Return recorded tasks from position `first` of `keys` on, in order, `RANGE` at the most, as a bundle's."""
    own = keys[first : first + RANGE]
    listed = ", ".join(str(int(key)) for key in own)
    with by_index():
        inputs = run(
            f"SELECT i.task_id, {INPUT_COLUMNS} FROM task_input_data_product i {OF_INPUT} "
            f"WHERE i.task_id IN ({listed}) ORDER BY i.task_id, i.position"
        )
    return as_members(zip(tasks_by_key(own), range(first, first + len(own)), strict=True), inputs)


def as_members(tasks: Iterable[tuple[Task, int]], inputs: Sequence[Any]) -> Iterator[tuple[Task, Member]]:
    """Yield each task, made when its turn has come, with its place; rows of `inputs` begin with the task's key.

    Records that live on while others are made would cost more in garbage collection than in making.
    """
    own: dict[int, list[Any]] = {}
    for row in inputs:
        own.setdefault(row[0], []).append(row)
    products: dict[int, DataProduct] = {}
    known: dict[int, Given] = {}
    for task, position in tasks:
        member = Member(position, task.id)
        for _, key, size, mtime_ns, ctime_ns, inode, header_sha256, sha256, source, *row in own.get(task.id, ()):
            product = products.get(row[0]) or products.setdefault(row[0], as_record(DataProduct, row))
            member.data_products.append(product)
            member.sources[product.id] = source
            if key is not None:
                version = (key, size, mtime_ns, ctime_ns, inode, header_sha256, sha256)
                member.given.append(_given(known, product.path, *version))
        yield task, member


INPUT_COLUMNS = f"{_GIVEN}, l.source_id, " + ", ".join(f'p."{name}"' for name in _PRODUCT)
OF_INPUT = (
    "JOIN data_product p ON p.id = i.data_product_id LEFT JOIN ingestion g ON g.id = i.ingestion_id "
    "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL"
)


def uses_of_range(bundle: int, first: int) -> list[Use]:
    """Return the file versions given to a bundle's tasks from position `first` on, `KEYS` positions at the most.

    One that several of these tasks were given is one object, so it is looked at, and read, once.
    """
    rows = run(
        f"SELECT m.position, m.task_id, p.path, {_GIVEN} FROM task_bundle m "
        "JOIN task_input_data_product i ON i.task_id = m.task_id JOIN data_product p ON p.id = i.data_product_id "
        "JOIN ingestion g ON g.id = i.ingestion_id WHERE m.bundle_id = ? AND m.position BETWEEN ? AND ? "
        "ORDER BY m.position, i.position",
        (bundle, first, first + KEYS - 1),
    )
    known: dict[int, Given] = {}
    return [Use(position, task, _given(known, path, *version)) for position, task, path, *version in rows]


def _given(known: dict[int, Given], path: str, *version: Any) -> Given:
    """Return a file version, made where it is not `known` yet; `version` is a row of `_GIVEN`."""
    key, *stamps, header_sha256, sha256 = version
    return known.get(key) or known.setdefault(key, Given(key, path, Signature(*stamps), header_sha256, sha256))


def _columns(model: type[Any]) -> tuple[list[str], list[tuple[str, Callable[[Any], Any]]]]:
    """Return a model's attributes, and how those of them are made which are not what the driver gives already."""
    kept = (peewee.IntegerField, peewee.DoubleField, peewee.ForeignKeyField)
    fields = model._meta.sorted_fields
    made = [each for each in fields if not isinstance(each, kept) and type(each) is not peewee.TextField]
    return [each.name for each in fields], [(each.name, each.python_value) for each in made]


_COLUMNS = {model: _columns(model) for model in (Bundle, Task, DataProduct)}


def states_by_key(keys: Sequence[int]) -> list[TaskState]:
    """Return the states of the tasks with these keys, in the order of the keys."""
    listed = ", ".join(str(int(key)) for key in keys)
    with by_index():
        found = dict(run(f"SELECT id, state FROM task WHERE id IN ({listed})"))
    return [TaskState(found[key]) for key in keys]


def as_record(model: type[Any], values: Any) -> Any:
    """Return a model's instance from one row, without the cost of asking peewee to build it."""
    instance: Any = object.__new__(model)
    names, converters = _COLUMNS[model]
    instance.__data__ = data = dict(zip(names, values, strict=False))  # a row may hold more, after them
    for name, convert in converters:
        if data[name] is not None:
            data[name] = convert(data[name])
    instance.__rel__ = {}
    instance._dirty = set()
    return instance
