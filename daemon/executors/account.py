"""What a process keeps of each bundle that it runs: its peak of memory, and what it printed and logged.

All that it prints goes to one file, so a bundle costs no file of its own: it has the part between two places. Looking
at the memory takes longer than a short bundle, so that is done ten times a second at most.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from astra.clock import Clock
from daemon.executors import memory, output
from daemon.executors.output import Part, Printed

_LOOK_EVERY = 0.1
_LINE_BUFFERED = 1  # of C's setvbuf


class BundleAccount:
    """The account of one bundle after another.

    Parameters
    ----------
    log
        The file to print to; it and its folder are made when the first bundle begins.
    most
        How many bytes of it one bundle may take.
    printed
        Where the supervisor learns which part is being written.
    clock
        The clock.
    """

    def __init__(self, log: Path, most: int, printed: Printed, clock: Clock) -> None:
        self._log, self._most, self._printed, self._clock = log, most, printed, clock
        self._file: int | None = None
        self._refused = False
        self._peak: int | None = None
        self._reset_at = self._looked_at = -_LOOK_EVERY

    def begin(self, index: int) -> None:
        """Begin the account of the bundle at this place of its load."""
        if self._file is None and not self._refused:
            self._open()
        if self._file is not None:
            _flush()
            self._printed.set(Part(index, os.fstat(self._file).st_size, 0))
        now = self._clock.monotonic()
        if now - self._reset_at >= _LOOK_EVERY:
            memory.forget_peak()
            self._reset_at, self._peak = now, None

    def end(self) -> tuple[int | None, tuple[str, int, int] | None]:
        """Return the peak of memory in bytes, and the log's path with where what was printed begins and ends in it."""
        now = self._clock.monotonic()
        if self._peak is None or now - self._looked_at >= _LOOK_EVERY:
            self._peak, self._looked_at = memory.peak(os.getpid()), now
        return self._peak, self._printed_part()

    def _printed_part(self) -> tuple[str, int, int] | None:
        if self._file is None:
            return None
        _flush()
        output.cut(self._file, self._printed, self._most)
        part, size = self._printed.get(), os.fstat(self._file).st_size
        return (str(self._log), part.start, size) if part is not None and size > part.start else None

    def _open(self) -> None:
        """Let standard output and error go to the file from now on; where it cannot be had, they stay as they are."""
        _flush()
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            self._refused = True
            print(f"cannot keep what bundles print in {self._log}: {error.strerror}; it goes here", file=sys.stderr)
            return
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINE_BUFFERED, 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # a component may have put another, or none, in its place
            stream.flush()
