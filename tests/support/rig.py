"""An executor with real processes, and what a scheduler does with it: claim, hand over, hear."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from astra import provenance, queue
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.config import Settings
from astra.database.astradb import Task, TaskBundle
from astra.database.connection import run
from astra.states import TaskState
from astra.work import Claimed, Load, Pick
from daemon import executors
from daemon.executors import Ending
from tests.support.processes import until
from tests.support.site import Site


class Rig:
    """One executor and what a scheduler does with it."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = replace(settings, executor=replace(settings.executor, name=name))
        self.woken = threading.Event()
        self.executor = executors.build(self.settings, SYSTEM, self.woken.set)
        self.executor.start()

    def claim(self, limit: int = 100, times: int = 1) -> list[Claimed]:
        """Claim all that waits of the next component, as `times` bundles of up to `limit` of each key."""
        [(priority, component)] = run("SELECT priority, name FROM task WHERE state = 'pending' ORDER BY id LIMIT 1")
        keys = run("SELECT DISTINCT bundle_key FROM task WHERE state = 'pending' AND name = ? ORDER BY 1", (component,))
        picks = [Pick(None, priority, key, limit, times) for (key,) in keys]
        return queue.claim(picks, provenance.owner(), self.executor.name, SYSTEM.now())

    def hand_over(self, *claimed: Claimed) -> list[int]:
        """Hand over a load, as soon as there is a process for it; return its bundles."""
        until(self._has_room)
        [first, *others] = claimed
        self.executor.submit(Load((first, *others), self.settings.scheduler.lease), SYSTEM.monotonic())
        return [each.bundle for each in claimed]

    def submit(self, *instances: TaskInstance) -> int:
        """Enqueue, claim and hand over; return the bundle."""
        for each in instances:
            each.enqueue()
        [bundle] = self.hand_over(*self.claim())
        return bundle

    def turn(self) -> list[Ending]:
        return self.executor.turn(SYSTEM.monotonic())

    def endings(self, bundles: Sequence[int]) -> list[Ending]:
        """Wait until all these bundles have ended, and return how, in their order."""
        ended: list[Ending] = []

        def all_have() -> bool:
            ended.extend(self.turn())
            return len(ended) >= len(bundles)

        until(all_have)
        assert {each.bundle for each in ended} == set(bundles)
        return sorted(ended, key=lambda each: bundles.index(each.bundle))

    def ending(self, bundle: int) -> Ending:
        return self.endings([bundle])[0]

    def run(self, *instances: TaskInstance) -> Ending:
        return self.ending(self.submit(*instances))

    def _has_room(self) -> bool:
        if not self.executor.free():  # a process says that it has nothing left to do a moment after its last bundle
            assert self.turn() == []
        return bool(self.executor.free())

    def ready_again(self, count: int = 1) -> None:
        """Wait until there are so many processes to hand a load to."""
        until(lambda: self.turn() == [] and self.executor.free() == count)


def settings(folder: Path, url: str, sections: dict[str, dict[str, Any]] | None = None) -> Settings:
    return Site(folder, url, sections=sections or {}).settings()


def tasks() -> list[tuple[TaskState, str | None]]:
    """Return the state of every task and its last error."""
    rows = []
    for task in Task.select().order_by(Task.id):
        last = TaskBundle.get_or_none((TaskBundle.task == task.id) & (TaskBundle.bundle == task.bundle_id))
        rows.append((task.state, last.error_message if last else None))
    return rows
