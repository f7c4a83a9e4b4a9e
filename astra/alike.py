"""Failed tasks whose errors are alike: they differ in numbers, names of files and paths only. Writes nothing.

Comes from the records; goes to the commands that list failures and retry them. Memory is bounded by the kinds of
errors, and by 8 bytes for each task.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from astra.database.connection import by_index, execute, run
from astra.database.fields import read_instant
from astra.selection import Selection, joined, of_tasks

CHUNK = 10_000
MOST = 1000  # groups; an error whose texts are all different makes no more
LONGEST = 300  # characters of an error that are compared, and shown
OTHERS = "(other errors)"

# What differs from one task to the next: paths, then digests and other hexadecimal numbers, then numbers.
_PATH = re.compile(r"(?<![\w/.])~?(?:/[^\s/'\"`,;:()\[\]{}<>]+)+/?")
_HEX = re.compile(r"\b(?:0x[0-9a-fA-F]+|(?=[0-9a-fA-F-]*\d)[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,}){0,4})\b")
_NUMBER = re.compile(r"(?<![\d.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SEVERAL = re.compile(r"#(?:[,;\s]+#)+")


def evened(error: str) -> str:
    """Return what an error has in common with others of its kind: the first line, with numbers and paths evened out."""
    line = error.strip().partition("\n")[0][: 4 * LONGEST]
    line = _NUMBER.sub("#", _HEX.sub("#", _PATH.sub("/...", line)))
    return _SEVERAL.sub("#, ...", line)[:LONGEST]


class Failed(NamedTuple):
    """A failed task and its last error."""

    task: int
    component: str
    error: str
    kind: str | None
    when: datetime
    by_hand: bool


@dataclass(slots=True)
class Group:
    """Failed tasks of one component whose errors are alike; `sample` is the newest of them."""

    component: str
    error: str
    kind: str | None
    count: int
    first: datetime
    last: datetime
    sample: int
    by_hand: int = 0

    def add(self, failed: Failed) -> None:
        """Count another one."""
        self.count += 1
        self.by_hand += failed.by_hand
        self.first, self.last = min(self.first, failed.when), max(self.last, failed.when)
        self.sample = max(self.sample, failed.task)


def groups(selection: Selection, since: datetime | None = None, until: datetime | None = None) -> list[Group]:
    """Return the failed tasks that are selected, by component and error, the most first.

    Parameters
    ----------
    since, until
        When they failed.
    """
    found: dict[tuple[str, str], Group] = {}
    for failed in failures(_failed(selection)):
        if (since and failed.when < since) or (until and failed.when >= until):
            continue
        key = (failed.component, evened(failed.error))
        if key not in found and len(found) >= MOST:
            key = (failed.component, OTHERS)
        group = found.setdefault(key, Group(*key, failed.kind, 0, failed.when, failed.when, failed.task))
        group.add(failed)
    return sorted(found.values(), key=lambda each: (-each.count, each.component, each.error))


def _failed(selection: Selection) -> array[int]:
    where = joined(of_tasks(selection))
    query = f"SELECT t.id FROM task t WHERE t.state = 'failed' AND {where.sql} ORDER BY t.name, t.id"
    return array("q", (row[0] for row in execute(query, where.values)))


def failures(keys: Sequence[int]) -> Iterator[Failed]:
    """Yield tasks with the last error of each, read in chunks."""
    for start in range(0, len(keys), CHUNK):
        listed = ", ".join(map(str, keys[start : start + CHUNK]))
        with by_index():
            rows = run(
                "SELECT t.id, t.name, m.error_class, coalesce(m.error_message, b.error), m.error_kind, "
                "coalesce(b.ended, b.started, b.created, t.created), t.identity IS NULL "
                "FROM task t LEFT JOIN task_bundle m ON m.task_id = t.id AND m.bundle_id = t.bundle_id "
                f"LEFT JOIN bundle b ON b.id = t.bundle_id WHERE t.id IN ({listed})"
            )
        for task, component, error_class, message, kind, when, by_hand in rows:
            instant = read_instant(when)
            assert instant is not None  # a task's own is not null
            error = ": ".join(dict.fromkeys(part for part in (error_class, message) if part)) or "no error was recorded"
            yield Failed(task, component, error, kind, instant, bool(by_hand))


def with_error(keys: Sequence[int], text: str) -> array[int]:
    """Return the tasks whose last error holds a text, as it is or as `evened` makes it."""
    return array("q", sorted(_with_error(failures(keys), text)))


def _with_error(failed: Iterable[Failed], text: str) -> Iterator[int]:
    for each in failed:
        if text in each.error or text in evened(each.error):
            yield each.task
