"""The rows that link data products to sources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from astra.database.connection import execute_many
from astra.database.fields import instant_text
from astra.database.staging import load, reserve_ids
from astra.products.base import Target
from astra.sources.pool import KnownSource


class Claim(NamedTuple):
    """What the current file version of a data product says of its object, and the link that stands until now."""

    data_product: int
    target: Target
    link: int | None = None
    source: int | None = None
    method: str | None = None
    conflict: str | None = None


class Match(NamedTuple):
    """The source of an object, and how it was found; see `SourceDataProduct`."""

    source: KnownSource | None
    method: str
    version: str = ""
    separation: float | None = None
    candidates: int | None = None
    reason: str | None = None
    conflict: str | None = None


def is_news(claim: Claim, match: Match) -> bool:
    """Return whether a match says something else than the link that stands."""
    source = match.source.id if match.source else None
    return claim.link is None or (claim.source, claim.method, claim.conflict) != (source, match.method, match.conflict)


class Linked(NamedTuple):
    """A new link, as it is written, and the one that it supersedes."""

    data_product: int
    supersedes: int | None
    source: int | None
    method: str
    version: str
    separation: float | None
    candidates: int | None
    reason: str | None
    conflict: str | None


def write(links: Sequence[tuple[Claim, Match]], now: datetime) -> None:
    """Write new links, and let the old ones say what superseded them, in the caller's transaction."""
    insert([Linked(c.data_product, c.link, m.source.id if m.source else None, *m[1:]) for c, m in links], now)


def insert(links: Sequence[Linked], now: datetime) -> None:
    """Write new links, and let the old ones say what superseded them, in the caller's transaction."""
    if not links:
        return
    ids, created = reserve_ids("source_data_product", len(links)), instant_text(now)
    columns = (
        "id, data_product_id, superseded_by_id, source_id, method, catalogue_version, separation, candidates, reason, "
        "conflict, created"
    )
    # One link of a data product is current, and a link can only name a row that exists: so a new one is written as if
    # the old one superseded it, and then the two change places.
    rows = [(key, *each, created) for key, each in zip(ids, links, strict=True)]
    load("source_data_product", columns.split(", "), rows)
    replaced = [(key, each.supersedes) for key, each in zip(ids, links, strict=True) if each.supersedes is not None]
    if replaced:
        execute_many(
            "UPDATE source_data_product SET superseded_by_id = ? WHERE id = ? AND superseded_by_id IS NULL", replaced
        )
        execute_many(
            "UPDATE source_data_product SET superseded_by_id = NULL WHERE id = ?", [row[:1] for row in replaced]
        )
