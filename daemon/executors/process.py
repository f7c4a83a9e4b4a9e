"""One process that runs bundles, as its supervisor has it: started, told, heard, ended.

The process is made by `subprocess`, never forked from this one, which has threads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from queue import Empty, SimpleQueue
from typing import Any

from astra.clock import Clock
from astra.config import Settings
from astra.inhand import InHand
from astra.work import Load
from daemon.executors import memory, output, stacks
from daemon.executors.guard import Bounds, Guard, Watched
from daemon.executors.memory import MEGABYTE, Family
from daemon.executors.output import Printed, log_file
from daemon.executors.stacks import Stacks

_STOP_SECONDS = 5.0
_WORD_SECONDS = 1.0
_PIPE_BYTES = 1 << 20  # a load is written at once, whether or not the process listens already


class WorkerProcess:
    """A process, what it shares with this one, and the two threads that hear it and watch over it.

    Make it in the thread that lives longest: the process dies with that thread.
    """

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.in_hand, self.stacks, self.printed = InHand(), Stacks(), Printed()
        self._shared = (self.in_hand, self.stacks, self.printed)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daemon.executors.worker", str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
                pass_fds=[each.descriptor for each in self._shared],
            )  # fmt: skip
        except OSError:
            for each in self._shared:
                each.close()
            raise
        self._family = Family(self._process.pid)
        self._most = settings.log.most * MEGABYTE
        self.log = log_file(settings.bundle_logs, self._process.pid, clock.now())
        watched = Watched(self._process, self.in_hand, self.stacks, self.printed, self.log)
        self.guard = Guard(watched, Bounds(settings.executor.grace, self._most), clock)
        self._greet(settings)
        self._reader = threading.Thread(target=self._read, name=f"reader of {self._process.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def gone(self) -> bool:
        """Whether the process is gone, or was ended so that it can do nothing more, with all that it started."""
        return not self.guard.stopping and (not self.lives or self.guard.verdict is not None)

    def how_it_died(self) -> str:
        """Return how the process ended, in words."""
        status = self._process.returncode
        if status is None:
            return "its process could not be ended"
        return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"

    def hand_over(self, load: Load) -> None:
        """Give the process a load to run."""
        bundles = [(each.bundle, each.size, each.token, each.key) for each in load.bundles]
        self._send({"bundles": bundles, "lease": load.lease, "retry": load.retry})

    def hear(self) -> Iterator[dict[str, Any]]:
        """Yield what the process has said since the last time."""
        while True:
            try:
                yield self._messages.get_nowait()
            except Empty:
                return

    def printed_by_last(self) -> tuple[int, tuple[str, int, int]] | None:
        """Return which bundle of its load this process, which is gone, was at, and where what that printed lies."""
        part = self.printed.get()
        if part is None:
            return None
        try:
            with self.log.open("r+b") as file, self.printed.held():
                with suppress(OSError):  # a full disk, say
                    output.cut(file.fileno(), self.printed, self._most)
                end = os.fstat(file.fileno()).st_size
        except OSError:
            return None
        return (part.bundle, (str(self.log), part.start, end)) if end > part.start else None

    def let_go(self) -> None:
        """Have an idle process end by itself."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process and what it started, if they are there, and hear its last words."""
        members = self._family.members()
        self._family.signal(signal.SIGKILL)  # with the programs that a component started
        memory.send(members, signal.SIGKILL)  # also with those that left its group
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel ends when its disk answers
            self._process.wait(_STOP_SECONDS)
        self._reader.join(_WORD_SECONDS)  # a child that left its group may hold the pipe open
        self.guard.end()
        self.let_go()

    def close(self) -> None:
        """Give back what was shared with a process that is gone, and leave no empty log behind."""
        for each in self._shared:
            each.close()
        with suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()

    def _greet(self, settings: Settings) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # more than this system allows
            fcntl(self._process.stdin.fileno(), F_SETPIPE_SZ, _PIPE_BYTES)
        shared = {
            "in_hand": self.in_hand.descriptor,
            "stacks": self.stacks.descriptor,
            "printed": self.printed.descriptor,
        }
        log = {"log": str(self.log), "most": self._most, "level": settings.log.level, "late": stacks.START_SECONDS}
        database = {"url": settings.database.url, "synchronous": settings.database.synchronous}
        self._send({**shared, **log, **database, "output": str(settings.output.root)})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # of a process that is gone its end tells
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:  # it was killed in mid-word
                    break
                if "ready" in message:
                    self.guard.ready()
                elif "idle" in message:
                    self.guard.rest()
                self._messages.put(message)
                if "started" not in message:  # which calls for nothing, and the process has better use for this moment
                    self._wake()
        self._process.wait()
        self._wake()
