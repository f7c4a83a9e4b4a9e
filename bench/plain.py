"""The plain way, as it is written in an afternoon: walk, ask astropy for the header, get or create each row.

It checks nothing: not that the file is whole, not that it is new, not that it says what its name says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
from astropy.io import fits

# What every visit or star has, and what the tables below keep.
WANTED = (
    "OBJID", "RA", "DEC", "LOCID", "FIELD", "PLATE", "MJD5", "FIBERID", "SNR", "NVISITS", "STARFLAG", "VHELIO",
    "J", "H", "K",
)  # fmt: skip

tables = peewee.DatabaseProxy()


class PlainModel(peewee.Model):
    """Base of the plain way's own tables."""

    class Meta:
        database = tables


class PlainSource(PlainModel):
    """One object."""

    designation = peewee.TextField(unique=True)
    ra = peewee.FloatField()
    dec = peewee.FloatField()


class PlainProduct(PlainModel):
    """One file."""

    release = peewee.TextField()
    filetype = peewee.TextField()
    kwargs = peewee.TextField()
    path = peewee.TextField()
    metadata = peewee.TextField()

    class Meta:
        indexes = ((("release", "filetype", "kwargs"), True),)


class PlainLink(PlainModel):
    """Which object a file is of."""

    source = peewee.ForeignKeyField(PlainSource)
    data_product = peewee.ForeignKeyField(PlainProduct)

    class Meta:
        indexes = ((("source", "data_product"), True),)


MODELS = (PlainSource, PlainProduct, PlainLink)


def find(folder: Path) -> Iterator[str]:
    """Yield the files below a folder."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".fits"):
                yield os.path.join(parent, name)


def values_by_getheader(path: str | Path) -> dict[str, Any]:
    """Return the wanted cards by `astropy.io.fits.getheader`."""
    header = fits.getheader(path)
    return {key: header[key] for key in WANTED if key in header}


def values_by_open(path: str | Path) -> dict[str, Any]:
    """Return the wanted cards by `astropy.io.fits.open`."""
    with fits.open(path) as hdus:
        header = hdus[0].header
        return {key: header[key] for key in WANTED if key in header}


def count_by_open(path: str | Path) -> int:
    """Return how many HDUs astropy finds; of a file that was cut it finds those that are left."""
    with fits.open(path) as hdus:
        return len(hdus)


def take_in(folder: Path, most: int) -> int:
    """Take in the first files of a tree, a transaction for each row, and return how many."""
    count = 0
    for path in find(folder):
        if count == most:
            break
        values = values_by_getheader(path)
        filetype, apred, *fields = os.path.basename(path).removesuffix(".fits").split("-")
        source, _ = _get_or_create(
            PlainSource, designation=values["OBJID"], defaults={"ra": values["RA"], "dec": values["DEC"]}
        )
        product, _ = _get_or_create(
            PlainProduct,
            release=apred,
            filetype=filetype,
            kwargs=json.dumps(fields),
            defaults={"path": path, "metadata": json.dumps(values)},
        )
        _get_or_create(PlainLink, source=source, data_product=product)
        count += 1
    return count


def _get_or_create(model: Any, **values: Any) -> Any:
    return model.get_or_create(**values)
