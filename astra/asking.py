"""Which source does a person mean, what is near a place, what belongs to a source? Reads; writes nothing.

Comes from `Source.get_by`, `Source.near` and a source's attributes, from the commands, and from `selection`. A source
that was merged is asked for what it has become.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import peewee

from astra import around, sky
from astra.database.astradb import DataProduct, Ingestion, Source, SourceDataProduct
from astra.database.connection import run
from astra.errors import AstraError, NotUnderstood
from astra.identifiers import CATALOGIDS, KINDS, NUMBERS, Identifier, valid
from astra.positions import Position, plain_signs, position, radius, read_position
from astra.products.releases import RELEASES, epochs_of

CONE: Final = 3.0  # arcseconds: whoever names a source by its position means one as near as this
ANY_EPOCH: Final = epochs_of("")  # the widest: from 2MASS to Gaia

# Kinds that stand for several of the catalogue's.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"catalogid": CATALOGIDS, "gaia": ("gaia_dr3", "gaia_dr2")}
_FORMS = 'an id, a name such as 2M00034394-0014494, KIND=VALUE (sdss_id=54345), or "RA DEC"'
_NUMBER = "a whole number above 0 and below 2^63"
_CAN_BE: Final[Mapping[str, str]] = {
    "id": "a whole number below 2^63",
    "tmass": "the digits of a designation, as 00034394-0014494",
    "apogee": "a name that has a letter, as 2M00034394-0014494",
}
_TOLD = 10  # of several sources, so many are told in a sentence

_DESIGNATION = re.compile(r"(2MASS\s*J|2M|AP|J)?\s*(\d{8}[+-]\d{7})\Z", re.ASCII | re.IGNORECASE)
_SPELLINGS = ("2M", "AP", "J", "2MASS J")
_GAIA = re.compile(r"gaia\s*e?(dr[23])\s+(\d+)\Z", re.ASCII | re.IGNORECASE)


class SourceNotFound(AstraError, Source.DoesNotExist):  # type: ignore[misc, name-defined]
    """No source is what was asked for. Whoever expects peewee's `Source.DoesNotExist` gets it."""


class Nearby(NamedTuple):
    """A source, and how near to a position it came, in arcseconds."""

    source: Source
    separation: float


class SeveralSources(AstraError):
    """What was asked for may be any of `candidates`; if it was a position, they are as far away as `separations`."""

    def __init__(self, asked: str, candidates: Sequence[Source], separations: Sequence[float] = ()) -> None:
        self.candidates, self.separations = tuple(candidates), tuple(separations)
        told = ", ".join(map(_briefly, candidates[:_TOLD]))
        more = f" and {len(candidates) - _TOLD} more" if len(candidates) > _TOLD else ""
        super().__init__(f"{asked!r} may be any of {len(candidates)} sources: {told}{more}; name one by id=KEY")


def _briefly(row: Source) -> str:
    return f"id={row.id} ({row.designation or 'without a name'})"


class Wanted(NamedTuple):
    """What a text may mean: any of several identifiers, else a source's own key, or a position.

    Where it can mean none of them, `nothing` says so.
    """

    text: str
    key: int | None = None
    names: tuple[Identifier, ...] = ()
    place: Position | None = None

    @property
    def nothing(self) -> str | None:
        """Why no source can be known by this, as a sentence; None where one can."""
        if self.key is not None or self.names or self.place is not None:
            return None
        if not self.text:
            return f"there is nothing to look for: give {_FORMS}"
        kind, given, value = self.text.partition("=")
        if given:
            return f"{value!r} can be no {kind}: give {_CAN_BE.get(kind, _NUMBER)}"
        return f"{self.text!r} can be no name of a source: give {_FORMS}"


def read(text: str) -> Wanted:
    """Return what a text may mean; nothing is looked up.

    Raises
    ------
    NotUnderstood
        If it names a kind of identifier that there is not, or a position that cannot be one.
    """
    asked = text.strip()
    kind, given, value = asked.partition("=")
    if given:
        return _of_kind(kind.strip().lower(), value.strip())
    plain = plain_signs(asked)
    if plain.isascii() and plain.isdecimal():
        return Wanted(asked, _key(plain), _valid((kind, plain) for kind in KINDS if kind in NUMBERS))
    if found := _GAIA.match(plain):
        return Wanted(asked, None, _valid([(f"gaia_{found[1].lower()}", found[2])]))
    if found := _DESIGNATION.match(plain):
        names = [("tmass", found[2]), ("apogee", asked)]
        names += [("apogee", start + found[2]) for start in _SPELLINGS]
        return Wanted(asked, None, _valid(names))
    if place := read_position(plain):
        return Wanted(asked, None, (), place)
    return Wanted(asked, None, _valid([("apogee", asked)]))


def _of_kind(kind: str, value: str) -> Wanted:
    asked = f"{kind}={value}"
    if kind == "id":
        return Wanted(asked, _key(value))
    kinds = ALIASES.get(kind, (kind,))
    if kinds[0] not in KINDS:
        known = ("id", *ALIASES, *KINDS)
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise NotUnderstood(f"{kind} is no kind of identifier; {hint}")
    found = _DESIGNATION.match(plain_signs(value)) if kind == "tmass" else None
    return Wanted(asked, None, _valid((kind, found[2] if found else value) for kind in kinds))


def _key(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 1 << 63 else None


def _valid(names: Iterable[tuple[str, str]]) -> tuple[Identifier, ...]:
    return tuple(dict.fromkeys(Identifier(*name) for name in names if valid(*name)))


# ------------------------------------------------------------------------------------------------------------ by name


def key(text: str) -> int:
    """Return the key of the one source that a text means; raise what `one` does."""
    return int(one(text).id)


def one(text: str) -> Source:
    """Return the one source that a text means.

    Raises
    ------
    SourceNotFound, SeveralSources
        If it means none, or may mean any of several.
    NotUnderstood
        If it names a kind of identifier that there is not, or a position that cannot be one.
    """
    return _one([read(text)])


def get_by(what: str | int | None, identifiers: Mapping[str, str | int]) -> Source:
    """Return the one source for which everything that is given holds; see `Source.get_by`."""
    given = [read(_text("the name", what))] if what is not None else []
    given += [_of_kind(kind, _text(kind, value)) for kind, value in identifiers.items()]
    if not given:
        raise TypeError(f"Source.get_by needs {_FORMS}, or a keyword such as sdss_id=54345")
    return _one(given)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    try:
        if isinstance(value, bool):
            raise TypeError
        return str(operator.index(value))
    except TypeError:
        raise NotUnderstood(
            f"{name} cannot be {value!r}: give text or a whole number, whose digits are all kept"
        ) from None


def _one(given: Sequence[Wanted]) -> Source:
    asked = ", ".join(each.text for each in given)
    for each in given:
        if each.nothing is not None:
            raise SourceNotFound(each.nothing)
    if len(given) == 1 and (place := given[0].place) is not None:
        return _at(asked, place)
    meant = [_keys(each) for each in given]
    if unknown := [each.text for each, keys in zip(given, meant, strict=True) if not keys]:
        of_all = f", of {asked}" if len(given) > 1 else ""
        raise SourceNotFound(f"no source is known by {', '.join(unknown)!r}{of_all}: give {_FORMS}")
    every = {int(row.id): row for row in Source.select().where(Source.id.in_(sorted(set().union(*meant))))}
    found = [every[key] for key in sorted(set.intersection(*map(set, meant)))]
    if not found:
        told = "; ".join(
            f"{each.text} is {' or '.join(_briefly(every[key]) for key in keys[:_TOLD])}"
            for each, keys in zip(given, meant, strict=True)
        )
        raise SourceNotFound(f"{asked} do not hold together: {told}")
    if len(found) > 1:
        raise SeveralSources(asked, found)
    return found[0]


def _at(asked: str, place: Position) -> Source:
    found = near(*place, CONE)
    if not found:
        raise SourceNotFound(f"no source is within {CONE:.0f} arcseconds of {asked}; `astra source near` looks farther")
    if len(found) > 1:
        raise SeveralSources(asked, *zip(*found, strict=True))
    return found[0].source


def _keys(wanted: Wanted) -> list[int]:
    """Return the keys of the sources that a text means, each what it has become: a bare number is first a name."""
    if wanted.place is not None:
        return [int(each.source.id) for each in near(*wanted.place, CONE)]
    standing = now(_named(wanted.names)) or now([wanted.key] if wanted.key is not None else [])
    return sorted(set(standing.values()))


def _named(names: Sequence[Identifier]) -> list[int]:
    """Return the keys of the sources that have one of these names; of one catalogid, those of the lowest rank."""
    if not names:
        return []
    any_of = " OR ".join("(kind = ? AND value = ?)" for _ in names)
    parameters = [part for name in names for part in name]
    rows = run(f"SELECT kind, rank, source_id FROM source_identifier WHERE {any_of}", parameters)
    best: dict[str, int] = {}
    for kind, rank, _ in rows:
        if kind in CATALOGIDS and rank is not None:
            best[kind] = min(rank, best.get(kind, rank))
    return list({key: None for kind, rank, key in rows if kind not in best or rank == best[kind]})


def now(given: Sequence[int]) -> dict[int, int]:
    """Return what sources have become, by key, in one query: themselves, unless they were merged, however often."""
    if not given:
        return {}
    marks = ", ".join("?" * len(given))
    rows = run(
        "WITH RECURSIVE chain (first, id, into_id) AS ("
        f"SELECT id, id, merged_into_id FROM source WHERE id IN ({marks}) UNION "
        "SELECT c.first, s.id, s.merged_into_id FROM chain c JOIN source s ON s.id = c.into_id) "
        "SELECT first, id FROM chain WHERE into_id IS NULL",
        given,
    )
    return {int(first): int(last) for first, last in rows}


def family(key: int) -> list[int]:
    """Return what a source has become, first, then the keys of all sources that were merged into that."""
    last = now([key]).get(key, key)
    rows = run(
        "WITH RECURSIVE merged (id) AS (SELECT id FROM source WHERE merged_into_id = ? UNION "
        "SELECT s.id FROM merged m JOIN source s ON s.merged_into_id = m.id) SELECT id FROM merged ORDER BY id",
        (last,),
    )
    return [last, *(int(row[0]) for row in rows)]


# ------------------------------------------------------------------------------------------------------------ by place


def near(ra: float, dec: float, within: float, epochs: sky.Epochs = ANY_EPOCH) -> list[Nearby]:
    """Return the sources that came within a radius of a position, nearest first, in two queries.

    Parameters
    ----------
    ra, dec, within
        The position in degrees, and the radius in arcseconds, at most a degree.
    epochs
        When: a source with a known motion counts, and is as far away, as where it was nearest in this time.
    """
    ra, dec = position(ra, dec)
    within = radius(within)
    strips = around.slow(ra, dec, within, epochs)
    in_strip = Source.healpix.in_(strips.pixels) & Source.dec.between(strips.low, strips.high)
    is_fast = Source.healpix.in_(around.fast(ra, dec, within, epochs)) & peewee.SQL(around.FAST)
    found = {row.id: row for condition in (in_strip, is_fast) for row in _standing(condition)}
    at = [Nearby(row, sky.closest(ra, dec, epochs, _star(row))) for row in found.values()]
    return sorted((each for each in at if each.separation <= within), key=lambda at: (at.separation, at.source.id))


def _star(row: Source) -> sky.Star:
    return sky.Star(cast(float, row.ra), cast(float, row.dec), row.epoch, row.pmra, row.pmdec)


def _standing(condition: Any) -> Iterable[Source]:
    standing = Source.merged_into.is_null() & Source.ra.is_null(False)
    rows: Iterable[Source] = Source.select().where(condition & standing)
    return rows


# ----------------------------------------------------------------------------------------------- what belongs together


def identifiers(source: Source) -> tuple[Identifier, ...]:
    """Return all identifiers of a source, in the order of `KINDS`, then by rank, those without one last, and value."""
    return tuple(Identifier(each["kind"], each["value"]) for each in names(now([source.id]).get(source.id, source.id)))


def names(key: int) -> list[dict[str, Any]]:
    """Return the identifiers of a source with the edition and the rank of each, in the order of `identifiers`."""
    columns = ("kind", "value", "catalogue_version", "rank")
    rows = run(f"SELECT {', '.join(columns)} FROM source_identifier WHERE source_id = ?", (key,))
    rows.sort(key=lambda row: (KINDS.index(row[0]), row[3] is None, row[3] or 0, row[1]))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def data_products(source: Source, limit: int | None = None) -> list[DataProduct]:
    """Return the data products that are linked to a source now, oldest first, at most so many."""
    link, key = SourceDataProduct, int(source.id)
    query = DataProduct.select().join(link, on=(link.data_product == DataProduct.id))
    linked = (link.source == now([key]).get(key, key)) & link.superseded_by.is_null()
    return list(query.where(linked).order_by(DataProduct.id).limit(limit))


def of_type(products: Iterable[DataProduct], filetype: str, order: Callable[[DataProduct], Any]) -> list[DataProduct]:
    """Return the data products of one type, in an order."""
    return sorted((each for each in products if each.filetype == filetype), key=order)


def by_date(visit: DataProduct) -> tuple[Any, ...]:
    """Order visits by date of observation: the night, then the middle of the exposure where the header has it."""
    facts = visit.metadata
    return _number(facts.get("mjd")), _number(facts.get("jd")), by_release(visit)


def by_release(product: DataProduct) -> tuple[Any, ...]:
    """Order data products by release, as they came out; those of none that is known come last."""
    facts = product.metadata
    place = _RELEASES.index(product.release) if product.release in _RELEASES else len(_RELEASES)
    return place, product.release, facts.get("telescope") or "", _number(facts.get("mjd")), product.id


_RELEASES = tuple(RELEASES)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")


def versions(product: DataProduct) -> list[Ingestion]:
    """Return what became of each file version of a data product, newest first."""
    return list(Ingestion.select().where(Ingestion.data_product == product.id).order_by(Ingestion.id.desc()))
