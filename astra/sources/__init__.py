"""From what headers say of an object to a source, and the links between data products and sources.

`chain` is the order in which an object is looked for, `pool` what the records hold of it, `matching` the decision,
`links` the rows that tell it, `merging` what happens where two sources turn out to be one. A source that only headers
know is *provisional*: by the object's name at the latest, all visits and stars of one object come to share it, whatever
the release, until a catalogue has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from astra.collector import uncollected
from astra.sources import links, merging
from astra.sources.links import Claim as Claim
from astra.sources.matching import Matcher

# Held by whoever makes, completes or merges sources: two at once would make two sources of one object.
LOCK = int.from_bytes(hashlib.sha256(b"astra sources").digest()[:8], "big", signed=True)
RADIUS = 3.0  # arcseconds


def link(claims: Sequence[Claim], now: datetime, radius: float = RADIUS) -> dict[int, int | None]:
    """Find or make the source of each data product and link them, in the caller's transaction.

    A link that says the same as before stands; any other is a new row, and the old one says what superseded it.
    Without a valid identifier the link has no source, and says why.

    Parameters
    ----------
    claims
        What the files say, and the links that stand. The caller holds `LOCK`.
    now
        The instant that is recorded.
    radius
        How far from a header's position the catalogue is searched, in arcseconds.

    Returns
    -------
    dict
        The source of each data product by key, None where there is none.
    """
    if not claims:
        return {}
    with uncollected():
        return _link(claims, now, radius)


def _link(claims: Sequence[Claim], now: datetime, radius: float) -> dict[int, int | None]:
    targets = [claim.target for claim in claims]
    matcher = Matcher(targets, radius)
    matches = matcher.results(targets)
    matcher.write(now)
    links.write([(c, m) for c, m in zip(claims, matches, strict=True) if links.is_news(c, m)], now)
    merging.merge(matcher.merges(), now)
    return {c.data_product: m.source.id if m.source else None for c, m in zip(claims, matches, strict=True)}
