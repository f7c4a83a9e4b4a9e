"""What a component keeps between bundles of one key in one process: a model that takes long to load, say."""

from __future__ import annotations

from typing import Any

_latest: tuple[type | None, str, dict[str, Any]] = (None, "", {})


def of(component: type, key: str) -> dict[str, Any]:
    """Return what is kept for a component's bundles of this key; of any other nothing is kept from now on."""
    global _latest
    # by the class itself: one defined anew in a notebook may load another thing
    if _latest[0] is not component or _latest[1] != key:
        _latest = component, key, {}
    return _latest[2]


def forget_all_but(key: str) -> None:
    """Give back what is kept for bundles of another key than the one that comes next."""
    global _latest
    if _latest[1] != key:
        _latest = None, "", {}
