"""What is held back, by whom and why. Reads; `queue` writes."""

from __future__ import annotations

from datetime import datetime

from astra.database.astradb import Hold
from astra.states import HoldKind


def standing() -> list[Hold]:
    """Return what is held back now."""
    return list(Hold.select().where(Hold.lifted.is_null()).order_by(Hold.id))


def of(kind: HoldKind, target: str) -> Hold | None:
    """Return the hold that stands on something, if one does."""
    found: Hold | None = Hold.get_or_none((Hold.kind == kind) & (Hold.target == target) & Hold.lifted.is_null())
    return found


def last_lifted(kind: HoldKind, target: str) -> datetime | None:
    """Return when something was last let go on, None where it never was held back."""
    found = Hold.select().where((Hold.kind == kind) & (Hold.target == target) & Hold.lifted.is_null(False))
    latest = found.order_by(Hold.id.desc()).first()
    return None if latest is None else latest.lifted
