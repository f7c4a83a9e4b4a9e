"""What processes hold in memory, as Linux tells it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MEGABYTE = 1_000_000
_PROC = Path("/proc")
_STATE, _SESSION, _START, _RESIDENT = 0, 3, 19, 21  # fields of /proc/PID/stat behind the program's name


class _Seen(NamedTuple):
    session: int
    start: int  # by which a number that was given to another process is told
    resident: int  # pages


class Family:
    """A process that leads a session, and all that it has started, of which it may have lost sight."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        leader = _stat(pid)
        self._start = None if leader is None else leader.start
        self._others: set[int] = set()
        self._page = os.sysconf("SC_PAGE_SIZE")

    def resident(self) -> int:
        """Return how many bytes they hold; what several share is counted for each."""
        return sum(each.resident for each in self._look().values()) * self._page

    def proportional(self) -> int:
        """Return how many bytes they hold; what several share is counted once. This takes the system some time."""
        return sum(_proportional(pid, seen.resident * self._page) for pid, seen in self._look().items())

    def members(self) -> dict[int, int]:
        """Return their numbers, and when each started: who leads a session of its own is lost with its parent."""
        return {pid: seen.start for pid, seen in self._look().items()}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process's group, unless its number has been given to a stranger since it ended."""
        leader = _stat(self.pid)
        if leader is None or leader.start == self._start:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _look(self) -> dict[int, _Seen]:
        found: dict[int, _Seen] = {}
        born, known = [self.pid], sorted(self._others)
        while born or known:
            is_child = bool(born)
            pid = born.pop() if is_child else known.pop()
            seen = None if pid in found else _stat(pid)
            if pid == self.pid and seen is not None and seen.start != self._start:
                seen = None
            # one that lost its parent is still of the session, unless its number was given to a stranger
            if seen is not None and (is_child or seen.session == self.pid):
                found[pid] = seen
                born += _children(pid)
        self._others = set(found) - {self.pid}
        return found


def _stat(pid: int) -> _Seen | None:
    try:
        # bytes: the name of a program is cut wherever its fifteenth byte falls
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] == b"Z" else _Seen(*(int(fields[each]) for each in (_SESSION, _START, _RESIDENT)))


def lives(pid: int, start: int) -> bool:
    """Return whether the process that started then is there, and has not ended."""
    seen = _stat(pid)
    return seen is not None and seen.start == start


def send(members: Mapping[int, int], number: signal.Signals) -> None:
    """Send a signal to those of the processes that are there."""
    for pid, start in members.items():
        if lives(pid, start):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _children(pid: int) -> Iterator[int]:
    for each in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):  # that thread has ended meanwhile
            yield from map(int, each.read_bytes().split())


def _proportional(pid: int, otherwise: int) -> int:
    size = _of_status(_PROC / str(pid) / "smaps_rollup", b"Pss:")
    return otherwise if size is None else size


def peak(pid: int) -> int | None:
    """Return the most that a process has held at once, in bytes, since it began or `forget_peak`."""
    return _of_status(_PROC / str(pid) / "status", b"VmHWM:")


def forget_peak() -> None:
    """Count this process's peak anew, where the system allows that."""
    with suppress(OSError):
        (_PROC / "self" / "clear_refs").write_text("5")


def _of_status(path: Path, name: bytes) -> int | None:
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None
