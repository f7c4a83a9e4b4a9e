"""The process that runs bundles: one load at a time, told which by its supervisor, for as long as that lives.

Comes from `process`, over this process's standard input; goes to `astra.running`. What components print goes to the
process's log, so that only this file writes to the supervisor.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from astra.clock import SYSTEM
from astra.database.connection import drop_lost_connection, open_database, rest_connection
from astra.inhand import ON_THE_WAY, InHand
from astra.running import Told, run_load
from astra.session import Desk
from astra.work import Claimed, Load, Retry
from daemon import logs
from daemon.executors.account import BundleAccount
from daemon.executors.output import Printed
from daemon.executors.stacks import Stacks
from daemon.executors.surroundings import Surroundings, high

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Read orders until the supervisor closes the pipe."""
    _die_with_parent(int(sys.argv[1]))
    orders, say = _own_standard_streams()
    first = json.loads(orders.readline())
    stacks = Stacks(first["stacks"])
    stacks.tell()
    around = Surroundings()
    logs.configure_bundles(first["level"])
    around.log_to(logging.getLogger().handlers)
    open_database(first["url"], first["synchronous"])
    in_hand = InHand(first["in_hand"])
    account = BundleAccount(Path(first["log"]), first["most"], Printed(first["printed"]), around, SYSTEM)
    desk = Desk(in_hand, Path(first["output"]), account)

    def started(token: str) -> None:
        stacks.in_time()
        say({"started": token})

    told = Told(
        started,
        lambda bundle, trouble: say({"ended": bundle, "trouble": trouble}),
        lambda bundle, why, away: say({"given_back": bundle, "why": why, "away": away}),
    )
    say({"ready": os.getpid()})
    rests_since = SYSTEM.monotonic()
    for line in orders:
        stacks.tell_late(first["late"])
        drop_lost_connection(SYSTEM.monotonic() - rests_since)
        run_load(_load(json.loads(line)), desk, told)
        stacks.in_time()  # one that could not be started
        rest_connection()
        rests_since = SYSTEM.monotonic()
        in_hand.begin(ON_THE_WAY)
        say({"idle": os.getpid()})


def _load(order: dict[str, Any]) -> Load:
    return Load(tuple(Claimed(*each) for each in order["bundles"]), order["lease"], Retry(*order["retry"]))


def _die_with_parent(supervisor: int) -> None:
    """Have the kernel end this process when its supervisor is gone: an orphan must not work on beside its successor."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it was gone before the kernel was asked
        sys.exit(1)  # there is nobody to tell


def _own_standard_streams() -> tuple[IO[str], Any]:
    """Keep the pipes from and to the supervisor for this file alone: a component may read, print, or start programs."""
    orders: IO[str] = os.fdopen(high(0), "r", buffering=1)
    supervisor: IO[str] = os.fdopen(high(1), "w", buffering=1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        supervisor.write(json.dumps(message) + "\n")
        supervisor.flush()

    return orders, say


if __name__ == "__main__":
    main()
