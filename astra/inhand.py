"""Which task a bundle has in hand: eight bytes that its process writes and its supervisor reads.

A process that is killed can tell nobody at which task it was; what it wrote into shared memory stays.
"""

from __future__ import annotations

import mmap
import os
import struct

_NONE = -1
_NUMBER = struct.Struct("q")


class InHand:
    """The position of the task in hand, shared by all who have mapped the same descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("astra-in-hand") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, _NUMBER.size)
        self._shared = mmap.mmap(self.descriptor, _NUMBER.size)
        if descriptor is None:
            self.set(None)

    def set(self, position: int | None) -> None:
        """Say which task is in hand, or that none is."""
        _NUMBER.pack_into(self._shared, 0, _NONE if position is None else position)

    def get(self) -> int | None:
        """Return the position of the task in hand, or None."""
        position: int = _NUMBER.unpack_from(self._shared, 0)[0]
        return None if position == _NONE else position

    def close(self) -> None:
        """Give the memory back; done twice, it changes nothing."""
        if not self._shared.closed:
            self._shared.close()
            os.close(self.descriptor)
