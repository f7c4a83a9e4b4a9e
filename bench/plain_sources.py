"""A catalogue loaded, and products linked to it, in the plain way: a query for each, and a commit for each.

What it leaves out: other editions, numbers that speak against each other, where a star was when a file was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import peewee

from astra.clock import SYSTEM
from astra.database.astradb import Source, SourceDataProduct, SourceIdentifier
from astra.healpix import NSIDE, disc
from astra.sources import RADIUS, Claim
from bench.plain import PlainModel, tables
from bench.sky import COLUMNS


class PlainStar(PlainModel):
    """One object of a catalogue."""

    sdss_id = peewee.BigIntegerField(unique=True)
    ra = peewee.FloatField()
    dec = peewee.FloatField()
    pmra = peewee.FloatField()
    pmdec = peewee.FloatField()


class PlainName(PlainModel):
    """One name of an object."""

    star = peewee.ForeignKeyField(PlainStar)
    kind = peewee.TextField()
    value = peewee.TextField()

    class Meta:
        indexes = ((("kind", "value"), False),)


MODELS = (PlainStar, PlainName)


def load(table: Any, most: int) -> int:
    """Load the first rows of an astropy table, a transaction for each, and return how many."""
    create: Any = PlainName.create
    for row in table[:most]:
        with tables.atomic():
            star = _star(row)
            for kind, column in COLUMNS.items():
                create(star=star, kind=kind, value=str(row[column]))
    return min(most, len(table))


def _star(row: Any) -> Any:
    get_or_create: Any = PlainStar.get_or_create
    place = {"ra": row["ra_sdss_id"], "dec": row["dec_sdss_id"], "pmra": row["pmra"], "pmdec": row["pmdec"]}
    return get_or_create(sdss_id=int(row["sdss_id"]), defaults={key: float(value) for key, value in place.items()})[0]


def link_by_name(claims: Sequence[Claim]) -> int:
    """Link each product to the source of its first identifier, and return how many there are."""
    create: Any = SourceDataProduct.create
    for claim in claims:
        kind, value = claim.target.identifiers[0]
        found = SourceIdentifier.get((SourceIdentifier.kind == kind) & (SourceIdentifier.value == value))
        create(source=found.__data__["source"], data_product=claim.data_product, method=kind, created=SYSTEM.now())
    return len(claims)


def link_by_place(claims: Sequence[Claim]) -> int:
    """Link each product to the nearest source around it, or to none, and return how many there are."""
    create: Any = SourceDataProduct.create
    for claim in claims:
        ra, dec = claim.target.ra or 0.0, claim.target.dec or 0.0
        create(source=_nearest(ra, dec), data_product=claim.data_product, method="cone", created=SYSTEM.now())
    return len(claims)


def _nearest(ra: float, dec: float) -> int | None:
    wide = RADIUS / 3600
    pixels = Source.healpix.in_(disc(NSIDE, ra, dec, wide))
    near = list(
        Source.select(Source.id, Source.ra, Source.dec)
        .where(pixels & Source.dec.between(dec - wide, dec + wide))
        .tuples()
    )
    if not near:
        return None
    keys, *place = np.array(near).T
    own, north = np.radians(dec), np.radians(place[1])
    east = np.radians(place[0] - ra)
    half = np.sin((north - own) / 2) ** 2 + np.cos(own) * np.cos(north) * np.sin(east / 2) ** 2
    away = 2 * np.degrees(np.arcsin(np.sqrt(half)))
    return int(keys[away.argmin()]) if away.min() <= wide else None
