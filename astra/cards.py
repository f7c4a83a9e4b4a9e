"""The values of FITS header cards, straight from their bytes, by the rules of the standard (version 4.0, section 4).

Comes from `headers`, which knows where a header ends. Only wanted cards are looked at; the first of a keyword counts.
A value that the standard does not allow is None: released files hold a bare NAN.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

Value: TypeAlias = str | int | float | bool | None

_INTEGER = re.compile(rb"[+-]?\d+\Z")
_REAL = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?\Z")
# A value that can be taken as it stands: a number, whole where it has no second part, or a string with no quote in it
# that no other card continues.
_PLAIN = re.compile(
    rb"= ++(?:([+-]?\d++(\.\d*+(?:[Ee][+-]?\d++)?+|[Ee][+-]?\d++)?+) *+(?:/|\Z)|'([^'&\x80-\xff]*+)'(?!'))"
)


@lru_cache(maxsize=64)
def _padded(wanted: frozenset[str]) -> dict[bytes, str]:
    return {key.ljust(8).encode("ascii"): key for key in wanted}


class _Layout(NamedTuple):
    """Where in a header the first card of each wanted keyword is: their places, and what takes them all out of it."""

    keys: tuple[str, ...]
    places: tuple[int, ...]
    cut: Callable[[bytes], tuple[bytes, ...]]


@lru_cache(maxsize=512)
def _layout(words: bytes, wanted: frozenset[str]) -> _Layout:
    """Return where the wanted cards are, given the keywords of all.

    In `words` come all first letters, then all second letters: so they are told from a header in eight slices. Files of
    one product type mostly have the same keywords, so the answer is mostly known.
    """
    count, keys = len(words) // 8, _padded(wanted)
    found: dict[str, int] = {}
    for place in range(count):
        key = keys.get(words[place::count])
        if key is not None:
            found.setdefault(key, place)
    gaps = [place - before - 1 for before, place in pairwise((-1, *found.values()))]
    cut = struct.Struct("".join(f"{80 * gap}x80s" for gap in gaps))
    return _Layout(tuple(found), tuple(found.values()), cut.unpack_from)


def values(header: bytes, wanted: frozenset[str]) -> tuple[dict[str, Value], dict[str, bytes]]:
    """Return the values, and the cards as they stand, of the first card of each wanted keyword."""
    keys, places, cut = _layout(b"".join([header[letter::80] for letter in range(8)]), wanted)
    images, match = cut(header), _PLAIN.match
    found: dict[str, Value] = {}
    for key, image, place in zip(keys, images, places, strict=True):
        plain = match(image, 8)
        if plain is None:
            found[key] = _value(image, header, place)
            continue
        number, part, text = plain.groups()
        if part is not None:
            found[key] = float(number)
        elif number is not None:
            found[key] = int(number)
        else:
            found[key] = text.decode("ascii").rstrip(" ")
    return found, dict(zip(keys, images, strict=True))


def whole_number(text: str) -> int | None:
    """Return the whole number that a text is, blanks around it apart, or None."""
    token = text.strip().encode("ascii", "replace")
    return int(token) if _INTEGER.match(token) else None


def real_number(text: str) -> float | None:
    """Return the number that a text is, blanks around it apart, or None."""
    token = text.strip().encode("ascii", "replace")
    return _real(token) if _REAL.match(token) else None


def _value(image: bytes, header: bytes, place: int) -> Value:
    """Return the value of any card, by the rules of the standard; None where it has no legal one."""
    token = image[10:].partition(b"/")[0].strip()
    if image[8:10] != b"= ":
        return None
    if token[:1] == b"'":
        return _string(image[10:].lstrip(), header, place)
    if _REAL.match(token):
        return int(token) if _INTEGER.match(token) else _real(token)
    return {b"T": True, b"F": False}.get(token)


def _real(token: bytes) -> float:
    return float(token.upper().replace(b"D", b"E"))


def _string(body: bytes, header: bytes, place: int) -> str | None:
    """Return a quoted string, with the CONTINUE cards that belong to it."""
    part = _quoted(body)
    pieces = []
    while part is not None and part.endswith(b"&"):
        place += 1
        following = header[place * 80 : place * 80 + 80]
        if not following.startswith(b"CONTINUE  "):
            break
        pieces.append(part[:-1])
        part = _quoted(following[10:].lstrip())
    if part is None:
        return None
    try:
        return b"".join([*pieces, part]).decode("ascii").rstrip(" ")
    except UnicodeDecodeError:
        return None


def _quoted(body: bytes) -> bytes | None:
    """Return what stands between the quotes at the beginning of `body`, two quotes meaning one."""
    end = body.find(b"'", 1)
    while end >= 0 and body[end + 1 : end + 2] == b"'":
        end = body.find(b"'", end + 2)
    return None if end < 0 or body[:1] != b"'" else body[1:end].rstrip(b" ").replace(b"''", b"'")
