"""Run finished tasks again, and compare what they give now with what is recorded.

Comes from `Task.repeat` and `astra repeat`. Nothing is written unless asked: then the second run is recorded as new
tasks that name the old ones, and old and new rows are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from astra import results
from astra.bundling import rebuild
from astra.database.astradb import ResultModel, Task
from astra.database.staging import held
from astra.errors import AstraError
from astra.members import tasks_by_key
from astra.states import TaskState

_OWN = frozenset({"id", "task"})  # columns that tell one run from another
ROW = "row"


class Difference(NamedTuple):
    """One value that is not what was recorded: of a task, in a row of one of its tables, counted from 0.

    Where a whole row is on one side only, `column` is ``"row"``, and the other side is None.
    """

    task: int
    table: str
    row: int
    column: str
    recorded: Any
    found: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """Old results beside new ones: how many tasks and rows were compared, and what differs."""

    tasks: int
    rows: int
    differences: tuple[Difference, ...]
    new_tasks: tuple[int, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing differs beyond the tolerances."""
        return not self.differences


def repeat(keys: Sequence[int], rtol: float = 1e-6, atol: float = 0.0, record: bool = False) -> Comparison:
    """Run completed tasks of one component again, in one bundle, and compare their results with the recorded ones.

    Parameters
    ----------
    keys
        The tasks.
    rtol, atol
        How far two numbers may be apart, relative and absolute, and still be equal.
    record
        Record the second run, as new tasks that name the old ones.

    Raises
    ------
    AstraError
        If one of the tasks is not completed, or they are of several components.
    InputChanged
        If an input is no longer the file version that its task was given: other bytes give other results.
    """
    tasks = tasks_by_key(keys)
    unfinished = [each.id for each in tasks if each.state is not TaskState.COMPLETED]
    if unfinished or len({each.name for each in tasks}) != 1:
        told = f"task {unfinished[0]} is not completed" if unfinished else "the tasks are of several components"
        raise AstraError(f"{told}: only finished work of one component can be repeated and compared")
    instance = rebuild(tasks[0].name, tasks, strict=False)
    old = results.of_tasks(tasks[0].name, keys)
    made: dict[int, int] = {}
    if record:
        instance.execute()
        made = _repeats(keys)
        again = results.of_tasks(tasks[0].name, list(made.values()))
        new = {key: again.get(made[key], []) for key in keys}
    else:
        new = instance.rehearse()[1]
    differences = [each for key in keys for each in _differences(key, old.get(key, []), new.get(key, []), (rtol, atol))]
    return Comparison(len(keys), sum(map(len, old.values())), tuple(differences), tuple(made.values()))


def _repeats(keys: Sequence[int]) -> dict[int, int]:
    """Return the newest task that repeats each of these."""
    found = Task.select(Task.id, Task.repeat_of).where(Task.repeat_of.in_(list(keys))).order_by(Task.id)
    return {each.__data__["repeat_of"]: each.id for each in found}


def _differences(
    task: int, old: Sequence[ResultModel], new: Sequence[ResultModel], tolerance: tuple[float, float]
) -> list[Difference]:
    found: list[Difference] = []
    tables = dict.fromkeys(type(row) for row in [*old, *new])
    for model in tables:
        table = model._meta.table_name
        pairs = zip_longest(*([row for row in rows if type(row) is model] for rows in (old, new)))
        for at, (before, after) in enumerate(pairs):
            if before is None or after is None:
                found.append(Difference(task, table, at, ROW, before and "there", after and "there"))
                continue
            then, now = _values(before), _values(after)
            found += [
                Difference(task, table, at, name, then[name], now[name])
                for name in then
                if not _alike(then[name], now[name], tolerance)
            ]
    return found


def _values(row: ResultModel) -> Mapping[str, Any]:
    """Return a row's values as a database gives them back, whether it has been there or not."""
    return {
        field.name: field.python_value(held(row, field)) for field in row._meta.sorted_fields if field.name not in _OWN
    }


def _alike(then: Any, now: Any, tolerance: tuple[float, float]) -> bool:
    if isinstance(then, float) and isinstance(now, float):
        return math.isclose(then, now, rel_tol=tolerance[0], abs_tol=tolerance[1])
    return bool(then == now)
