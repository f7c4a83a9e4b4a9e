"""What a process keeps of each bundle that it runs: its peak of memory, and what it printed and logged.

All that it prints goes to one file, so a bundle costs no file of its own: it has the part between two places. Looking
at the memory takes longer than a short bundle, so that is done ten times a second at most. No result is lost for an
account that cannot be kept.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from astra.clock import Clock
from daemon.executors import memory, output
from daemon.executors.output import Part, Printed
from daemon.executors.surroundings import Surroundings, high

_LOOK_EVERY = 0.1
_LINE_BUFFERED = 1  # of C's setvbuf
_NOTHING = (None, None)


class BundleAccount:
    """The account of one bundle after another; each finds in its process what the first one found.

    Parameters
    ----------
    log
        The file to print to; it and its folder are made when the first bundle begins.
    most
        How many bytes of it one bundle may take.
    printed
        Where the supervisor learns which part is being written.
    surroundings
        What each bundle finds around it.
    clock
        The clock.
    """

    def __init__(self, log: Path, most: int, printed: Printed, surroundings: Surroundings, clock: Clock) -> None:
        self._log, self._most, self._printed, self._clock = log, most, printed, clock
        self._around = surroundings
        self._file: int | None = None
        self._refused = False
        self._peak: int | None = None
        self._reset_at = self._looked_at = -_LOOK_EVERY

    def begin(self, index: int) -> None:
        """Begin the account of the bundle at this place of its load."""
        try:
            self._begin(index)
        except (OSError, ValueError) as error:
            self._cannot("keep what a bundle prints", error)

    def end(self) -> tuple[int | None, tuple[str, int, int] | None]:
        """Return the peak of memory in bytes, and the log's path with where what was printed begins and ends in it."""
        try:
            return self._end()
        except (OSError, ValueError) as error:
            self._cannot("keep what a bundle printed", error)
            return _NOTHING

    def _begin(self, index: int) -> None:
        if self._file is None and not self._refused:
            self._open()
        self._around.put_back()
        now = self._clock.monotonic()
        if now - self._reset_at >= _LOOK_EVERY:
            memory.forget_peak()
            self._reset_at, self._peak = now, None
        if self._file is not None:
            with self._printed.held():
                self._printed.set(Part(index, os.fstat(self._file).st_size, 0))

    def _end(self) -> tuple[int | None, tuple[str, int, int] | None]:
        now = self._clock.monotonic()
        if self._peak is None or now - self._looked_at >= _LOOK_EVERY:
            self._peak, self._looked_at = memory.peak(os.getpid()), now
        self._around.flush()
        if (lost := self._around.loss()) is not None:
            self._cannot("keep all that a bundle printed", lost)
        return self._peak, self._printed_part()

    def _printed_part(self) -> tuple[str, int, int] | None:
        if self._file is None:
            return None
        with self._printed.held():
            try:
                output.cut(self._file, self._printed, self._most)
            except OSError as error:
                self._cannot("cut what a bundle printed", error)
            part, size = self._printed.get(), os.fstat(self._file).st_size
        return (str(self._log), part.start, size) if part is not None and size > part.start else None

    def _open(self) -> None:
        """Let standard output and error go to the file from now on; where it cannot be had, they stay as they are."""
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            self._file = high(opened)
            os.close(opened)
        except OSError as error:
            self._refused = True
            return self._cannot("keep what bundles print, which goes here,", error)
        self._around.print_to(self._file)
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINE_BUFFERED, 0)

    def _cannot(self, what: str, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) else str(error)
        self._around.tell(f"cannot {what} in {self._log}: {why}")
