"""Run one bundle: its three stages, every time of every task, and the record of how each ended.

Comes from `TaskInstance.execute()` (a person) or from the process that an executor started; goes to `queue`, which
records the outcome. The component's code is called in one place, and what it raises is a value from there on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from astra.database.astradb import STAGES
from astra.errors import DatabaseUnavailable, InputChanged, LeaseLost
from astra.interrupts import let_through
from astra.session import Judge, Place, Session, said
from astra.states import TaskOutcome
from astra.work import Totals

CHUNK = 5_000  # tasks ended in one transaction


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
    try:
        returned, failure = _run_stages(component, session, keywords)
        if session.finished:
            session.write_finished()
        _record(session, failure)
        if session.outputs is not None and failure is None and session.trouble is None:
            session.outputs.tell_forgotten()
    finally:
        if session.outputs is not None:
            session.outputs.discard()
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
                with let_through():
                    value = _call(component.stage(name), keywords)
            except (LeaseLost, DatabaseUnavailable):  # no failure of the work: another try may end well
                raise
            except BaseException as error:  # the component's own code: whatever it raises is recorded
                session.leave_if_forked(error)
                return None, Failure(error, _culprit(session, error))
        session.leave_if_forked()
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
    places = _places(error)
    return next((at for at, droppers in session.dropped if any(each in places for each in droppers)), None)


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
    if not keywords:
        return
    taken = set(accepted)
    for name in STAGES:
        own = _taken_by(component.stage(name))
        if own is None:
            return
        taken |= own
    unknown = sorted(set(keywords) - taken)
    if unknown:
        raise TypeError(
            f"no stage of {type(component).__name__} takes {', '.join(unknown)}; accepted: {', '.join(sorted(taken))}"
        )


def _call(method: Callable[..., Any], keywords: Mapping[str, Any]) -> Any:
    if not keywords:
        return method()
    taken = _taken_by(method)
    return method(**{name: value for name, value in keywords.items() if taken is None or name in taken})


def _taken_by(method: Callable[..., Any]) -> set[str] | None:
    """Return the keywords that a stage takes; None where it takes any."""
    parameters = inspect.signature(method).parameters.values()
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters) else {each.name for each in parameters}


def _record(session: Session, failure: Failure | None) -> None:
    """Write the end of every task that has none yet, in ranges; the bundle's own end rides in the last."""
    judge = _judge(session, failure)
    changed = {} if failure else session.changed_inputs()
    if failure is not None and failure.position is not None and not (session.interactive or failure.is_cancellation):
        # a file that vanished, or was rewritten, in mid-work makes a component raise all kinds of errors
        error = session.change_under(failure.position)
        if error is not None:
            error.__cause__ = failure.error
            changed = {failure.position: error}
    if changed:
        judge = _judge_changed(judge, changed)
        session.trouble = next((error for at, error in changed.items() if not session.recorded[at]), None)
    stages = tuple((s.total, s.overhead) if (s := session.watch.stages.get(name)) else (None, None) for name in STAGES)
    account = session.desk.account
    totals = Totals(stages, said(failure.error if failure else session.trouble), *(account.end() if account else ()))
    last = session.recorded.rfind(0)  # the last position whose end is not written
    for start in range(0, max(1, last + 1), CHUNK):
        chunk = [at for at in range(start, min(start + CHUNK, last + 1)) if not session.recorded[at]]
        ending = totals if start + CHUNK > last else None
        if chunk or ending is not None:
            session.write(chunk, judge, ending)


def _judge(session: Session, failure: Failure | None) -> Judge:
    if failure is None:
        if not session.left_out:
            return lambda position: (TaskOutcome.COMPLETED, None)
        begun = session.begun
        return lambda position: (TaskOutcome.COMPLETED if begun[position] else TaskOutcome.RELEASED, None)
    if session.left_out and failure.position is None:  # what stumbles over the tasks it was not given has not failed
        return lambda position: (TaskOutcome.RELEASED, None)
    # nobody asks the service's own processes to stop by raising: there it is the component that gives up
    is_cancelled = failure.is_cancellation and session.interactive
    blamed = TaskOutcome.CANCELLED if is_cancelled else TaskOutcome.FAILED
    others = TaskOutcome.CANCELLED if session.interactive else TaskOutcome.RELEASED
    culprit = failure.position

    def judge(position: int) -> tuple[TaskOutcome, BaseException | None]:
        if culprit is None or position == culprit:
            return blamed, failure.error
        return others, None

    return judge


def _judge_changed(judge: Judge, changed: Mapping[int, InputChanged]) -> Judge:
    return lambda position: (TaskOutcome.FAILED, changed[position]) if position in changed else judge(position)
