"""What tests ask the records: short questions about files, tasks and traces."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from astra.database.connection import run


def ingestions(path: Path | str) -> list[tuple[str, str | None]]:
    """Return outcome and reason of every version of the files whose path ends so, oldest first."""
    query = "SELECT outcome, reason FROM ingestion WHERE path LIKE ? ORDER BY id"
    return [(str(outcome), reason) for outcome, reason in run(query, (f"%{Path(path).name}",))]


def outcomes() -> Counter[str]:
    """Return how many ingestions ended how."""
    return Counter(
        {str(name): count for name, count in run("SELECT outcome, count(*) FROM ingestion GROUP BY outcome")}
    )


def states(name: str = "%") -> Counter[str]:
    """Return how many tasks, on files whose path ends so, are in which state."""
    query = (
        "SELECT t.state, count(*) FROM task t JOIN task_input_data_product i ON i.task_id = t.id "
        "JOIN ingestion g ON g.id = i.ingestion_id WHERE g.path LIKE ? GROUP BY t.state"
    )
    return Counter({str(state): count for state, count in run(query, (f"%{name}",))})


def bundles() -> Counter[str]:
    """Return how many bundles are in which state."""
    return Counter({str(state): count for state, count in run("SELECT state, count(*) FROM bundle GROUP BY state")})


def count(table: str) -> int:
    """Return how many rows a table has."""
    return int(run(f"SELECT count(*) FROM {table}")[0][0])


def traces() -> list[tuple[Any, ...]]:
    """Return (task, data product) of every row that the tests' components have left."""
    return list(run("SELECT task_id, data_product_id FROM test_trace ORDER BY id"))


def linked() -> list[tuple[int, str, int | None]]:
    """Return every data product with its path and the source it is linked to."""
    query = (
        "SELECT p.id, p.path, l.source_id FROM data_product p "
        "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL ORDER BY p.id"
    )
    return [tuple(row) for row in run(query)]
