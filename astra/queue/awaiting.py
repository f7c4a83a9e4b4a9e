"""Tasks that come after another's work: is it done, whom does what has just been completed let go, who was missed?

A waiting task is pending until an instant that never comes (`holds.AWAITS`); `task.after` is the identity it waits for.
It is done when a task of that identity is completed, or one that repeats such a task: a replay with a newer version of
the component has another identity. Finishing lets go in the same transaction. On PostgreSQL an enqueue and a finish at
the same moment do not see each other, so whoever was missed is looked for from time to time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from astra.database.connection import by_index, changed, database, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.notices import announce
from astra.database.staging import among
from astra.holds import AWAITS
from astra.states import TaskState

CHUNK = 5_000  # waiting tasks that one look for the missed goes through
_BEGINNING = ("", 0)

# In the words of the index that holds the waiting alone. That nothing else delays them is left to the UPDATE: SQLite
# would look up all that wait until that instant.
_THERE = "state || '' = 'pending' AND not_before IS NOT NULL AND after IS NOT NULL"


def completed(identities: Collection[str]) -> set[str]:
    """Return those of these identities whose work is done."""
    if not identities:
        return set()
    which, parameter = among("identity", sorted(identities))
    with by_index():
        rows = run(
            f"WITH RECURSIVE done (wanted, id, state) AS (SELECT identity, id, state FROM task WHERE {which} "
            "UNION ALL SELECT d.wanted, t.id, t.state FROM done d JOIN task t ON t.repeat_of_id = d.id) "
            "SELECT DISTINCT wanted FROM done WHERE state = 'completed'",
            (parameter,),
        )
    return {identity for (identity,) in rows}


def let_go(finished: Sequence[int]) -> int:
    """Let go what waited for tasks that have just been completed, in the caller's transaction; return how many."""
    if not finished or not run(f"SELECT 1 FROM task WHERE {_THERE} ORDER BY after, id LIMIT 1"):
        return 0
    which, parameter = among("id", finished, "BIGINT")
    with by_index():
        rows = run(
            "SELECT w.id FROM (WITH RECURSIVE done (identity, repeat_of_id) AS ("
            f"SELECT identity, repeat_of_id FROM task WHERE {which} "
            "UNION SELECT t.identity, t.repeat_of_id FROM done d JOIN task t ON t.id = d.repeat_of_id) "
            "SELECT identity FROM done) AS finished JOIN task w ON w.after = finished.identity "
            "WHERE w.state || '' = 'pending' AND w.not_before IS NOT NULL AND w.after IS NOT NULL",
            (parameter,),
        )
        return _free([task for (task,) in rows])


def let_go_among(keys: Sequence[int]) -> int:
    """Let go those of these tasks that wait for what is done already, in the caller's transaction; return how many."""
    if not keys:
        return 0
    which, parameter = among("id", keys, "BIGINT")
    with by_index():
        rows = run(
            f"SELECT id, after FROM task WHERE {which} AND after IS NOT NULL AND state || '' = '{TaskState.PENDING}'",
            (parameter,),
        )
    return _free(_done(rows))


def repair(position: tuple[str, int] = _BEGINNING) -> tuple[str, int]:
    """Let go who was missed, of the next `CHUNK` that wait; return the position from which to go on the next time."""
    query = f"SELECT id, after FROM task WHERE {_THERE} AND (after, id) > (?, ?) ORDER BY after, id LIMIT {CHUNK}"
    rows = run(query, position)
    if freed := _done(rows):
        with database.atomic():
            _free(freed)
    return (rows[-1][1], rows[-1][0]) if len(rows) == CHUNK else _BEGINNING


def is_missed() -> bool:
    """Return whether any task waits for work that is done; it looks at all that wait."""
    return bool(
        run(
            f"SELECT 1 FROM task w WHERE {_THERE} AND not_before = ? AND EXISTS "
            "(SELECT 1 FROM task a WHERE a.identity = w.after AND a.state || '' = 'completed') LIMIT 1",
            (instant_text(AWAITS),),
        )
    )


def _done(rows: Sequence[tuple[int, str]]) -> list[int]:
    done = completed({after for _, after in rows})
    return [task for task, after in rows if after in done]


def _free(keys: Sequence[int]) -> int:
    """Let go tasks that wait; who is changed by somebody else just now is found by `repair`, so nobody waits here."""
    if not keys:
        return 0
    which, parameter = among("id", sorted(keys), "BIGINT")
    if not is_sqlite():
        which = f"id = ANY (ARRAY(SELECT id FROM task WHERE {which} ORDER BY id FOR UPDATE SKIP LOCKED))"
    statement = f"UPDATE task SET not_before = NULL WHERE state || '' = 'pending' AND not_before = ? AND {which}"
    freed = changed(statement, (instant_text(AWAITS), parameter))
    if freed:
        announce()
    return freed
