"""Tell systemd how the service is doing, where systemd asked to be told (sd_notify)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(*fields: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send fields such as ``READY=1`` or ``STATUS=3 bundles running``; return whether somebody took them."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.connect(address)
            sender.sendall("\n".join(fields).encode())
    except OSError:
        return False  # a supervisor that is gone or too busy must not stop the service
    return True


def watchdog_interval(environ: Mapping[str, str] | None = None) -> float | None:
    """Return the seconds between two ``WATCHDOG=1``, half of what systemd allows, or None if it does not watch us."""
    environ = os.environ if environ is None else environ
    allowed, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID") or str(os.getpid())
    if process != str(os.getpid()) or not allowed.isdecimal() or int(allowed) == 0:
        return None
    return int(allowed) / 2_000_000
