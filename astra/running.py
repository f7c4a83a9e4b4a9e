"""Run a load: bundles of one component, one after another, in the process that was handed them.

Comes from an executor's process; goes to `execution`. Whoever handed the load over is told when its bundles are
running, and how each ended; what its tasks came to is in the records by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from astra import execution, keeping, provenance, queue
from astra.base import TaskInstance
from astra.bundling import rebuild_bundle, rebuild_whole
from astra.clock import SYSTEM
from astra.components import component_class
from astra.database.astradb import Bundle
from astra.database.connection import available
from astra.errors import AstraError, ComponentError, DatabaseUnavailable, LeaseLost
from astra.members import bundle_by_key
from astra.outbox import Outbox
from astra.session import Desk, Session
from astra.states import BundleState
from astra.whole import Whole, read_whole
from astra.work import Claimed, Load

TOGETHER = 2_000  # tasks of small bundles that are read at once


@dataclass(frozen=True)
class Told:
    """Whom to tell: the token, when the bundles are running; each bundle that ended, and why it was not recorded.

    Or that a bundle is to be given back, and why, and whether that is because the database was away: nothing went
    wrong with it.
    """

    started: Callable[[str], None]
    ended: Callable[[int, str | None], None]
    given_back: Callable[[int, str, bool], None]


def run_load(load: Load, desk: Desk, told: Told) -> None:
    """Start all bundles of a load, then run one after another; each is told of as ended, whatever became of it.

    Parameters
    ----------
    load
        Bundles of one component, which were claimed with one token.
    desk
        What this process lends to them.
    told
        Whom to tell.
    """
    if desk.account is not None:
        desk.account.begin(0)  # what is printed while the component is imported is the first bundle's
    component, problem = _component(load.bundles[0].component)
    try:
        token, started = _start(load, component)
    except AstraError as error:
        for each in load.bundles:
            told.given_back(each.bundle, str(error), isinstance(error, DatabaseUnavailable))
        return
    told.started(token)
    outbox = Outbox(SYSTEM, told.ended) if len(started) > 1 else None
    desk = replace(desk, retry=load.retry, outbox=outbox)
    running = {each.bundle: each for each in started}
    whole = _read_whole(started)
    for index, each in enumerate(load.bundles):
        if each.bundle not in running:
            told.ended(each.bundle, f"bundle {each.bundle} was taken back before it started; nothing was run")
            continue
        if outbox is not None:
            outbox.flush_in_time()
        if desk.in_hand is not None and desk.in_hand.draining:
            told.given_back(each.bundle, "not begun: its process was to begin nothing more", False)
            continue
        _begin(index, each.key, desk)
        try:
            trouble = _run(running[each.bundle], problem, desk, whole.pop(each.bundle, None))
        except DatabaseUnavailable as error:
            told.given_back(each.bundle, f"not recorded: {error}", True)
            continue
        if outbox is None or not outbox.took(each.bundle):
            told.ended(each.bundle, trouble)
    if outbox is not None:
        outbox.flush()


def _component(name: str) -> tuple[type[Any], ComponentError | None]:
    """Return the component's class, or what stands for it, and why it cannot be had."""
    try:
        return component_class(name), None
    except ComponentError as error:
        return TaskInstance, error
    except SystemExit as error:  # of the component's module: it is no reason to end this process
        words = f"the component {name} cannot be imported: it raises SystemExit: {error}"
        return TaskInstance, ComponentError(words)


def _start(load: Load, component: type[Any]) -> tuple[str, list[Claimed]]:
    """Turn the load's bundles running, held by the process that handed them over.

    It renews their leases, and who finds it dead knows that the service is gone, and that no component did it.
    """
    with available():
        now = SYSTEM.now()
        lease = now + timedelta(seconds=load.lease)
        owner, code = provenance.owner(os.getppid()), provenance.code_of(component)
        return queue.start(load.bundles, owner, code, provenance.environment_id(), lease, now)


def _begin(index: int, key: str, desk: Desk) -> None:
    keeping.forget_all_but(key)
    if desk.account is not None and index:
        desk.account.begin(index)
    if desk.in_hand is not None:
        desk.in_hand.begin(index)


def _read_whole(bundles: Sequence[Claimed]) -> dict[int, Whole]:
    """Read small bundles at once, in fewer statements; large ones are read as they run."""
    if sum(each.size for each in bundles) > TOGETHER:
        return {}
    try:
        with available():
            return read_whole([each.bundle for each in bundles])
    except DatabaseUnavailable:  # each asks for itself then, when its turn has come
        return {}


def _run(held: Claimed, problem: ComponentError | None, desk: Desk, whole: Whole | None) -> str | None:
    """Run one bundle, and return why it could not be recorded, or None."""
    try:
        if problem is None:
            return _execute(held, desk, whole)
        execution.fail(Session(held, SYSTEM, interactive=False, desk=desk), problem)
    except DatabaseUnavailable:
        raise
    except LeaseLost as error:
        return str(error)
    except AstraError as error:
        return f"not recorded: {error}"
    return None


def _execute(held: Claimed, desk: Desk, whole: Whole | None) -> str | None:
    try:
        with available():
            instance = (
                rebuild_bundle(bundle_by_key(held.bundle), strict=False) if whole is None else rebuild_whole(whole)
            )
    except (ComponentError, TypeError, ValueError) as error:
        execution.fail(Session(held, SYSTEM, interactive=False, desk=desk), error)
        return None
    try:
        instance.run_held(held, desk=desk, whole=whole)
    except (LeaseLost, DatabaseUnavailable):
        raise
    except BaseException as error:  # the component's own, and recorded, unless the records could not take its results
        kept = desk.outbox is not None and desk.outbox.took(held.bundle)
        return None if kept else _unrecorded(held.bundle, error)
    return None


def _unrecorded(bundle: int, error: BaseException) -> str | None:
    with available():
        if Bundle.get_by_id(bundle).state is not BundleState.RUNNING:
            return None
    return f"its end could not be recorded: {type(error).__name__}: {error}"
