"""Data products as they are recorded: read by identity, made, given a new file version, or used as a task's input."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from astra.database.connection import by_index, execute_many, run
from astra.database.fields import instant_text, read_instant
from astra.database.staging import among, load
from astra.ledger import Entry
from astra.signature import Signature
from astra.standing import Product
from astra.states import IngestionOutcome
from astra.work import Input

CHUNK = 10_000


class Row(NamedTuple):
    """A data product as it is to be recorded; `kwargs` and `metadata` are canonical JSON."""

    id: int
    release: str
    filetype: str
    kwargs: str
    identity: str
    path: str
    metadata: str
    current_ingestion: int


def read(identities: Collection[str]) -> dict[str, Product]:
    """Return those of the data products that exist, by identity, with current file version and link to a source."""
    condition, parameter = among("p.identity", sorted(identities))
    rows = run(
        "SELECT p.identity, p.id, p.path, l.id, l.source_id, l.method, l.conflict, c.id, c.root, c.path, c.outcome, "
        "c.version, c.size, c.mtime_ns, c.ctime_ns, c.inode, c.header_sha256, c.started FROM data_product p "
        "LEFT JOIN ingestion c ON c.id = p.current_ingestion_id "
        f"LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL WHERE {condition}",
        (parameter,),
    )
    return {row[0]: _product(row[1], row[2], row[3:7], row[7:]) for row in rows}


def _product(key: int, path: str, linked: Sequence[Any], current: Sequence[Any]) -> Product:
    if current[0] is None:
        return Product(key, path, None, *linked)
    number, root, own, outcome, version, size, mtime_ns, ctime_ns, inode, header_sha256, started = current
    signature, looked = Signature(size, mtime_ns, ctime_ns, inode), read_instant(started)
    assert looked is not None  # the column is not null
    entry = Entry(number, root, own, signature, IngestionOutcome(outcome), looked, header_sha256)
    entry.version, entry.data_product = version, key
    link, source, method, conflict = linked
    return Product(key, path, entry, link, source, method, conflict, before=entry)


def make(rows: Sequence[Row], now: datetime) -> None:
    """Record new data products, in the caller's transaction; their file versions may be written after them."""
    if rows:
        columns = "id, release, filetype, kwargs, identity, path, metadata, current_ingestion_id, created"
        created = instant_text(now)
        load("data_product", columns.split(", "), [(*row, created) for row in rows])


def renew(rows: Sequence[Row]) -> None:
    """Give data products a new current file version, with its place and metadata, in the caller's transaction."""
    if rows:
        execute_many(
            "UPDATE data_product SET current_ingestion_id = ?, path = ?, metadata = ? WHERE id = ?",
            [(row.current_ingestion, row.path, row.metadata, row.id) for row in rows],
        )


def signature_text(size: int, mtime_ns: int, header_sha256: str | None) -> str:
    """Return what stands for a file version in a task's identity: the same bytes give the same text in any place."""
    return f"{size}:{mtime_ns}:{header_sha256 or ''}"


def current_inputs(data_products: Sequence[int]) -> dict[int, Input]:
    """Return data products as inputs of tasks, in their current file version, by key; a statement for each 10,000.

    One that does not exist is left out. One that astra itself made, and has no file version, has no signature.
    """
    found: dict[int, Input] = {}
    for start in range(0, len(data_products), CHUNK):
        keys = ", ".join(str(int(key)) for key in data_products[start : start + CHUNK])
        query = (
            "SELECT p.id, p.identity, c.id, c.size, c.mtime_ns, c.header_sha256 "
            f"FROM data_product p LEFT JOIN ingestion c ON c.id = p.current_ingestion_id WHERE p.id IN ({keys})"
        )
        with by_index():
            for key, identity, ingestion, *version in run(query):
                found[key] = Input(key, ingestion, identity, "" if ingestion is None else signature_text(*version))
    return found
