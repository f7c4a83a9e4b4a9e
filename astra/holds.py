"""What is held back: which component or replay, by whom, since when, why; and which tasks one by one. Writes nothing.

Comes from the rows that `queue.holding` writes; goes to the scheduler, which starts nothing of it, and to people.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from astra.database.astradb import Hold
from astra.database.connection import run
from astra.database.fields import instant_text, read_instant
from astra.database.staging import among
from astra.states import IS_LIVE, HoldKind

# What a pending task that a person holds waits for: `make_due` never comes to it.
HELD_UNTIL = datetime(9999, 12, 31, tzinfo=UTC)
# What one waits for that comes after another's work: it is let go when that is completed, and not before.
AWAITS = datetime(9999, 1, 1, tzinfo=UTC)
# What `bundle.asked` says where the tasks that it has not begun are to go back.
DRAIN = "drain"


def standing() -> list[Hold]:
    """Return the holds that stand now, oldest first."""
    if not run("SELECT 1 FROM hold WHERE lifted IS NULL LIMIT 1"):  # asked at every tick, and seldom there is any
        return []
    return list(Hold.select().where(Hold.lifted.is_null()).order_by(Hold.id))


def lifted(limit: int) -> list[Hold]:
    """Return the holds that were lifted, newest first."""
    return list(Hold.select().where(Hold.lifted.is_null(False)).order_by(Hold.id.desc()).limit(limit))


def on(kind: HoldKind, target: str) -> Hold | None:
    """Return the hold that stands on a component or a replay."""
    condition = (Hold.kind == kind) & (Hold.target == target) & Hold.lifted.is_null()
    found: Hold | None = Hold.get_or_none(condition)
    return found


def last_lifted(kind: HoldKind, target: str) -> datetime | None:
    """Return when a component or a replay was last let go; None where it never was held."""
    found = Hold.select().where((Hold.kind == kind) & (Hold.target == target) & Hold.lifted.is_null(False))
    latest = found.order_by(Hold.id.desc()).first()
    return None if latest is None else latest.lifted


def over(component: str, replay: int | None) -> list[Hold]:
    """Return the holds that keep a task of a component, and perhaps of a replay, from being started."""
    names = [(HoldKind.COMPONENT, component)]
    names += [(HoldKind.REPLAY, str(replay))] if replay is not None else []
    return [found for kind, target in names if (found := on(kind, target)) is not None]


def holding(bundles: Collection[int]) -> dict[int, Hold]:
    """Return the holds over bundles that were handed over and have not begun; one that is on trial is not held."""
    standing_now = standing() if bundles else []
    if not standing_now:
        return {}
    by_target = {(each.kind, each.target): each for each in standing_now}
    listed = ", ".join(str(int(each)) for each in bundles)
    rows = run(
        "SELECT b.id, b.name, t.replay_id FROM bundle b JOIN task_bundle m ON m.bundle_id = b.id AND m.position = 0 "
        f"JOIN task t ON t.id = m.task_id WHERE b.id IN ({listed})"
    )
    held = {}
    for bundle, component, replay in rows:
        for target in ((HoldKind.COMPONENT, component), (HoldKind.REPLAY, str(replay))):
            found = by_target.get(target)
            if found is not None and found.probe_bundle != bundle:
                held[bundle] = found
    return held


def is_held(not_before: datetime | None) -> bool:
    """Return whether a pending task is held by itself, or as one of its bundle's."""
    return not_before is not None and not_before >= HELD_UNTIL


def awaits(not_before: datetime | None) -> bool:
    """Return whether a pending task waits for another's work."""
    return not_before == AWAITS


def awaited(identities: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return the task that does the work of each of these identities, and its state; nothing of what nobody enqueued.

    That is the one that lives, or the newest; also one that repeats another with a newer version of its component.
    """
    if not identities:
        return {}
    which, parameter = among("identity", sorted(identities))
    rows = run(
        f"WITH RECURSIVE again (wanted, id, state) AS (SELECT identity, id, state FROM task WHERE {which} UNION ALL "
        "SELECT a.wanted, t.id, t.state FROM again a JOIN task t ON t.repeat_of_id = a.id AND t.identity IS NOT NULL) "
        f"SELECT wanted, id, state FROM again ORDER BY CASE WHEN {IS_LIVE} THEN 1 ELSE 0 END, id",
        (parameter,),
    )
    return {identity: (task, state) for identity, task, state in rows}


NOT_ENQUEUED = "work that was not enqueued"


def told_awaited(identity: str, found: Mapping[str, tuple[int, str]]) -> str:
    """Return in words what a task waits for, given what `awaited` returned."""
    if identity not in found:
        return NOT_ENQUEUED
    task, state = found[identity]
    return f"task {task}, which is {state}"


def tasks_by_component() -> list[tuple[str, int, int]]:
    """Return of each component how many of its tasks are held by themselves, and the first of these."""
    query = "SELECT name, count(*), min(id) FROM task WHERE state = 'pending' AND not_before >= ? GROUP BY name"
    return [(name, count, first) for name, count, first in run(f"{query} ORDER BY name", (instant_text(HELD_UNTIL),))]


def told(held: Hold) -> str:
    """Return by whom something is held, since when and why, as a part of a sentence."""
    since = read_instant(held.created)
    assert since is not None  # the column is not null
    words = f"by {held.who} since {since.strftime('%Y-%m-%d %H:%M:%SZ')}"
    return f"{words} ({held.reason})" if held.reason else words
