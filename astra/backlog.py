"""What the queue holds, for those who schedule: what to serve next, and who holds which bundle. Writes nothing.

Comes from `scheduler` and the commands; what it tells is acted upon by `queue`, whose guarded updates decide whether it
is still so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from astra.database.connection import by_index, run
from astra.database.fields import instant_text, read_instant
from astra.provenance import Owner
from astra.states import BundleState
from astra.work import OpenBundle


def pick(after: tuple[int, str] | None = None) -> tuple[int, str] | None:
    """Return the (priority, bundle key) to serve next: round robin within a priority, more urgent ones first.

    Parameters
    ----------
    after
        What was served last.
    """
    query = "SELECT priority, bundle_key FROM task WHERE state = 'pending' AND not_before IS NULL"
    order = " ORDER BY priority, bundle_key LIMIT 1"
    first = run(query + order)
    if not first or after is None or first[0][0] < after[0]:
        return tuple(first[0]) if first else None
    later = run(f"{query} AND priority = ? AND bundle_key > ?{order}", after)
    return tuple(later[0]) if later else tuple(first[0])


def waiting(bundle_key: str, most: int) -> int:
    """Return how many tasks of a bundle key can be claimed now, counting no further than `most`."""
    query = "SELECT 1 FROM task WHERE bundle_key = ? AND state = 'pending' AND not_before IS NULL LIMIT ?"
    count: int = run(f"SELECT count(*) FROM ({query}) AS waiting", (bundle_key, most))[0][0]
    return count


def unfinished() -> bool:
    """Return whether any task waits, for its turn or for its time, or is running."""
    waiting = "SELECT 1 FROM task WHERE state = 'pending' AND not_before IS"
    return any(
        run(f"{query} LIMIT 1")
        for query in (
            f"{waiting} NULL",
            f"{waiting} NOT NULL",
            "SELECT 1 FROM bundle WHERE state IN ('submitted', 'running')",
        )
    )


def open_bundles(now: datetime) -> list[OpenBundle]:
    """Return every bundle that is submitted or running; `lapsed` where its lease has run out."""
    return _open("state IN ('submitted', 'running')", now)


def bundles_by_hand(tasks: Sequence[int]) -> list[OpenBundle]:
    """Return the bundles that people are running, of those that these tasks were last in."""
    listed = ", ".join(str(int(key)) for key in tasks)
    with by_index():
        found = {row[0] for row in run(f"SELECT bundle_id FROM task WHERE id IN ({listed}) AND state = 'running'")}
    held = ", ".join(map(str, found - {None})) or "0"  # 0 is no bundle's key
    return _open(f"state = 'running' AND executor = 'interactive' AND id IN ({held})", None)


def _open(which: str, now: datetime | None) -> list[OpenBundle]:
    rows = run(
        'SELECT id, token, state, owner_boot, owner_pid, owner_start, host, "user", executor, size, '
        f"lease_expires IS NOT NULL AND lease_expires < ?, created FROM bundle WHERE {which} ORDER BY id",
        (instant_text(now),),
    )
    return [
        OpenBundle(key, token, BundleState(state), Owner(*own[:5]), own[5], own[6], bool(own[7]), _instant(own[8]))
        for key, token, state, *own in rows
    ]


def ends(bundle: int, most: int) -> tuple[dict[str, int], list[tuple[int, str]]]:
    """Return how many tasks left a bundle in which way, and the first `most` that failed, each with its error."""
    rows = run("SELECT outcome, count(*) FROM task_bundle WHERE bundle_id = ? GROUP BY outcome", (bundle,))
    failed = run(
        "SELECT task_id, coalesce(error_class, '') || ': ' || coalesce(error_message, '') FROM task_bundle "
        "WHERE bundle_id = ? AND outcome = 'failed' ORDER BY position LIMIT ?",
        (bundle, most),
    )
    return {str(outcome): count for outcome, count in rows}, [(task, error) for task, error in failed]


def tries(bundle: int, position: int = 0) -> int:
    """Return how often a process has died under the task at a position of this bundle, this time included."""
    query = "SELECT count(*) FROM task_bundle WHERE outcome = 'expired' AND task_id IN"
    own = "SELECT task_id FROM task_bundle WHERE bundle_id = ? AND position = ?"
    count: int = run(f"{query} ({own})", (bundle, position))[0][0]
    return count + 1


def _instant(value: Any) -> datetime:
    found = read_instant(value)
    assert found is not None  # the column is not null
    return found
