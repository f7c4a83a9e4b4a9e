"""Broken variants of the product, each with one of its safeguards taken out: what the kill tests must catch.

A variant replaces functions in a process that was started for it (`tests.support.launch`); the product has no hook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from astra import ingest, known, ledger, queue, sources, standing, tree
from astra.database.connection import database, execute, execute_many, is_sqlite
from astra.headers import _Opened
from astra.ledger import Entry
from astra.products import apogee
from astra.queue import enqueueing
from astra.signature import Signature
from astra.standing import Refused, Standing
from astra.tree import Found, WalkReport
from daemon.intake import Intake
from daemon.settler import Settled, Settler


def marked_before_rows() -> None:
    """The ledger says "known" in a transaction of its own, and the data product comes in the next."""
    write, insert = ingest._write, ledger.insert

    def mark_then_write(batch: Any, verdicts: Any, stands: Standing, how: Any) -> Any:
        entries = [each.entry for each in verdicts if each.entry is not None]
        insert([replace(entry, data_product=None) for entry in entries], stands.renewed)
        _commit_here()
        return write(batch, verdicts, stands, how)

    def complete(entries: Sequence[Entry], _: object) -> None:
        execute_many("UPDATE ingestion SET data_product_id = ? WHERE id = ?", [(e.data_product, e.id) for e in entries])

    _replace(ingest, "_write", mark_then_write)
    _replace(ledger, "insert", complete)


def no_unique_key() -> None:
    """Nothing is looked up by its identity before it is recorded, and no index keeps two of it apart."""
    look = ingest._standing

    def blind(*given: Any) -> Standing:
        for index in ("data_product_identity", "ingestion_file_version", "task_identity"):
            execute(f"DROP INDEX IF EXISTS {index}")
        return replace(look(*given), places={}, products={})

    _replace(ingest, "_standing", blind)
    _replace(enqueueing, "lives_of", lambda identities: {})


def signature_after_read() -> None:
    """The signature is taken when the file has been read, and nobody looks whether it changed meanwhile."""
    signed_late()
    not_compared()
    never_racy()


def signed_late() -> None:
    """First of three: what was read is given the signature that the path has afterwards."""

    def sign(opened: _Opened) -> None:
        opened.signature = Signature.of(os.stat(opened.path))

    _replace(_Opened, "check_unchanged", sign)


def not_compared() -> None:
    """Second: a file need not be what it was when it settled."""

    def examine_one(intake: Intake, settled: Settled) -> None:
        found = ingest.examine(intake._roots[settled.arrival.root], settled.arrival.path, intake._clock)
        if isinstance(found, ingest.NotOurs) or (isinstance(found, Refused) and intake._waits(settled, found)):
            return
        intake._in_hand.append((settled, found))

    _replace(Intake, "_examine_one", examine_one)


def never_racy() -> None:
    """Third: stamps are trusted however fresh they are."""
    _replace(standing, "racy_until", lambda *_: None)


def lost_transaction() -> None:
    """Each kind of row is committed as soon as it is written.

    Products and their file versions refer to each other, so that foreign keys let nobody commit the one without the
    other: these two are still written together.
    """
    for module, name in ((ledger, "insert"), (sources, "link"), (queue, "supersede"), (queue, "enqueue")):
        _replace(module, name, _committing(getattr(module, name)))
    _replace(known, "renew", _committing(known.renew))


def event_taken_unsettled() -> None:
    """An event is taken for a finished file: no quiet wait, no look whether all HDUs are there."""
    begin = Settler.__init__

    def hasty(settler: Settler, _: float, patience: float) -> None:
        begin(settler, 0.0, patience)

    _replace(Settler, "__init__", hasty)
    _replace(apogee, "check_hdus", lambda *_: None)


def event_trusted_alone() -> None:
    """Only events tell of files: a sweep finds nothing."""

    def nothing(*given: Any) -> Iterator[list[Found]]:
        report: WalkReport = given[-1]
        report.finished = True
        yield []

    _replace(tree, "differing", nothing)


VARIANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        marked_before_rows,
        no_unique_key,
        signature_after_read,
        signed_late,
        not_compared,
        never_racy,
        lost_transaction,
        event_taken_unsettled,
        event_trusted_alone,
    )
}


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} to be replaced"
    setattr(owner, name, function)


def _committing(function: Callable[..., Any]) -> Callable[..., Any]:
    def committing(*given: Any) -> Any:
        answer = function(*given)
        _commit_here()
        return answer

    return committing


def _commit_here() -> None:
    """Commit what the open transaction has written, and begin another as `alone` does."""
    database.obj.commit()
    database.obj.begin()
    execute("PRAGMA defer_foreign_keys = ON" if is_sqlite() else "SET CONSTRAINTS ALL DEFERRED")
