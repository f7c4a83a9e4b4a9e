"""A catalogue loaded, and data products linked to its sources: against the plain way, and as the catalogue grows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count as count_from
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from astropy.table import Table as AstropyTable

from astra import ingest, known, sources
from astra.catalogue import loading, tables
from astra.catalogue.adopting import CHUNK
from astra.clock import SYSTEM
from astra.database.connection import alone, database, driver_cursor, execute, is_sqlite, run
from astra.database.fields import instant_text
from astra.healpix import NSIDE, ang2pix
from astra.sources import Claim
from bench import footprint, plain_sources, sky
from bench.measure import COLUMNS, Table, Turn, Way, compare, interleaved, timed
from bench.stores import Store, opened_at

METHODS = ("sdss_id", "catalogid31", "gaia_dr3", "tmass", "cone")
GROWN = ("sdss_id", "cone")  # the methods that are measured as the catalogue grows
TURNS = 3
_SOURCE = ("id", "sdss_id", "catalogid", "designation", "ra", '"dec"', "epoch", "pmra", "pmdec", "healpix")
_REST = ("catalogue_id", "provisional", "created")
_NAME = ("source_id", "kind", "value", "catalogue_version")

Opened = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: catalogues of these sizes, so many products linked, and fewer in the plain way."""

    sizes: tuple[int, ...]
    products: int
    plain_rows: int
    plain_products: int


def loaded_and_linked(store: Store, folder: Path, extent: Extent, rounds: int) -> Iterator[Table]:
    """Measure loading catalogues of several sizes, once; then linking to the last of them, which is the largest."""
    with store.made() as kept:
        yield _loading(store, folder, extent, kept)
        with opened_at(kept):
            yield _linking(store, extent, rounds)


# ------------------------------------------------------------------------------------------------------------- loading


def load(path: Path) -> int:
    """Load a catalogue of which nothing is known yet, and return how many sources it brought."""
    loaded = loading.load(tables.read(path))
    assert loaded.made == loaded.rows, loaded
    return loaded.made


def _loading(store: Store, folder: Path, extent: Extent, kept: str) -> Table:
    table = Table(f"Loading a catalogue: {store.name}", ("way", *COLUMNS))
    for size in extent.sizes:
        path, most = sky.write(folder / f"sky-{size}.fits", 0, size), min(size, extent.plain_rows)
        last = size == extent.sizes[-1]
        ways: dict[str, Way] = {
            f"plain: get_or_create, a commit a row ({size:,} rows)": _loaded_plainly(store, path, most),
            f"astra ({size:,} rows)": _loaded(partial(opened_at, kept) if last else store.opened, path),
            f"floor: executemany or COPY alone ({size:,} rows)": _floor(store, size),
        }
        table.rows += compare(interleaved(ways, 1))
        path.unlink()
    table.notes = [
        "Once. A FITS table of objects with six identifiers, position and proper motion, sorted by sdss_id; the other "
        "names but catalogids lie anywhere in their index. The plain way is timed without the reading of the file, on "
        f"the first rows alone. astra takes the checksum, reads, and commits {CHUNK:,} rows at a time. The floor puts "
        "the same rows, made beforehand, into the same two tables with their indexes, as many to a transaction."
    ]
    return table


def _loaded_plainly(store: Store, path: Path, most: int) -> Way:
    def turn() -> Turn:
        table = AstropyTable.read(path)
        with store.opened():
            return timed(lambda: plain_sources.load(table, most))

    return turn


def _loaded(opened: Opened, path: Path) -> Way:
    def turn() -> Turn:
        with opened():
            made = timed(partial(load, path))
            found = run("SELECT (SELECT count(*) FROM source), (SELECT count(*) FROM source_identifier)")[0]
            assert tuple(found) == (made.done, made.done * len(sky.COLUMNS)), (found, made.done)
        return made

    return turn


def _floor(store: Store, size: int) -> Way:
    """Return a turn in which only the statements are timed: rows are made for one transaction after another."""

    def turn() -> Turn:
        with store.opened():
            created = str(instant_text(SYSTEM.now()))
            execute(
                "INSERT INTO catalogue (id, version, origin, rows, left_out, created) VALUES (1, 'f', 'f', 0, 0, ?)",
                (created,),
            )
            seconds = 0.0
            for start in range(0, size, CHUNK):
                put = _prepared(start, min(size, start + CHUNK), created)
                began = SYSTEM.monotonic()
                with database.atomic(), driver_cursor() as cursor:
                    for each in put:
                        each(cursor)
                seconds += SYSTEM.monotonic() - began
            return Turn(size, seconds)

    return turn


def _prepared(first: int, end: int, created: str) -> list[Callable[[Any], Any]]:
    """Return what puts some objects, and their names, into the tables, in the order in which the index has them."""
    own, names = [], []
    for key, row in enumerate(sky.rows(np.arange(first, end)).tolist(), first + 1):
        *numbers, designation, ra, dec, pmra, pmdec = row
        values = [*map(str, numbers), designation.decode()]
        place = (ra, dec, sky.EPOCH, pmra, pmdec, ang2pix(NSIDE, ra, dec))
        own.append((key, numbers[0], numbers[3], values[-1], *place, 1, False, created))
        names += [(key, kind, value, "floor") for kind, value in zip(sky.COLUMNS, values, strict=True)]
    names.sort(key=lambda name: name[1:3])
    return [_putting("source", (*_SOURCE, *_REST), own), _putting("source_identifier", _NAME, names)]


def _putting(table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Callable[[Any], Any]:
    names = ", ".join(columns)
    if is_sqlite():
        sql = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
        return lambda cursor: cursor.executemany(sql, rows)
    text = io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return lambda cursor: cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN", text)


# ------------------------------------------------------------------------------------------------------------- linking


def _linking(store: Store, extent: Extent, rounds: int) -> Table:
    known_ones = _settled()
    table = Table(f"Linking {extent.products:,} products to {known_ones:,} sources: {store.name}", ("way", *COLUMNS))
    bulk = extent.products
    for method in METHODS:
        linked = partial(_linked, known_ones, method)
        ways: dict[str, Way] = {
            f"plain: a query, an insert, a commit each ({method})": _linked_plainly(known_ones, method, extent),
            f"astra, batches of {ingest.CHUNK:,} ({method})": linked(extent.products, ingest.CHUNK),
            f"astra, in bulk, batches of {bulk:,} ({method})": linked(extent.products, bulk),
        }
        table.rows += compare(interleaved(ways, rounds))
    table.notes = [
        "The step from identifiers and position to links, committed; products were recorded before. Objects at random "
        "over the catalogue; each product also gives a designation and the name made of it: the object's own, or, by "
        "cone, one that nobody has and that astra keeps as the object's. astra found every object by the method named, "
        "without conflict: by cone also those that move half an arcsecond a year. The plain way takes the nearest of "
        "now, by numpy."
    ]
    return table


def _settled() -> int:
    """Let PostgreSQL know how many rows there are, as it would by itself in a minute; return how many sources."""
    if not is_sqlite():
        execute("ANALYZE source")
        execute("ANALYZE source_identifier")
    count: int = run("SELECT count(*) FROM source")[0][0]
    return count


def link(claims: Sequence[Claim], size: int) -> int:
    """Link products, some in each transaction, and return how many have a source."""
    linked = 0
    for start in range(0, len(claims), size):
        with alone(sources.LOCK):
            found = sources.link(claims[start : start + size], SYSTEM.now())
        linked += sum(1 for source in found.values() if source is not None)
    return linked


_seeds = count_from(1)  # every turn has other products, of other objects


def _claims(known_ones: int, method: str, count: int) -> tuple[list[Claim], list[int]]:
    """Record products, and return what they say of objects of the catalogue, and whose sdss_ids those have."""
    seed, now = next(_seeds), SYSTEM.now()
    seen = sky.rows(sky.some(count, known_ones, seed))
    first = run("SELECT coalesce(max(id), 0) + 1 FROM data_product")[0][0]
    keys = range(first, first + count)
    with alone(sources.LOCK):
        if not run("SELECT 1 FROM ingestion LIMIT 1"):
            execute(
                "INSERT INTO ingestion (id, root, path, size, mtime_ns, ctime_ns, inode, outcome, started, duration) "
                "VALUES (1, 'bench', 'a', 1, 1, 1, 1, 'ingested', ?, 0)",
                (instant_text(now),),
            )
        named = [(key, f"{method} {key}") for key in keys]
        known.make([known.Row(key, "dr17", "apVisit", "{}", name, f"/{key}", "{}", 1) for key, name in named], now)
    strange = [f"{key:08d}+{key:07d}" for key in keys]  # of targets that 2MASS does not have
    targets = sky.targets(seen, None, strange) if method == "cone" else sky.targets(seen, method)
    return [Claim(*each) for each in zip(keys, targets, strict=True)], seen["sdss_id"].tolist()


def _linked(known_ones: int, method: str, count: int, size: int) -> Way:
    def turn() -> Turn:
        claims, sdss_ids = _claims(known_ones, method, count)
        made = timed(lambda: link(claims, size))
        assert made.done == count, made
        found = run(
            "SELECT l.data_product_id, l.method, l.conflict, s.sdss_id FROM source_data_product l "
            "JOIN source s ON s.id = l.source_id WHERE l.data_product_id BETWEEN ? AND ? ORDER BY 1",
            (claims[0].data_product, claims[-1].data_product),
        )
        expected = [(c.data_product, method, None, own) for c, own in zip(claims, sdss_ids, strict=True)]
        wrong = [pair for pair in zip(map(tuple, found), expected, strict=True) if pair[0] != pair[1]]
        assert not wrong, wrong[:3]
        return made

    return turn


def _linked_plainly(known_ones: int, method: str, extent: Extent) -> Way:
    work = plain_sources.link_by_place if method == "cone" else plain_sources.link_by_name

    def turn() -> Turn:
        claims, _ = _claims(known_ones, method, min(extent.products, extent.plain_products))
        return timed(lambda: work(claims))

    return turn


# -------------------------------------------------------------------------------------------------------------- growth


def growth(stores: Sequence[Store], folder: Path, sizes: Sequence[int], products: int) -> Iterator[Table]:
    """Measure loading, and linking by name and by place, as a catalogue grows to the last of `sizes`."""
    costs = ("loading: us a row", *(f"linking by {method}: us each" for method in GROWN))
    table = Table("A catalogue, as it grows", ("catalogue", *costs, "MB on disk", "MB before", "MB at the highest"))
    for store in stores:
        first: list[float] = []
        with store.made() as url:
            for before, size in zip((0, *sizes), sizes, strict=False):
                loaded, linked, disk = _grown(url, sky.write(folder / "sky.fits", before, size), products)
                own = [loaded.turn.seconds / loaded.turn.done * 1e6, *linked]
                first = first or own
                shown = [f"{cost:,.1f} ({cost / least:.2f})" for cost, least in zip(own, first, strict=True)]
                memory = ("unknown" if each is None else f"{each:,.0f}" for each in loaded[1:])
                table.rows.append((f"{store.name}, {size:,} rows", *shown, f"{disk / 2**20:,.0f}", *memory))
    table.notes = [
        "In parentheses: times what it is at the first size. A new process loads the rows that a catalogue has more "
        "than the one before it, and the memory is that process's, SQLite's cache of at most 64 MB in it, PostgreSQL's "
        f"server not. Then {products:,} products are linked in batches of {ingest.CHUNK:,}, the median of {TURNS} "
        "turns, every one of other objects and found by the method named, without conflict. What is on the disk is the "
        "whole database after loading."
    ]
    yield table


def _grown(url: str, path: Path, products: int) -> tuple[footprint.Footprint, list[float], int]:
    """Load a file in a process of its own, then link; return that, microseconds for each method, and bytes on disk."""
    loaded = footprint.alone(url, partial(load, path))
    path.unlink()
    with opened_at(url):
        size = "SELECT pg_database_size(current_database())"
        if is_sqlite():
            size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        disk, known_ones = run(size)[0][0], _settled()
        ways = [_linked(known_ones, method, products, ingest.CHUNK) for method in GROWN]
        turns = [[way() for _ in range(TURNS)] for way in ways]
        return loaded, [median(each.seconds / each.done * 1e6 for each in own) for own in turns], disk
