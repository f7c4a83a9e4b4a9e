"""What tells one version of a file from the next without reading it.

The change time catches a rewrite that restores the modification time, and no user can set it back; a changed inode
catches a file that was renamed over another. A different signature only means "look again", so a false alarm is cheap.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Self


class Signature(NamedTuple):
    """Size in bytes, times in nanoseconds since the epoch, and the inode folded into a signed 64-bit number."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """Return the signature that `os.stat`, `os.fstat` or `DirEntry.stat` reported."""
        inode = stat.st_ino if stat.st_ino < 1 << 63 else stat.st_ino - (1 << 64)
        return cls(stat.st_size, _in_64_bits(stat.st_mtime_ns), _in_64_bits(stat.st_ctime_ns), inode)


def _in_64_bits(nanoseconds: int) -> int:
    """Return a time that databases can hold: file systems keep years after 2262 and before 1677 too."""
    return max(-(1 << 63), min((1 << 63) - 1, nanoseconds))
