"""Bundles small enough to be read whole: all of a load in three statements; one by one they take six each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from astra.database.astradb import Bundle, Task
from astra.database.connection import by_index, run
from astra.members import BUNDLE_COLUMNS, INPUT_COLUMNS, OF_INPUT, TASK_COLUMNS, Member, as_members, as_record


@dataclass(slots=True)
class Whole:
    """A bundle as it is recorded: its own row, and its tasks' and their inputs', in order."""

    bundle: Bundle
    tasks: list[Any]
    inputs: list[Any]

    @property
    def keys(self) -> array[int]:
        """The keys of its tasks, in order."""
        return array("q", [row[2] for row in self.tasks])

    def versions(self) -> set[str]:
        """Return the versions of the component that its tasks were recorded with."""
        return {row[_VERSION] for row in self.tasks}

    def parameters(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of its tasks, made anew."""
        return (Task.parameters.python_value(row[_PARAMETERS]) for row in self.tasks)

    def records(self) -> list[Task]:
        """Return its tasks, made anew."""
        return [as_record(Task, row[2:]) for row in self.tasks]

    def members(self) -> Iterator[tuple[Task, Member]]:
        """Yield its tasks, made anew, with their places."""
        tasks = ((as_record(Task, row[2:]), row[1]) for row in self.tasks)
        return as_members(tasks, self.inputs)


_COLUMNS = ["bundle_id", "position", *(field.column_name for field in Task._meta.sorted_fields)]  # of a task's row
_VERSION, _PARAMETERS = _COLUMNS.index("component_version"), _COLUMNS.index("parameters")


def read_whole(bundles: Sequence[int]) -> dict[int, Whole]:
    """Return bundles by key, with all their tasks and inputs."""
    listed = ", ".join(str(int(each)) for each in bundles)
    of_these = f"FROM task_bundle m JOIN task t ON t.id = m.task_id WHERE m.bundle_id IN ({listed})"
    with by_index():
        own = run(f"SELECT {BUNDLE_COLUMNS} FROM bundle b WHERE b.id IN ({listed})")
        tasks = run(f"SELECT m.bundle_id, m.position, {TASK_COLUMNS} {of_these} ORDER BY m.bundle_id, m.position")
        inputs = run(
            f"SELECT m.bundle_id, i.task_id, {INPUT_COLUMNS} FROM task_bundle m "
            f"JOIN task_input_data_product i ON i.task_id = m.task_id {OF_INPUT} "
            f"WHERE m.bundle_id IN ({listed}) ORDER BY m.bundle_id, m.position, i.position"
        )
    found = {row[0]: Whole(as_record(Bundle, row), [], []) for row in own}
    for row in tasks:
        found[row[0]].tasks.append(row)
    for row in inputs:
        found[row[0]].inputs.append(row[1:])
    return found
