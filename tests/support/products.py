"""Take a file through identification, header and completeness, as ingest does, in one call."""

from __future__ import annotations

from pathlib import Path

from astra import headers, products
from astra.products.base import Description
from tests.support import fits
from tests.support.fits import CardValue


def describe(path: Path, release: str | None = None) -> Description:
    found = products.identify(str(path))
    assert found is not None, f"no product type knows {path}"
    product, recognised = found
    header = headers.read(path, product.wanted)
    description = product.describe(recognised, header, release)
    product.check_whole(description, header)
    return description


def visit(folder: Path, name: str | None = None, release: str | None = None, **cards: CardValue) -> Description:
    return describe(fits.write(folder / (name or fits.visit_name()), fits.apvisit(12, **cards)), release)


def star(
    folder: Path, name: str | None = None, release: str | None = None, hdus: int = 10, **cards: CardValue
) -> Description:
    return describe(fits.write(folder / (name or fits.star_name()), fits.apstar(hdus, **cards)), release)
