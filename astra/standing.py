"""What becomes of one file version, given what is recorded already. Values in, values out: no database, no clock.

Comes from `ingest`, file by file, in the order of their versions; goes back there as a `Verdict` to be written, or as a
`Question` that only the disk can answer, so that nobody waits for a disk inside a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from astra.ledger import Change, Entry, racy_until
from astra.products.base import Description
from astra.signature import Signature
from astra.states import IngestionOutcome


class File(NamedTuple):
    """Where a file is: the root's name, the path relative to it, and the absolute path."""

    root: str
    path: str
    place: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A whole file of a known product type, read and described. `kwargs` and `metadata` are canonical JSON."""

    file: File
    started: datetime
    duration: float
    signature: Signature
    header_sha256: str
    sha256: str | None
    description: Description
    kwargs: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be taken in as it is.

    With `wait` it may become whole, or readable: until the patience is over it is better looked at again. `trouble` is
    the disk's or this machine's, not the file's: it is waited for as long as it lasts. Without a signature there is
    nothing to record: the file is gone, or its name is none that a database can hold.
    """

    file: File
    started: datetime
    duration: float
    signature: Signature | None
    reason: str
    wait: bool
    trouble: bool = False


@dataclass(slots=True)
class Product:
    """A data product as it is recorded, or about to be; `current` is its current file version."""

    id: int
    path: str
    current: Entry | None
    link: int | None = None
    source: int | None = None
    method: str | None = None
    conflict: str | None = None
    new: bool = False
    before: Entry | None = None


class Ask(StrEnum):
    """What only the disk can tell."""

    THERE = "is there another file"
    SIGNATURE = "what is the file's signature"
    SHA256 = "what is the checksum of the whole file"


class Question(NamedTuple):
    """Something to be asked of the disk; `since` is when the file version was examined that makes it doubtful.

    For `THERE`, `other` is the file that is not to be taken for another one under a second name, and `root` the name of
    the watched folder that the file in question lies in.
    """

    ask: Ask
    place: str
    since: datetime
    other: str = ""
    root: str = ""


Answer = bool | Signature | str | None


class Verdict(NamedTuple):
    """What is to be recorded: a new row, corrected stamps of an old one, or nothing, with the reason."""

    entry: Entry | None = None
    change: Change | None = None
    known: Entry | None = None
    product: Product | None = None
    current: bool = False
    reason: str | None = None


@dataclass(slots=True)
class Standing:
    """What is recorded of the places and data products of a batch, kept up as the batch is judged."""

    places: dict[tuple[str, str], Entry]
    products: dict[str, Product]
    answers: Mapping[Question, Answer]
    replay: int | None
    ingestion_id: Callable[[], int]
    product_id: Callable[[], int]
    changes: dict[int, Change] = field(default_factory=dict)
    renewed: list[Entry] = field(default_factory=list)

    def judge(self, given: Examined | Refused) -> Verdict | Question:
        """Return what becomes of a file version, and take it as recorded from now on."""
        if given.signature is None:
            return Verdict(reason=given.reason)
        last = self.places.get(given.file[:2])
        verdict = self._seen_before(given, given.signature, last) if last else None
        if verdict is None:
            if isinstance(given, Refused):
                entry = self._entry(given, given.signature, IngestionOutcome.QUARANTINED, given.reason)
                verdict = Verdict(entry=entry, reason=given.reason)
            else:
                verdict = self._place_in_product(given)
        if isinstance(verdict, Verdict):
            self._keep(given, verdict, last)
        return verdict

    def _keep(self, given: Examined | Refused, verdict: Verdict, last: Entry | None) -> None:
        entry, change = verdict.entry, verdict.change
        if change is not None and last is not None:
            first = self.changes.get(change.id, change)
            self.changes[change.id] = replace(change, was=first.was)
            last.signature = last.signature._replace(ctime_ns=change.ctime_ns, inode=change.inode)
            last.recheck_after = change.recheck_after
        if entry is None:
            return
        if last is not None:
            self.renewed.append(entry)
            entry.supersedes = entry.supersedes or last.id
            if last.signature == entry.signature:  # as `ledger.insert` does with rows that stand already
                last.signature = last.signature._replace(inode=-last.id)
        self.places[given.file[:2]] = entry
        product = verdict.product
        if product is not None and isinstance(given, Examined):
            self.products[given.description.identity] = product
            if verdict.current:
                product.path, product.current = given.file.place, entry

    # --------------------------------------------------------------------------------- the same place, seen before

    def _seen_before(self, given: Examined | Refused, signature: Signature, last: Entry) -> Verdict | Question | None:
        """Return the verdict on a file that the ledger knows as it is; None where it is a new version."""
        again = self.replay is not None and last.replay != self.replay
        if last.signature != signature:
            if last.started > given.started:  # somebody has recorded a later look than ours
                question = Question(Ask.SIGNATURE, given.file.place, last.started)
                if question not in self.answers:
                    return question
                if self.answers[question] != signature:
                    return Verdict(reason="the file has changed since it was examined; a later look was recorded")
            return None if again else self._touched(given, signature, last)
        if again or not _same_as_recorded(given, last):
            return None
        if displaced := self._is_displaced(given, last):
            return displaced if isinstance(displaced, Question) else None
        recheck = last.recheck_after and racy_until(signature, given.started)
        change = None
        if recheck != last.recheck_after:
            change = Change(last.id, signature, signature.ctime_ns, signature.inode, recheck)
        return Verdict(known=last, change=change, product=self._product(given), reason=last.reason)

    def _touched(self, given: Examined | Refused, signature: Signature, last: Entry) -> Verdict | Question | None:
        """Return the verdict on a file with new stamps and, as far as we can see, the old content.

        Size, modification time and header are what they were, so only the change time or the inode moved: a `chmod`,
        a copy put back, a file system moved to another disk. Calling that a new version would run every task of a
        moved tree again. Where a checksum of the whole file was recorded it must be the same too.
        """
        if last.signature[:2] != signature[:2] or not _same_as_recorded(given, last):
            return None
        if last.sha256 is not None:
            question = Question(Ask.SHA256, given.file.place, last.started)
            if question not in self.answers:
                return question
            if self.answers[question] != last.sha256:
                return None
        if displaced := self._is_displaced(given, last):
            return displaced if isinstance(displaced, Question) else None
        recheck = racy_until(signature, given.started)
        change = Change(last.id, last.signature, signature.ctime_ns, signature.inode, recheck)
        return Verdict(known=last, change=change, product=self._product(given), reason=last.reason)

    def _is_displaced(self, given: Examined | Refused, last: Entry) -> bool | Question:
        """Return whether the place of a known file in its product has to be found anew, or what must be asked first.

        The product's current file may be another one that is gone by now; then this one takes its place. A file that
        was current here once, and is one of two now, is recorded as the copy that it is.
        """
        product = self._product(given)
        if not isinstance(given, Examined) or product is None or product.current is None:
            return False
        current, version = product.current, given.description.version
        if _same_place(given.file, product, current) or (version or 0) != (current.version or 0):
            return False
        if last.outcome is not IngestionOutcome.DUPLICATE:
            return True
        question = self._there(given, product, current)
        return not self.answers[question] if question in self.answers else question

    def _there(self, given: Examined, product: Product, current: Entry) -> Question:
        return Question(Ask.THERE, product.path, current.started, given.file.place, current.root)

    def _product(self, given: Examined | Refused) -> Product | None:
        return self.products.get(given.description.identity) if isinstance(given, Examined) else None

    # ------------------------------------------------------------------------- the place of a version in its product

    def _place_in_product(self, given: Examined) -> Verdict | Question:
        product = self._product(given)
        if product is None:
            product = Product(self.product_id(), given.file.place, None, new=True)
        current, version = product.current, given.description.version
        if current is None or current.outcome is IngestionOutcome.NOTED or _same_place(given.file, product, current):
            return self._becomes_current(given, product, None)
        if (version or 0) > (current.version or 0):
            return self._becomes_current(given, product, None)
        if (version or 0) < (current.version or 0):
            why = f"an older version ({version}) than the current one ({current.version}) of data product {product.id}"
            entry = self._entry(given, given.signature, IngestionOutcome.INGESTED, why)
            entry.data_product = product.id
            return Verdict(entry=entry, product=product, reason=why)
        place = (current.root, current.path)
        question = self._there(given, product, current)
        left = place in self.places and self.places[place].data_product != product.id
        if not left and question not in self.answers:
            return question
        if left or not self.answers[question]:
            return self._becomes_current(given, product, f"moved here from {product.path}")
        why = f"a copy of data product {product.id}, whose file is {product.path}"
        entry = self._entry(given, given.signature, IngestionOutcome.DUPLICATE, why)
        entry.data_product = product.id
        return Verdict(entry=entry, product=product, reason=why)

    def _becomes_current(self, given: Examined, product: Product, reason: str | None) -> Verdict:
        entry = self._entry(given, given.signature, IngestionOutcome.INGESTED, reason)
        entry.data_product = product.id
        if product.current is not None:
            entry.supersedes = product.current.id
        return Verdict(entry=entry, product=product, current=True, reason=reason)

    def _entry(
        self, given: Examined | Refused, signature: Signature, outcome: IngestionOutcome, reason: str | None = None
    ) -> Entry:
        entry = Entry(
            id=self.ingestion_id(),
            root=given.file.root,
            path=given.file.path,
            signature=signature,
            outcome=outcome,
            started=given.started,
            reason=reason,
            recheck_after=racy_until(signature, given.started),
            replay=self.replay,
            duration=given.duration,
        )
        if isinstance(given, Examined):
            entry.header_sha256, entry.sha256 = given.header_sha256, given.sha256
            entry.version = given.description.version
        return entry


def _same_as_recorded(given: Examined | Refused, last: Entry) -> bool:
    """Return whether a file is what its newest row says, as far as its header, or the reason to refuse it, tells.

    A quarantined file that its stamps call unchanged stays quarantined, until replay asks for it; but where those
    stamps were too fresh to be trusted, or have moved, what we see now counts.
    """
    if last.outcome is IngestionOutcome.QUARANTINED:
        if last.signature == given.signature and last.recheck_after is None:
            return True
        return isinstance(given, Refused) and given.reason == last.reason
    if isinstance(given, Refused):
        return last.signature == given.signature and last.recheck_after is None
    return given.header_sha256 == last.header_sha256


def _same_place(file: File, product: Product, current: Entry) -> bool:
    return product.path == file.place or (current.root, current.path) == file[:2]


def same_content(one: Entry, other: Entry) -> bool:
    """Return whether two file versions hold the same bytes, as far as size, modification time and header tell."""
    return one.signature[:2] == other.signature[:2] and one.header_sha256 == other.header_sha256 is not None
