"""The tables of catalogues, of sources, and of those to be gathered.

`astra.catalogue` and `astra.sources` alone write the former, `astra.gathering` the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peewee import BigAutoField, BigIntegerField, BooleanField, CompositeKey, DoubleField, IntegerField, TextField

from astra.database.fields import InstantField, JsonField
from astra.database.model import AstraModel, Link

if TYPE_CHECKING:
    from astra.asking import Nearby
    from astra.database.astradb import DataProduct, ResultModel


class Catalogue(AstraModel):
    """One edition of a catalogue: a table loaded from a file, or a version of the survey's own database.

    `reading` says how a file was read: what its columns were taken for, and what in it could not be used. `rows` are
    those loaded so far, `left_out` those that name no object. `loaded` is when the last row was; `relinked` when
    all that was unconfirmed had been looked for in it.
    """

    id = BigAutoField()
    version = TextField(unique=True)
    origin = TextField()
    sha256 = TextField(null=True)
    reading = JsonField(default=dict)
    rows = BigIntegerField()
    left_out = BigIntegerField()
    created = InstantField()
    loaded = InstantField(null=True)
    relinked = InstantField(null=True)


class Source(AstraModel):
    """One astronomical object. `provisional` until a catalogue confirms what a header's identifier claimed.

    `ra` and `dec` (degrees) are those of `epoch` (Julian year), `pmra` and `pmdec` milliarcseconds a year, cos(dec)
    included, all as the newest edition of a catalogue that lists the object has them. The columns of a source that was
    merged are its own; all else it is asked for answers for what it has become.
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

    @classmethod
    def get_by(cls, what: str | int | None = None, /, **identifiers: str | int) -> Source:
        """Return the one source that is known by what is given; several keywords must all be true of it.

        Parameters
        ----------
        what
            Any identifier of a source, a name in any spelling (``2M00034394-0014494``), ``KIND=VALUE``, or a position
            that it is within 3 arcseconds of (``"00:03:43.94 -00:14:49.4"``, ``"0.9331 -0.2471"``). A number is the
            source's own id only where it is nobody's identifier; ``id=KEY`` always is.
        identifiers
            ``sdss_id``, ``catalogid`` (of any cross-match), ``gaia_dr3``, ``gaia_dr2``, ``tmass``, ``apogee``, ``id``,
            and the others of `astra.identifiers.KINDS`.

        Raises
        ------
        Source.DoesNotExist
            If there is no such source, or not all that is given is true of one; it is an `AstraError` too.
        astra.asking.SeveralSources
            If it may be any of several, its `candidates`.
        astra.errors.NotUnderstood
            If there is no such kind of identifier, or no such position on the sky.
        """
        from astra import asking

        return asking.get_by(what, identifiers)

    @classmethod
    def near(cls, ra: float, dec: float, radius: float) -> list[Nearby]:
        """Return the sources near a position with their `separation`, nearest first.

        `ra` and `dec` are in degrees, `radius` and `separation` in arcseconds; the radius is a degree at most. A
        source with a known motion is as far away as where it was nearest between 1997 and 2016.
        """
        from astra import asking

        return asking.near(ra, dec, radius)

    @property
    def data_products(self) -> list[DataProduct]:
        """All data products linked to this source now, oldest first; if it was merged, to what it has become."""
        from astra import asking

        return asking.data_products(self)

    @property
    def visits(self) -> list[DataProduct]:
        """Its single visits (apVisit), by date of observation."""
        from astra import asking

        return asking.of_type(asking.data_products(self), "apVisit", asking.by_date)

    @property
    def stars(self) -> list[DataProduct]:
        """Its combined spectra (apStar), by release."""
        from astra import asking

        return asking.of_type(asking.data_products(self), "apStar", asking.by_release)

    def results(self) -> list[ResultModel]:
        """Return all results of this source, of every component, those of one component in order."""
        from astra import results

        return results.of_source(self)

    @property
    def identifiers(self) -> tuple[tuple[str, str], ...]:
        """The identifiers this source is known by, the surest kind first: (kind, value), as text.

        It may have several of one kind, as the catalogids of one cross-match. If it was merged, they are those of what
        it has become.
        """
        from astra import asking

        return asking.identifiers(self)


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


class Gathering(AstraModel):
    """A source to be gathered by a rule once more: since when, when that is due, and when at the latest.

    `replay` made it, and not new work; `again` is the replay that wants it gathered though the same set was already.
    `source` is the key that it had then, and no reference: it may have been merged since.
    """

    rule = TextField()
    source = BigIntegerField(column_name="source_id")
    since = InstantField()
    due = InstantField()
    latest = InstantField()
    replay = BigIntegerField(column_name="replay_id", null=True)
    again = BigIntegerField(column_name="again_id", null=True)

    class Meta:
        primary_key = CompositeKey("rule", "source")


class GatherPosition(AstraModel):
    """Up to which link between data products and sources a rule has marked what changed."""

    rule = TextField(primary_key=True)
    link = BigIntegerField()
