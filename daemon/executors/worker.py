"""The process that runs bundles: one at a time, told which by its supervisor, for as long as the supervisor lives.

Comes from `supervisor`, over this process's standard input; goes to `astra.execution`. What the component prints goes
to standard error, so that only this file writes to the supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from astra import execution, provenance, queue
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.components import component_class
from astra.database.astradb import Bundle
from astra.database.connection import available, drop_connection, open_database
from astra.errors import AstraError, ComponentError, LeaseLost
from astra.inhand import InHand
from astra.members import bundle_by_key
from astra.session import Desk, Session
from astra.states import BundleState
from astra.work import Claimed

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Read orders until the supervisor closes the pipe."""
    _die_with_parent(int(sys.argv[1]))
    orders, say = _own_standard_streams()
    first = json.loads(orders.readline())
    open_database(first["url"], first["synchronous"])
    desk = Desk(InHand(first["in_hand"]), Path(first["output"]))
    say({"ready": os.getpid()})
    for line in orders:
        order = json.loads(line)
        claimed = Claimed(order["bundle"], order["size"], order["token"])
        say({"ended": claimed.bundle, "trouble": _run(claimed, order["lease"], say, desk)})
        drop_connection()


def _die_with_parent(supervisor: int) -> None:
    """Have the kernel end this process when its supervisor is gone: an orphan must not work on beside its successor."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it was gone before the kernel was asked
        sys.exit(1)  # there is nobody to tell


def _own_standard_streams() -> tuple[IO[str], Any]:
    """Keep the pipes from and to the supervisor for this file alone: a component may read, print, or start programs."""
    orders: IO[str] = os.fdopen(os.dup(0), "r", buffering=1)
    supervisor: IO[str] = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        supervisor.write(json.dumps(message) + "\n")
        supervisor.flush()

    return orders, say


def _run(claimed: Claimed, lease: float, say: Any, desk: Desk) -> str | None:
    """Run one bundle, and return why it could not be recorded, or None."""
    try:
        with available():
            bundle = bundle_by_key(claimed.bundle)
            component, problem = _component(bundle.name)
            now = SYSTEM.now()
            token = queue.start(
                claimed,
                provenance.owner(),
                provenance.code_of(component),
                provenance.environment_id(),
                now + timedelta(seconds=lease),
                now,
            )
        held = replace(claimed, token=token)
        say({"started": claimed.bundle, "token": token})
        if problem is None:
            return _execute(bundle, held, desk)
        execution.fail(Session(held, SYSTEM, interactive=False), problem)
    except LeaseLost as error:
        return str(error)
    except AstraError as error:
        return f"not recorded: {error}"
    return None


def _component(name: str) -> tuple[type[Any], ComponentError | None]:
    """Return the component's class, or what stands for it, and why it cannot be had."""
    try:
        return component_class(name), None
    except ComponentError as error:
        return TaskInstance, error


def _execute(bundle: Bundle, held: Claimed, desk: Desk) -> str | None:
    try:
        instance = TaskInstance.from_bundle(bundle)
    except (ComponentError, TypeError, ValueError) as error:
        execution.fail(Session(held, SYSTEM, interactive=False), error)
        return None
    try:
        instance.run_held(held, desk=desk)
    except LeaseLost:
        raise
    except BaseException as error:  # the component's own, and recorded, unless the records could not take its results
        return _unrecorded(bundle.id, error)
    return None


def _unrecorded(bundle: int, error: BaseException) -> str | None:
    with available():
        if Bundle.get_by_id(bundle).state is not BundleState.RUNNING:
            return None
    return f"its end could not be recorded: {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
