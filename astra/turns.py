"""Whose turn it is to do what the calendar calls for: of all services on one database one, once for each time.

Comes from the calendars of the services, which fall due at the same nominal instant wherever they run; goes to one
guarded row for each entry.
"""

from __future__ import annotations

from datetime import datetime

from astra.database.connection import changed, database, is_sqlite, run
from astra.database.fields import instant_text, read_instant

# How far clocks may be apart for an entry to be done once for all of them. A turn that was taken for a time that lies
# further ahead, by the database's clock, was one of a clock gone wrong: it must not silence the entry until then.
_SOON = {True: "strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 hour')", False: "now() + interval '1 hour'"}


def take(entry: str, due: datetime) -> bool:
    """Take the turn to do an entry for the time at which it fell due; False where somebody has, or for a later one.

    In the transaction of what is then done: they come to pass together, or neither.
    """
    on_sqlite = is_sqlite()
    instant = "TEXT" if on_sqlite else "TIMESTAMPTZ"
    with database.atomic():
        return (
            changed(
                f"INSERT INTO calendar_turn (entry, due) VALUES (?, CAST(? AS {instant})) "
                "ON CONFLICT (entry) DO UPDATE SET due = excluded.due WHERE calendar_turn.due <> excluded.due "
                f"AND (calendar_turn.due < excluded.due OR calendar_turn.due > {_SOON[on_sqlite]})",
                (entry, instant_text(due)),
            )
            == 1
        )


def last(entry: str) -> datetime | None:
    """Return the time for which the turn to do an entry was taken last."""
    found = run("SELECT due FROM calendar_turn WHERE entry = ?", (entry,))
    return read_instant(found[0][0]) if found else None
