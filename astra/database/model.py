"""What every table is made from."""

from __future__ import annotations

from typing import Any

import peewee

from astra.database.connection import database


class Link(peewee.ForeignKeyField):
    """A reference to another table's 64-bit key."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"backref": "+", **options})


class AstraModel(peewee.Model):
    """Base of every table."""

    class Meta:
        database = database
        legacy_table_names = False
