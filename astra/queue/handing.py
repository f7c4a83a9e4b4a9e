"""Bundles handed to a system outside: under which name, as what it knows them, and who looks after them now.

None of this is a change of state. Each write is guarded by what it was told of: a bundle that somebody has started or
taken back meanwhile is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astra.database.connection import database, execute, run
from astra.provenance import Owner
from astra.work import Claimed


def note_name(bundles: Sequence[Claimed], name: str) -> list[Claimed]:
    """Note under which name bundles of one claim are about to be handed over; return those that are still to be."""
    listed = ", ".join(str(int(each.bundle)) for each in bundles)
    with database.atomic():
        rows = run(
            f"UPDATE bundle SET external_name = ? WHERE id IN ({listed}) AND token = ? AND state = 'submitted' "
            "RETURNING id",
            (name, bundles[0].token),
        )
    still = {row[0] for row in rows}
    return [each for each in bundles if each.bundle in still]


def note_external(known: Mapping[str, str]) -> None:
    """Note what the outside system calls bundles that were handed over: its word by the name they went under.

    Their executor keeps the name for itself, so whoever has it means the same bundles.
    """
    with database.atomic():
        for name, external in known.items():
            execute(
                "UPDATE bundle SET external_id = ? WHERE external_name = ? AND external_id IS NULL", (external, name)
            )


def adopt(bundles: Sequence[int], before: Owner, after: Owner) -> set[int]:
    """Take over, from a process that is gone, the care for bundles on their way; return which."""
    listed = ", ".join(str(int(each)) for each in bundles) or "0"
    with database.atomic():
        rows = run(
            'UPDATE bundle SET owner_boot = ?, owner_pid = ?, owner_start = ?, host = ?, "user" = ? '
            f"WHERE id IN ({listed}) AND state = 'submitted' AND owner_boot = ? AND owner_pid = ? AND owner_start = ? "
            "RETURNING id",
            (after.boot, after.pid, after.start, after.host, after.user, before.boot, before.pid, before.start),
        )
    return {row[0] for row in rows}
