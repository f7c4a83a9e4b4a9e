"""Sources that turn out to be one: products, names and results follow, and the old key goes on to be understood."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from astra.database.connection import execute, references_to, run
from astra.database.staging import stage
from astra.sources.links import Linked, Match, insert

# Tables that refer to sources and are looked after here; all others are components' results.
_OWN = frozenset({"source", "source_identifier", "source_data_product"})


def merge(merges: Mapping[int, int], now: datetime) -> None:
    """Let sources become others, by key; in the caller's transaction, who holds the lock of sources."""
    if not merges:
        return
    stage("merged", {"id": "BIGINT", "into_id": "BIGINT"}, sorted(merges.items()))
    rows = run(
        "SELECT l.id, l.data_product_id, l.method, l.catalogue_version, l.separation, l.candidates, l.conflict, m.id, "
        "m.into_id FROM merged m JOIN source_data_product l ON l.source_id = m.id AND l.superseded_by_id IS NULL "
        "ORDER BY l.id"
    )
    insert([_moved(_Standing(*row)) for row in rows], now)
    execute(
        "UPDATE source_identifier SET source_id = m.into_id FROM merged m WHERE source_identifier.source_id = m.id "
        "AND NOT EXISTS (SELECT 1 FROM source_identifier o LEFT JOIN merged n ON n.id = o.source_id "
        "WHERE o.kind = source_identifier.kind AND o.value = source_identifier.value "
        "AND (o.source_id = m.into_id OR (n.into_id = m.into_id AND o.id < source_identifier.id)))"
    )
    for table, column in references_to("source"):
        if table not in _OWN:
            execute(f'UPDATE "{table}" SET "{column}" = m.into_id FROM merged m WHERE "{table}"."{column}" = m.id')
    execute("UPDATE source SET merged_into_id = m.into_id FROM merged m WHERE source.merged_into_id = m.id")
    execute("UPDATE source SET merged_into_id = m.into_id FROM merged m WHERE source.id = m.id")


class _Standing(NamedTuple):
    """A link to a source that is merged, as it says how it was found."""

    id: int
    data_product: int
    method: str
    version: str
    separation: float | None
    candidates: int | None
    conflict: str | None
    merged: int
    into: int


def _moved(link: _Standing) -> Linked:
    reason = f"source {link.merged} was merged into {link.into}"
    match = Match(None, link.method, link.version, link.separation, link.candidates, reason, link.conflict)
    return Linked(link.data_product, link.id, link.into, match)
