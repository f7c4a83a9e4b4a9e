"""Which records does a person mean? Conditions on paths, product types, nights, sources and tasks, as SQL.

Comes from a command's options, or from the table `replay`; goes to `replay` and to the lists of commands. Every given
condition must hold; one with several values holds where any of them does.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple, Self

from astra import asking
from astra.database.connection import json_number
from astra.database.fields import instant_text
from astra.states import IngestionOutcome, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is meant; a condition that is not given is not asked.

    Parameters
    ----------
    paths
        Glob patterns. One without a slash is of the base name, any other of the end of the path, or of the whole path
        where it begins with a slash; a folder's path stands for all that lies in it.
    filetypes, releases
        Product types and data releases.
    mjd_from, mjd_to
        First and last MJD of observation. Files whose header names no MJD are not meant.
    since, until
        When the file version was taken in.
    source
        Any identifier of a source, its id or its position; see `astra.asking.key`. It must mean one source.
    outcomes
        What became of the file version.
    components
        Import paths of components, or the class's name alone.
    rules, states, versions
        Tasks' rules, states and component versions.
    """

    paths: tuple[str, ...] = ()
    filetypes: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    mjd_from: int | None = None
    mjd_to: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    outcomes: tuple[IngestionOutcome, ...] = ()
    components: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    states: tuple[TaskState, ...] = ()
    versions: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """Return the conditions that are asked, as JSON holds them."""
        return {
            name: value.isoformat()
            if isinstance(value, datetime)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in asdict(self).items()
            if value not in (None, ())
        }

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Return the selection that `given` returned."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if name in known
        }
        for name in ("since", "until"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        return cls(**values)

    def takes_path(self) -> Callable[[str], bool]:
        """Return the test of an absolute path."""
        if not self.paths:
            return lambda path: True
        patterns = [re.compile(_regex(each)) for each in self.paths]
        return lambda path: any(pattern.match(path) for pattern in patterns)


class Condition(NamedTuple):
    """An SQL condition and its parameters."""

    sql: str
    values: tuple[Any, ...] = ()


def _regex(pattern: str) -> str:
    """Return what a glob pattern of a path means as a regular expression of the absolute path."""
    inner = fnmatch.translate(pattern.rstrip("/"))
    if "/" not in pattern:
        return f"(?:.*/)?(?=[^/]*$){inner}"
    below = fnmatch.translate(f"{pattern.rstrip('/')}/*")
    start = "" if pattern.startswith("/") else "(?:.*/)?"
    return f"{start}(?:{inner}|{below})"


def of_products(selection: Selection) -> list[Condition]:
    """Return the conditions on a data product `p` and its file version `g`; paths are tested apart."""
    found = [
        _any("p.filetype", selection.filetypes),
        _any("p.release", selection.releases),
        _any("g.outcome", selection.outcomes),
    ]
    mjd = json_number("p.metadata", "mjd") if selection.mjd_from is not None or selection.mjd_to is not None else ""
    found += [
        Condition(f"{mjd} >= ?", (selection.mjd_from,)) if selection.mjd_from is not None else None,
        Condition(f"{mjd} <= ?", (selection.mjd_to,)) if selection.mjd_to is not None else None,
        Condition("g.started >= ?", (instant_text(selection.since),)) if selection.since else None,
        Condition("g.started < ?", (instant_text(selection.until),)) if selection.until else None,
    ]
    if selection.source is not None:
        link = "SELECT l.data_product_id FROM source_data_product l WHERE l.superseded_by_id IS NULL AND l.source_id"
        found.append(Condition(f"p.id IN ({link} = ?)", (asking.key(selection.source),)))
    return [each for each in found if each is not None]


def of_tasks(selection: Selection) -> list[Condition]:
    """Return the conditions on a task `t`."""
    found = [_any("t.rule", selection.rules), _any("t.state", selection.states)]
    found.append(_any("t.component_version", selection.versions))
    if selection.components:
        marks = " OR ".join("t.name = ? OR t.name LIKE ? ESCAPE '!'" for _ in selection.components)
        names = [(each, "%." + re.sub("([!%_])", r"!\1", each)) for each in selection.components]
        found.append(Condition(f"({marks})", tuple(value for pair in names for value in pair)))
    return [each for each in found if each is not None]


def _any(column: str, values: Sequence[str]) -> Condition | None:
    return Condition(f"{column} IN ({', '.join('?' * len(values))})", tuple(map(str, values))) if values else None


def joined(conditions: Sequence[Condition]) -> Condition:
    """Return one condition that holds where all of them do."""
    sql = " AND ".join(each.sql for each in conditions)
    return Condition(sql or "1 = 1", tuple(value for each in conditions for value in each.values))
