"""The order in which a catalogue is asked for an object, and what counts as an answer at each step.

A step finds the sources that come into question, and chooses one of them, or none where that would be a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from astra.sources.pool import KnownSource

# The nearest of several is the one meant, where it is nearer than the next by so much: blends of an arcsecond are told
# apart by a position good to a tenth, and two that lie alike are not.
CLEARER_BY, CLEARER_TIMES = 0.3, 2.0  # arcseconds; and at most so large a part of the next one's separation


class Candidate(NamedTuple):
    """A source that comes into question: the edition that says so, its rank, and how far off it is, if it is known."""

    source: KnownSource
    version: str
    rank: int | None
    separation: float | None


Choose = Callable[[Sequence[Candidate]], Candidate | None]


def only(candidates: Sequence[Candidate]) -> Candidate | None:
    """Choose the one there is."""
    return candidates[0] if len(candidates) == 1 else None


def nearest(candidates: Sequence[Candidate]) -> Candidate | None:
    """Choose the one there is, or the clearly nearest."""
    if len(candidates) == 1:
        return candidates[0]
    if any(each.separation is None for each in candidates):
        return None
    first, second, *_ = sorted(candidates, key=lambda each: each.separation or 0.0)
    near, next_ = first.separation or 0.0, second.separation or 0.0
    return first if next_ - near >= CLEARER_BY and next_ >= CLEARER_TIMES * near else None


def lowest_rank(candidates: Sequence[Candidate]) -> Candidate | None:
    """Choose the one of the lowest rank, by which the survey says which of several sdss_ids of a catalogid it means."""
    ranks = [each.rank if each.rank is not None else 1 for each in candidates]
    return nearest([each for each, rank in zip(candidates, ranks, strict=True) if rank == min(ranks)])


class Step(NamedTuple):
    """One way of finding an object in a catalogue: by a kind of identifier, or, where that is None, by its place."""

    method: str
    kind: str | None
    choose: Choose


CHAIN: Final = (
    Step("sdss_id", "sdss_id", only),
    Step("catalogid31", "catalogid31", lowest_rank),
    Step("catalogid25", "catalogid25", lowest_rank),
    Step("catalogid21", "catalogid21", lowest_rank),
    Step("gaia_dr3", "gaia_dr3", nearest),
    Step("gaia_dr2", "gaia_dr2", nearest),
    Step("tmass", "tmass", nearest),
    Step("apogee", "apogee", only),
    Step("cone", None, nearest),
)
STEPS: Final = {step.kind: step for step in CHAIN if step.kind is not None}
# What a link says where no catalogue has the object: only other headers know it, or nothing names it.
HEADER, NONE = "header", "none"
