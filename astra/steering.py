"""What people do to work while it waits or runs: pause, resume, cancel, drain; by component, replay, bundle or task.

Comes from the commands; goes to `queue`, whose guarded updates decide what is still so. A bundle that is run by hand is
somebody's own: it is touched only where it is named itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from astra import holds, provenance, queue, targets
from astra.database.astradb import Hold
from astra.database.connection import run
from astra.errors import AstraError
from astra.states import HoldKind, TaskState
from astra.targets import Kind, Open, Target

_PASSES = 5  # a scheduler that is between two statements may make one more needed
_HOLDS = {Kind.COMPONENT: HoldKind.COMPONENT, Kind.REPLAY: HoldKind.REPLAY}


class By(NamedTuple):
    """Who asks, why, and when."""

    who: str
    reason: str
    now: datetime

    def words(self, verb: str) -> str:
        """Return what is recorded of it, such as ``paused by ada@host: disk full``."""
        return f"{verb} by {self.who}: {self.reason}" if self.reason else f"{verb} by {self.who}"


@dataclass(slots=True)
class Done:
    """What was changed: tasks that had waited, tasks that had run, in how many bundles; what was left alone."""

    waiting: int = 0
    running: int = 0
    bundles: int = 0
    by_hand: list[Open] = field(default_factory=list)


def who() -> str:
    """Return this process's user and host."""
    owner = provenance.owner()
    return f"{owner.user}@{owner.host.partition('/')[0]}"


# ------------------------------------------------------------------------------------------------------------- pause


def pause(target: Target, by: By) -> Hold | None:
    """Hold a component or a replay; return the hold that stands on it already, if one does."""
    kind = _HOLDS[target.kind]
    return None if queue.hold(kind, target.name, by.who, by.reason, by.now) else holds.on(kind, target.name)


def give_back(target: Target, by: By) -> Done:
    """Give back what runs of a component or a replay that is held."""
    done = Done()
    for each in targets.open_bundles(target):
        if each.by_hand:
            done.by_hand.append(each)
        else:
            _give_back(each, by, None, done)
    return done


def _give_back(given: Open, by: By, until: datetime | None, done: Done) -> None:
    tasks = queue.give_back(given.bundle, by.words("paused"), by.now, until)
    done.running += tasks
    done.bundles += bool(tasks)


def hold_work(target: Target, by: By) -> Done:
    """Give back what runs of a bundle or a task, and hold it with what waits of it.

    Raises
    ------
    AstraError
        If it is run by hand, or has ended, or a task runs in one bundle with others.
    """
    done = Done()
    for given in _own_bundles(target, "pause"):
        if given.by_hand:
            raise AstraError(
                f"bundle {given.bundle} is run by hand {given.place}: it is not the queue's to hold; "
                f"only `astra cancel bundle {given.bundle}` takes it"
            )
        _give_back(given, by, holds.HELD_UNTIL, done)
    held = queue.hold_tasks(targets.pending(target))  # those that were given back among them
    done.waiting = max(0, held - done.running)
    if not held:
        state = f"is {targets.state_of(target)}" if target.kind is Kind.TASK else "has ended"
        raise AstraError(f"{target} {state}: nothing of it is left to hold")
    return done


def _own_bundles(target: Target, verb: str) -> list[Open]:
    """Return the open bundle that is meant, or that a task is alone in; refuse to take a task from among others."""
    found = targets.open_bundles(target)
    if target.kind is Kind.TASK and found and found[0].unfinished > 1:
        bundle, others = found[0].bundle, found[0].unfinished - 1
        among = f"{target} runs in bundle {bundle} with {others} other{'s' * (others > 1)}"
        if found[0].by_hand:
            raise AstraError(
                f"{among}, by hand {found[0].place}: only `astra cancel bundle {bundle}` takes it, and them all"
            )
        raise AstraError(
            f"{among}: `astra {verb} bundle {bundle}` takes them all, "
            f"`astra drain bundle {bundle}` gives back those that were not begun; then ask again"
        )
    return found


# ------------------------------------------------------------------------------------------------------------ resume


def lift(target: Target, now: datetime) -> Hold | None:
    """Lift the hold on a component or a replay, and return it; None where there was none."""
    return queue.lift(_HOLDS[target.kind], target.name, now)


def let_go(target: Target) -> int:
    """Let go the tasks of a bundle, or the task, that were held; return how many."""
    return queue.lift_tasks(targets.pending(target))


# ------------------------------------------------------------------------------------------------------------ cancel


def cancel(target: Target, by: By) -> Done:
    """Cancel the unfinished tasks that are there now. Finished ones stand, and what is enqueued later is not touched.

    Raises
    ------
    AstraError
        If the target is a task that has ended, or that runs in one bundle with others.
    """
    done = Done()
    newest = run("SELECT max(id) FROM task")[0][0] or 0
    for _ in range(_PASSES):
        keys = array("q", (key for key in targets.pending(target) if key <= newest))
        count = queue.cancel_pending(keys)
        bundles = _own_bundles(target, "cancel")
        if target.kind in _HOLDS:
            done.by_hand = [each for each in bundles if each.by_hand]
            bundles = [each for each in bundles if not each.by_hand]
        for each in bundles:
            _cancel_running(each, target, by, done)
        done.waiting += count
        if not count and not bundles:
            break
    state = targets.state_of(target) if target.kind is Kind.TASK else TaskState.CANCELLED
    if state != TaskState.CANCELLED:
        raise AstraError(f"{target} is {state}: there is nothing left of it to cancel")
    return done


def _cancel_running(given: Open, target: Target, by: By, done: Done) -> None:
    replay = int(target.name) if target.kind is Kind.REPLAY else None
    tasks = queue.cancel_running(given.bundle, by.words("cancelled"), by.now, replay)
    done.running += tasks
    done.bundles += bool(tasks)


# ------------------------------------------------------------------------------------------------------------- drain


def drain(target: Target, by: By) -> bool:
    """Have nothing more of it started: a component or a replay is held, a bundle's supervisor is asked.

    Return False where there is nothing to be drained: the bundle has ended already.

    Raises
    ------
    AstraError
        If the bundle is run by hand.
    """
    if target.kind in _HOLDS:
        pause(target, by)
    elif not queue.ask(int(target.name), holds.DRAIN):
        for each in targets.open_bundles(target):
            raise AstraError(
                f"bundle {each.bundle} is run by hand {each.place}: nobody can ask it to stop; "
                f"only `astra cancel bundle {each.bundle}` takes it"
            )
        return False
    return True


def running(target: Target) -> list[Open]:
    """Return the bundles that a drain still waits for."""
    return [each for each in targets.open_bundles(target) if not each.by_hand]


def left_behind(found: Iterable[Open]) -> list[Open]:
    """Return those bundles whose service is known to be gone: none of them ends before a service runs again."""
    return [each for each in found if provenance.is_dead(*each.owner)]
