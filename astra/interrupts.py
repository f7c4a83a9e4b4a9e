"""Ctrl-C, held back while astra writes, and let through while the component works.

An interrupt in the middle of a transaction would leave it open, and one after the work would leave its end unrecorded.
Only a person's Ctrl-C in the main thread is held back, and only where nobody else has taken that signal over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Hold:
    """Whether interrupts are held back now, and how many have come meanwhile."""

    on = False
    waiting = 0


def _keep(number: int, frame: FrameType | None) -> None:
    if not _Hold.on:
        raise KeyboardInterrupt
    _Hold.waiting += 1


@contextmanager
def held_back() -> Iterator[None]:
    """Hold interrupts back; the first that came is raised at the end, when nothing is half done any more."""
    ours = threading.current_thread() is threading.main_thread() and not _Hold.on
    before = signal.getsignal(signal.SIGINT) if ours else None
    if not ours or before not in (signal.default_int_handler, _keep):
        yield
        return
    _Hold.on, _Hold.waiting = True, 0
    signal.signal(signal.SIGINT, _keep)
    try:
        yield
    finally:
        _Hold.on = False
        signal.signal(signal.SIGINT, before)
    _raise_waiting()


@contextmanager
def let_through() -> Iterator[None]:
    """Let interrupts through, those that have been held back first: the component's own code runs now."""
    if not _Hold.on or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Hold.on = False
    try:
        _raise_waiting()
        yield
    finally:
        _Hold.on = True


def _raise_waiting() -> None:
    if _Hold.waiting:
        _Hold.waiting = 0
        raise KeyboardInterrupt
