"""The ledger: what became of every file version, and the only code that writes it.

Comes from `ingest` and the walk of a tree; goes to the table `ingestion`. A file version is known when the newest row
of its place has its signature. Rows written because somebody used a file by hand (`noted`) do not count: the sweep
still offers such a file.

An old row stands as it is, but for its stamps, which one guarded UPDATE may correct (`Change`):

* a file that was only touched (copied back, `chmod`, moved to another disk: same size, modification time and header,
  another change time or inode) is not a new version, so its row takes the new stamps and no task runs again;
* a file that was looked at within the time its stamps can tell apart is looked at once more (`recheck_after`). If it
  changed within that time, both versions have one signature, and the older row gives the inode up; so it does where
  a file that is only touched, as far as we can see, has come to have the stamps of an older row of its place;
* a file that is gone is missed (`missing_since`) until it is there again; nothing of it is forgotten;
* a checksum of all its bytes is recorded when somebody has read them: a task that used it, or `astra verify --deep`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from astra.database.connection import by_index, database, execute_many, run
from astra.database.fields import instant_text, read_instant
from astra.database.staging import among, load
from astra.signature import Signature
from astra.states import IngestionOutcome

if TYPE_CHECKING:
    from astra.tree import Found

RACY_SECONDS = 2.0  # stamps of the coarsest file systems in use tick this slowly
_CHECKSUMS = 1_000  # recorded in one transaction

# fmt: off
_COLUMNS = [
    "id", "root", "path", "size", "mtime_ns", "ctime_ns", "inode", "outcome", "started", "header_sha256",
    "sha256", "reason", "version", "data_product_id", "supersedes_id", "recheck_after", "replay_id", "duration", "lag",
]
# fmt: on


@dataclass(slots=True)
class Entry:
    """One row of the ledger, read or about to be written."""

    id: int
    root: str
    path: str
    signature: Signature
    outcome: IngestionOutcome
    started: datetime
    header_sha256: str | None = None
    sha256: str | None = None
    reason: str | None = None
    version: int | None = None
    data_product: int | None = None
    supersedes: int | None = None
    recheck_after: datetime | None = None
    replay: int | None = None
    duration: float = 0.0
    lag: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A correction of the stamps of the row `id`, made only while it still has the stamps `was`."""

    id: int
    was: Signature
    ctime_ns: int
    inode: int
    recheck_after: datetime | None


class Copy(NamedTuple):
    """A file that is known and not its data product's current one: where that one lies, and its root's name."""

    found: Found
    original: str
    root: str


class Differing(NamedTuple):
    """What the ledger says of files that were found.

    It lacks the version of the `new`, wants to look `again` at others, and knows some as `copies` of what their data
    product has in another place: these are wanted again where that file is gone. `back` are the rows of files that were
    missed, and are there again; `held` is how many files it has in some version and did not miss.
    """

    new: list[Found]
    again: list[Found]
    copies: list[Copy]
    back: list[int]
    held: int


def differing(root: str, found: Sequence[Found], now: datetime) -> Differing:
    """Return what the ledger says of the files `found` below the root named `root`."""
    if not found:
        return Differing([], [], [], [], 0)
    columns = (
        "path, size, mtime_ns, ctime_ns, inode, recheck_after, outcome, data_product_id, missing_since, id, "
        "(SELECT p.current_ingestion_id FROM data_product p WHERE p.id = data_product_id)"
    )
    rows = _rows(columns, root, [each.path for each in found], _COUNTING)
    known = [each for each in found if (row := rows.get(each.path)) is not None and row[1:5] == each.signature]
    lacking = {each.path for each in found} - {each.path for each in known}
    again = [each for each in known if not _is_settled(rows[each.path], now)]
    back = [int(row[9]) for each in known if (row := rows[each.path])[8] is not None]  # type: ignore[call-overload]
    copies = {each.path: rows[each.path][7] for each in known if _lies_elsewhere(rows[each.path])}
    originals = _originals(sorted({int(key) for key in copies.values()}))  # type: ignore[call-overload]
    again_paths = {each.path for each in again}
    sure = [each for each in known if each.path in copies and each.path not in again_paths]
    return Differing(
        [each for each in found if each.path in lacking],
        again,
        [Copy(each, *originals[copies[each.path]]) for each in sure if copies[each.path] in originals],
        back,
        sum(row[8] is None for row in rows.values()),
    )


def _originals(products: Sequence[int]) -> dict[object, tuple[str, str]]:
    if not products:
        return {}
    query = (
        "SELECT p.id, p.path, c.root FROM data_product p JOIN ingestion c ON c.id = p.current_ingestion_id "
        f"WHERE p.id IN ({', '.join(map(str, products))})"
    )
    with by_index():
        return {key: (path, root) for key, path, root in run(query)}


_COUNTING = f"outcome <> '{IngestionOutcome.NOTED}'"


def _rows(columns: str, root: str, paths: Sequence[str], which: str) -> dict[str, tuple[object, ...]]:
    """Return the newest row of each path below a root. A place has as many rows as its file had versions, so it costs
    less to read them all than to have the database pick the newest."""
    condition, parameter = among("path", paths)
    sql = f"SELECT path, id, {columns} FROM ingestion WHERE root = ? AND {condition} AND {which}"
    with by_index():
        rows = run(sql, (root, parameter))
    return {row[0]: row[2:] for row in sorted(rows, key=itemgetter(1))}


def _lies_elsewhere(row: tuple[object, ...]) -> bool:
    """Whether a row's file is not its data product's current one: a copy, or one that moved away and back."""
    return row[7] is not None and row[6] != IngestionOutcome.QUARANTINED and row[10] != row[9]


def _is_settled(row: tuple[object, ...], now: datetime) -> bool:
    recheck: datetime | None = read_instant(row[5])  # type: ignore[arg-type]
    return recheck is None or recheck > now


class Place(NamedTuple):
    """A path that the ledger knows: its newest row, its signature there, and whether it is missed already."""

    path: str
    id: int
    signature: Signature
    outcome: IngestionOutcome
    missed: bool


def places(root: str, after: str, most: int) -> list[Place]:
    """Return the paths below a root that come after `after`, in order, `most` at the most."""
    rows = run(
        "SELECT g.path, g.id, g.size, g.mtime_ns, g.ctime_ns, g.inode, g.outcome, g.missing_since FROM ingestion g "
        f"JOIN (SELECT path, max(id) AS id FROM ingestion WHERE root = ? AND path > ? AND {_COUNTING} "
        "GROUP BY path ORDER BY path LIMIT ?) newest ON newest.id = g.id ORDER BY g.path",
        (root, after, most),
    )
    return [
        Place(path, key, Signature(*stamps), IngestionOutcome(outcome), missing is not None)
        for path, key, *stamps, outcome, missing in rows
    ]


def count_places(root: str) -> int:
    """Return how many paths below a root the ledger has and does not miss."""
    newer = f"SELECT 1 FROM ingestion n WHERE n.root = g.root AND n.path = g.path AND n.id > g.id AND n.{_COUNTING}"
    (count,) = run(
        f"SELECT (SELECT count(*) FROM (SELECT path FROM ingestion WHERE root = ? AND {_COUNTING} GROUP BY path) AS p) "
        "- (SELECT count(*) FROM ingestion g WHERE g.root = ? AND g.missing_since IS NOT NULL "
        f"AND g.{_COUNTING} AND NOT EXISTS ({newer}))",
        (root, root),
    )[0]
    return int(count)


def checksums(rows: Sequence[int]) -> dict[int, str | None]:
    """Return the checksums of whole files that rows record, by row."""
    if not rows:
        return {}
    with by_index():
        return dict(run(f"SELECT id, sha256 FROM ingestion WHERE id IN ({', '.join(map(str, rows))})"))


class Checksum(NamedTuple):
    """The checksum of all bytes of a row's file, taken while the file had this signature."""

    row: int
    signature: Signature
    sha256: str


def set_checksums(checksums: Sequence[Checksum]) -> None:
    """Record checksums of whole files, where there is none yet and the row still has that signature."""
    rows = [(each.sha256, each.row, *each.signature[2:]) for each in sorted(checksums)]  # in one order: no deadlocks
    for start in range(0, len(rows), _CHECKSUMS):
        with database.atomic():
            execute_many(
                "UPDATE ingestion SET sha256 = ? WHERE id = ? AND sha256 IS NULL AND ctime_ns = ? AND inode = ?",
                rows[start : start + _CHECKSUMS],
            )


def missed(rows: Sequence[int]) -> list[int]:
    """Return those of these rows whose files are missed."""
    if not rows:
        return []
    which, parameter = among("id", rows, "BIGINT")
    with by_index():
        return [
            key for (key,) in run(f"SELECT id FROM ingestion WHERE {which} AND missing_since IS NOT NULL", (parameter,))
        ]


def miss(rows: Sequence[int], now: datetime) -> None:
    """Take note that the files of these rows are not there any more. The rows stand."""
    with database.atomic():
        execute_many(
            "UPDATE ingestion SET missing_since = ? WHERE id = ? AND missing_since IS NULL",
            [(instant_text(now), each) for each in rows],
        )


def find_again(rows: Sequence[int]) -> None:
    """Take note that the files of these rows are there again, as they were."""
    with database.atomic():
        execute_many("UPDATE ingestion SET missing_since = NULL WHERE id = ?", [(each,) for each in rows])


def latest(places: Iterable[tuple[str, str]], noted: bool = False) -> dict[tuple[str, str], Entry]:
    """Return the newest row of each place (root, path) that has one; a statement for each root.

    With `noted`, rows of the outcomes `noted` and `ingested` alone count.
    """
    roots: dict[str, set[str]] = {}
    for root, path in places:
        roots.setdefault(root, set()).add(path)
    which = f"outcome IN ('{IngestionOutcome.NOTED}', '{IngestionOutcome.INGESTED}')" if noted else _COUNTING
    entries: dict[tuple[str, str], Entry] = {}
    for root, paths in roots.items():
        for path, row in _rows(", ".join(_COLUMNS), root, sorted(paths), which).items():
            entries[root, path] = _entry(row)
    return entries


def _entry(row: Sequence[object]) -> Entry:
    key, root, path, size, mtime_ns, ctime_ns, inode, outcome, started, *rest = row
    signature = Signature(size, mtime_ns, ctime_ns, inode)  # type: ignore[arg-type]
    entry = Entry(key, root, path, signature, IngestionOutcome(outcome), read_instant(started), *rest)  # type: ignore[arg-type]
    entry.recheck_after = read_instant(entry.recheck_after)
    return entry


def racy_until(signature: Signature, started: datetime) -> datetime | None:
    """Return when a file must be looked at again, if its stamps are too fresh for an examination begun at `started`."""
    examined, window = started.timestamp() * 1e9, RACY_SECONDS * 1e9
    fresh = abs(examined - signature.mtime_ns) < window or abs(examined - signature.ctime_ns) < window
    return started + timedelta(seconds=RACY_SECONDS) if fresh else None


def insert(entries: Sequence[Entry], renewed: Sequence[Entry]) -> None:
    """Write new rows, in the caller's transaction.

    `renewed` are those of the rows whose place has been recorded before. Where an older row of the place has the same
    signature, and so the stamps were too coarse to tell two versions apart, or a file system was set back to an old
    state, that row's inode becomes a number that no file has.
    """
    if renewed:
        execute_many(
            "UPDATE ingestion SET inode = -id WHERE root = ? AND path = ? AND size = ? AND mtime_ns = ? "
            "AND ctime_ns = ? AND inode = ? AND coalesce(replay_id, 0) = ? AND outcome <> 'noted'",
            [(e.root, e.path, *e.signature, e.replay or 0) for e in renewed],
        )
    if entries:
        load("ingestion", _COLUMNS, [_row(each) for each in entries])


def _row(e: Entry) -> tuple[object, ...]:
    return (
        e.id, e.root, e.path, *e.signature, e.outcome.value, instant_text(e.started), e.header_sha256, e.sha256,
        e.reason, e.version, e.data_product, e.supersedes, instant_text(e.recheck_after), e.replay, e.duration, e.lag,
    )  # fmt: skip


def change(changes: Mapping[int, Change]) -> None:
    """Correct the stamps of rows, in the caller's transaction; a row that has other stamps by now stays as it is.

    A file that has come back to a place may have the stamps that an older row there has, of when it was there before:
    that row's inode becomes a number that no file has, as `insert` has it.
    """
    moved = [each for each in changes.values() if each.was[2:] != (each.ctime_ns, each.inode)]
    if moved:
        same_place = "root, path, size, mtime_ns, coalesce(replay_id, 0)"
        execute_many(
            f"UPDATE ingestion SET inode = -id WHERE ctime_ns = ? AND inode = ? AND outcome <> 'noted' "
            f"AND ({same_place}) = (SELECT {same_place} FROM ingestion WHERE id = ? AND ctime_ns = ? AND inode = ?)",
            [(c.ctime_ns, c.inode, c.id, c.was.ctime_ns, c.was.inode) for c in moved],
        )
    if changes:
        execute_many(
            "UPDATE ingestion SET ctime_ns = ?, inode = ?, recheck_after = ?, missing_since = NULL "
            "WHERE id = ? AND ctime_ns = ? AND inode = ?",
            [
                (c.ctime_ns, c.inode, instant_text(c.recheck_after), c.id, c.was.ctime_ns, c.was.inode)
                for c in changes.values()
            ],
        )


def lag(signature: Signature, now: datetime) -> float:
    """Return the seconds from a file's last change, of its content or its place, to `now`."""
    return now.timestamp() - max(signature.mtime_ns, signature.ctime_ns) / 1e9
