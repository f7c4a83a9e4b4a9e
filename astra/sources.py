"""From the identifiers in a header to a source, and the links between data products and sources.

A header's identifiers are claims, so the source they make is *provisional* until a catalogue confirms it. Identifiers
are tried in a fixed order, the survey's own first; by the object's name at the latest, all visits and stars of one
object come to share one source, whatever the release. Sentinels and bare coordinates never make a source.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from astra.database.connection import execute, execute_many, run
from astra.database.fields import instant_text
from astra.database.staging import among, load, reserve_ids, stage
from astra.healpix import NSIDE, ang2pix

CHAIN = ("sdss_id", "catalogid31", "catalogid25", "catalogid21", "gaia_dr3", "gaia_dr2", "apogee", "tmass")
UNIQUE = frozenset({"sdss_id", "apogee"})  # the kinds that name one source each, by the table's own unique index

_NUMBERS = frozenset(CHAIN[:6])
_NAMELESS = frozenset({"", "-", "2m", "2mnone", "none", "nan", "null", "ap", "j", "unknown"})
_TMASS = re.compile(r"\d{8}[+-]\d{7}\Z")
_NUMBER = re.compile(r"[1-9]\d{0,18}\Z")


class Claim(NamedTuple):
    """What the current file version of a data product says about its source, and the link that stands until now."""

    data_product: int
    identifiers: tuple[tuple[str, str], ...]
    ra: float | None
    dec: float | None
    link: int | None
    source: int | None


@dataclass(slots=True)
class _Known:
    """A source as it is, or as it is about to be made."""

    id: int
    provisional: bool
    new: bool = False
    names: set[tuple[str, str]] = field(default_factory=set)
    added: list[tuple[str, str]] = field(default_factory=list)
    claim: Claim | None = None


class _Match(NamedTuple):
    source: _Known | None
    candidates: int | None
    reason: str | None


@lru_cache(maxsize=4096)  # asked several times of each name, and a star's visits share it
def valid(kind: str, value: str) -> bool:
    """Return whether an identifier can name a source: a number above 0 that fits 64 bits, or the name of an object.

    Sentinels (``-``, ``2M``, ``2MNone``, ``nan``, 0, -1, -999) and coordinates without a name never do.
    """
    if kind in _NUMBERS:
        return _NUMBER.match(value) is not None and int(value) < 1 << 63
    if kind == "tmass":
        return _TMASS.match(value) is not None
    if kind == "apogee":
        named = value.lower() not in _NAMELESS and any(letter.isalpha() for letter in value)
        return named and value.isprintable() and value.strip() == value
    return False


def link(claims: Sequence[Claim], now: datetime) -> dict[int, int | None]:
    """Find or make the source of each data product and link them, in the caller's transaction.

    A link that names the same source as before stands; another source is a new row, and the old one says what
    superseded it. Without a valid identifier the link has no source, and says why.

    Returns
    -------
    dict
        The source of each data product by key, None where there is none.
    """
    if not claims:
        return {}
    matcher = _Matcher(claims)
    matches = [matcher.match(claim) for claim in claims]
    matcher.write(now)
    _write_links([(c, m) for c, m in zip(claims, matches, strict=True) if _is_news(c, m)], now)
    return {c.data_product: m.source.id if m.source else None for c, m in zip(claims, matches, strict=True)}


def _is_news(claim: Claim, match: _Match) -> bool:
    return claim.link is None or claim.source != (match.source.id if match.source else None)


def _write_links(links: Sequence[tuple[Claim, _Match]], now: datetime) -> None:
    if not links:
        return
    ids, created = reserve_ids("source_data_product", len(links)), instant_text(now)
    columns = "id, source_id, method, data_product_id, catalogue_version, candidates, reason, superseded_by_id, created"
    # One link of a data product is current, and a link can only name a row that exists: so a new one is written as if
    # the old one superseded it, and then the two change places.
    rows = [
        (key, *_linked(m), c.data_product, "", m.candidates, m.reason, c.link, created)
        for key, (c, m) in zip(ids, links, strict=True)
    ]
    load("source_data_product", columns.split(", "), rows)
    replaced = [(key, c.link) for key, (c, _) in zip(ids, links, strict=True) if c.link is not None]
    if replaced:
        execute_many(
            "UPDATE source_data_product SET superseded_by_id = ? WHERE id = ? AND superseded_by_id IS NULL", replaced
        )
        execute_many(
            "UPDATE source_data_product SET superseded_by_id = NULL WHERE id = ?", [row[:1] for row in replaced]
        )


def _linked(match: _Match) -> tuple[int | None, str]:
    return (match.source.id, "header") if match.source else (None, "none")


class _Matcher:
    """Matches claims one after another, so that the first of an object makes the source that the others find."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.named: defaultdict[tuple[str, str], list[_Known]] = defaultdict(list)
        self.sources: dict[int, _Known] = {}
        self.unclaimed: list[int] = []
        self.possible = len(claims)
        self.matched: dict[tuple[tuple[str, str], ...], _Match] = {}
        self._read({name for said in {claim.identifiers for claim in claims} for name in said if valid(*name)})

    def _read(self, names: Iterable[tuple[str, str]]) -> None:
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for kind, value in names:
            kinds[kind].append(value)
        rows: list[tuple[str, str, int]] = []
        for kind, values in kinds.items():  # eight kinds at most, so as many statements
            condition, parameter = among("value", values)
            query = f"SELECT kind, value, source_id FROM source_identifier WHERE kind = ? AND {condition}"
            rows += run(query, (kind, parameter))
        if rows:
            standing = self._standing({row[2] for row in rows})
            for kind, value, key in sorted(rows, key=lambda row: row[2]):
                known = standing[key]
                if known not in self.named[kind, value]:
                    self.named[kind, value].append(known)

    def _standing(self, keys: set[int]) -> dict[int, _Known]:
        """Return the source that each key stands for: itself, or the one it was merged into, however often."""
        merged: dict[int, int] = {}
        ahead = keys
        while ahead:
            stage("standing", {"id": "BIGINT"}, [(key,) for key in ahead])
            rows = run("SELECT s.id, s.provisional, s.merged_into_id FROM standing k JOIN source s ON s.id = k.id")
            for key, provisional, into in rows:
                self.sources[key] = _Known(key, bool(provisional))
                if into is not None:
                    merged[key] = into
            ahead = {into for into in merged.values() if into not in self.sources}
        self._read_names([each.id for each in self.sources.values() if each.provisional])
        standing = {}
        for key in keys:
            last = key
            while last in merged:
                last = merged[last]
            standing[key] = self.sources[last]
        return standing

    def _read_names(self, keys: Sequence[int]) -> None:
        if keys:
            stage("standing", {"id": "BIGINT"}, [(key,) for key in keys])
            query = "SELECT n.source_id, n.kind, n.value FROM standing k JOIN source_identifier n ON n.source_id = k.id"
            for key, kind, value in run(query):
                self.sources[key].names.add((kind, value))

    def match(self, claim: Claim) -> _Match:
        """Return the source that the best identifier names; make one, or complete it, as far as it is provisional."""
        found = self.matched.get(claim.identifiers)
        if found is None:
            found = self.matched[claim.identifiers] = self._match(claim)
        return found

    def _match(self, claim: Claim) -> _Match:
        names = sorted({name for name in claim.identifiers if valid(*name)}, key=lambda name: CHAIN.index(name[0]))
        if not names:
            shown = ", ".join(f"{kind} {value!r}" for kind, value in claim.identifiers)
            return _Match(None, None, f"no identifier in the header names an object{': ' + shown if shown else ''}")
        reasons: list[str] = []
        for name in names:
            for at, known in enumerate(found := self.named.get(name, [])):
                if contradiction := _contradiction(known, names):
                    reasons.append(f"{name[0]} {name[1]} is a name of source {known.id}, which has {contradiction}")
                    continue
                if len(found) > 1:
                    reasons.append(f"{name[0]} {name[1]} is a name of {len(found)} sources, this is number {at + 1}")
                return self._found(known, names, len(found), reasons)
        made = self._make(claim)
        self._complete(made, names)
        return _Match(made, 0, "; ".join(reasons) or None)

    def _found(self, known: _Known, names: Sequence[tuple[str, str]], candidates: int, reasons: list[str]) -> _Match:
        others = sorted({other.id for name in names for other in self.named.get(name, []) if other is not known})
        if others and not reasons:
            reasons.append(f"other identifiers in the header name source {', '.join(map(str, others))}")
        if known.provisional:
            self._complete(known, names)
        return _Match(known, candidates, "; ".join(reasons) or None)

    def _make(self, claim: Claim) -> _Known:
        if not self.unclaimed:
            self.unclaimed = reserve_ids("source", self.possible)[::-1]
        known = _Known(self.unclaimed.pop(), provisional=True, new=True, claim=claim)
        self.sources[known.id] = known
        return known

    def _complete(self, known: _Known, names: Sequence[tuple[str, str]]) -> None:
        """Give a provisional source the identifiers it lacks, but for those that are another source's own."""
        for name in names:
            taken = name[0] in UNIQUE and self.named.get(name)
            if name not in known.names and not taken:
                known.names.add(name)
                known.added.append(name)
                self.named[name].append(known)

    def write(self, now: datetime) -> None:
        """Write the sources that were made, and the identifiers that were added."""
        changed = [known for known in self.sources.values() if known.added]
        new, created = [known for known in changed if known.new], instant_text(now)
        if new:
            columns = ("id", "sdss_id", "catalogid", "designation", "ra", '"dec"', "healpix", "provisional", "created")
            load("source", columns, [(known.id, *_fields(known), True, created) for known in new])
        if changed:
            rows = [(known.id, kind, value, "") for known in changed for kind, value in known.added]
            load("source_identifier", ("source_id", "kind", "value", "catalogue_version"), rows)
        if old := [known for known in changed if not known.new]:
            stage(
                "completed",
                {"id": "BIGINT", "sdss_id": "BIGINT", "catalogid": "BIGINT", "designation": "TEXT"},
                [(known.id, *_preferred(known)) for known in old],
            )
            execute(
                "UPDATE source SET sdss_id = c.sdss_id, catalogid = c.catalogid, designation = c.designation "
                "FROM completed c WHERE c.id = source.id AND source.provisional"
            )


def _contradiction(known: _Known, names: Sequence[tuple[str, str]]) -> str | None:
    """Return the survey's number of a source where a header gives another: then they are two objects of one name."""
    claimed = {value for kind, value in names if kind == "sdss_id"}
    own = {value for kind, value in known.names if kind == "sdss_id"}
    return f"sdss_id {min(own)}" if claimed and own and not claimed & own else None


def _preferred(known: _Known) -> tuple[int | None, int | None, str | None]:
    best: dict[str, str] = {}
    for kind, value in sorted(known.names):
        best.setdefault(kind, value)
    catalogid = next((best[kind] for kind in ("catalogid31", "catalogid25", "catalogid21") if kind in best), None)
    sdss_id = best.get("sdss_id")
    numbers = (int(sdss_id) if sdss_id else None, int(catalogid) if catalogid else None)
    return (*numbers, best.get("tmass") or best.get("apogee"))


def _fields(known: _Known) -> tuple[object, ...]:
    claim = known.claim
    if claim is None or claim.ra is None or claim.dec is None or not (0 <= claim.ra <= 360 and abs(claim.dec) <= 90):
        return (*_preferred(known), None, None, None)
    return (*_preferred(known), claim.ra, claim.dec, ang2pix(NSIDE, claim.ra, claim.dec))
