"""Sources that turn out to be one: products, names and results follow, and the old key goes on to be understood."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from astra.database.connection import execute, references_to, run
from astra.database.staging import stage
from astra.sources.links import Linked, insert

# Tables that refer to sources and are looked after here; all others are components' results.
_OWN = frozenset({"source", "source_identifier", "source_data_product"})


def merge(merges: Mapping[int, int], now: datetime) -> None:
    """Let sources become others, by key; in the caller's transaction, who holds the lock of sources."""
    if not merges:
        return
    stage("merged", {"id": "BIGINT", "into_id": "BIGINT"}, sorted(merges.items()))
    rows = run(
        "SELECT l.data_product_id, l.id, m.into_id, l.method, l.catalogue_version, l.separation, l.candidates, m.id, "
        "l.conflict FROM merged m JOIN source_data_product l ON l.source_id = m.id AND l.superseded_by_id IS NULL "
        "ORDER BY l.id"
    )
    links = [Linked(*row) for row in rows]  # the reason is the key of the source that was merged, until it is said
    insert([each._replace(reason=f"source {each.reason} was merged into {each.source}") for each in links], now)
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
