"""Run one bundle: its three stages, every time of every task, and the record of how each ended.

Comes from `TaskInstance.execute()` (a person) or from the process that an executor started; goes to `queue`, which
records the outcome. The component's code is called in one place, and what it raises is a value from there on.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import CodeType, FrameType
from typing import Any, Protocol

import peewee

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
# How a database, or its driver, says that a row cannot be kept.
REFUSED = (peewee.IntegrityError, peewee.DataError, peewee.ProgrammingError, TypeError, ValueError, OverflowError)
LOOPS = 16  # loops over `iterable()` inside each other that one error may end, the innermost first
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
    dropped: deque[tuple[int, list[Place]]] = field(default_factory=lambda: deque(maxlen=LOOPS))
    trouble: Exception | None = None
    unusable: tuple[int, InputChanged] | None = None

    def __post_init__(self) -> None:
        self.keys = task_keys(self.held.bundle)
        self.watch = Stopwatch(self.held.size, self.clock)
        self._written = self.clock.monotonic()

    def iterate(self) -> Iterator[tuple[Task, list[DataProduct]]]:
        """Hand out the tasks that have not ended yet, timing each until the next is asked for."""
        for member in members_of_bundle(self.held.bundle):
            if self._has_ended(member.position):
                continue
            setattr(member.task, _MEMBER, member)
            self.watch.enter(member.position)
            try:
                member.check_inputs()
                yield member.task, member.data_products
            except InputChanged as error:
                self.unusable = (member.position, error)
                raise
            except GeneratorExit:
                self.dropped.append((member.position, _callers(sys._getframe(1))))
                raise
            finally:
                self.watch.leave(member.position)
            self._write_in_time()

    def member(self, task: Task) -> Member:
        """Return the member that `iterable()` handed out as `task`."""
        found: Member | None = getattr(task, _MEMBER, None)
        if found is None or found.position >= len(self.keys) or self.keys[found.position] != task.id:
            raise ValueError(f"task {task.id} is not one that iterable() has handed out in this bundle")
        if self._has_ended(found.position):
            raise ValueError(f"task {task.id} has ended in this bundle: nothing more can be recorded for it")
        return found

    def done(self, task: Task) -> None:
        """Keep a task's work whatever follows; it is written with the next few, or within seconds.

        A task in hand is not written before the loop asks for the next one: only then is its time complete.
        """
        member = self.member(task)
        member.check_inputs()
        self.finished[member.position] = None
        if not self.watch.owns(member.position):
            self._write_in_time()

    def _has_ended(self, position: int) -> bool:
        return position in self.recorded or position in self.finished

    def _write_in_time(self) -> None:
        late = self.clock.monotonic() - self._written > DONE_SECONDS
        if self.finished and (late or len(self.finished) >= DONE_AT_ONCE):
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
        results: dict[int, list[ResultModel]] = {}
        for position in positions:
            outcome, error = judge(position)
            ended.append(self._ended(position, outcome, error))
            own = self.results.pop(position, [])
            if outcome is TaskOutcome.COMPLETED and own:
                results[position] = own
        try:
            self._finish(self._chunk(ended, [row for own in results.values() for row in own], totals))
        except REFUSED:
            if not results:
                raise
            self._write_one_by_one(ended, results, totals)
        self.recorded.update(positions)

    def _write_one_by_one(
        self, ended: Sequence[Ended], results: Mapping[int, list[ResultModel]], totals: Totals | None
    ) -> None:
        """Write a chunk in which the database refuses a result: the task whose result it is fails, and no other."""
        for each in ended:
            try:
                self._finish(self._chunk([each], results.get(each.position, []), None))
            except REFUSED as error:
                self._finish(self._chunk([self._ended(each.position, TaskOutcome.FAILED, error)], [], None))
                self.trouble = self.trouble or error
        if totals is not None:
            self._finish(self._chunk([], [], replace(totals, error=totals.error or _said(self.trouble))))

    def _chunk(self, ended: Sequence[Ended], rows: Sequence[ResultModel], totals: Totals | None) -> Finish:
        return Finish(self.held.bundle, self.held.token, ended, rows, totals)

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
    InputChanged, peewee.PeeweeException
        If an input changed meanwhile, or the database refused a result: its task has failed.
    LeaseLost
        If the bundle was taken away meanwhile; nothing more was recorded.
    """
    returned, failure = _run_stages(component, session, keywords)
    if session.finished:
        session.write_finished()
    _record(session, failure)
    if failure is not None:
        raise failure.error
    if session.trouble is not None:
        raise session.trouble
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
            except (LeaseLost, DatabaseUnavailable):  # no failure of the work: another try may end well
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
    if session.unusable is not None and session.unusable[1] is error:
        return session.unusable[0]
    if session.watch.owner is not None:
        return session.watch.owner
    return next((at for at, callers in session.dropped if _dropped_by(error, callers)), None)


def _callers(frame: FrameType | None) -> list[Place]:
    """Return where each frame is, from the innermost outwards."""
    found = []
    while frame is not None and frame.f_code is not _call.__code__:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return found


def _dropped_by(error: BaseException, callers: Sequence[Place]) -> bool:
    """Whether the loop that dropped its iterator did so because of `error`; generators around it are looked through."""
    places = _places(error)
    for place in callers:
        if place in places:
            return True
        if not place[0].co_flags & inspect.CO_GENERATOR:
            return False
    return False


def _places(error: BaseException | None) -> set[Place]:
    found: set[Place] = set()
    while error is not None:
        step = error.__traceback__
        while step is not None:
            found.add((step.tb_frame.f_code, step.tb_lasti))
            step = step.tb_next
        error = error.__cause__ or error.__context__
    return found


def refuse_unknown(component: Component, keywords: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Raise `TypeError` for a keyword that no stage takes, unless it is one of those always `accepted`."""
    taken = set(accepted)
    for name in STAGES:
        for each in inspect.signature(component.stage(name)).parameters.values():
            if each.kind is each.VAR_KEYWORD:
                return
            taken.add(each.name)
    unknown = sorted(set(keywords) - taken)
    if unknown:
        raise TypeError(
            f"no stage of {type(component).__name__} takes {', '.join(unknown)}; accepted: {', '.join(sorted(taken))}"
        )


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
        session.trouble = next((error for at, error in changed.items() if at not in session.recorded), None)
    stages = tuple((s.total, s.overhead) if (s := session.watch.stages.get(name)) else (None, None) for name in STAGES)
    totals = Totals(stages, _said(failure.error if failure else session.trouble))
    for start in range(0, max(1, len(open_positions)), RANGE):
        chunk = open_positions[start : start + RANGE]
        session.write(chunk, judge, totals if start + RANGE >= len(open_positions) else None)


def _said(error: BaseException | None) -> str | None:
    return None if error is None else clean(f"{type(error).__name__}: {error}")[:MESSAGE_LENGTH]


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
