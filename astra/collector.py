"""Python's collector of cycles, kept away from work that makes many small values, none of them in a cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector away for a moment: it would go through all that is made, again and again, and free nothing.

    Where two threads do so at once it may be back for the second a little early, which costs time and no more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
