"""Bundles handed to a system outside: under which name, what it calls them, and who looks after them now.

None of this is a change of state. Each write is guarded by what it was told of: a bundle that somebody has started or
taken back meanwhile is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astra.database.connection import database, execute, run
from astra.provenance import Owner
from astra.work import Claimed


def note_name(bundles: Sequence[Claimed], name: str, keeper: Owner) -> list[Claimed]:
    """Note under which name bundles of one claim are about to be handed over; return those that are still to be.

    Parameters
    ----------
    keeper
        The service that looks after them from now on.
    """
    listed = ", ".join(str(int(each.bundle)) for each in bundles)
    with database.atomic():
        rows = run(
            f"UPDATE bundle SET external_name = ?, keeper = ? WHERE id IN ({listed}) AND token = ? "
            "AND state = 'submitted' RETURNING id",
            (name, keeper.text, bundles[0].token),
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
    """Look after open bundles from now on, in place of a service that is gone; return those that nobody else took."""
    listed = ", ".join(str(int(each)) for each in bundles) or "0"
    with database.atomic():
        rows = run(
            f"UPDATE bundle SET keeper = ? WHERE id IN ({listed}) AND keeper = ? "
            "AND state IN ('submitted', 'running') RETURNING id",
            (after.text, before.text),
        )
    return {row[0] for row in rows}
