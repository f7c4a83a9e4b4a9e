"""What a process has in hand: a few bytes that it writes and its supervisor reads, and one word back.

A process that is killed can tell nobody at which task it was; what it wrote into shared memory stays. Numbers that only
grow tell a task from the next one at the same position. While the process does nothing but wait for the database, it
says so. The supervisor's word is that no further task be begun.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

ON_THE_WAY = -1
"""In place of a bundle: none of the load is being run yet, or none any more."""
_NONE = -1
_PLACE = struct.Struct("qqq")
_WORD = struct.Struct("q")
_WAITS = _PLACE.size + _WORD.size  # where that word begins
_SIZE = _WAITS + _WORD.size


class Place(NamedTuple):
    """Where a process is: the how-manieth thing it has taken up, in which bundle of its load, and at which task."""

    turn: int
    bundle: int
    position: int | None


class InHand:
    """The task in hand, and whether another may be begun, shared by all who have mapped the same descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("astra-in-hand") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, _SIZE)
        self._shared = mmap.mmap(self.descriptor, _SIZE)
        self._turn, self._bundle = 0, ON_THE_WAY
        if descriptor is None:
            self.begin(ON_THE_WAY)

    def begin(self, bundle: int) -> None:
        """Say which bundle of the load is being run, from 0; no task of it is in hand yet."""
        self._bundle = bundle
        self.set(None)

    def set(self, position: int | None) -> None:
        """Say which task is in hand, or that none is."""
        self._turn += 1
        _PLACE.pack_into(self._shared, 0, self._turn, self._bundle, _NONE if position is None else position)

    def place(self) -> Place:
        """Return where the process is."""
        turn, bundle, position = _PLACE.unpack_from(self._shared, 0)
        return Place(turn, bundle, None if position == _NONE else position)

    @property
    def draining(self) -> bool:
        """Whether no further task is to be begun."""
        return bool(self._shared[_PLACE.size])

    @draining.setter
    def draining(self, word: bool) -> None:
        _WORD.pack_into(self._shared, _PLACE.size, int(word))

    @property
    def waits(self) -> bool:
        """Whether the process does nothing but wait for a database that is away."""
        return bool(self._shared[_WAITS])

    @waits.setter
    def waits(self, word: bool) -> None:
        _WORD.pack_into(self._shared, _WAITS, int(word))

    def close(self) -> None:
        """Give the memory back; done twice, it changes nothing."""
        if not self._shared.closed:
            self._shared.close()
            os.close(self.descriptor)
