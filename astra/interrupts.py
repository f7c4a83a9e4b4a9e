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
    """Whether interrupts are held back now, and how many have come meanwhile; whether the signal is ours."""

    on = False
    waiting = 0
    ours = False


def _keep(number: int, frame: FrameType | None) -> None:
    if not _Hold.on:
        raise KeyboardInterrupt
    _Hold.waiting += 1


@contextmanager
def held_back() -> Iterator[None]:
    """Hold interrupts back; the first that came is raised at the end, when nothing is half done any more."""
    if _Hold.on or threading.current_thread() is not threading.main_thread():
        yield
    elif _Hold.ours:  # inside `let_through`, inside another of these: asking the system again would cost more
        _Hold.on = True
        try:
            yield
        finally:
            _Hold.on = False
        _raise_waiting()
    elif signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
    else:
        _Hold.on, _Hold.ours, _Hold.waiting = True, True, 0
        signal.signal(signal.SIGINT, _keep)
        try:
            yield
        finally:
            _Hold.on = _Hold.ours = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
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
