"""The database asked again for as long as it is away: hours of work are not given up for a minute's outage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from astra.clock import Clock
from astra.database.connection import available
from astra.errors import DatabaseUnavailable
from astra.inhand import InHand
from astra.interrupts import held_back, let_through

DATABASE_PATIENCE = 120.0  # seconds that a finished chunk waits for a database that is away
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0

T = TypeVar("T")


def patiently(ask: Callable[[], T], clock: Clock, in_hand: InHand | None) -> T:
    """Return what the database answers, waiting for one that is away; the supervisor can see that nothing else is done.

    Raises
    ------
    DatabaseUnavailable
        If it has been away for longer than `DATABASE_PATIENCE`.
    """
    deadline, wait = clock.monotonic() + DATABASE_PATIENCE, _FIRST_WAIT
    try:
        while True:
            try:
                with available(), held_back():
                    return ask()
            except DatabaseUnavailable:
                if clock.monotonic() > deadline:
                    raise
                if in_hand is not None:
                    in_hand.waits = True
                with let_through():
                    clock.pause(wait)
                wait = min(_LONGEST_WAIT, 2 * wait)
    finally:
        if in_hand is not None and wait > _FIRST_WAIT:
            in_hand.waits = False
