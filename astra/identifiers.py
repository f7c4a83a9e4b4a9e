"""What names an object: the kinds of identifier, which texts can be one, and what a catalogid tells of itself.

Every identifier is text from the header or the catalogue to the last page: a number of 19 digits does not survive a
float, nor a JSON number in a browser.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

# In the order in which they are tried, the surest first.
KINDS: Final = ("sdss_id", "catalogid31", "catalogid25", "catalogid21", "gaia_dr3", "gaia_dr2", "tmass", "apogee")
CATALOGIDS: Final = ("catalogid31", "catalogid25", "catalogid21")
# The kinds that name one source each, by the table's own unique index; the others may be shared by blends.
UNIQUE: Final = frozenset({"sdss_id", "apogee"})
NUMBERS: Final = frozenset(KINDS[:6])

LONGEST_NAME: Final = 64  # a FITS card holds 68 characters; an index of PostgreSQL some 2,700 bytes

# A catalogid begins with 11 bits that say which cross-match made it (v0.1, v0.5, v1.0).
_CROSS_MATCH = {0: "catalogid21", 3: "catalogid25", 7: "catalogid31"}
_RUN_BITS = 53
_NAMELESS = frozenset({"", "-", "2m", "2mnone", "none", "nan", "null", "ap", "j", "unknown"})
_TMASS = re.compile(r"\d{8}[+-]\d{7}\Z")
_NUMBER = re.compile(r"[1-9]\d{0,18}\Z", re.ASCII)


class Identifier(NamedTuple):
    """One name of an object: its kind, one of `KINDS`, and its text."""

    kind: str
    value: str


@lru_cache(maxsize=4096)  # asked several times of each name, and a star's visits share it
def valid(kind: str, value: str) -> bool:
    """Return whether an identifier can name a source: a number above 0 that fits 64 bits, or the name of an object.

    Sentinels (``-``, ``2M``, ``2MNone``, ``nan``, 0, -1, -999) and coordinates without a name never do.
    """
    if kind in NUMBERS:
        return _NUMBER.match(value) is not None and int(value) < 1 << 63
    if kind == "tmass":
        return value.isascii() and _TMASS.match(value) is not None
    if kind == "apogee":
        named = value.lower() not in _NAMELESS and any(letter.isalpha() for letter in value)
        return named and value.isprintable() and value.strip() == value and len(value) <= LONGEST_NAME
    return False


def catalogid_kind(catalogid: int) -> str | None:
    """Return which cross-match a catalogid is of, as a kind of identifier; None where it is of none we know."""
    return _CROSS_MATCH.get(catalogid >> _RUN_BITS) if catalogid > 0 else None
