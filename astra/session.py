"""One bundle while it runs in this process: whose time it is, what has been handed out, what is still to be written.

Comes from `TaskInstance`, whose `iterable()`, `done()` and `record_result()` end here; goes to `execution`, which runs
the stages around it, and to `queue`, which records.
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol, TypeVar

from astra import ledger, queue
from astra.clock import Clock
from astra.database.astradb import DataProduct, ResultModel, Task
from astra.database.connection import REFUSED
from astra.errors import ComponentError, InputChanged
from astra.failures import kind_of
from astra.given import Use, check_after_use
from astra.inhand import InHand
from astra.interrupts import held_back
from astra.members import (
    KEYS,
    RANGE,
    Member,
    has_inputs,
    lone_members_of_range,
    members_of_range,
    task_keys,
    uses_of_range,
)
from astra.outbox import Kept, Outbox
from astra.outputs import Outputs, products_of
from astra.patience import patiently
from astra.progress import Progress
from astra.states import TaskOutcome
from astra.stopwatch import Stopwatch
from astra.whole import Whole
from astra.work import NO_RETRY, Claimed, Ended, Finish, Retry, Totals

_MEMBER = "bundle_member"  # where a task handed out by `iterable()` carries its place
DONE_AT_ONCE = 1_000  # tasks that `done` collects before it writes them
DONE_SECONDS = 0.2  # or how long it holds them, while others are quick
LOOPS = 16  # loops over `iterable()` inside each other that one error may end, the innermost first
MESSAGE_LENGTH = 2_000
TRACEBACK_LENGTH = 20_000

T = TypeVar("T")
Place = tuple[CodeType, int]  # a code object and the instruction it was at
Judge = Callable[[int], tuple[TaskOutcome, BaseException | None]]


class Account(Protocol):
    """What a process keeps of each bundle that it runs, beside its tasks: how much memory it took, what it printed."""

    def begin(self, index: int) -> None:
        """Begin the account of the bundle at this place of its load."""

    def end(self) -> tuple[int | None, tuple[str, int, int] | None]:
        """Return the peak of memory in bytes, and the log's path with where what was printed begins and ends in it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a process lends to the bundles it runs: where it says which task is in hand, and where their files go.

    And the account that is kept of each, how often their tasks may be tried again, and where the ends of short ones
    wait for each other.
    """

    in_hand: InHand | None = None
    output_root: Path | None = None
    account: Account | None = None
    retry: Retry = NO_RETRY
    outbox: Outbox | None = None


@dataclass
class Session:
    """A bundle while it runs in this process: who is whose, what has been handed out, what is still to be written."""

    held: Claimed
    clock: Clock
    interactive: bool
    desk: Desk = Desk()
    keys: Sequence[int] = ()
    recorded: bytearray = field(init=False)
    finished: dict[int, None] = field(default_factory=dict)
    results: dict[int, list[ResultModel]] = field(default_factory=dict)
    dropped: deque[tuple[int, list[Place]]] = field(default_factory=lambda: deque(maxlen=LOOPS))
    trouble: Exception | None = None
    unusable: tuple[int, InputChanged] | None = None
    handed: Member | None = None
    outputs: Outputs | None = None
    kept: dict[int, list[int]] = field(default_factory=dict)
    progress: Progress | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    retry_on: tuple[type[BaseException], ...] = ()
    whole: Whole | None = None
    left_out: bool = False  # whether a task was not begun, for the bundle is to come to an end early

    def __post_init__(self) -> None:
        if self.whole is not None:
            self.keys = self.whole.keys
        self.keys = self.keys or self._patiently(lambda: task_keys(self.held.bundle))
        self.recorded = bytearray(self.held.size)  # 1 at the position of each task whose end is written
        self.begun = bytearray(self.held.size)  # 1 at the position of each task that was handed out
        self.watch = Stopwatch(self.held.size, self.clock)
        self._written, self._most_held = self.clock.monotonic(), 1
        self._process = os.getpid()
        self._traced: dict[int, tuple[BaseException, str]] = {}
        self._checksums: list[ledger.Checksum] = []  # of files that tasks have read, not recorded yet
        # whether its tasks have any inputs, once that is known
        self._inputs: bool | None = None if self.whole is None else bool(self.whole.inputs)

    def iterate(self) -> Iterator[tuple[Task, list[DataProduct]]]:
        """Hand out the tasks that have not ended yet, timing each until the next is asked for."""
        if self.progress is not None:
            self.progress.begin()
        for task, member in self._members():
            if self._has_ended(member.position) or self._is_left_out(member.position):
                continue
            self.begun[member.position] = 1
            setattr(task, _MEMBER, member)
            if not task.parameters.keys() >= self.defaults.keys():
                task.parameters.update(self._lacking_defaults(task.parameters))
            self.handed = member
            self.watch.enter(member.position)
            self._say_in_hand()
            try:
                member.check_inputs()
                if not task.parameters.keys() >= self.required:
                    raise _lacking(task, self.required)
                yield task, member.data_products
            except InputChanged as error:
                self.unusable = (member.position, error)
                raise
            except GeneratorExit:
                self.dropped.append((member.position, _droppers(sys._getframe(1))))
                raise
            finally:
                self.watch.leave(member.position)
                self._say_in_hand()
            self._write_in_time()
            if self.progress is not None:
                self.progress.step(member.position + 1)

    def _members(self) -> Iterator[tuple[Task, Member]]:
        """Yield the tasks and their places in order, holding one range of them at a time."""
        if self.whole is not None:
            yield from self.whole.members()
            return
        read = members_of_range if self._has_inputs() else lone_members_of_range
        for first in range(0, self.held.size, RANGE):
            yield from self._patiently(partial(read, self.held.bundle, first))

    def _has_inputs(self) -> bool:
        if self._inputs is None:
            self._inputs = self._patiently(partial(has_inputs, self.held.bundle))
        return self._inputs

    def _is_left_out(self, position: int) -> bool:
        """Whether a task is not to be begun any more; one that was, in an earlier loop, is handed out again."""
        if self.desk.in_hand is None or self.begun[position] or not self.desk.in_hand.draining:
            return False
        self.left_out = True
        return True

    def _lacking_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults that a task was recorded without; each task has its own, to do with as it likes."""
        return {name: copy.deepcopy(value) for name, value in self.defaults.items() if name not in given}

    def _say_in_hand(self) -> None:
        if self.desk.in_hand is not None:
            self.desk.in_hand.set(self.watch.owner)

    def member(self, task: Task) -> Member:
        """Return the member that `iterable()` handed out as `task`."""
        found: Member | None = getattr(task, _MEMBER, None)
        if found is None or found.position >= len(self.keys) or self.keys[found.position] != task.id:
            raise ValueError(f"task {task.id} is not one that iterable() has handed out in this bundle")
        if self._has_ended(found.position):
            raise ValueError(f"task {task.id} has ended in this bundle: nothing more can be recorded for it")
        return found

    def done(self, task: Task) -> None:
        """Keep a task's work whatever follows.

        It is written when the loop asks for the next task, for only then is its time complete: at once where tasks take
        long, and together with as many as have been written before, a thousand at the most, where they are quick.
        """
        member = self.member(task)
        if changed := self._check_after_use(member.uses()):
            raise changed[member.position]
        self.finished[member.position] = None
        if not self.watch.owns(member.position):
            self._write_in_time()

    def _has_ended(self, position: int) -> bool:
        return bool(self.recorded[position]) or position in self.finished

    def _write_in_time(self) -> None:
        if self.desk.outbox is not None:
            self.desk.outbox.flush_in_time()
        if not self.finished:
            return
        late = self.clock.monotonic() - self._written > DONE_SECONDS
        if late or len(self.finished) >= self._most_held:
            self._most_held = 1 if late else min(DONE_AT_ONCE, 2 * self._most_held)
            self.write_finished()

    def leave_if_forked(self, error: BaseException | None = None) -> None:
        """End this process, if it is a copy of the one that holds the bundle: it has no part in the records."""
        if os.getpid() != self._process:
            if error is not None:
                traceback.print_exception(error)
            os._exit(1 if error is not None else 0)

    def write_finished(self) -> None:
        """Write what `done` has collected, but for tasks that are still in hand: their time is not complete."""
        with held_back():  # what is written is known to be written
            positions = [each for each in self.finished if not self.watch.owns(each)]
            if positions:
                self._record_checksums()
                self.write(positions, lambda _: (TaskOutcome.COMPLETED, None), None)
            for each in positions:
                del self.finished[each]
            self._written = self.clock.monotonic()

    def write(self, positions: Sequence[int], judge: Judge, totals: Totals | None) -> None:
        """End the tasks at `positions` as `judge` says, with their times and the results of those that completed."""
        with held_back():
            ended: list[Ended] = []
            results: dict[int, list[ResultModel]] = {}
            judge = self._keep_outputs(positions, judge)
            for position in positions:
                outcome, error = judge(position)
                ended.append(self._ended(position, outcome, error))
                own = self.results.pop(position, [])
                if outcome is TaskOutcome.COMPLETED and own:
                    results[position] = own
            if totals is not None and self.desk.outbox is not None and len(ended) == self.held.size:
                self.desk.outbox.keep(Kept(self, ended, results, totals))
            else:
                self.write_halving(ended, results, totals)
            for position in positions:
                self.recorded[position] = 1

    def _keep_outputs(self, positions: Sequence[int], judge: Judge) -> Judge:
        """Put the files of tasks that complete in their places; one whose file cannot be kept fails."""
        if self.outputs is None or not self.outputs.made:
            return judge
        placed, failed = self.outputs.put([each for each in positions if judge(each)[0] is TaskOutcome.COMPLETED])
        if placed:
            self.kept |= self._patiently(partial(products_of, placed, self.clock))
        self.trouble = self.trouble or next(iter(failed.values()), None)
        return lambda position: (TaskOutcome.FAILED, failed[position]) if position in failed else judge(position)

    def write_halving(
        self, ended: Sequence[Ended], results: Mapping[int, list[ResultModel]], totals: Totals | None
    ) -> None:
        """Write a chunk; where the database refuses a result, the task whose result it is fails, and no other."""
        chunk = self.chunk(ended, results, totals)
        try:
            return self.finish([chunk])
        except REFUSED as error:
            if not chunk.results:
                raise
            if len(ended) == 1:
                self.trouble = self.trouble or error
                failed = [self._ended(ended[0].position, TaskOutcome.FAILED, error)]
                return self.finish([self.chunk(failed, {}, self._with_trouble(totals))])
        middle = len(ended) // 2
        self.write_halving(ended[:middle], results, None)
        self.write_halving(ended[middle:], results, self._with_trouble(totals))

    def _with_trouble(self, totals: Totals | None) -> Totals | None:
        return totals and replace(totals, error=totals.error or said(self.trouble))

    def chunk(self, ended: Sequence[Ended], results: Mapping[int, list[ResultModel]], totals: Totals | None) -> Finish:
        """Return what `queue` is to write of these tasks."""
        rows = [row for each in ended for row in results.get(each.position, ())] if results else []
        made = [(each.task, product) for each in ended for product in self._products(each)] if self.kept else []
        return Finish(self.held.bundle, self.held.token, ended, rows, totals, made, self.desk.retry)

    def _products(self, ended: Ended) -> Sequence[int]:
        return self.kept.get(ended.position, ()) if ended.outcome is TaskOutcome.COMPLETED else ()

    def finish(self, chunks: Sequence[Finish]) -> None:
        """Have chunks of this bundle, or of several, written."""
        self._patiently(lambda: queue.finish(chunks, self.clock.now()))

    def changed_inputs(self) -> dict[int, InputChanged]:
        """Return, by position, the tasks without an end whose inputs are no longer what they were given.

        Of the other inputs the checksums are recorded, where there are none yet.
        """
        changed: dict[int, InputChanged] = {}
        for first in range(0, self.held.size if self._has_inputs() else 0, KEYS):
            uses = self._patiently(partial(uses_of_range, self.held.bundle, first))
            changed |= self._check_after_use([each for each in uses if not self.recorded[each.position]])
            self._record_checksums()
        return changed

    def _check_after_use(self, uses: Sequence[Use]) -> dict[int, InputChanged]:
        """Return, by position, the tasks whose inputs have changed; keep the checksums of files that had none."""
        changed, checksums = check_after_use(uses)
        self._checksums += checksums
        return changed

    def _record_checksums(self) -> None:
        """Record what files had been read, before the ends of the tasks that read them."""
        if self._checksums:
            self._patiently(partial(ledger.set_checksums, self._checksums))
            self._checksums = []

    def change_under(self, position: int) -> InputChanged | None:
        """Return how an input changed, or vanished, under the task that was handed out last, if that is this one."""
        if self.handed is None or self.handed.position != position:
            return None
        try:
            self.handed.check_inputs()
        except InputChanged as error:
            return error
        return None

    def _patiently(self, ask: Callable[[], T]) -> T:
        return patiently(ask, self.clock, self.desk.in_hand)

    def _ended(self, position: int, outcome: TaskOutcome, error: BaseException | None) -> Ended:
        ended = Ended(position, self.keys[position], outcome, *self.watch.own(position))
        if error is None:
            return ended
        kind = kind_of(error, self.retry_on) if outcome is TaskOutcome.FAILED else None
        ended = ended._replace(error_kind=kind)
        if id(error) in self._traced:  # one error of many tasks has its traceback once, with the first of them
            return ended._replace(error_class=type(error).__name__, error_message=self._traced[id(error)][1])
        text = "".join(traceback.format_exception(error))[-TRACEBACK_LENGTH:]
        name, message = type(error).__name__, (words(error) or type(error).__name__)[:MESSAGE_LENGTH]
        self._traced[id(error)] = error, clean(message)
        return ended._replace(error_class=name, error_message=clean(message), traceback=clean(text))


def _lacking(task: Task, required: frozenset[str]) -> ComponentError:
    name = sorted(required - task.parameters.keys())[0]
    return ComponentError(
        f"{task.name} needs {name} now, which was no parameter of it when task {task.id} was recorded: "
        "make a new instance, and give it"
    )


def _droppers(frame: FrameType | None) -> list[Place]:
    """Return where a loop dropped its iterator: the innermost frame, and those around it while they are generators."""
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back if frame.f_code.co_flags & inspect.CO_GENERATOR else None
    return found


def said(error: BaseException | None) -> str | None:
    """Return an error in one line that a database can hold."""
    return None if error is None else clean(f"{type(error).__name__}: {words(error)}")[:MESSAGE_LENGTH]


def words(error: BaseException) -> str:
    """Return what an error says of itself, whatever its author made of that."""
    try:
        return str(error)
    except Exception as another:  # a component's own code as well, and the first error is the one to be recorded
        return f"(its text cannot be had: {type(another).__name__})"


def clean(text: str) -> str:
    """Return text without what PostgreSQL cannot keep."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
