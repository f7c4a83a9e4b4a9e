"""What does a person mean by a component, a replay, a bundle or a task: which tasks, and which bundles? Writes nothing.

Comes from the commands that hold, cancel, drain and retry; goes to `queue`, as keys. A million keys take 8 MB.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from astra.database.connection import by_index, execute, run
from astra.errors import AstraError
from astra.states import TaskState


class Kind(StrEnum):
    """What can be held, cancelled and retried."""

    COMPONENT = "component"
    REPLAY = "replay"
    BUNDLE = "bundle"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Target:
    """One of these: a component by its import path, any other by its key."""

    kind: Kind
    name: str

    @property
    def value(self) -> str | int:
        """What the database knows it by."""
        return self.name if self.kind is Kind.COMPONENT else int(self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Open(NamedTuple):
    """A bundle that is submitted or running: how many of its tasks have not ended, and whose process it is.

    `owner` is that process as `provenance.is_dead` knows it.
    """

    bundle: int
    unfinished: int
    by_hand: bool
    place: str
    owner: tuple[str, int, int, str]


def find(kind: Kind, name: str, named: Iterable[str] = ()) -> Target:
    """Return what a name, or a key, means.

    Parameters
    ----------
    name
        A component's import path, or the class's name where it is one component's; else a key.
    named
        Import paths that the settings name, of which there may be no record yet.

    Raises
    ------
    AstraError
        If there is no such record, or a class's name fits several components.
    """
    if kind is Kind.COMPONENT:
        return Target(kind, _component(name, named))
    if not run(f"SELECT 1 FROM {kind} WHERE id = ?", (int(name),)):
        raise AstraError(f"there is no {kind} {int(name)}")
    return Target(kind, str(int(name)))


def _component(name: str, named: Iterable[str]) -> str:
    found = components(name, named)
    if len(found) > 1:
        raise AstraError(f"{name} may be {' or '.join(found)}: give the whole path")
    return found[0]


def components(name: str, named: Iterable[str] = ()) -> list[str]:
    """Return the components, one at least, that have this import path or end with it, such as a class's name alone.

    Raises
    ------
    AstraError
        If there is none, with the nearest name.
    """
    known = sorted({*_recorded(), *named})
    if found := [each for each in known if each == name or each.endswith(f".{name}")]:
        return [name] if name in found else found
    short = {each.rpartition(".")[2]: each for each in known}
    near = difflib.get_close_matches(name, [*short, *known], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(short)) or 'none yet'}"
    raise AstraError(f"there is no component {name} in the records or the settings; {hint}")


def _recorded() -> set[str]:
    """Return the components of all that was run, waits, or is held: by indexes, for finished tasks are many."""
    names, last = set(), ""
    while found := run("SELECT name FROM bundle WHERE name > ? ORDER BY name LIMIT 1", (last,)):
        last = found[0][0]
        names.add(last)
    waiting = "SELECT DISTINCT name FROM task WHERE state = 'pending' AND not_before IS"
    rows = run(f"{waiting} NULL UNION {waiting} NOT NULL UNION SELECT target FROM hold WHERE kind = 'component'")
    return names | {row[0] for row in rows}


def pending(target: Target) -> array[int]:
    """Return the keys of the pending tasks that are meant; of a bundle, those that were in no later one."""
    waiting = "SELECT t.id FROM task t WHERE t.state = 'pending'"
    if target.kind is Kind.COMPONENT:  # in two parts, each of which has an index
        due = f"{waiting} AND t.not_before IS NULL AND t.name = ?"
        return _keys(due, target) + _keys(f"{waiting} AND t.not_before IS NOT NULL AND t.name = ?", target)
    return _keys(f"{waiting} AND {_OF[target.kind]}", target)


_LAST_IN = "t.id IN (SELECT m.task_id FROM task_bundle m WHERE m.bundle_id = ?) AND t.bundle_id = ?"
_OF = {Kind.COMPONENT: "t.name = ?", Kind.REPLAY: "t.replay_id = ?", Kind.BUNDLE: _LAST_IN, Kind.TASK: "t.id = ?"}


def ended(target: Target, states: Iterable[TaskState]) -> array[int]:
    """Return the keys of the tasks that are meant, of these states; of a bundle, those that were in no later one."""
    found: array[int] = array("q")
    for state in sorted(states):  # as words, not as parameters: SQLite uses a partial index for its own words only
        found += _keys(f"SELECT t.id FROM task t WHERE t.state = '{TaskState(state)}' AND {_OF[target.kind]}", target)
    return found


def _keys(query: str, target: Target) -> array[int]:
    values = [target.value] * query.count("?")
    with by_index():
        return array("q", (row[0] for row in execute(query, values)))


def open_bundles(target: Target) -> list[Open]:
    """Return the open bundles that have tasks which are meant and have not ended, oldest first."""
    rows: Sequence[Any] = run(
        "SELECT b.id, (SELECT count(*) FROM task_bundle m WHERE m.bundle_id = b.id AND m.outcome IS NULL), "
        'b.executor, b."user", b.host, b.owner_pid, b.owner_boot, b.owner_start FROM bundle b '
        f"WHERE b.state IN ('submitted', 'running') AND {_HAS[target.kind]} ORDER BY b.id",
        (target.value,),
    )
    return [
        Open(
            bundle,
            unfinished,
            executor == "interactive",
            f"by {user} on {host.partition('/')[0]}, process {pid}",
            (boot, pid, start, host),
        )
        for bundle, unfinished, executor, user, host, pid, boot, start in rows
    ]


_HAS = {
    Kind.COMPONENT: "b.name = ?",
    Kind.REPLAY: "EXISTS (SELECT 1 FROM task_bundle m JOIN task t ON t.id = m.task_id "
    "WHERE m.bundle_id = b.id AND m.outcome IS NULL AND t.replay_id = ?)",
    Kind.BUNDLE: "b.id = ?",
    Kind.TASK: "b.id = (SELECT t.bundle_id FROM task t WHERE t.id = ? AND t.state = 'running')",
}


def state_of(target: Target) -> str:
    """Return the state of a replay, a bundle or a task."""
    return str(run(f"SELECT state FROM {target.kind} WHERE id = ?", (target.value,))[0][0])
