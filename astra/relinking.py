"""Look again for the sources of what is unmatched, known by headers alone, or in conflict: a chunk at a time.

Comes from `astra catalog relink` and, in the service, from the calendar; goes to `sources`. A better link supersedes,
and the old row stands. Interrupted anywhere, it is begun again and finds what is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from astra import sources
from astra.catalogue.consulting import LOCAL, Linking, consult, owed_since
from astra.clock import SYSTEM, Clock
from astra.database.connection import alone, execute, run
from astra.database.fields import instant_text
from astra.products import product_types
from astra.products.base import Target
from astra.sources import Claim

CHUNK = 1_000  # links looked at in one transaction

_UNCONFIRMED: Final = "l.method IN ('header', 'none')"
_CONFLICT: Final = "l.conflict IS NOT NULL"
_THERE: Final = "l.id <= {last}"  # when it began; links that are made meanwhile are only looked at if they need it
USUAL: Final = (_UNCONFIRMED, _CONFLICT)  # each has an index of its own
EVERYTHING: Final = (_THERE, *USUAL)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come: which of the conditions is at hand, after which link, and what came of it so far."""

    conditions: tuple[str, ...]
    began: str
    last: int
    after: int = 0
    looked: int = 0
    changed: int = 0
    survey_asked: int = 0
    survey_away: str | None = None

    @property
    def ended(self) -> bool:
        """Whether everything has been looked at."""
        return not self.conditions


def is_due(linking: Linking = LOCAL) -> bool:
    """Return whether a catalogue has come, or has come back, in which the unconfirmed were not looked for yet."""
    query = f"SELECT 1 FROM catalogue WHERE loaded IS NOT NULL AND relinked IS NULL {_asked(linking)} LIMIT 1"
    return bool(run(query))


def _asked(linking: Linking) -> str:
    """Return the condition of the editions that can be looked at: without a survey, those of files."""
    return "" if linking.survey else "AND sha256 IS NOT NULL"


def begin(linking: Linking = LOCAL, conditions: tuple[str, ...] = USUAL, clock: Clock = SYSTEM) -> Progress:
    """Return the beginning; with `EVERYTHING`, of a look at links that are confirmed as well.

    Where there is no catalogue at all, that is the end as well.
    """
    began = instant_text(clock.now())
    assert began is not None
    if linking.survey is None and not run("SELECT 1 FROM catalogue LIMIT 1"):
        return Progress((), began, 0)
    last = run("SELECT coalesce(max(id), 0) FROM source_data_product")[0][0]
    if linking.survey is not None and (since := owed_since()) is not None:
        first = run("SELECT coalesce(min(id), 0) FROM source_data_product WHERE created >= ?", (since,))[0][0]
        conditions = (*conditions, f"l.id >= {first}")
    return Progress(conditions, began, last)


def step(so_far: Progress, linking: Linking = LOCAL, clock: Clock = SYSTEM) -> Progress:
    """Look at the next `CHUNK` links, and return how far it has come; at the end, note in which catalogues."""
    if so_far.ended:
        return so_far
    rows = _read(so_far)
    if not rows:
        after = so_far.last if so_far.conditions[0] is _THERE else 0
        left = replace(so_far, conditions=so_far.conditions[1:], after=after)
        if left.ended:
            _end(left, linking)
        return left
    consulted = consult(linking, [_target(*row[4:]) for row in rows], clock)
    with alone(sources.LOCK):
        rows = _read(so_far)  # as they are now that nobody else may change them
        claims = [Claim(row[1], _target(*row[4:]), row[0], row[2], row[3], row[7]) for row in rows]
        sources.link(claims, clock.now(), linking.radius)
        changed = _changed([row[0] for row in rows])
    return replace(
        so_far,
        after=rows[-1][0] if rows else so_far.after,
        looked=so_far.looked + len(rows),
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
    progress = begin(linking, conditions, clock)
    while not progress.ended:
        progress = step(progress, linking, clock)
        told(progress)
    return progress


def _read(so_far: Progress) -> list[Any]:
    return run(
        "SELECT l.id, p.id, l.source_id, l.method, p.release, p.filetype, p.metadata, l.conflict "
        "FROM source_data_product l JOIN data_product p ON p.id = l.data_product_id "
        f"WHERE l.superseded_by_id IS NULL AND {so_far.conditions[0].format(last=so_far.last)} AND l.id > ? "
        f"AND p.filetype IN ({', '.join(map(repr, product_types()))}) "
        f"ORDER BY l.id LIMIT {CHUNK}",
        (so_far.after,),
    )


def _target(release: str, filetype: str, metadata: str, *_: object) -> Target:
    return product_types()[filetype].target(release, json.loads(metadata))


def _changed(links: Sequence[int]) -> int:
    marks = ", ".join(map(str, links))
    if not links:
        return 0
    query = f"SELECT count(*) FROM source_data_product WHERE superseded_by_id IS NOT NULL AND id IN ({marks})"
    return int(run(query)[0][0])


def _end(progress: Progress, linking: Linking) -> None:
    """Note that the unconfirmed were looked for in all catalogues that were there when it began."""
    asked = _asked(LOCAL if progress.survey_away else linking)
    execute(
        f"UPDATE catalogue SET relinked = ? WHERE relinked IS NULL AND loaded <= ? {asked}",
        (progress.began, progress.began),
    )
