"""What is held back: nothing of it is claimed until it is let go on."""

from __future__ import annotations

from datetime import datetime

from astra.database.connection import changed, database
from astra.database.fields import instant_text
from astra.states import HoldKind


def hold(kind: HoldKind, target: str, who: str, reason: str, now: datetime, probe_at: datetime | None = None) -> bool:
    """Hold a component or a replay back; False where it is held already."""
    with database.atomic():
        return (
            changed(
                "INSERT INTO hold (kind, target, who, reason, created, probe_at, probes) VALUES (?, ?, ?, ?, ?, ?, 0) "
                "ON CONFLICT (kind, target) WHERE lifted IS NULL DO NOTHING",
                (kind, target, who, reason, instant_text(now), instant_text(probe_at)),
            )
            == 1
        )


def lift(kind: HoldKind, target: str, now: datetime) -> bool:
    """Let it go on; False where it was not held."""
    with database.atomic():
        statement = "UPDATE hold SET lifted = ? WHERE kind = ? AND target = ? AND lifted IS NULL"
        return changed(statement, (instant_text(now), kind, target)) == 1


def put_off_probe(hold: int, was: datetime, until: datetime) -> bool:
    """Set the next try of a paused component off; False where somebody else has."""
    with database.atomic():
        statement = "UPDATE hold SET probe_at = ?, probes = probes + 1 WHERE id = ? AND probe_at = ? AND lifted IS NULL"
        return changed(statement, (instant_text(until), hold, instant_text(was))) == 1
