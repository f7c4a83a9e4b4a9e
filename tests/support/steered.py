"""What people say of tasks that fill a queue, and what has become of those."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from astra import queue
from astra.database.astradb import Bundle, Replay, Task, TaskBundle
from astra.states import HoldKind, TaskOutcome, TaskState
from astra.steering import By
from astra.targets import Kind, Target
from astra.work import Finish, Pick
from tests.support.clock import START
from tests.support.tasks import OWNER, TOTALS, ended, fill, start

LATER = START + timedelta(hours=1)
COMPONENT = HoldKind.COMPONENT
ADA = By("ada@host", "disk full", START)
THING = Target(Kind.COMPONENT, "tests.Thing")
BOTH = frozenset({TaskState.FAILED, TaskState.CANCELLED})


def states(*keys: int) -> list[str]:
    """Return the tasks' states."""
    return [str(Task.get_by_id(key).state) for key in keys]


def of_bundle(bundle: int) -> Target:
    """Return what a person means by a bundle's id."""
    return Target(Kind.BUNDLE, str(bundle))


def of_task(task: int) -> Target:
    """Return what a person means by a task's id."""
    return Target(Kind.TASK, str(task))


def members(bundle: int) -> list[int]:
    """Return a bundle's tasks."""
    return [each.id for each in Bundle.get_by_id(bundle).tasks]


def outcomes(bundle: int) -> list[str | None]:
    """Return how a bundle's tasks ended in it, None of those that have not."""
    rows = TaskBundle.select().where(TaskBundle.bundle == bundle).order_by(TaskBundle.position)
    return [each.outcome and str(each.outcome) for each in rows]


def fail(count: int, **values: Any) -> list[int]:
    """Return so many tasks that failed in one bundle."""
    keys = fill(count, **values)
    [claimed] = queue.claim([Pick(values.get("replay"), 100, "thing {}", count)], OWNER, "local", START)
    held = start(claimed)
    queue.finish(
        [Finish(held.bundle, held.token, ended(held.bundle, *[TaskOutcome.FAILED] * count), (), TOTALS)], START
    )
    return keys


def a_replay(state: str = "running") -> int:
    """Return the key of a new replay."""
    made = Replay.create(who="ada", created=START, verb="tasks", selection={}, planned=3, state=state)
    return int(made.id)
