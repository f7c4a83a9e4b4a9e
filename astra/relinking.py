"""Look again for the sources of what is unmatched, known by headers alone, or in conflict: a chunk at a time.

Comes from `astra catalog relink` and, in the service, from the calendar; goes to `sources`. A better link supersedes,
and the old row stands. Interrupted anywhere, it is begun again and finds what is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from astra import sources
from astra.catalogue.consulting import LOCAL, Linking, consult, owed_since
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone, execute, run
from astra.database.fields import instant_text
from astra.identifiers import valid
from astra.products import product_types
from astra.products.base import Target
from astra.sources import Claim

CHUNK = 500  # links looked at in one transaction
_ROUNDS = 3  # what a look moves to another source is looked at again, so often at most

# What a catalogue has not confirmed, or only by its place; and what is in conflict. Each has an index of its own.
_UNCONFIRMED: Final = "l.method IN ('header', 'none', 'cone')"
_CONFLICT: Final = "l.conflict IS NOT NULL"
USUAL: Final = (_UNCONFIRMED, _CONFLICT)
EVERYTHING: Final = ("1 = 1",)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come, and what came of it so far.

    `conditions` are those still to be looked at, the first after link `after`; `last` is the last link that was there
    when this round began, and `editions` are those that are looked for in.
    """

    conditions: tuple[str, ...]
    editions: tuple[int, ...]
    last: int
    after: int = 0
    round: int = 1
    looked: int = 0
    changed: int = 0
    survey_asked: int = 0
    survey_away: str | None = None

    @property
    def ended(self) -> bool:
        """Whether everything has been looked at."""
        return not self.conditions


class _Link(NamedTuple):
    """A link that stands, with what is kept of its data product."""

    id: int
    data_product: int
    source: int | None
    method: str
    conflict: str | None
    release: str
    filetype: str
    metadata: str

    def claim(self) -> Claim:
        """Return what the data product says of its object, beside the link."""
        target = _target(self.release, self.filetype, self.metadata)
        return Claim(self.data_product, target, self.id, self.source, self.method, self.conflict)


def _target(release: str, filetype: str, metadata: str) -> Target:
    """Return what a file said of its object, from what is kept of it."""
    return product_types()[filetype].target(release, json.loads(metadata))


def is_due(linking: Linking = LOCAL) -> bool:
    """Return whether a catalogue has come, or has come back, in which the unconfirmed were not looked for yet."""
    return bool(_due(linking))


def _due(linking: Linking) -> tuple[int, ...]:
    """Return the editions in which the unconfirmed were not looked for yet; without a survey, those of files."""
    asked = "" if linking.survey else "AND sha256 IS NOT NULL"
    return tuple(
        row[0] for row in run(f"SELECT id FROM catalogue WHERE loaded IS NOT NULL AND relinked IS NULL {asked}")
    )


def begin(linking: Linking = LOCAL, conditions: tuple[str, ...] = USUAL) -> Progress:
    """Return the beginning; with `EVERYTHING`, of a look at links that are confirmed as well.

    Where there is no catalogue at all, that is the end as well.
    """
    if linking.survey is None and not run("SELECT 1 FROM catalogue LIMIT 1"):
        return Progress((), (), 0)
    if linking.survey is not None and (since := owed_since()) is not None:
        first = run("SELECT coalesce(min(id), 0) FROM source_data_product WHERE created >= ?", (since,))[0][0]
        conditions = (*conditions, f"l.id >= {first}")
    return Progress(conditions, _due(linking), _last())


def step(so_far: Progress, linking: Linking = LOCAL, clock: Clock = SYSTEM) -> Progress:
    """Look at the next `CHUNK` links, and return how far it has come; at the end, note in which catalogues."""
    if so_far.ended:
        return so_far
    links = _read(so_far)
    if not links:
        return _next(so_far, clock)
    consulted = consult(linking, [each.claim().target for each in links], clock)
    with alone(sources.LOCK):
        links = _read(so_far)  # as they are now that nobody else may change them
        claims = [
            claim for claim in (each.claim() for each in links) if any(valid(*n) for n in claim.target.identifiers)
        ]
        sources.link(claims, clock.now(), linking.radius)
        changed = _changed([each.id for each in links])
    return replace(
        so_far,
        after=links[-1].id if links else so_far.after,
        looked=so_far.looked + len(links),
        changed=so_far.changed + changed,
        survey_asked=so_far.survey_asked + consulted.asked,
        survey_away=consulted.away or so_far.survey_away,
    )


def relink(
    linking: Linking = LOCAL,
    conditions: tuple[str, ...] = USUAL,
    clock: Clock = SYSTEM,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Look at all that is to be looked at, and return what came of it; `told` is called after each chunk."""
    progress = begin(linking, conditions)
    while not progress.ended:
        progress = step(progress, linking, clock)
        told(progress)
    return progress


def _last() -> int:
    return int(run("SELECT coalesce(max(id), 0) FROM source_data_product")[0][0])


def _next(so_far: Progress, clock: Clock) -> Progress:
    """Go on with the next condition; after the last with what was moved meanwhile, and then note that it is done."""
    left = replace(so_far, conditions=so_far.conditions[1:], after=0)
    if not left.ended:
        return left
    if (last := _last()) > so_far.last and so_far.round < _ROUNDS:
        moved = f"l.id > {so_far.last} AND {{}}"
        conditions = tuple(moved.format(each) for each in USUAL)
        return replace(left, conditions=conditions, last=last, round=so_far.round + 1)
    survey = " AND sha256 IS NOT NULL" if so_far.survey_away else ""
    if so_far.editions:
        keys = ", ".join(map(str, so_far.editions))
        execute(f"UPDATE catalogue SET relinked = ? WHERE id IN ({keys}){survey}", (instant_text(clock.now()),))
    return left


def _read(so_far: Progress) -> list[_Link]:
    rows = run(
        "SELECT l.id, p.id, l.source_id, l.method, l.conflict, p.release, p.filetype, p.metadata "
        "FROM source_data_product l JOIN data_product p ON p.id = l.data_product_id "
        f"WHERE l.superseded_by_id IS NULL AND {so_far.conditions[0]} AND l.id > ? AND l.id <= ? "
        f"AND p.filetype IN ({', '.join(map(repr, product_types()))}) ORDER BY l.id LIMIT {CHUNK}",
        (so_far.after, so_far.last),
    )
    return [_Link(*row) for row in rows]


def _changed(links: Sequence[int]) -> int:
    if not links:
        return 0
    marks = ", ".join(map(str, links))
    query = f"SELECT count(*) FROM source_data_product WHERE superseded_by_id IS NOT NULL AND id IN ({marks})"
    return int(run(query)[0][0])
