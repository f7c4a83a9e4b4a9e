"""Recorded tasks run again here and now, writing nothing: to look for an error, or to compare results.

Comes from `TaskInstance.rehearse`; the stages are run by `execution`, as ever, but what would be written is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from astra.clock import Clock
from astra.database.astradb import ResultModel, Task
from astra.errors import InputChanged
from astra.given import Use
from astra.members import RANGE, Member, members_of_tasks
from astra.session import Desk, Judge, Session
from astra.states import TaskOutcome
from astra.work import Claimed, Totals


@dataclass
class Rehearsal(Session):
    """A session whose tasks are those of the records, and which records nothing."""

    collected: dict[int, list[ResultModel]] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Sequence[int], clock: Clock, desk: Desk) -> Rehearsal:
        """Return the rehearsal of recorded tasks, by their keys."""
        return cls(Claimed(0, len(tasks), ""), clock, interactive=True, desk=desk, keys=tasks)

    def _members(self) -> Iterator[tuple[Task, Member]]:
        for first in range(0, self.held.size, RANGE):
            yield from members_of_tasks(self.keys, first)

    def write(self, positions: Sequence[int], judge: Judge, totals: Totals | None) -> None:
        """Keep the results of the tasks that completed, by task."""
        for position in positions:
            rows = self.results.pop(position, [])
            if judge(position)[0] is TaskOutcome.COMPLETED:
                self.collected[self.keys[position]] = rows
            self.recorded[position] = 1

    def changed_inputs(self) -> dict[int, InputChanged]:
        """Return, by position, the tasks whose inputs are no longer what they were given."""
        changed: dict[int, InputChanged] = {}
        for _, member in self._members():
            changed |= self._check_after_use(member.uses())
        return changed

    def _check_after_use(self, uses: Sequence[Use]) -> dict[int, InputChanged]:
        changed: dict[int, InputChanged] = {}
        for position, task, given in uses:
            if why := given.difference():  # without a checksum: it would not be recorded
                changed[position] = given.error(task, why)
        return changed
