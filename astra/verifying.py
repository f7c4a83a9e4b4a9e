"""What lies on disk against what the ledger says: the proof that nothing is missed, and that no byte has changed.

Comes from `astra verify`. Looks at every file, as a sweep does; writes nothing but checksums of whole files that had
none, and these only when every byte is asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from astra import headers, ingest, ledger, products, tree
from astra.clock import Clock
from astra.errors import BadHeader, FileError
from astra.filesystem import is_gone
from astra.ingest import NotOurs, Root
from astra.standing import Refused
from astra.states import IngestionOutcome
from astra.tree import Found, WalkReport

KEPT = 100  # paths of each kind that are kept; all are counted
_PLACES = 2_000


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a file may be on its way: still for `quiet` seconds, and not whole for `patience`."""

    quiet: float
    patience: float


@dataclass
class Verified:
    """One root: how many files there are, what the ledger knows of them, and what it does not.

    `lacking` are files that should have been taken in and were not; `altered` files whose bytes are not those that were
    recorded, though their stamps are. Where neither is, and nothing was out of sight, the root is `proven`.
    """

    root: str
    path: str
    folders: int = 0
    files: int = 0
    known: int = 0
    on_their_way: int = 0
    not_ours: int = 0
    missing: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lacking: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unseen: list[tree.Problem] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        """Whether everything on disk is known, as it is."""
        return not (self.counts["lacking"] or self.counts["altered"] or self.counts["unseen"])

    def lacks(self, path: str) -> None:
        """Note a file that should have been taken in."""
        self.counts["lacking"] += 1
        if len(self.lacking) < KEPT:
            self.lacking.append(path)

    def is_altered(self, path: str) -> None:
        """Note a file whose bytes have changed behind its stamps."""
        self.counts["altered"] += 1
        if len(self.altered) < KEPT:
            self.altered.append(path)


def verify(root: Root, wait: Wait, clock: Clock) -> Verified:
    """Compare every file below a root with the ledger.

    Raises
    ------
    UnreadableFile
        If the root cannot be read.
    """
    found, report = Verified(root.name, str(root.folder)), WalkReport()
    wanted = products.might_be_product
    lacking = 0
    for each in tree.differing(root.name, root.folder, wanted, clock.now(), report):
        for file in each:
            if not file.known:
                lacking += 1
                _judge(found, root, file, wait, clock)
    found.folders, found.files, found.known = report.folders, report.files, report.files - lacking
    found.unseen, found.counts["unseen"] = report.problems, report.problem_count
    for places in _places(root):
        for place in places:
            if is_gone(os.path.join(root.folder, place.path), str(root.folder)):
                found.missing += 1
            else:
                found.outcomes[place.outcome.value] += 1
    return found


def _judge(found: Verified, root: Root, file: Found, wait: Wait, clock: Clock) -> None:
    """Say of a file that the ledger lacks whether it is on its way, none of ours, or missed."""
    path = os.path.join(root.folder, file.path)
    try:
        if products.identify(path) is None:
            found.not_ours += 1
            return
    except BadHeader:
        pass  # two product types claim it: that is recorded, as a reason to quarantine it
    age = clock.now().timestamp() - max(file.signature.mtime_ns, file.signature.ctime_ns) / 1e9
    if age < wait.quiet:
        found.on_their_way += 1
        return
    examined = ingest.examine(root, file.path, clock) if age < wait.patience else None
    if isinstance(examined, NotOurs) or (isinstance(examined, Refused) and examined.wait):
        found.on_their_way += 1
        return
    found.lacks(file.path)


def _places(root: Root) -> Iterator[Sequence[ledger.Place]]:
    """Yield what the ledger knows below a root, a slice at a time."""
    after = ""
    while places := ledger.places(root.name, after, _PLACES):
        after = places[-1].path
        yield places


def verify_bytes(root: Root, found: Verified) -> None:
    """Read every file that was taken in from end to end, and compare its checksum with the recorded one.

    Where none is recorded it is now. A file whose stamps have changed is none of this: the sweep takes it in anew.
    """
    for places in _places(root):
        taken = [each for each in places if each.outcome in (IngestionOutcome.INGESTED, IngestionOutcome.DUPLICATE)]
        known = ledger.checksums([each.id for each in taken])
        for each in taken:
            try:
                sha256 = headers.whole_digest(os.path.join(root.folder, each.path), each.signature)
            except FileError:  # gone, or another version by now: the sweep's part tells of it
                continue
            found.checked += 1
            if known[each.id] is None:
                ledger.set_checksums([ledger.Checksum(each.id, each.signature, sha256)])
            elif known[each.id] != sha256:
                found.is_altered(each.path)
