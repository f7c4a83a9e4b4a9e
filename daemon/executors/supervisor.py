"""Starts the process that runs bundles, renews its lease, enforces the time limit and tells how it died.

The component's own thread never renews: one that holds the interpreter for minutes keeps its lease, one that is gone
loses it. The process is made by `subprocess`, never forked from this one, which has threads.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

from astra import queue
from astra.clock import Clock
from astra.config import Settings
from astra.database.connection import available
from astra.errors import DatabaseUnavailable
from astra.inhand import InHand
from astra.work import Claimed
from daemon.executors import Ending
from daemon.logs import event

log = logging.getLogger(__name__)
_STOP_SECONDS = 5.0
_WORD_SECONDS = 5.0
_LONGEST_BACKOFF = 30.0


@dataclass
class _Running:
    claimed: Claimed
    since: float
    renewed: float
    token: str | None = None
    lost: float | None = None


class Supervisor:
    """One worker process and the bundle it runs."""

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None]) -> None:
        self._settings, self._clock, self._wake = settings, clock, wake
        self._process: subprocess.Popen[str] | None = None
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._running: _Running | None = None
        self._in_hand = InHand()
        self._failures, self._start_at = 0, 0.0

    @property
    def bundle(self) -> int | None:
        """The bundle that is on its way or running."""
        return self._running.claimed.bundle if self._running else None

    @property
    def idle(self) -> bool:
        """Whether a bundle can be handed over."""
        return self._running is None and self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the worker process. Call it from the thread that lives longest: the worker dies with that thread."""
        command = [sys.executable, "-m", "daemon.executors.worker", str(os.getpid())]
        self._messages = SimpleQueue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
            pass_fds=(self._in_hand.descriptor,),
        )  # fmt: skip
        database = self._settings.database
        first = {"url": database.url, "synchronous": database.synchronous, "in_hand": self._in_hand.descriptor}
        self._send({**first, "output": str(self._settings.output.root)})
        threading.Thread(target=self._read, args=(self._process, self._messages), daemon=True).start()

    def submit(self, claimed: Claimed, now: float) -> None:
        """Hand a claimed bundle to the worker."""
        self._running = _Running(claimed, now, now)
        self._in_hand.set(None)
        lease = self._settings.scheduler.lease
        self._send({"bundle": claimed.bundle, "size": claimed.size, "token": claimed.token, "lease": lease})

    def turn(self, now: float) -> Ending | None:
        """Hear the worker, renew its lease, stop it where it has run too long; return the bundle that ended."""
        ending = self._hear(now)
        if ending is None and self._process is not None and self._process.poll() is not None:
            # its children may hold the pipe open, so its end need not be heard of
            ending = self._died(_how_it_died(self._process.returncode), now)
        if self._process is None and now >= self._start_at:
            self.start()
        if ending is not None or self._running is None:
            return ending
        if now - self._running.since > self._settings.executor.timeout:
            self._kill()
            return self._end(f"stopped: it ran longer than {self._settings.executor.timeout:g} s", died=True)
        if self._running.lost is not None:
            # The last chunk may have ended the bundle a moment ago, and the worker's own word is on its way.
            if now - self._running.lost > _WORD_SECONDS:
                self._kill()
                return self._end("stopped: its bundle had been taken over")
            return None
        if self._running.token and now - self._running.renewed > self._settings.scheduler.lease / 3:
            self._renew(self._running, now)
        return None

    def stop(self) -> int | None:
        """End the worker now, and return the bundle it was running."""
        bundle = self.bundle
        if self._process is not None:
            self._kill()
        self._running = None
        self._in_hand.close()
        return bundle

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # a worker that is gone is told of by its end of the other pipe
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self, process: subprocess.Popen[str], messages: SimpleQueue[dict[str, Any]]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                messages.put(json.loads(line))
                self._wake()
        process.wait()
        messages.put({"gone": process.returncode})
        self._wake()

    def _hear(self, now: float) -> Ending | None:
        while True:
            try:
                message = self._messages.get_nowait()
            except Empty:
                return None
            if "gone" in message:
                return self._died(_how_it_died(message["gone"]), now)
            if "ready" in message:
                self._failures = 0
            if self._running is None:
                continue
            if "ready" in message:
                self._running.since = now  # the time to start the worker is not the bundle's
            if message.get("started") == self._running.claimed.bundle:
                self._running.token = message["token"]
                self._running.since = self._running.renewed = now
            elif message.get("ended") == self._running.claimed.bundle:
                return self._end(message["trouble"])

    def _died(self, trouble: str, now: float) -> Ending | None:
        """Take note of the worker's end; one that cannot even start is not started again and again without a pause."""
        event(log, "worker_died", logging.WARNING, reason=trouble, bundle=self.bundle)
        self._kill()
        self._start_at = now + (min(_LONGEST_BACKOFF, 2.0 ** (self._failures - 1)) if self._failures else 0.0)
        self._failures += 1
        return self._end(trouble, died=True) if self._running else None

    def _end(self, trouble: str | None, died: bool = False) -> Ending:
        assert self._running is not None
        ending = Ending(self._running.claimed.bundle, trouble, died, self._in_hand.get() if died else None)
        self._running = None
        return ending

    def _renew(self, running: _Running, now: float) -> None:
        assert running.token is not None
        until = self._clock.now() + timedelta(seconds=self._settings.scheduler.lease)
        try:
            with available():
                held = queue.renew(running.claimed.bundle, running.token, until)
        except DatabaseUnavailable as error:
            event(log, "lease_not_renewed", logging.WARNING, bundle=running.claimed.bundle, reason=str(error))
            return
        running.renewed = now
        if not held:
            running.lost = now

    def _kill(self) -> None:
        process, self._process = self._process, None
        self._messages = SimpleQueue()
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the programs that a component started
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel ends when its disk answers
            process.wait(_STOP_SECONDS)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()


def _how_it_died(status: int) -> str:
    return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"
