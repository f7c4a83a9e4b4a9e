"""Rows of sources, their names, data products and results, put into the tables as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from astra.database.astradb import (
    DataProduct,
    Ingestion,
    Source,
    SourceDataProduct,
    SourceIdentifier,
    Task,
    TaskInputDataProduct,
)
from astra.database.migrate import create_result_tables
from astra.healpix import NSIDE, ang2pix
from astra.identifiers import KINDS
from tests.support.components import Trace

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TRACED = "tests.support.components.Traced"


def source(**given: Any) -> Source:
    """Insert a source; `given` are its columns, and its identifiers by kind, whose value may be (value, rank)."""
    names = {kind: given.pop(kind) for kind in KINDS if kind in given}
    for kind in ("sdss_id", "catalogid31", "catalogid25", "catalogid21"):
        if kind in names:
            value = names[kind][0] if isinstance(names[kind], tuple) else names[kind]
            given.setdefault("sdss_id" if kind == "sdss_id" else "catalogid", int(value))
    if given.get("ra") is not None:
        given["healpix"] = ang2pix(NSIDE, given["ra"], given["dec"])
    made = Source.create(**{"provisional": True, "created": NOW, **given})
    for kind, value in names.items():
        text, rank = value if isinstance(value, tuple) else (value, None)
        SourceIdentifier.create(source=made, kind=kind, value=str(text), rank=rank)
    return made


def product(of: Source | None, filetype: str = "apVisit", release: str = "dr17", **facts: Any) -> DataProduct:
    """Insert a data product that is linked to a source; `facts` are its metadata, or `conflict`, `path` and such."""
    link = {name: facts.pop(name) for name in ("conflict", "candidates", "separation", "reason") if name in facts}
    method = facts.pop("method", "header" if of else "none")
    name = f"{filetype}-{release}-{'-'.join(map(str, facts.values()))}.fits"
    made = DataProduct.create(
        release=release,
        filetype=filetype,
        kwargs={},
        path=facts.pop("path", f"/sas/{release}/{name}"),
        identity=f"{release}/{filetype}/{facts}",
        metadata=facts,
        created=NOW,
    )
    SourceDataProduct.create(source=of, data_product=made, method=method, created=NOW, **link)
    return made


def version(of: DataProduct, size: int) -> Ingestion:
    """Insert a file version of a data product."""
    stamps = {"mtime_ns": size, "ctime_ns": size, "inode": 1, "started": NOW, "duration": 0.0}
    return Ingestion.create(root="sas", path=of.path, size=size, outcome="ingested", data_product=of, **stamps)


def task(*inputs: DataProduct, name: str = TRACED) -> Task:
    """Insert a completed task on data products."""
    own = {"parameters": {}, "version": "0", "component_version": "0", "state": "completed", "priority": 100}
    made = Task.create(name=name, bundle_key="key", created=NOW, **own)
    for position, each in enumerate(inputs):
        TaskInputDataProduct.create(task=made, position=position, data_product=each)
    return made


def result(of: Task, note: str, source: Source | None = None, pid: int = 1) -> Trace:
    """Insert a result row of a task."""
    create_result_tables([Trace])
    return Trace.create(task=of, source=source, pid=pid, note=note)
