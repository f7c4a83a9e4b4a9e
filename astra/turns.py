"""Whose turn it is to do what the calendar calls for: of all services on one database one, once for each time.

Comes from the calendars of the services, which fall due at the same nominal instant wherever they run; goes to one
guarded row for each entry.
"""

from __future__ import annotations

from datetime import datetime

from astra.database.connection import changed, database, is_sqlite
from astra.database.fields import instant_text


def take(entry: str, due: datetime) -> bool:
    """Take the turn to do an entry for the time at which it fell due; False where somebody has, or for a later one.

    In the transaction of what is then done: they come to pass together, or neither.
    """
    instant = "TEXT" if is_sqlite() else "TIMESTAMPTZ"
    with database.atomic():
        return (
            changed(
                f"INSERT INTO calendar_turn (entry, due) VALUES (?, CAST(? AS {instant})) "
                "ON CONFLICT (entry) DO UPDATE SET due = excluded.due WHERE calendar_turn.due < excluded.due",
                (entry, instant_text(due)),
            )
            == 1
        )
