"""The service that the demo shows, as a process of its own: a person sees both programs as they are used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from astra.clock import SYSTEM, Clock
from astra.errors import AstraError

START_SECONDS, STOP_SECONDS = 20.0, 20.0
HEAR_SECONDS = 0.25
SOURCES = Path(__file__).parents[3]  # found from there too where nothing is installed


def environment() -> dict[str, str]:
    """Return the environment without what points astra at another database or place for its state."""
    hidden = ("STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    return {k: v for k, v in os.environ.items() if not k.startswith("ASTRA_") and k not in hidden}


@dataclass(frozen=True, slots=True)
class Service:
    """The running process, and the file with what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def refuse_dead(self) -> None:
        """Raise `AstraError`, with the end of the log, where the process has ended."""
        if self.process.poll() is not None:
            said = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            lines = "\n  ".join(["", *said])
            raise AstraError(
                f"astrad ended with status {self.process.returncode}; the end of its log {self.log}:{lines}"
            )

    def stop(self) -> int:
        """Ask it to stop, as systemd does, see that it has, and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@contextmanager
def started(config: Path, log: Path, clock: Clock = SYSTEM) -> Iterator[Service]:
    """Start the service with these settings, wait until it says that it is ready, and leave none behind."""
    with (
        tempfile.TemporaryDirectory(prefix="astra-demo-") as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        log.open("wb") as said,
    ):
        ready.bind(f"{place}/ready")
        python_path = os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(config)],
            cwd=config.parent,
            env={**environment(), "PYTHONPATH": python_path, "NOTIFY_SOCKET": f"{place}/ready"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        service = Service(process, log)
        try:
            _wait_until_ready(service, ready, clock)
            yield service
        finally:
            service.stop()


def _wait_until_ready(service: Service, ready: socket.socket, clock: Clock) -> None:
    ready.settimeout(HEAR_SECONDS)
    deadline = clock.monotonic() + START_SECONDS
    while clock.monotonic() < deadline:
        service.refuse_dead()
        try:
            if b"READY=1" in ready.recv(4096):
                return
        except TimeoutError:
            continue
    raise AstraError(f"astrad was not ready within {START_SECONDS:g} s; its log is {service.log}")
