"""Tasks that come after another's work: is it done, whom does what has just been completed let go, who was missed?

A waiting task is pending until an instant that never comes (`holds.AWAITS`); `task.after` is the identity it waits for.
It is done when a task of that identity is completed, or one that repeats such a task: a replay with a newer version of
the component has another identity. While a newer one is under way, or has failed, it is not done yet; a newer one that
was cancelled does not count. Finishing lets go in the same transaction. On PostgreSQL an enqueue and a finish at the
same moment do not see each other, so whoever was missed is looked for from time to time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from astra.database.connection import by_index, changed, database, is_sqlite, run
from astra.database.fields import instant_text
from astra.database.notices import announce
from astra.database.staging import among
from astra.holds import AWAITS
from astra.states import IS_LIVE, TaskState

CHUNK = 5_000  # waiting tasks that one look for the missed goes through

# In the words of the index that holds the waiting alone. That nothing else delays them is left to the UPDATE: SQLite
# would look up all that wait until that instant.
_THERE = "state || '' = 'pending' AND not_before IS NOT NULL AND after IS NOT NULL"


def done(identities: Collection[str]) -> set[str]:
    """Return those of these identities whose work is done, and not under way again.

    What people run by hand again has no identity: it may complete the work, and hinders nobody while it runs or fails.
    """
    if not identities:
        return set()
    which, parameter = among("identity", sorted(identities))
    with by_index():
        rows = run(
            "WITH RECURSIVE again (wanted, id, state, identity) AS ("
            f"SELECT identity, id, state, identity FROM task WHERE {which} UNION ALL "
            "SELECT a.wanted, t.id, t.state, t.identity FROM again a JOIN task t ON t.repeat_of_id = a.id) "
            "SELECT wanted FROM again GROUP BY wanted HAVING max(CASE WHEN state = 'completed' THEN id END) > "
            "coalesce(max(CASE WHEN state = 'failed' AND identity IS NOT NULL THEN id END), 0) "
            f"AND count(CASE WHEN {IS_LIVE} AND identity IS NOT NULL THEN 1 END) = 0",
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
    return _free(_of_done_work(rows))


def repair_waits(position: tuple[str, int] | None = None) -> tuple[str, int] | None:
    """Let go the tasks that wait for work that is done, of the next `CHUNK`; return from where to go on the next time.

    That is None, the beginning, when all have been looked at.
    """
    in_vain, position = _in_vain(position)
    if in_vain:
        with database.atomic():
            _free(in_vain)
    return position


def waits_in_vain() -> bool:
    """Return whether any task waits for work that is done; it looks at all that wait."""
    in_vain, position = _in_vain(None)
    while not in_vain and position is not None:
        in_vain, position = _in_vain(position)
    return bool(in_vain)


def _in_vain(position: tuple[str, int] | None) -> tuple[list[int], tuple[str, int] | None]:
    """Return who waits for what is done, of the next `CHUNK` that wait or are held, and from where to go on."""
    query = f"SELECT id, after, not_before = ? FROM task WHERE {_THERE} AND (after, id) > (?, ?) ORDER BY after, id"
    rows = run(f"{query} LIMIT {CHUNK}", (instant_text(AWAITS), *(position or ("", 0))))
    following = (rows[-1][1], rows[-1][0]) if len(rows) == CHUNK else None
    return _of_done_work([(task, after) for task, after, waits in rows if waits]), following


def _of_done_work(rows: Sequence[tuple[int, str]]) -> list[int]:
    known = done({after for _, after in rows})
    return [task for task, after in rows if after in known]


def _free(keys: Sequence[int]) -> int:
    """Let go tasks that wait; who is changed by another just now is found by `repair_waits`, so nobody waits here."""
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
