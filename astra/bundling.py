"""Instances made of others, or of records: the tasks of a stored bundle, and tasks that may run together."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from astra.components import component_class
from astra.costs import expected_seconds
from astra.database.astradb import Task
from astra.errors import ComponentError

if TYPE_CHECKING:
    from astra.base import TaskInstance


def rebuild(name: str, tasks: Sequence[Task], strict: bool) -> TaskInstance:
    """Return the instance that recorded tasks make together; see `TaskInstance.from_task`."""
    component = component_class(name)
    recorded = {task.component_version for task in tasks}
    if recorded != {str(component.version)}:
        words = f"{name} is version {component.version} here, but was recorded with {', '.join(sorted(recorded))}"
        if strict:
            raise ComponentError(words)
        warnings.warn(words, stacklevel=3)
    instance: TaskInstance = object.__new__(component)
    instance.context, instance._session = {}, None
    instance._tasks, instance._inputs = [task.id for task in tasks], None
    instance.bundle_size = len(tasks)
    instance._shared, instance._spread = {}, {}
    given = [task.parameters for task in tasks]
    for each, parameter in component.parameters.items():
        if parameter.required and not all(each in own for own in given):
            raise ComponentError(
                f"{name} needs {each} now, which was no parameter of it when these tasks were recorded: "
                "make a new instance, and give it"
            )
        values = [own.get(each, parameter.default) for own in given]
        if parameter.bundled and any(value != values[0] for value in values):
            raise ComponentError(
                f"{name}.{each} is bundled now, but these {len(tasks)} tasks were recorded with several values of it, "
                f"such as {values[0]!r} and {next(value for value in values if value != values[0])!r}: run them apart"
            )
        if parameter.bundled or len(tasks) == 1:
            instance._shared[each] = values[0]
        else:
            instance._spread[each] = values
    return instance


def bundler(
    tasks: Iterable[TaskInstance | Task], max_size: int | None = None, balance: int | None = None
) -> list[TaskInstance]:
    """Return instances that run tasks with equal bundled parameters together, in the order they were given.

    Parameters
    ----------
    tasks
        Instances not executed yet, or `Task` records.
    max_size
        The most tasks in one of them.
    balance
        Into how many parts of about equal expected cost the tasks of each bundle are divided; a bundle of fewer tasks
        gives one part for each. What is expected is what was recorded: the time that the component took on the same
        data products, else its mean, else the same for every task.
    """
    for name, value in (("max_size", max_size), ("balance", balance)):
        if value is not None and value < 1:
            raise ValueError(f"bundler: {name} must be at least 1, not {value}")
    if max_size is not None and balance is not None:
        raise ValueError("bundler: give max_size or balance, not both")
    groups: dict[tuple[str, type, str], list[TaskInstance]] = {}
    for each in tasks:
        instance = each if not isinstance(each, Task) else rebuild(each.name, [each], strict=False)
        kind = "recorded" if instance._tasks else "new"
        # by the class too: a notebook may define it anew under the same name
        group = groups.setdefault((kind, type(instance), instance.plan().bundle_key), [])
        group += _cut(instance, max_size) if max_size and instance.bundle_size > max_size else [instance]
    if balance is not None:
        return [part for group in groups.values() for part in _balanced(_joined(group), balance)]
    return [_joined(part) for group in groups.values() for part in _parts(group, max_size)]


def _balanced(whole: TaskInstance, count: int) -> list[TaskInstance]:
    """Divide one bundle by cost: the dearest task first, each to the part that has cost least so far."""
    seconds = expected_seconds(whole)
    heap = [(0.0, 0, part) for part in range(min(count, whole.bundle_size))]
    members: list[list[int]] = [[] for _ in heap]
    for position in sorted(range(whole.bundle_size), key=lambda at: (-seconds[at], at)):
        cost, size, part = heap[0]
        heapq.heapreplace(heap, (cost + seconds[position], size + 1, part))
        members[part].append(position)
    return [_piece(whole, sorted(positions)) for positions in sorted(members, key=min)]


def _parts(group: list[TaskInstance], max_size: int | None) -> Iterator[list[TaskInstance]]:
    part: list[TaskInstance] = []
    size = 0
    for each in group:
        if part and max_size is not None and size + each.bundle_size > max_size:
            yield part
            part, size = [], 0
        part.append(each)
        size += each.bundle_size
    if part:
        yield part


def _cut(whole: TaskInstance, size: int) -> Iterator[TaskInstance]:
    for at in range(0, whole.bundle_size, size):
        yield _piece(whole, range(at, min(at + size, whole.bundle_size)))


def _piece(whole: TaskInstance, positions: Sequence[int]) -> TaskInstance:
    """Return the instance of some of another's tasks."""
    piece = object.__new__(type(whole))
    piece.context, piece._session, piece._shared = {}, None, whole._shared
    piece._tasks = [whole._tasks[at] for at in positions] if whole._tasks else []
    piece._inputs = [whole._inputs[at] for at in positions] if whole._inputs is not None else None
    piece._spread = {name: [values[at] for at in positions] for name, values in whole._spread.items()}
    piece.bundle_size = len(positions)
    return piece


def _joined(part: Sequence[TaskInstance]) -> TaskInstance:
    if len(part) == 1:
        return part[0]
    first = part[0]
    joined = type(first).__new__(type(first))
    joined.context, joined._session = {}, None
    joined._tasks = [key for each in part for key in each._tasks]
    joined.bundle_size = sum(each.bundle_size for each in part)
    joined._inputs = None
    if any(each._inputs is not None for each in part):
        joined._inputs = [entry for each in part for entry in each._inputs or [[]] * each.bundle_size]
    joined._shared = {name: first._shared[name] for name, each in first.parameters.items() if each.bundled}
    joined._spread = {
        name: [value for own in part for value in own._spread.get(name) or [own._shared.get(name)] * own.bundle_size]
        for name, each in first.parameters.items()
        if not each.bundled
    }
    return joined
