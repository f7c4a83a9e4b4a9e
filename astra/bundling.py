"""Instances made of others, or of records: the tasks of a stored bundle, and tasks that may run together."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from astra.components import component_class
from astra.costs import expected_seconds
from astra.database.astradb import Bundle, Task
from astra.errors import ComponentError
from astra.members import parameters_of_bundle, task_keys, tasks_by_key, versions_of_bundle
from astra.whole import Whole

if TYPE_CHECKING:
    from astra.base import TaskInstance


def rebuild(name: str, tasks: Sequence[Task], strict: bool) -> TaskInstance:
    """Return the instance that recorded tasks make together; see `TaskInstance.from_task`."""
    component = component_class(name)
    _check_version(component, {task.component_version for task in tasks}, strict)
    return _of_tasks(component, tasks)


def _of_tasks(component: type[TaskInstance], tasks: Sequence[Task]) -> TaskInstance:
    instance = _bare(component, [task.id for task in tasks], len(tasks))
    values = _values(component, (task.parameters for task in tasks))
    one = {each for each, parameter in component.parameters.items() if parameter.bundled or len(tasks) == 1}
    instance._shared = {each: own[0] for each, own in values.items() if each in one}
    instance._spread = {each: own for each, own in values.items() if each not in one}
    return instance


def rebuild_bundle(bundle: Bundle, strict: bool) -> TaskInstance:
    """Return the instance of all tasks of a recorded bundle; see `TaskInstance.from_bundle`."""
    keys = task_keys(bundle.id)
    if len(keys) != bundle.size:
        raise ComponentError(
            f"bundle {bundle.id} has {len(keys)} of its {bundle.size} tasks, for it could not be recorded whole: "
            "make instances of the tasks"
        )
    component = component_class(bundle.name)
    _check_version(component, versions_of_bundle(bundle.id), strict)
    if len(keys) == 1:
        return _of_tasks(component, tasks_by_key(keys))
    first = parameters_of_bundle(bundle.id, most=1)
    return _of_bundle(component, bundle, keys, first, partial(parameters_of_bundle, bundle.id))


def rebuild_whole(whole: Whole) -> TaskInstance:
    """Return the instance of all tasks of a bundle that was read whole."""
    component = component_class(whole.bundle.name)
    _check_version(component, whole.versions(), strict=False)
    if len(whole.tasks) == 1:
        return _of_tasks(component, whole.records())
    return _of_bundle(component, whole.bundle, whole.keys, islice(whole.parameters(), 1), whole.parameters)


def _of_bundle(
    component: type[TaskInstance],
    bundle: Bundle,
    keys: Sequence[int],
    first: Iterable[dict[str, Any]],
    parameters: Callable[[], Iterable[dict[str, Any]]],
) -> TaskInstance:
    """Return the instance of a bundle of several tasks; what each has for itself is read when it is asked for."""
    instance = _bare(component, keys, len(keys))
    own = {each for each, parameter in component.parameters.items() if not parameter.bundled}
    instance._shared = {each: values[0] for each, values in _values(component, first).items() if each not in own}
    instance._spread = spread = Recorded(component, own, parameters)
    if instance.bundle_key() != bundle.bundle_key:  # what is bundled is no longer what was when these tasks met
        spread.read()
    return instance


class Recorded(Mapping[str, list[Any]]):
    """The values that the tasks of a bundle have each for themselves, read when one is asked for.

    To run the bundle needs none of them: its tasks are read, a range at a time, with their parameters.
    """

    def __init__(
        self,
        component: type[TaskInstance],
        names: Iterable[str],
        parameters: Callable[[], Iterable[dict[str, Any]]],
    ) -> None:
        self._component, self._names, self._parameters = component, frozenset(names), parameters
        self._read: dict[str, list[Any]] | None = None

    def read(self) -> dict[str, list[Any]]:
        """Return the values of every parameter, read once."""
        if self._read is None:
            values = _values(self._component, self._parameters())
            self._read = {each: own for each, own in values.items() if each in self._names}
        return self._read

    def __getitem__(self, name: str) -> list[Any]:
        return self.read()[name]

    def __iter__(self) -> Iterator[str]:
        return (each for each in self._component.parameters if each in self._names)

    def __len__(self) -> int:
        return len(self._names)


def _check_version(component: type[TaskInstance], recorded: set[str], strict: bool) -> None:
    if recorded != {str(component.version)}:
        name, versions = component.component_name(), ", ".join(sorted(recorded))
        words = f"{name} is version {component.version} here, but was recorded with {versions}"
        if strict:
            raise ComponentError(words)
        warnings.warn(words, stacklevel=4)


def _values(component: type[TaskInstance], tasks: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what recorded tasks were given for each parameter that the component has now, in their order."""
    values: dict[str, list[Any]] = {each: [] for each in component.parameters}
    for given in tasks:
        for each, parameter in component.parameters.items():
            if each not in given and parameter.required:
                raise ComponentError(
                    f"{component.component_name()} needs {each} now, which was no parameter of it when these tasks "
                    "were recorded: make a new instance, and give it"
                )
            values[each].append(given.get(each, parameter.default))
    for each, own in values.items():
        if component.parameters[each].bundled and (other := [value for value in own if value != own[0]]):
            raise ComponentError(
                f"{component.component_name()}.{each} is bundled now, but these {len(own)} tasks were recorded with "
                f"several values of it, such as {own[0]!r} and {other[0]!r}: run them apart"
            )
    return values


def _bare(component: type[TaskInstance], tasks: Sequence[int], size: int) -> TaskInstance:
    """Return an instance that has been told nothing but its recorded tasks, if there are any, and its size."""
    instance: TaskInstance = object.__new__(component)
    instance.context, instance._session = {}, None
    instance._tasks, instance._inputs, instance.bundle_size = tasks, None, size
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
        group = groups.setdefault((kind, type(instance), instance.bundle_key()), [])
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
    piece = _bare(type(whole), [whole._tasks[at] for at in positions] if whole._tasks else (), len(positions))
    piece._inputs = [whole._inputs[at] for at in positions] if whole._inputs is not None else None
    piece._shared = whole._shared
    piece._spread = {name: [values[at] for at in positions] for name, values in whole._spread.items()}
    return piece


def _joined(part: Sequence[TaskInstance]) -> TaskInstance:
    if len(part) == 1:
        return part[0]
    first = part[0]
    joined = _bare(type(first), [key for each in part for key in each._tasks], sum(each.bundle_size for each in part))
    if any(each._inputs is not None for each in part):
        joined._inputs = [entry for each in part for entry in each._inputs or [[]] * each.bundle_size]
    joined._shared = {name: first._shared[name] for name, each in first.parameters.items() if each.bundled}
    joined._spread = {
        name: [value for own in part for value in own._spread.get(name) or [own._shared.get(name)] * own.bundle_size]
        for name, each in first.parameters.items()
        if not each.bundled
    }
    return joined
