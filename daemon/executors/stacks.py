"""Where each thread of a process was: written by the process in whatever state it is, read by its supervisor.

`faulthandler` writes without the interpreter's lock: when it is asked by a signal, when the process dies of one, and
when a load is not started in time.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal

ASK = signal.SIGUSR2
START_SECONDS = 30.0
"""After which a process that was handed a load, and has not started it, tells where it is."""

_MOST = 20_000  # bytes


class Stacks:
    """Text in memory that is shared by all who have the descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("astra-stacks") if descriptor is None else descriptor
        if descriptor is None:
            flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)  # emptied, it is written from its start

    def tell(self) -> None:
        """Have this process write its stacks here when it is asked for them, and when it dies of a fault."""
        faulthandler.enable(self.descriptor, all_threads=True)
        faulthandler.register(ASK, self.descriptor, all_threads=True, chain=False)

    def tell_late(self, seconds: float) -> None:
        """Have this process write its stacks here when so many seconds have passed, and it was not `in_time`."""
        faulthandler.dump_traceback_later(seconds, file=self.descriptor)

    def in_time(self) -> None:
        """Say that what was to be done in time is done."""
        faulthandler.cancel_dump_traceback_later()

    def clear(self) -> None:
        """Forget what was written."""
        os.ftruncate(self.descriptor, 0)

    def size(self) -> int:
        """Return how many bytes are written by now."""
        return os.fstat(self.descriptor).st_size

    def text(self) -> str | None:
        """Return what was written, or None."""
        return os.pread(self.descriptor, _MOST, 0).decode(errors="replace").strip() or None

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.descriptor)
