"""Bundles run in this process on a clock that stands still, as an executor's process or a person would run them."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from astra import provenance, queue, recording, work
from astra.base import TaskInstance
from astra.clock import Clock
from astra.database.astradb import TIME_COLUMNS, Bundle, Task, TaskBundle
from astra.recording import new_tasks
from astra.session import Session
from astra.work import Claimed


def held(instance: TaskInstance, clock: Clock) -> Claimed:
    """Enqueue an instance's tasks, and return them as a bundle that this process has started."""
    new = [work.with_identity(each, 100) for chunk in new_tasks(instance) for each in chunk]
    queue.enqueue(new, clock.now())
    pick = work.Pick(None, 100, new[0].bundle_key, len(new))
    [claimed] = queue.claim([pick], provenance.owner(), "local", clock.now())
    return started(claimed, type(instance), clock)


def started(claimed: Claimed, component: type[TaskInstance], clock: Clock) -> Claimed:
    lease = clock.now() + timedelta(minutes=1)
    code, environment = provenance.code_of(component), provenance.environment_id()
    [running] = queue.start([claimed], provenance.owner(), code, environment, lease, clock.now())[1]
    return running


def by_person(instance: TaskInstance, clock: Clock) -> tuple[Claimed, Session]:
    """Record an instance's tasks as a person's bundle, and return it with its session on `clock`."""
    claimed, _ = queue.open_by_hand(recording.by_hand(instance), clock.now())
    return claimed, Session(claimed, clock, interactive=True)


def run_by_person(instance: TaskInstance, clock: Clock, *ends: type[BaseException]) -> list[Task]:
    """Run an instance as a person's bundle, to its end or to one of these errors, and return its tasks."""
    claimed, session = by_person(instance, clock)
    with suppress(*ends):
        instance._run(session, {})
    return tasks(claimed.bundle)


def tasks(bundle: int) -> list[Task]:
    return Bundle.get_by_id(bundle).tasks


def states(bundle: int) -> list[str]:
    return [str(task.state) for task in tasks(bundle)]


def rows(bundle: int) -> list[TaskBundle]:
    return list(TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position))


def times(task: Task) -> dict[str, Any]:
    """Return the ten times of a task, without their common beginning."""
    return {name.removeprefix("time_"): getattr(task, name) for name in TIME_COLUMNS}
