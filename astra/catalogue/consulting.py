"""Ask the survey's own catalogue for the objects of a batch, and take in the rows that come: then the batch is linked.

Comes from `ingest` and `relinking`; goes to `adopting`. Asking takes its time, so it is done before any transaction.
While the survey's database is away, products are linked by what is here, and it is kept in mind that they are to be
looked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from astra import sources
from astra.catalogue.adopting import CHUNK, Edition, adopt
from astra.catalogue.survey import SurveyCatalogue
from astra.clock import SYSTEM, Clock
from astra.config import Catalog
from astra.database.connection import alone, execute, run
from astra.database.fields import instant_text, read_instant
from astra.errors import CatalogueUnavailable
from astra.identifiers import Identifier, valid
from astra.products.base import Target
from astra.sources.pool import Pool

SURVEY = "catalogdb"  # the version under which it stands that the survey's catalogue is to be asked


@dataclass(frozen=True, slots=True)
class Linking:
    """How sources are looked for: how far from a position, in arcseconds, and whether the survey is asked."""

    radius: float = sources.RADIUS
    survey: SurveyCatalogue | None = None


LOCAL = Linking()


def linking_of(settings: Catalog, clock: Clock = SYSTEM) -> Linking:
    """Return how the settings have sources looked for. Nothing is asked of the survey's server yet."""
    if settings.url is None:
        return Linking(settings.radius)
    return Linking(settings.radius, SurveyCatalogue(settings.url, settings.radius, clock))


class Consulted(NamedTuple):
    """How many targets the survey was asked for, and why it could not be asked."""

    asked: int = 0
    away: str | None = None


def consult(linking: Linking, targets: Sequence[Target], clock: Clock) -> Consulted:
    """Take in what the survey's catalogue has of these targets and the records lack.

    Not within a transaction: the answer may take seconds.
    """
    survey = linking.survey
    if survey is None or not (unknown := _unknown(targets)):
        return Consulted()
    try:
        fetched = survey.fetch(unknown)
    except CatalogueUnavailable as error:
        with alone(sources.LOCK):
            _owe(survey, clock)
        return Consulted(0, str(error))
    for version, rows in groupby(sorted(fetched, key=attrgetter("version")), key=attrgetter("version")):
        found = [each.row for each in rows]
        for start in range(0, len(found), CHUNK):
            with alone(sources.LOCK):
                edition = _edition(version, survey.origin, clock)
                adopted = adopt(found[start : start + CHUNK], edition, clock.now())
                execute(
                    "UPDATE catalogue SET rows = rows + ? WHERE id = ?", (adopted.made + adopted.changed, edition.id)
                )
                if adopted.merged:  # products of theirs are to be looked for again
                    execute("UPDATE catalogue SET relinked = NULL WHERE id = ?", (edition.id,))
    return Consulted(len(unknown))


def _unknown(targets: Sequence[Target]) -> list[Target]:
    """Return the targets whose surest identifier no catalogue here has."""
    surest = {each: Identifier(*found) for each in targets if (found := _surest(each))}
    pool = Pool()
    pool.read(set(surest.values()))
    return [each for each, name in surest.items() if not any(h.version for h in pool.named.get(name, ()))]


def _surest(target: Target) -> Identifier | None:
    return next((each for each in target.identifiers if valid(*each)), None)


def owed_since() -> str | None:
    """Return the instant since which the survey could not be asked for what came; None where nothing is owed.

    What has been linked since by a catalogue here may have a better link there.
    """
    owed = run("SELECT created FROM catalogue WHERE version = ? AND relinked IS NULL", (SURVEY,))
    return instant_text(read_instant(owed[0][0])) if owed else None


def _owe(survey: SurveyCatalogue, clock: Clock) -> None:
    """Keep in mind that what comes from now on is to be looked for in the survey's catalogue."""
    edition, now = _edition(SURVEY, survey.origin, clock), instant_text(clock.now())
    execute(
        "UPDATE catalogue SET relinked = NULL, created = ? WHERE id = ? AND relinked IS NOT NULL", (now, edition.id)
    )


def _edition(version: str, origin: str, clock: Clock) -> Edition:
    """Return a version of the survey's own catalogue, recorded where it is new; in the caller's transaction."""
    found = run("SELECT id FROM catalogue WHERE version = ?", (version,))
    if not found:
        now = instant_text(clock.now())
        execute(
            "INSERT INTO catalogue (version, origin, rows, left_out, created, loaded, relinked) "
            "VALUES (?, ?, 0, 0, ?, ?, ?)",
            (version, origin, now, now, now),
        )
        found = run("SELECT id FROM catalogue WHERE version = ?", (version,))
    return Edition(found[0][0], version)
