"""Do the records agree with the disk? astropy reads every file below a tree, and the rows are held against that.

Nothing of astra reads a file here, and every finding is a sentence of one kind. A tree of apVisit files is expected,
at most one for each plate, MJD and fibre, taken in under a rule that works on all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from astropy.io import fits as astropy_fits

from astra.database.connection import run

HDUS = 12


class Kind(StrEnum):
    """What can be wrong."""

    MISSING = "missing"
    STALE = "stale"
    DOUBLE = "double"
    GHOST = "ghost"
    WRONG_LINK = "wrong link"
    NO_TASK = "no task"
    DOUBLED_TASK = "doubled task"


class Violation(NamedTuple):
    """One way in which the records are wrong."""

    kind: Kind
    what: str


class Content(NamedTuple):
    """What tells one content of a file from another: its size, and the sha256 of its primary header's blocks."""

    size: int
    header_sha256: str


class Fact(NamedTuple):
    """A whole file as astropy and the file system see it: `visit` is plate, MJD and fibre."""

    path: Path
    visit: tuple[str, str, str]
    obj: str
    snr: float
    content: Content
    stamps: tuple[int, int, int]


class _Product(NamedTuple):
    id: int
    identity: str
    path: str
    visit: tuple[str, str, str]
    snr: float | None
    ingestion: int | None
    outcome: str | None
    content: Content
    stamps: tuple[int, int, int]


def content_of(data: bytes) -> Content:
    """Return what tells a content, from its bytes."""
    with astropy_fits.HDUList.fromstring(data) as hdus:
        return Content(len(data), _digest(hdus))


def facts(tree: Path) -> list[Fact]:
    """Return what astropy reads of every visit below `tree`, which must all be whole."""
    return [_fact(path) for path in sorted(tree.rglob("apVisit*.fits"))]


def _fact(path: Path) -> Fact:
    with astropy_fits.open(path) as hdus:
        assert len(hdus) == HDUS, f"{path} has {len(hdus)} HDUs: the test itself left it so"
        header, digest = hdus[0].header, _digest(hdus)
        visit = (str(header["PLATE"]), str(header["MJD5"]), str(header["FIBERID"]))
        obj, snr = str(header["OBJID"]), float(header["SNR"])
    stat = path.stat()
    content = Content(stat.st_size, digest)
    return Fact(path, visit, obj, snr, content, (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


def _digest(hdus: Any) -> str:
    return hashlib.sha256(hdus[0].header.tostring().encode("ascii")).hexdigest()


def violations(tree: Path, written: Collection[Content] = ()) -> list[Violation]:
    """Return all in which the open database disagrees with the files below `tree`.

    Parameters
    ----------
    tree
        The watched folder; nobody may be changing it, and everything in it should have been taken in.
    written
        Every content that was ever whole in it. What is there now need not be among them.
    """
    found = facts(tree)
    assert len({each.visit for each in found}) == len(found), "the test itself left two files of one visit"
    products = _products()
    return [
        *_missing_or_stale(found, products),
        *_stale_in_ledger(tree, found),
        *_doubles(products),
        *_ghosts({*written, *(each.content for each in found)}, products),
        *_wrong_links(found, products),
        *_tasks_lacking(found, products),
        *_doubled_tasks(),
    ]


def kinds(found: Sequence[Violation]) -> set[Kind]:
    """Return which kinds of violations there are."""
    return {each.kind for each in found}


def _products() -> list[_Product]:
    query = (
        "SELECT p.id, p.identity, p.path, p.kwargs, p.metadata, c.id, c.outcome, c.size, c.header_sha256, c.mtime_ns, "
        "c.ctime_ns, c.inode FROM data_product p LEFT JOIN ingestion c ON c.id = p.current_ingestion_id ORDER BY p.id"
    )
    return [_product(*row) for row in run(query)]


def _product(key: int, identity: str, path: str, kwargs: Any, metadata: Any, *version: Any) -> _Product:
    ingestion, outcome, size, digest, *stamps = version
    named, snr = _json(kwargs), _json(metadata).get("snr")
    visit = (named["plate"], named["mjd"], str(int(named["fiber"])))
    mtime, ctime, inode = stamps
    return _Product(key, identity, path, visit, snr, ingestion, outcome, Content(size, digest), (mtime, ctime, inode))


def _json(value: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return read


def _missing_or_stale(found: Sequence[Fact], products: Sequence[_Product]) -> Iterator[Violation]:
    by_visit = {each.visit: each for each in products}
    for fact in found:
        product = by_visit.get(fact.visit)
        if product is None:
            yield Violation(Kind.MISSING, f"{fact.path} is in no data product")
        elif product.ingestion is None or product.outcome != "ingested":
            yield Violation(Kind.MISSING, f"data product {product.id} of {fact.path} has no file version")
        elif Path(product.path) != fact.path:
            yield Violation(Kind.STALE, f"data product {product.id} is at {product.path}, its file at {fact.path}")
        elif (product.snr, product.content, product.stamps) != (fact.snr, fact.content, fact.stamps):
            yield Violation(Kind.STALE, f"data product {product.id} is {product[4:]}, but {fact.path} is {fact[3:]}")


def _stale_in_ledger(tree: Path, found: Sequence[Fact]) -> Iterator[Violation]:
    newest: dict[str, tuple[Any, ...]] = {}
    for path, *row in run(
        "SELECT path, outcome, size, header_sha256, mtime_ns, ctime_ns, inode, reason FROM ingestion ORDER BY id"
    ):
        newest[path] = tuple(row)
    for fact in found:
        row = newest.get(str(fact.path.relative_to(tree)))
        if row is None:
            yield Violation(Kind.MISSING, f"{fact.path} is not in the ledger")
        elif row[:-1] != ("ingested", *fact.content, *fact.stamps):
            yield Violation(Kind.STALE, f"the ledger's newest row says {row}, but {fact.path} is {fact[4:]}")


def _doubles(products: Sequence[_Product]) -> Iterator[Violation]:
    for column, name in ((1, "identity"), (3, "visit")):
        for value, number in Counter(each[column] for each in products).items():
            if number > 1:
                yield Violation(Kind.DOUBLE, f"{number} data products have the {name} {value}")
    columns = "root, path, size, mtime_ns, ctime_ns, inode"
    for row in run(f"SELECT {columns}, count(*) FROM ingestion GROUP BY {columns} HAVING count(*) > 1"):
        yield Violation(Kind.DOUBLE, f"{row[-1]} ingestions are of the file version {row[:-1]}")
    for key, number in run(
        "SELECT data_product_id, count(*) FROM source_data_product WHERE superseded_by_id IS NULL "
        "GROUP BY data_product_id HAVING count(*) > 1"
    ):
        yield Violation(Kind.DOUBLE, f"data product {key} has {number} current links")
    for value, number in run(
        "SELECT value, count(DISTINCT source_id) FROM source_identifier WHERE kind = 'apogee' "
        "GROUP BY value HAVING count(DISTINCT source_id) > 1"
    ):
        yield Violation(Kind.DOUBLE, f"{number} sources are the object {value}")


def _ghosts(written: Collection[Content], products: Sequence[_Product]) -> Iterator[Violation]:
    for each in products:
        if each.ingestion is None:
            yield Violation(Kind.GHOST, f"data product {each.id}, {each.path}, has no file version")
    query = "SELECT id, path, size, header_sha256 FROM ingestion WHERE outcome = 'ingested' ORDER BY id"
    for key, path, *content in run(query):
        if Content(*content) not in written:
            yield Violation(Kind.GHOST, f"ingestion {key} is of a {path} that never was whole: {content}")
    for key, designation in run(
        "SELECT s.id, s.designation FROM source s "
        "WHERE NOT EXISTS (SELECT 1 FROM source_data_product l WHERE l.source_id = s.id)"
    ):
        yield Violation(Kind.GHOST, f"nothing was ever linked to source {key}, {designation}")


def _wrong_links(found: Sequence[Fact], products: Sequence[_Product]) -> Iterator[Violation]:
    linked: defaultdict[int, list[str]] = defaultdict(list)
    for key, name in run(
        "SELECT l.data_product_id, n.value FROM source_data_product l "
        "JOIN source_identifier n ON n.source_id = l.source_id AND n.kind = 'apogee' WHERE l.superseded_by_id IS NULL"
    ):
        linked[key].append(name)
    objects = {each.visit: each.obj for each in found}
    for each in products:
        names = linked[each.id]
        if each.visit in objects and names != [objects[each.visit]]:
            what = f"data product {each.id} is linked to {names or 'nothing'}, its header says {objects[each.visit]}"
            yield Violation(Kind.WRONG_LINK, what)


def _tasks_lacking(found: Sequence[Fact], products: Sequence[_Product]) -> Iterator[Violation]:
    """Work waits, runs or is done on every file that is there; what was done on the same bytes elsewhere counts."""
    there = {each.visit for each in found}
    worked = {
        (key, size, mtime, digest)
        for key, size, mtime, digest in run(
            "SELECT i.data_product_id, g.size, g.mtime_ns, g.header_sha256 FROM task t "
            "JOIN task_input_data_product i ON i.task_id = t.id JOIN ingestion g ON g.id = i.ingestion_id "
            "WHERE t.rule IS NOT NULL AND t.state IN ('pending', 'running', 'completed')"
        )
    }
    for each in products:
        version = (each.id, each.content.size, each.stamps[0], each.content.header_sha256)
        if each.visit in there and version not in worked:
            yield Violation(Kind.NO_TASK, f"no task works on data product {each.id}, {each.path}, as it is now")


def _doubled_tasks() -> Iterator[Violation]:
    for identity, number in run(
        "SELECT identity, count(*) FROM task WHERE rule IS NOT NULL AND state IN ('pending', 'running', 'completed') "
        "GROUP BY identity HAVING count(*) > 1"
    ):
        yield Violation(Kind.DOUBLED_TASK, f"{number} tasks are the work {identity}")
