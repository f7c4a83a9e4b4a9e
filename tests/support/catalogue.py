"""Data products without files, what their headers say, and catalogues of a few rows: to see how they are linked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from astra import known, sources
from astra.catalogue.adopting import Adopted, Edition, adopt
from astra.catalogue.rows import CatalogueName, CatalogueRow
from astra.database.astradb import Catalogue, SourceDataProduct
from astra.database.connection import alone, execute
from astra.identifiers import Identifier
from astra.known import Row
from astra.products.base import Target
from astra.sky import Epochs, Star
from astra.sources import Claim

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TMASS_EPOCHS = Epochs(1997.4, 2001.2)


def make_products(count: int) -> list[int]:
    """Record so many data products, and return their keys."""
    with alone(sources.LOCK):
        execute(
            "INSERT INTO ingestion (id, root, path, size, mtime_ns, ctime_ns, inode, outcome, started, duration) "
            "VALUES (1, 'r', 'p', 1, 1, 1, 1, 'ingested', '2026-01-01 00:00:00.000000+00:00', 0)"
        )
        keys = list(range(1, count + 1))
        known.make([Row(key, "dr17", "apVisit", "{}", f"product {key}", f"/{key}", "{}", 1) for key in keys], NOW)
    return keys


def target(
    *identifiers: tuple[str, str],
    ra: float | None = 10.5,
    dec: float | None = 56.25,
    epochs: Epochs = TMASS_EPOCHS,
    doubt: str | None = None,
) -> Target:
    """Return what a header says of its object."""
    return Target(tuple(Identifier(*each) for each in identifiers), ra, dec, epochs, doubt)


def claim(product: int, what: Target) -> Claim:
    """Return what a data product says, beside the link that stands."""
    current = current_link(product)
    linked = (current.id, current.__data__["source"], current.method, current.conflict) if current else ()
    return Claim(product, what, *linked)


def link(*claims: Claim) -> dict[int, int | None]:
    """Link data products in one batch."""
    with alone(sources.LOCK):
        return sources.link(claims, NOW)


def link_one(product: int, what: Target) -> SourceDataProduct:
    """Link one data product, and return its link."""
    link(claim(product, what))
    found = current_link(product)
    assert found is not None
    return found


def current_link(product: int) -> SourceDataProduct | None:
    """Return the link of a data product that stands."""
    own = SourceDataProduct.data_product == product
    found: SourceDataProduct | None = SourceDataProduct.get_or_none(own & SourceDataProduct.superseded_by.is_null())
    return found


def row(*names: tuple[str, str] | tuple[str, str, int | None], star: Star | None = None) -> CatalogueRow:
    """Return a row of a catalogue."""
    return CatalogueRow(tuple(CatalogueName(*each) for each in names), star)


def edition(version: str = "test 1") -> Edition:
    """Return an edition of a catalogue, recorded."""
    found = Catalogue.get_or_none(Catalogue.version == version)
    made = found or Catalogue.create(version=version, origin="test", sha256=version, rows=0, left_out=0, created=NOW)
    return Edition(made.id, version)


def adopt_rows(rows: Sequence[CatalogueRow], version: str = "test 1") -> Adopted:
    """Take rows in as those of one edition."""
    own = edition(version)
    with alone(sources.LOCK):
        return adopt(rows, own, NOW)
