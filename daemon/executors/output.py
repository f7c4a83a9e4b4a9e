"""The file to which a process prints and logs: one for all its bundles, each of which has a part of it."""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from astra import provenance

_NONE = -1
_NAME = re.compile(r"\d{4}-\d\d-\d\d-(?P<node>.+)-(?P<pid>\d+)-(?P<start>\d+)\.log")
_PART = struct.Struct("qqq")


class Part(NamedTuple):
    """Which bundle of its load a process is at, where in the file its output begins, and how much is left out."""

    bundle: int
    start: int
    left_out: int


class Printed:
    """The part that is being written, in memory that is shared by all who have the descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("astra-printed") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, _PART.size)
        self._shared = mmap.mmap(self.descriptor, _PART.size)
        self._here = threading.Lock()  # the other one tells apart processes only
        if descriptor is None:
            self.set(Part(_NONE, 0, 0))

    @contextmanager
    def held(self, wait: bool = True) -> Iterator[bool]:
        """Let nobody else begin, end or cut a part meanwhile; where `wait` is false and somebody is at it, say so."""
        if not self._here.acquire(wait):
            yield False
            return
        try:
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
        finally:
            self._here.release()

    def forget(self) -> None:
        """Say that no part is being written: what the last load printed is no bundle's of the next."""
        with self.held():
            self.set(Part(_NONE, 0, 0))

    def set(self, part: Part) -> None:
        """Say which part is being written."""
        _PART.pack_into(self._shared, 0, *part)

    def get(self) -> Part | None:
        """Return the part that is being written, or None before there is one."""
        part = Part(*_PART.unpack_from(self._shared, 0))
        return None if part.bundle == _NONE else part

    def close(self) -> None:
        """Give the memory back."""
        self._shared.close()
        os.close(self.descriptor)


def log_file(folder: Path, pid: int, now: datetime) -> Path:
    """Return the path of a process's log, which no other process ever has, on whatever machine."""
    return folder / f"{now:%Y-%m-%d}-{platform.node()}-{pid}-{provenance.owner(pid).start}.log"


def cut(descriptor: int, printed: Printed, most: int, slack: int = 0) -> None:
    """Leave out the middle of the part that is being written, where it has grown beyond `most` and `slack` bytes.

    Its first half of `most` bytes is kept, and its last. Whoever writes appends, and so goes on behind that. Call it
    while `printed` is held: between two processes, one would take the other's next part for this one.
    """
    part, size = printed.get(), os.fstat(descriptor).st_size
    if part is None:
        return
    half = most // 2
    written = size - part.start - (len(_notice(part.left_out, most)) if part.left_out else 0)
    if written <= most + slack:
        return
    end = os.pread(descriptor, half, size - half)
    left_out = part.left_out + written - half - len(end)
    os.ftruncate(descriptor, part.start + half)
    with os.fdopen(descriptor, "ab", closefd=False) as file:
        file.write(_notice(left_out, most) + end)
    printed.set(part._replace(left_out=left_out))


def _notice(left_out: int, most: int) -> bytes:
    return f"\n[{left_out:,} bytes are left out here: a bundle's log is kept to {most:,} bytes]\n".encode()


def prune(folder: Path, days: float, now: datetime) -> int:
    """Delete the logs that nobody has written to for so many days, and return how many; those in use stay."""
    oldest, deleted = (now - timedelta(days=days)).timestamp(), 0
    for path in folder.glob("*.log"):
        named = _NAME.fullmatch(path.name)
        # what a process that lives prints into a deleted file would be lost
        if named is None:
            continue
        here = named["node"] == platform.node()
        if here and provenance.owner(int(named["pid"])).start == int(named["start"]):
            continue
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                deleted += 1
    return deleted
