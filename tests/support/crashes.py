"""Named places in the product at which a test's child process dies, or at which somebody writes files.

Nothing in the product knows of them: `arm` wraps its functions in a process that was started for that
(`tests.support.launch`). A place is reached each time its function is called, or has returned; what is to happen there
happens once, at the hit that the plan names.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

NEXT = ".next"  # a file of this name holds what `Deed.WRITE` puts in the place without it


class Point(NamedTuple):
    """A function by its module (and class, after a colon) and name; reached before it is entered, or after."""

    owner: str
    function: str
    before: bool = False


# The front of the service: from an event or a sweep to the commit, in the order in which a file comes by.
FRONT = {
    "watching": Point("daemon.watcher:Watcher", "start"),
    "hinted": Point("daemon.intake:Intake", "hint"),
    "swept": Point("astra.ledger", "differing"),
    "before offer": Point("daemon.settler:Settler", "offer", before=True),
    "offered": Point("daemon.settler:Settler", "offer"),
    "looked": Point("astra.tree", "look"),
    "observed": Point("daemon.settler:Settler", "observe"),
    "settled": Point("daemon.settler:Settler", "take"),
    "opened": Point("astra.headers", "_primary"),
    "read": Point("astra.headers", "_walk"),
    "examined": Point("astra.ingest", "examine"),
    "before begin": Point("astra.ingest", "alone", before=True),
    "begun": Point("astra.ingest", "_standing", before=True),
    "judged": Point("astra.ingest", "_write", before=True),
    "before products": Point("astra.known", "make", before=True),
    "products made": Point("astra.known", "make"),
    "stamps corrected": Point("astra.ledger", "change"),
    "ledger written": Point("astra.ledger", "insert"),
    "products renewed": Point("astra.known", "renew"),
    "sources made": Point("astra.sources.matching:Matcher", "write"),
    "links written": Point("astra.sources", "link"),
    "superseded": Point("astra.queue", "supersede"),
    "before enqueue": Point("astra.queue", "enqueue", before=True),
    "enqueued": Point("astra.queue", "enqueue"),
    "all written": Point("astra.ingest", "_write"),
    "before commit": Point("peewee:Database", "commit", before=True),
    "committed": Point("peewee:Database", "commit"),
    "recorded": Point("astra.ingest", "record"),
    "turned": Point("daemon.intake:Intake", "turn"),
}

# The other half of the service, which only `astrad` has: from a pending task to its end.
BACK = {
    "claimed": Point("astra.queue", "claim"),
    "submitted": Point("daemon.executors.local:LocalExecutor", "submit"),
    "before expiry": Point("astra.queue", "expire", before=True),
    "expired": Point("astra.queue", "expire"),
    "ticked": Point("daemon.scheduler:Scheduler", "tick"),
}

POINTS = {**FRONT, **BACK}


class Deed(StrEnum):
    """What happens at a point: the process is killed, or a writer puts the files in place that were laid ready."""

    DIE = "die"
    WRITE = "write"


class At(NamedTuple):
    """At which hit of which point what happens."""

    point: str
    hit: int = 1
    deed: Deed = Deed.DIE


@dataclass(frozen=True)
class Plan:
    """What a child process is to go through.

    Parameters
    ----------
    at
        What happens where.
    variant
        What is broken in its product, by the names in `tests.support.variants`; nothing by default.
    tree
        Where `Deed.WRITE` finds files that were laid ready.
    ahead
        By how many seconds its clock is fast, so that no test waits until stamps are old enough to be trusted.
    """

    at: Sequence[At] = ()
    variant: Sequence[str] = ()
    tree: str | None = None
    ahead: float = 0.0

    def command(self) -> list[str]:
        """Return how to start `astrad` so; its arguments come after it."""
        return [sys.executable, "-m", "tests.support.launch", json.dumps(asdict(self)), "astrad"]

    @classmethod
    def read(cls, text: str) -> Plan:
        """Return the plan that a command line holds."""
        given = json.loads(text)
        at = [At(point, hit, Deed(deed)) for point, hit, deed in given.pop("at")]
        return cls(at, **given)


def lay_ready(path: Path, content: bytes) -> None:
    """Lay ready what `Deed.WRITE` will put in the place `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + NEXT).write_bytes(content)


def arm(plan: Plan) -> None:
    """Wrap this process's product as `plan` says."""
    for each in plan.at:
        point = POINTS[each.point]
        owner = owner_of(point)
        deed = _die if each.deed is Deed.DIE else _writer(plan.tree)
        setattr(owner, point.function, _wrapped(getattr(owner, point.function), point.before, each.hit, deed))


def owner_of(point: Point) -> Any:
    """Return the module or class whose function a point is."""
    module, _, name = point.owner.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def _wrapped(function: Callable[..., Any], before: bool, hit: int, deed: Callable[[], None]) -> Callable[..., Any]:
    hits = count(1)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        if before and next(hits) == hit:
            deed()
        answer = function(*arguments, **named)
        if not before and next(hits) == hit:
            deed()
        return answer

    return wrapper


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _writer(tree: str | None) -> Callable[[], None]:
    assert tree is not None, "a plan that writes names the tree where files were laid ready"

    def write() -> None:
        for ready in sorted(Path(tree).rglob(f"*{NEXT}")):
            ready.replace(ready.with_name(ready.name.removesuffix(NEXT)))

    return write
