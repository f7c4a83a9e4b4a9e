"""Run one bundle: its three stages, every time of every task, and the record of how each ended.

Comes from `TaskInstance.execute()` (a person) or from the process that an executor started; goes to `queue`, which
records the outcome. The component's code is called in one place, and what it raises is a value from there on.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Protocol

from astra import queue
from astra.clock import Clock
from astra.database.astradb import STAGES, DataProduct, ResultModel, Task
from astra.database.connection import available
from astra.errors import DatabaseUnavailable, InputChanged, LeaseLost
from astra.members import RANGE, Member, changed_inputs, members_of_bundle, task_keys
from astra.states import TaskOutcome
from astra.stopwatch import Stopwatch
from astra.work import Claimed, Ended, Finish, Totals

_MEMBER = "bundle_member"  # where a task handed out by `iterable()` carries its place
DONE_AT_ONCE = 1_000  # tasks that `done` collects before it writes them
DONE_SECONDS = 5.0  # or how long it holds them
DATABASE_PATIENCE = 120.0  # seconds that a finished chunk waits for a database that is away
MESSAGE_LENGTH = 2_000
TRACEBACK_LENGTH = 20_000


class Component(Protocol):
    """What execution needs of a task instance."""

    context: dict[str, Any]

    def stage(self, name: str) -> Callable[..., Any]:
        """Return the author's own method for a stage."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a component raised: in which stage, and at which task where that is known."""

    error: BaseException
    position: int | None

    @property
    def is_cancellation(self) -> bool:
        """Whether somebody asked the work to stop, rather than the work going wrong."""
        return isinstance(self.error, KeyboardInterrupt | SystemExit)


@dataclass
class Session:
    """A bundle while it runs in this process: who is whose, what has been handed out, what is still to be written."""

    held: Claimed
    clock: Clock
    interactive: bool
    keys: Sequence[int] = ()
    recorded: set[int] = field(default_factory=set)
    finished: dict[int, None] = field(default_factory=dict)
    results: dict[int, list[ResultModel]] = field(default_factory=dict)
    dropped: tuple[int, frozenset[Place]] | None = None

    def __post_init__(self) -> None:
        self.keys = task_keys(self.held.bundle)
        self.watch = Stopwatch(self.held.size, self.clock)
        self._written = self.clock.monotonic()

    def iterate(self) -> Iterator[tuple[Task, list[DataProduct]]]:
        """Hand out the tasks that have not ended yet, timing each until the next is asked for."""
        for member in members_of_bundle(self.held.bundle):
            if member.position in self.recorded:
                continue
            setattr(member.task, _MEMBER, member)
            self.watch.enter(member.position)
            try:
                member.check_inputs()
                yield member.task, member.data_products
            except GeneratorExit:
                self.dropped = (member.position, _callers(sys._getframe(1)))
                raise
            finally:
                self.watch.leave(member.position)

    def member(self, task: Task) -> Member:
        """Return the member that `iterable()` handed out as `task`."""
        found: Member | None = getattr(task, _MEMBER, None)
        if found is None or found.position >= len(self.keys) or self.keys[found.position] != task.id:
            raise ValueError(f"task {task.id} is not one that iterable() has handed out in this bundle")
        if found.position in self.recorded:
            raise ValueError(f"task {task.id} has ended in this bundle: nothing more can be recorded for it")
        return found

    def done(self, task: Task) -> None:
        """Keep a task's work whatever follows; it is written with the next few, or within seconds."""
        self.finished[self.member(task).position] = None
        late = self.clock.monotonic() - self._written > DONE_SECONDS
        if len(self.finished) >= DONE_AT_ONCE or late:
            self.write_finished()

    def write_finished(self) -> None:
        """Write what `done` has collected."""
        positions = list(self.finished)
        self.finished.clear()
        self.write(positions, lambda _: (TaskOutcome.COMPLETED, None), None)
        self._written = self.clock.monotonic()

    def write(self, positions: Sequence[int], judge: Judge, totals: Totals | None) -> None:
        """End the tasks at `positions` as `judge` says, with their times and the results of those that completed."""
        ended: list[Ended] = []
        rows: list[ResultModel] = []
        for position in positions:
            outcome, error = judge(position)
            ended.append(self._ended(position, outcome, error))
            own = self.results.pop(position, ())
            if outcome is TaskOutcome.COMPLETED:
                rows += own
        self._finish(Finish(self.held.bundle, self.held.token, ended, rows, totals))
        self.recorded.update(positions)

    def _finish(self, chunk: Finish) -> None:
        """Write a chunk; hours of work are not given up because the database is away for a minute."""
        deadline, wait = self.clock.monotonic() + DATABASE_PATIENCE, 0.5
        while True:
            try:
                with available():
                    return queue.finish(chunk, self.clock.now())
            except DatabaseUnavailable:
                if self.clock.monotonic() > deadline:
                    raise
                self.clock.pause(wait)
                wait = min(10.0, 2 * wait)

    def _ended(self, position: int, outcome: TaskOutcome, error: BaseException | None) -> Ended:
        times = (
            self.watch.own(position, STAGES[0]),
            self.watch.own(position, STAGES[1]),
            self.watch.own(position, STAGES[2]),
        )
        if error is None:
            return Ended(position, self.keys[position], outcome, times)
        text = "".join(traceback.format_exception(error))[-TRACEBACK_LENGTH:]
        name, message = type(error).__name__, (str(error) or type(error).__name__)[:MESSAGE_LENGTH]
        return Ended(position, self.keys[position], outcome, times, name, clean(message), clean(text))


Place = tuple[CodeType, int]  # a code object and the instruction it was at
Judge = Callable[[int], tuple[TaskOutcome, BaseException | None]]


def clean(text: str) -> str:
    """Return text without what PostgreSQL cannot keep."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def execute(component: Component, session: Session, keywords: Mapping[str, Any]) -> Any:
    """Run the three stages of a bundle and record how it ended.

    Parameters
    ----------
    component
        The task instance.
    session
        The bundle it runs as.
    keywords
        Passed to each stage whose signature takes them.

    Returns
    -------
    object
        What the author's ``execute`` returned.

    Raises
    ------
    BaseException
        Whatever the component raised, unchanged, after it has been recorded.
    LeaseLost
        If the bundle was taken away meanwhile; nothing more was recorded.
    """
    returned, failure = _run_stages(component, session, keywords)
    if session.finished:
        session.write_finished()
    _record(session, failure)
    if failure is not None:
        raise failure.error
    return returned


def fail(session: Session, error: Exception) -> None:
    """Record that a bundle could not even be built: all its tasks failed with this error."""
    _record(session, Failure(error, None))


def _run_stages(component: Component, session: Session, keywords: Mapping[str, Any]) -> tuple[Any, Failure | None]:
    returned = None
    for name in STAGES:
        with session.watch.stage(name):
            try:
                value = _call(component.stage(name), keywords)
            except LeaseLost:
                raise
            except BaseException as error:  # the component's own code: whatever it raises is recorded
                return None, Failure(error, _culprit(session, error))
        if name == "pre_execute" and isinstance(value, dict):
            component.context.update(value)
        if name == "execute":
            returned = value
    return returned, None


def _culprit(session: Session, error: BaseException) -> int | None:
    """Return the position of the task at which a component raised, None where no single task did.

    A loop that ends by an exception drops its iterator just as one that ends by `break` does, but only in the first
    case does the error's traceback name the very instruction at which the iterator was dropped.
    """
    position = session.watch.owner
    if position is None and session.dropped is not None:
        at, callers = session.dropped
        position = at if callers & _places(error) else None
    if position in session.recorded or position in session.finished:
        return None
    return position


def _callers(frame: FrameType | None) -> frozenset[Place]:
    found = set()
    while frame is not None and frame.f_code is not _call.__code__:
        found.add((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return frozenset(found)


def _places(error: BaseException | None) -> set[Place]:
    found: set[Place] = set()
    while error is not None:
        step = error.__traceback__
        while step is not None:
            found.add((step.tb_frame.f_code, step.tb_lasti))
            step = step.tb_next
        error = error.__cause__ or error.__context__
    return found


def _call(method: Callable[..., Any], keywords: Mapping[str, Any]) -> Any:
    taken = inspect.signature(method).parameters
    if any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        return method(**keywords)
    return method(**{name: value for name, value in keywords.items() if name in taken})


def _record(session: Session, failure: Failure | None) -> None:
    """Write the end of every task that has none yet, in ranges; the bundle's own end rides in the last."""
    judge = _judge(session, failure)
    open_positions = [each for each in range(session.held.size) if each not in session.recorded]
    changed = {} if failure else changed_inputs(session.held.bundle)
    if changed:
        judge = _judge_changed(judge, changed)
    stages = tuple((s.total, s.overhead) if (s := session.watch.stages.get(name)) else (None, None) for name in STAGES)
    totals = Totals(
        stages, clean(f"{type(failure.error).__name__}: {failure.error}")[:MESSAGE_LENGTH] if failure else None
    )
    for start in range(0, max(1, len(open_positions)), RANGE):
        chunk = open_positions[start : start + RANGE]
        session.write(chunk, judge, totals if start + RANGE >= len(open_positions) else None)


def _judge(session: Session, failure: Failure | None) -> Judge:
    if failure is None:
        return lambda position: (TaskOutcome.COMPLETED, None)
    blamed = TaskOutcome.CANCELLED if failure.is_cancellation else TaskOutcome.FAILED
    others = TaskOutcome.CANCELLED if session.interactive else TaskOutcome.RELEASED
    if isinstance(failure.error, KeyboardInterrupt) and not session.interactive:
        blamed = TaskOutcome.RELEASED
    culprit = failure.position

    def judge(position: int) -> tuple[TaskOutcome, BaseException | None]:
        if culprit is None or position == culprit:
            return blamed, failure.error
        return others, None

    return judge


def _judge_changed(judge: Judge, changed: Mapping[int, InputChanged]) -> Judge:
    return lambda position: (TaskOutcome.FAILED, changed[position]) if position in changed else judge(position)
