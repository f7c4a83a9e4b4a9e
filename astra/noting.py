"""Files that somebody uses by hand: which data product is it, and which version of its file was it then?

Comes from notebooks and scripts; goes to a task's inputs. What is noted here does not count as taken in: a sweep that
finds the same file later ingests it, and calls the rules, as if nobody had looked at it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from stat import S_ISREG
from typing import NamedTuple

from astra import known, ledger, sources
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone
from astra.database.fields import canonical_json
from astra.database.staging import key_source
from astra.errors import UnreadableFile
from astra.ingest import OUTSIDE, examine
from astra.ledger import Entry
from astra.signature import Signature
from astra.standing import Examined, Product
from astra.states import IngestionOutcome
from astra.work import Input

CHUNK = 10_000
FULL = "full"  # the file type of a plain file, known by its path alone


class Noted(NamedTuple):
    """A file given by path: the data product it is, and the file version it has now."""

    path: str
    data_product: int
    ingestion: int
    identity: str
    signature: str

    def as_input(self) -> Input:
        """Return it as a task's input."""
        return Input(self.data_product, self.ingestion, self.identity, self.signature)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it is now; `examined` where it is a whole file of a known product type."""

    place: str
    started: datetime
    signature: Signature
    examined: Examined | None
    sha256: str | None = None

    @property
    def header_sha256(self) -> str | None:
        return self.examined.header_sha256 if self.examined else None

    @property
    def full(self) -> str:
        """The identity as a plain file."""
        return f"{FULL}:{self.place}"


def note(paths: Iterable[str | os.PathLike[str]], clock: Clock = SYSTEM) -> list[Noted]:
    """Return the data products that files given by path are, and record those that are new.

    A whole file of a known product type is that data product, linked to its source; but where astra knows another
    file, with other content, as that data product, or where no product type takes it, it is a plain file: product type
    ``full``, known by its path. What the daemon holds for current stays current.

    Raises
    ------
    UnreadableFile
        If there is no such file, or it cannot be read.
    """
    return _note(paths, _look, clock)


def note_made(paths: Iterable[str | os.PathLike[str]], clock: Clock = SYSTEM) -> list[Noted]:
    """Return the data products that files made by a component are: plain ones, whatever their names, with checksum."""
    return _note(paths, _look_at_made, clock)


def _note(paths: Iterable[str | os.PathLike[str]], look: Callable[[str, Clock], _Seen], clock: Clock) -> list[Noted]:
    given = [os.path.abspath(os.path.expanduser(os.fspath(path))) for path in paths]
    noted: list[Noted] = []
    for start in range(0, len(given), CHUNK):
        chunk = given[start : start + CHUNK]
        places = {path: os.path.realpath(path) for path in chunk}
        seen = [look(place, clock) for place in dict.fromkeys(places.values())]
        with alone(sources.LOCK):
            found = _Notes(seen).note(clock.now())
        noted += [found[places[path]]._replace(path=path) for path in chunk]
    return noted


def _look(place: str, clock: Clock) -> _Seen:
    examined = examine(OUTSIDE, place, clock)
    if isinstance(examined, Examined):
        return _Seen(place, examined.started, examined.signature, examined)
    return _plain(place, clock)


def _look_at_made(place: str, clock: Clock) -> _Seen:
    seen = _plain(place, clock)
    with open(place, "rb") as file:
        return replace(seen, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _plain(place: str, clock: Clock) -> _Seen:
    started = clock.now()
    try:
        stat = os.stat(place)
    except OSError as error:
        raise UnreadableFile(f"cannot use {place} as an input: {error.strerror}; nothing was recorded") from error
    if not S_ISREG(stat.st_mode):
        raise UnreadableFile(f"cannot use {place} as an input: it is not a file; nothing was recorded")
    return _Seen(place, started, Signature.of(stat), None)


class _Notes:
    """One chunk of files, in one transaction."""

    def __init__(self, seen: Sequence[_Seen]) -> None:
        self.seen = seen
        identities = {each.full for each in seen}
        identities |= {each.examined.description.identity for each in seen if each.examined}
        self.products = known.read(identities)
        self.noted = ledger.latest(((OUTSIDE.name, each.place) for each in seen), noted=True)
        self.product_id, self.ingestion_id = key_source("data_product", len(seen)), key_source("ingestion", len(seen))
        self.made: list[known.Row] = []
        self.renewed: list[known.Row] = []
        self.entries: list[Entry] = []
        self.claims: list[sources.Claim] = []

    def note(self, now: datetime) -> dict[str, Noted]:
        """Record what is new, and return every file by its place."""
        found = {each.place: self._one(each) for each in self.seen}
        for entry in self.entries:
            entry.lag = ledger.lag(entry.signature, now)
        known.make(self.made, now)
        ledger.insert(self.entries, ())
        known.renew(self.renewed)
        sources.link(self.claims, now)
        return found

    def _one(self, seen: _Seen) -> Noted:
        examined = seen.examined
        text = known.signature_text(*seen.signature[:2], seen.header_sha256)
        if examined is not None:
            identity = examined.description.identity
            product = self.products.get(identity)
            if product is None or os.path.realpath(product.path) == seen.place:
                return Noted(seen.place, *self._version(seen, identity, product), identity, text)
            if _is_same_file(product, text):
                return Noted(seen.place, product.id, product.current.id, identity, text)  # type: ignore[union-attr]
        return Noted(seen.place, *self._version(seen, seen.full, self.products.get(seen.full)), seen.full, text)

    def _version(self, seen: _Seen, identity: str, product: Product | None) -> tuple[int, int]:
        """Return the keys of the data product and of the file version, both recorded where they are new."""
        if product is None:
            product = self.products[identity] = Product(self.product_id(), seen.place, None, new=True)
        for entry in (product.current, self.noted.get((OUTSIDE.name, seen.place))):
            if entry is not None and entry.signature == seen.signature and entry.data_product == product.id:
                return product.id, entry.id
        entry = self._entry(seen, product)
        self.entries.append(entry)
        row = self._row(seen, identity, product, entry)
        if product.new:
            self.made.append(row)
            self._claim(seen, product)
            product.new, product.current = False, entry
        elif product.current is None or identity == seen.full:  # no daemon looks after a plain file
            self.renewed.append(row)
            product.current = entry
        return product.id, entry.id

    def _entry(self, seen: _Seen, product: Product) -> Entry:
        entry = Entry(
            self.ingestion_id(), OUTSIDE.name, seen.place, seen.signature, IngestionOutcome.NOTED, seen.started,
            seen.header_sha256, seen.sha256, data_product=product.id,
            supersedes=product.current.id if product.current else None,
        )  # fmt: skip
        if seen.examined:
            entry.version, entry.duration = seen.examined.description.version, seen.examined.duration
        return entry

    def _row(self, seen: _Seen, identity: str, product: Product, entry: Entry) -> known.Row:
        if seen.examined and identity != seen.full:
            said = seen.examined.description
            named = (said.release, said.filetype, seen.examined.kwargs, identity)
            return known.Row(product.id, *named, seen.place, seen.examined.metadata, entry.id)
        named = ("", FULL, canonical_json({FULL: seen.place}), identity)
        return known.Row(product.id, *named, seen.place, "{}", entry.id)

    def _claim(self, seen: _Seen, product: Product) -> None:
        if seen.examined:
            self.claims.append(sources.Claim(product.id, seen.examined.description.target))


def _is_same_file(product: Product, text: str) -> bool:
    """Return whether a data product's current file, in another place, is still there and has this content."""
    current = product.current
    if current is None or known.signature_text(*current.signature[:2], current.header_sha256) != text:
        return False
    return os.path.exists(product.path)
