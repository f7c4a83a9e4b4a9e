"""The file to which a process prints and logs: one for all its bundles, each of which has a part of it."""

from __future__ import annotations

import mmap
import os
import re
import struct
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from astra import provenance

_NONE = -1
_NAME = re.compile(r"\d{4}-\d\d-\d\d-(?P<pid>\d+)-(?P<start>\d+)\.log")
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
        if descriptor is None:
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
    """Return the path of a process's log, which no other process ever has."""
    return folder / f"{now:%Y-%m-%d}-{pid}-{provenance.owner(pid).start}.log"


def cut(descriptor: int, printed: Printed, most: int) -> None:
    """Leave out the middle of the part that is being written, where it has grown beyond `most` bytes.

    Whoever writes appends, and so goes on behind the line that says how much is missing.
    """
    part, size = printed.get(), os.fstat(descriptor).st_size
    if part is None or size - part.start <= most:
        return
    kept = part.start + most // 2
    before = len(_notice(part.left_out, most)) if part.left_out else 0
    left_out = part.left_out + size - kept - before
    os.ftruncate(descriptor, kept)
    os.write(descriptor, _notice(left_out, most))
    printed.set(part._replace(left_out=left_out))


def _notice(left_out: int, most: int) -> bytes:
    return f"\n[{left_out:,} bytes are left out here: a bundle's log is kept to {most:,} bytes]\n".encode()


def prune(folder: Path, days: float, now: datetime) -> int:
    """Delete the logs that nobody has written to for so many days, and return how many; those in use stay."""
    oldest, deleted = (now - timedelta(days=days)).timestamp(), 0
    for path in folder.glob("*.log"):
        named = _NAME.fullmatch(path.name)
        # what a process that lives prints into a deleted file would be lost
        if named is None or provenance.owner(int(named["pid"])).start == int(named["start"]):
            continue
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                deleted += 1
    return deleted
