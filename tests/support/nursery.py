"""Fronts of the service as processes of their own, one after another, each forked ready-made and killed at will."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.support.crashes import Plan
from tests.support.processes import CHECKOUT, environment

LONGEST = 10.0
KILLED_FROM_OUTSIDE = -signal.SIGALRM  # to tell it from one that its plan has killed


@dataclass(frozen=True)
class Order:
    """One front: its plan, its settings, where it says what happens, and after how many seconds it is killed."""

    plan: Plan
    config: str
    log: str
    until_done: bool
    longest: float

    @classmethod
    def read(cls, text: str) -> Order:
        """Return the order that a line holds."""
        given = json.loads(text)
        return cls(Plan.read(json.dumps(given.pop("plan"))), **given)


class Nursery:
    """A process that forks the fronts; a context, which ends it and the front that runs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.launch"],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(2 * LONGEST)
        self._process.stdout.close()

    def front(self, plan: Plan, config: Path, until_done: bool = False, longest: float = LONGEST) -> int:
        """Run a front to its end, and return its exit status, or minus the signal that killed it.

        One that still runs after `longest` seconds is killed then: that is `KILLED_FROM_OUTSIDE`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = Order(plan, str(config), str(log_of(config)), until_done, longest)
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        return int(self._process.stdout.readline())


def log_of(config: Path) -> Path:
    """Return the file in which the fronts with these settings say what happens."""
    return config.with_name("front.log")
