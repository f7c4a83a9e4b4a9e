"""Take in one settled file: examine it (slow, writes nothing), then record it and what the rules call for (short).

Comes from `daemon.intake`, `astra ingest` and replay; goes to `ledger`, `sources` and `queue`, and so to the scheduler.
Examining returns a value, whatever the file is like. Recording is one transaction for a whole batch and repeats without
harm: a file version that is recorded already changes nothing, so a crash at any point is healed by doing it again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from astra import gathering, headers, known, ledger, products, queue, roots, sources
from astra.catalogue.consulting import LOCAL, Linking, consult
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone, run
from astra.database.fields import canonical_json
from astra.database.staging import among, key_source
from astra.errors import BadHeader, FileError, UnreadableFile
from astra.filesystem import is_gone
from astra.known import signature_text as signature_text
from astra.ledger import Entry
from astra.products.base import Description
from astra.rules import Facts, Rule, tasks_for
from astra.signature import Signature
from astra.standing import Answer, Ask, Examined, File, Product, Question, Refused, Standing, Verdict, same_content
from astra.states import IngestionOutcome
from astra.tree import LONGEST_PATH
from astra.work import Input, NewTask

# What one transaction takes: enough to be fast, few enough that nobody waits a quarter of a second for the write lock.
CHUNK = 500
LONGEST_IDENTITY = LONGEST_PATH

# The disk's or the server's trouble, not the file's: what cannot be read for one of these may be readable later.
_TROUBLE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH}
    | {errno.EREMOTEIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODEV, errno.ENXIO}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}
)


class Root(NamedTuple):
    """A watched folder: its name in the ledger, where it is, and the release its setting names.

    With `sha256`, every byte of its files is read when they are taken in, and their checksum recorded.
    """

    name: str
    folder: Path
    release: str | None
    sha256: bool = False


OUTSIDE = Root("", Path("/"), None)  # of files below no watched folder: the ledger keeps their absolute paths


@dataclass(frozen=True, slots=True)
class NotOurs:
    """A file that no product type recognises."""

    file: File


class Recorded(NamedTuple):
    """What became of one file. `outcome` is None where nothing is recorded; `new` where this call recorded it."""

    file: File
    outcome: IngestionOutcome | None
    new: bool
    ingestion: int | None = None
    data_product: int | None = None
    source: int | None = None
    tasks: int = 0
    reason: str | None = None
    lag: float | None = None


# --------------------------------------------------------------------------------------------------------- examining


def examine(root: Root, path: str, clock: Clock = SYSTEM) -> Examined | Refused | NotOurs:
    """Read, describe and check the file at `path` below `root`. Writes nothing, and raises for no fault of a file.

    Parameters
    ----------
    root
        The watched folder, or `OUTSIDE`.
    path
        The path relative to the root's folder; absolute below `OUTSIDE`.
    """
    file = File(root.name, path, os.path.join(root.folder, path))
    started, begun = clock.now(), clock.monotonic()
    found = _attempt(root, file)
    if isinstance(found, NotOurs):
        return found
    if isinstance(found, FileError):
        # What was refused is looked at twice, so that the refusal is recorded with the signature it belongs to: that
        # of a file which meanwhile became whole would hide it for ever.
        before = _signature(file.place)
        found = _attempt(root, file)
        if isinstance(found, FileError):
            return _refused(file, found, before, (started, clock.monotonic() - begun))
        if isinstance(found, NotOurs):
            return found
    header, sha256, description, kwargs, metadata = found
    timing = started, clock.monotonic() - begun
    return Examined(file, *timing, header.signature, header.sha256, sha256, description, kwargs, metadata)


_Read = tuple[headers.Header, str | None, Description, str, str]


def _attempt(root: Root, file: File) -> _Read | FileError | NotOurs:
    try:
        if len(file.place.encode()) > LONGEST_PATH:
            return UnreadableFile(
                f"cannot take in {headers.named(file.place)}: its path has more than {LONGEST_PATH} bytes"
            )
        identified = products.identify(file.place)
        if identified is None:
            return NotOurs(file)
        product_type, recognised = identified
        header = headers.read(file.place, product_type.wanted)
        description = product_type.describe(recognised, header, root.release)
        product_type.check_whole(description, header)
        if len(description.identity.encode()) > LONGEST_IDENTITY:
            return BadHeader(
                f"cannot take in {headers.named(file.place)}: what tells it from others has more than "
                f"{LONGEST_IDENTITY} bytes: {description.identity[:100]}..."
            )
        notes = {"notes": list(description.notes)} if description.notes else {}
        metadata = canonical_json({**description.metadata, **notes})
        metadata.encode()
        sha256 = headers.whole_digest(file.place, header.signature) if root.sha256 else None
        return header, sha256, description, canonical_json(dict(description.kwargs)), metadata
    except FileError as error:
        return error
    except UnicodeEncodeError:
        return UnreadableFile(f"cannot take in {file.place!r}: its name, or a card of its header, is not valid text")
    except (ValueError, OverflowError) as error:
        return FileError(f"cannot take in {file.place}: its header holds a value that cannot be kept ({error})")


def _refused(file: File, error: FileError, before: Signature | None, timing: tuple[datetime, float]) -> Refused:
    signature = _signature(file.place)
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    # a file that can be looked at is there, whatever a server's cache of names says when it is opened
    trouble = number in _TROUBLE or (number == errno.ENOENT and signature is not None)
    wait, reason = error.retry or trouble, str(error)
    if signature != before:
        reason, wait = f"{file.place} changed while it was examined", True
    if not _can_be_recorded(file.place):
        signature, wait = None, False
    return Refused(file, *timing, signature, reason, wait, trouble)


def _can_be_recorded(path: str) -> bool:
    if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
        return False
    return len(path.encode()) <= LONGEST_PATH


def _signature(place: str) -> Signature | None:
    try:
        return Signature.of(os.stat(place))
    except OSError:
        return None


# --------------------------------------------------------------------------------------------------------- recording


def record(
    batch: Sequence[Examined | Refused],
    rules: Sequence[Rule] = (),
    clock: Clock = SYSTEM,
    replay: int | None = None,
    linking: Linking = LOCAL,
) -> list[Recorded]:
    """Record a batch of examined files, in one transaction: data products, sources, links, the ledger and tasks.

    Parameters
    ----------
    batch
        Up to two thousand files; `CHUNK` is a good number. A `Refused` one is quarantined, so hand over one that is
        to be waited for only when the patience is over.
    rules
        The rules to enqueue by; none in the first sweep of a root without `backfill`.
    replay
        The replay that these files are taken in again for: what is known already is then recorded once more.
    linking
        How their sources are looked for.

    Returns
    -------
    list of Recorded
        What became of each file, in the order of the batch.
    """
    consult(linking, [each.description.target for each in batch if isinstance(each, Examined)], clock)
    order = sorted(range(len(batch)), key=lambda at: _order(batch[at]))
    answers: dict[Question, Answer] = {}
    while True:
        with alone(sources.LOCK):
            standing = _standing(batch, answers, replay)
            verdicts = {at: standing.judge(batch[at]) for at in order}
            questions = [each for each in verdicts.values() if isinstance(each, Question)]
            if not questions:
                settled = [verdict for at in range(len(batch)) if isinstance(verdict := verdicts[at], Verdict)]
                return _write(batch, settled, standing, _How(rules, linking, clock.now()))
        # Only the disk can tell, and it may take its time: ask it outside the transaction, then begin again.
        answers |= {each: _answer(each) for each in questions}


def _order(given: Examined | Refused) -> tuple[int, int, int]:
    version = given.description.version if isinstance(given, Examined) else None
    return (version or 0, *given.signature[1:3]) if given.signature else (0, 0, 0)


def _standing(batch: Sequence[Examined | Refused], answers: dict[Question, Answer], replay: int | None) -> Standing:
    products = known.read({each.description.identity for each in batch if isinstance(each, Examined)})
    current = [(each.current.root, each.current.path) for each in products.values() if each.current is not None]
    return Standing(
        places=ledger.latest([*(each.file[:2] for each in batch if each.signature is not None), *current]),
        products=products,
        answers=answers,
        replay=replay,
        ingestion_id=key_source("ingestion", len(batch)),
        product_id=key_source("data_product", len(batch)),
    )


def _answer(question: Question) -> Answer:
    if question.ask is Ask.SIGNATURE:
        return _signature(question.place)
    try:
        if question.ask is Ask.SHA256:
            with open(question.place, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    if os.path.realpath(question.place) == os.path.realpath(question.other):
        return False  # one file under two names: a link to a folder leads there
    return not is_gone(question.place, roots.folder_of(question.root))


class _How(NamedTuple):
    """What a batch is recorded by, and when."""

    rules: Sequence[Rule]
    linking: Linking
    now: datetime


class _Promoted(NamedTuple):
    """A file version that is its data product's current one now."""

    given: Examined
    entry: Entry
    product: Product


def _write(
    batch: Sequence[Examined | Refused],
    verdicts: Sequence[Verdict],
    standing: Standing,
    how: _How,
) -> list[Recorded]:
    rules, linking, now = how
    entries = [each.entry for each in verdicts if each.entry is not None]
    for entry in entries:
        entry.lag = ledger.lag(entry.signature, now)
    made = [
        _Promoted(given, verdict.entry, verdict.product)
        for given, verdict in zip(batch, verdicts, strict=True)
        if isinstance(given, Examined) and verdict.product and verdict.entry and _is_current(verdict)
    ]
    renewed = [each for each in made if not each.product.new]
    known.make([_row(each) for each in made if each.product.new], now)
    back = ledger.missed(list(standing.changes)) if gathering.that_gather(rules) else []
    ledger.change(standing.changes)
    gathering.mark_files(rules, back, now)
    ledger.insert(entries, standing.renewed)
    known.renew([_row(each) for each in renewed])
    found = sources.link([_claim(each) for each in made], now, linking.radius)
    _mark(made, found, how, standing.replay)  # waits for who gathers these just now: what that enqueues is superseded
    if renewed:
        queue.supersede([each.product.id for each in renewed], now)
    tasks = _enqueue(made, rules, standing.replay, now)
    return [_recorded(*each, found, tasks) for each in zip(batch, verdicts, strict=True)]


def _is_current(verdict: Verdict) -> bool:
    """Return whether this is the version of its data product that the whole batch leaves as the current one."""
    return verdict.product is not None and verdict.entry is not None and verdict.product.current is verdict.entry


def _row(each: _Promoted) -> known.Row:
    given, said, product = each.given, each.given.description, each.product
    named = (said.release, said.filetype, given.kwargs, said.identity)
    return known.Row(product.id, *named, product.path, given.metadata, each.entry.id)


def _claim(each: _Promoted) -> sources.Claim:
    said, own = each.given.description, each.product
    return sources.Claim(own.id, said.target, own.link, own.source, own.method, own.conflict)


def _mark(made: Sequence[_Promoted], found: dict[int, int | None], how: _How, replay: int | None) -> None:
    """Note which sources have new data products, or new versions of them, for the rules that gather."""
    for rule in gathering.that_gather(how.rules):
        own = [each.product.id for each in made if each.given.description.filetype == rule.filetype]
        gathering.mark(rule, {source for key in own if (source := found.get(key)) is not None}, how.now, replay)


def _enqueue(made: Sequence[_Promoted], rules: Sequence[Rule], replay: int | None, now: datetime) -> dict[int, int]:
    """Enqueue what the rules call for on the new current versions; return the number of tasks by data product."""
    tasks: list[NewTask] = []
    same: set[str] = set()
    for each in made if rules else ():
        called = tasks_for(rules, _facts(each), replay)
        tasks += called
        if each.product.before is not None and same_content(each.entry, each.product.before):
            same |= {task.identity for task in called if task.identity}
    if same and replay is None:
        done = _completed(sorted(same))  # the same bytes in another place: what was finished on them stands
        tasks = [task for task in tasks if task.identity not in done]
    if tasks:
        queue.enqueue(tasks, now)
    counts: dict[int, int] = {}
    for task in tasks:
        counts[task.inputs[0].data_product] = counts.get(task.inputs[0].data_product, 0) + 1
    return counts


def _facts(each: _Promoted) -> Facts:
    said = each.given.description
    values = {**said.kwargs, **said.metadata, "release": said.release}
    text = signature_text(*each.entry.signature[:2], each.entry.header_sha256)
    return Facts(said.filetype, values, Input(each.product.id, each.entry.id, said.identity, text))


def _completed(identities: Sequence[str]) -> set[str]:
    condition, parameter = among("identity", identities)
    rows = run(f"SELECT identity FROM task WHERE {condition} AND state = 'completed'", (parameter,))
    return {row[0] for row in rows}


def _recorded(
    given: Examined | Refused, verdict: Verdict, found: dict[int, int | None], tasks: dict[int, int]
) -> Recorded:
    entry, product = verdict.entry or verdict.known, verdict.product
    if entry is None:
        return Recorded(given.file, None, new=False, reason=verdict.reason)
    return Recorded(
        file=given.file,
        outcome=entry.outcome,
        new=verdict.entry is not None,
        ingestion=entry.id,
        data_product=entry.data_product,
        source=found.get(product.id, product.source) if product else None,
        tasks=tasks.get(product.id, 0) if product and _is_current(verdict) else 0,
        reason=entry.reason,
        lag=entry.lag,
    )
