"""The tables of catalogues and sources. `astra.catalogue` and `astra.sources` alone write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peewee import BigAutoField, BigIntegerField, BooleanField, DoubleField, IntegerField, TextField

from astra.database.fields import InstantField
from astra.database.model import AstraModel, Link

if TYPE_CHECKING:
    from astra.database.astradb import DataProduct, ResultModel


class Catalogue(AstraModel):
    """One edition of a catalogue: a table loaded from a file, or a version of the survey's own database.

    `rows` are those loaded, `left_out` those that name no object. `loaded` is when the last row was; `relinked` when
    all that was unconfirmed had been looked for in it.
    """

    id = BigAutoField()
    version = TextField(unique=True)
    origin = TextField()
    sha256 = TextField(null=True)
    rows = BigIntegerField()
    left_out = BigIntegerField()
    created = InstantField()
    loaded = InstantField(null=True)
    relinked = InstantField(null=True)


class Source(AstraModel):
    """One astronomical object. `provisional` until a catalogue confirms what a header's identifier claimed.

    `ra` and `dec` (degrees) are those of `epoch` (Julian year), `pmra` and `pmdec` milliarcseconds a year, cos(dec)
    included, all as the newest edition of a catalogue that lists the object has them.
    """

    id = BigAutoField()
    sdss_id = BigIntegerField(null=True)
    catalogid = BigIntegerField(null=True)
    designation = TextField(null=True)
    ra = DoubleField(null=True)
    dec = DoubleField(null=True)
    epoch = DoubleField(null=True)
    pmra = DoubleField(null=True)
    pmdec = DoubleField(null=True)
    healpix = IntegerField(null=True)
    provisional = BooleanField()
    catalogue = Link(Catalogue, null=True)
    merged_into = Link("self", null=True)
    created = InstantField()

    @property
    def data_products(self) -> list[DataProduct]:
        """All data products linked to this source now, oldest first."""
        from astra.database.astradb import DataProduct, SourceDataProduct

        link = SourceDataProduct
        return list(
            DataProduct.select()
            .join(link, on=(link.data_product == DataProduct.id))
            .where((link.source == self.id) & link.superseded_by.is_null())
            .order_by(DataProduct.id)
        )

    def results(self) -> list[ResultModel]:
        """Return all results of this source, of every component, those of one component in order."""
        from astra import results

        return results.of_source(self)

    @property
    def identifiers(self) -> dict[str, str]:
        """The identifiers this source is known by: kind to value, as text."""
        rows = SourceIdentifier.select().where(SourceIdentifier.source == self.id).order_by(SourceIdentifier.id)
        return {row.kind: row.value for row in rows}


class SourceIdentifier(AstraModel):
    """One name of a source. Kinds `sdss_id` and `apogee` name one source each; the others may be shared by blends.

    `catalogue_version` is the first edition of a catalogue that gave the name, empty where only a header did; of
    several sources with one catalogid, that of the lowest `rank` is meant.
    """

    id = BigAutoField()
    source = Link(Source)
    kind = TextField()
    value = TextField()
    catalogue_version = TextField(default="")
    rank = IntegerField(null=True)
