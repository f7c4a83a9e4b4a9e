"""What tells one version of a file from the next without reading it.

The change time catches a rewrite that restores the modification time, and no user can set it back; a changed inode
catches a file that was renamed over another. A different signature only means "look again", so a false alarm is cheap.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Self

_LARGEST = (1 << 63) - 1


class Signature(NamedTuple):
    """Size in bytes, times in nanoseconds since the epoch, and the inode folded into a signed 64-bit number."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """Return the signature that `os.stat`, `os.fstat` or `DirEntry.stat` reported."""
        inode = stat.st_ino if stat.st_ino <= _LARGEST else stat.st_ino - (1 << 64)
        mtime_ns, ctime_ns = stat.st_mtime_ns, stat.st_ctime_ns
        if not (0 <= mtime_ns <= _LARGEST and 0 <= ctime_ns <= _LARGEST):
            mtime_ns, ctime_ns = _in_64_bits(mtime_ns), _in_64_bits(ctime_ns)
        return cls(stat.st_size, mtime_ns, ctime_ns, inode)


def _in_64_bits(nanoseconds: int) -> int:
    """Return a time that databases can hold: file systems keep years after 2262 and before 1677 too."""
    return max(-_LARGEST - 1, min(_LARGEST, nanoseconds))
