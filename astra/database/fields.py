"""Column kinds that SQLite and PostgreSQL must agree on."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import repeat
from typing import Any

import peewee

# What each kind is called in the database's own words; `connection` hands these to peewee.
SQLITE_TYPES = {"INSTANT": "TEXT"}
POSTGRESQL_TYPES = {"INSTANT": "TIMESTAMPTZ"}

# One for all: `json.dumps` would make a new encoder for every call with options, which costs more than the encoding.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
_READ = json.JSONDecoder().decode


def instant_text(instant: datetime | None) -> str | None:
    """Return an aware instant as fixed-width UTC text, which both databases order and read alike."""
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone; instants are aware UTC datetimes")
    return instant.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")


def read_instant(value: str | datetime | None) -> datetime | None:
    """Return what either database gave for an instant as an aware UTC datetime."""
    if value is None:
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) else _read_text(value)


@functools.lru_cache(maxsize=1024)
def _read_text(text: str) -> datetime:
    """Return the instant that a text tells; those of rows written together are one text, read once."""
    return datetime.fromisoformat(text).astimezone(UTC)


def canonical_json(value: object) -> str:
    """Return the one text of a JSON value: sorted keys, no blanks, no NaN. Ids keep all their digits."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # what the encoder says too; to set it up costs more than that
    return _CANONICAL.encode(value)


def canonical_objects(
    shared: Mapping[str, object], spread: Mapping[str, Sequence[object]], count: int
) -> Iterator[str]:
    """Yield the canonical JSON of `count` objects, which share some values and have their own of the others."""
    texts = {name: canonical_json(value).replace("%", "%%") for name, value in shared.items()}
    texts |= dict.fromkeys(spread, "%s")
    names = sorted(texts)
    pattern = f"{{{','.join(f'{canonical_json(name)}:{texts[name]}' for name in names)}}}"
    own = zip(*[spread[name] for name in names if name in spread], strict=True) if spread else repeat((), count)
    for values in own:
        yield pattern % tuple(map(canonical_json, values))


class InstantField(peewee.Field):
    """An instant in UTC. TIMESTAMPTZ on PostgreSQL, sortable text on SQLite."""

    field_type = "INSTANT"

    def db_value(self, value: datetime | None) -> str | None:
        return instant_text(value)

    def python_value(self, value: str | datetime | None) -> datetime | None:
        return read_instant(value)


class JsonField(peewee.TextField):
    """A JSON value kept as canonical text on both databases, so equal values are equal bytes."""

    def db_value(self, value: Any) -> str | None:
        return None if value is None else canonical_json(value)

    def python_value(self, value: str | None) -> Any:
        return None if value is None else _READ(value)


class StateField(peewee.TextField):
    """One of the words of a `StrEnum`."""

    def __init__(self, states: type[StrEnum], **options: Any) -> None:
        super().__init__(**options)
        self.states = states
        self._by_word = {each.value: each for each in states}

    def db_value(self, value: StrEnum | str | None) -> str | None:
        return None if value is None else self.states(value).value

    def python_value(self, value: str | None) -> StrEnum | None:
        return None if value is None else self._by_word.get(value) or self.states(value)
