"""Take in files and folders on somebody's request, as the daemon would: what it finds by itself is `ingest`'s.

Comes from `astra ingest` and replay; goes to `ingest`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from astra import offering
from astra.catalogue.consulting import LOCAL, Linking
from astra.clock import SYSTEM, Clock
from astra.ingest import CHUNK, OUTSIDE, NotOurs, Recorded, Root, examine, record
from astra.rules import Rule
from astra.standing import Examined, File, Refused


@dataclass(frozen=True, slots=True)
class Terms:
    """What taking in by hand or by replay goes by: watched folders, rules, patience, replay, and the catalogue."""

    roots: Sequence[Root] = ()
    rules: Sequence[Rule] = ()
    patience: float = 600.0
    replay: int | None = None
    linking: Linking = LOCAL


def take_in(paths: Iterable[str | os.PathLike[str]], terms: Terms, clock: Clock = SYSTEM) -> Iterator[Recorded]:
    """Take in files, and folders with all they hold, as the daemon would; yield what became of each file.

    A file that is not whole is not recorded before the patience since its last change is over; neither is one that no
    product type recognises. A file below no watched folder is recorded under its absolute path.
    """
    by_name = {OUTSIDE.name: OUTSIDE, **{root.name: root for root in terms.roots}}
    batch: list[Examined | Refused] = []
    for offered in offering.offer(paths, {root.name: root.folder for root in terms.roots}):
        if offered.problem is not None:
            place = os.path.join(by_name[offered.root].folder, offered.path)
            yield Recorded(File(offered.root, offered.path, place), None, new=False, reason=offered.problem)
            continue
        found = examine(by_name[offered.root], offered.path, clock)
        if isinstance(found, NotOurs):
            yield Recorded(found.file, None, new=False, reason=f"{found.file.place} is of no known product type")
        elif isinstance(found, Refused) and _is_waited_for(found, terms.patience, clock.now()):
            yield Recorded(
                found.file,
                None,
                new=False,
                reason=f"{found.reason}; nothing was recorded: give it again when it is whole",
            )
        else:
            batch.append(found)
        if len(batch) == CHUNK:
            yield from record(batch, terms.rules, clock, terms.replay, terms.linking)
            batch = []
    if batch:
        yield from record(batch, terms.rules, clock, terms.replay, terms.linking)


def _is_waited_for(refused: Refused, patience: float, now: datetime) -> bool:
    if not refused.wait or refused.trouble or refused.signature is None:
        return refused.wait
    return now.timestamp() - max(refused.signature.mtime_ns, refused.signature.ctime_ns) / 1e9 < patience
