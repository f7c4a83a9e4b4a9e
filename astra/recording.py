"""What an instance asks to have recorded: its tasks, a chunk at a time, so that a large bundle takes little memory.

Comes from `TaskInstance.enqueue()` and `execute()`; goes to `queue`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from typing import TYPE_CHECKING

from astra import backlog, provenance, queue
from astra.clock import SYSTEM
from astra.collector import uncollected
from astra.database.migrate import create_result_tables
from astra.errors import AstraError, ComponentError
from astra.inputs import recorded_inputs, refuse_missing, resolve
from astra.interrupts import held_back
from astra.members import Tasks, states_by_key, tasks_by_key
from astra.settings_values import MOST_PRIORITY
from astra.states import TaskState
from astra.work import ByHand, Input, NewTask, repeat, with_identity

if TYPE_CHECKING:
    from astra.base import TaskInstance

CHUNK = 5_000  # tasks made, and recorded in one transaction


def new_tasks(instance: TaskInstance) -> Iterator[list[NewTask]]:
    """Yield the tasks of an instance as new ones, with their inputs in the file versions that are current now."""
    if instance.bundle_size > CHUNK and instance._inputs is not None:
        refuse_missing(instance._inputs)  # before the first chunk is recorded
    plans = instance.plans()
    for start in range(0, instance.bundle_size, CHUNK):
        chunk = list(islice(plans, CHUNK))
        try:
            inputs = _inputs(instance, start, len(chunk))
        except AstraError as error:
            if not start:
                raise
            raise AstraError(f"{error}; the {start:,} tasks before it are recorded already") from error
        yield [NewTask(*plan, own) for plan, own in zip(chunk, inputs, strict=True)]


def _inputs(instance: TaskInstance, start: int, count: int) -> Sequence[tuple[Input, ...]]:
    if keys := instance._tasks[start : start + count]:
        recorded = recorded_inputs(keys)
        return resolve([[each.data_product for each in recorded[key]] for key in keys])
    return [()] * count if instance._inputs is None else resolve(instance._inputs[start : start + count])


def enqueue(instance: TaskInstance, priority: int) -> Tasks:
    """Record an instance's tasks as pending; see `TaskInstance.enqueue`."""
    component = type(instance)
    if component.__module__ == "__main__" or "<locals>" in component.__qualname__:
        raise ComponentError(
            f"{component.__name__} is defined in a notebook, script or function, where the daemon cannot find it: "
            "put it in a module that can be imported, or call execute() to run it here"
        )
    if not -MOST_PRIORITY - 1 <= priority <= MOST_PRIORITY:
        raise ValueError(f"priority is a number from {-MOST_PRIORITY - 1} to {MOST_PRIORITY}, not {priority}")
    create_result_tables(instance.result_models)
    keys = array("q")
    with held_back(), uncollected():
        for chunk in new_tasks(instance):  # each in a transaction of its own, so that nobody waits long
            keys.extend(queue.enqueue([with_identity(each, priority) for each in chunk], SYSTEM.now()))
    return Tasks(keys)


def by_hand(instance: TaskInstance) -> ByHand:
    """Return an instance as a bundle to run here and now.

    Its new tasks are to be recorded, its recorded ones run; completed work is repeated as a new task.
    """
    finished = bytearray()
    for start in range(0, len(instance._tasks), CHUNK):
        keys = instance._tasks[start : start + CHUNK]
        states = states_by_key(keys)
        if TaskState.RUNNING in states and _free_from_the_dead(keys):
            states = states_by_key(keys)
        finished += bytes(each is TaskState.COMPLETED for each in states)
    open_ = array("q", compress(instance._tasks, (not each for each in finished)))
    chunks = _again(instance._tasks, finished, str(instance.version)) if instance._tasks else new_tasks(instance)
    code, environment = provenance.code_of(type(instance)), provenance.environment_id()
    key = instance.bundle_key()
    return ByHand(
        instance.component_name(), key, instance.bundle_size, open_, chunks, provenance.owner(), code, environment
    )


def _free_from_the_dead(tasks: Sequence[int]) -> int:
    """Fail the running tasks whose person's process is gone, so that they can be run again; return how many."""
    count = 0
    for each in backlog.bundles_by_hand(tasks):
        owner = each.owner
        if provenance.is_dead(owner.boot, owner.pid, owner.start, owner.host):
            count += queue.fail_gone(each.bundle, each.token, "process gone", SYSTEM.now())
    return count


def _again(tasks: Sequence[int], finished: Sequence[int], version: str) -> Iterator[list[NewTask | int]]:
    for start in range(0, len(tasks), CHUNK):
        keys = tasks[start : start + CHUNK]
        done = list(compress(keys, finished[start : start + CHUNK]))
        given = recorded_inputs(done)
        repeats = {task.id: repeat(task, given[task.id], version) for task in tasks_by_key(done)}
        yield [repeats.get(key, key) for key in keys]
