"""What the state machine of taking in is made of: what a file holds, and where the process may be killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from astra import ingest
from astra.signature import Signature
from tests.support import fits


class Killed(BaseException):
    """The process ends here, whatever it was doing."""


class Held(NamedTuple):
    """What a file holds, or will when it is finished: facts of its header, its bytes, and how many are there.

    Of what can never be whole, more are there than there should be.
    """

    snr: int
    obj: str
    content: bytes
    present: int

    @classmethod
    def visit(cls, plate: int, fiber: int, facts: tuple[int, str]) -> Held:
        """Return a whole visit: its signal-to-noise and its star differ from version to version, its size does not."""
        snr, obj = facts
        content = fits.apvisit(PLATE=str(plate), FIBERID=fiber, SNR=float(snr), OBJID=f"2M{obj}")
        return cls(snr, obj, content, len(content))

    @property
    def whole(self) -> bool:
        return self.present == len(self.content)

    @property
    def part(self) -> bool:
        return self.present < len(self.content)


RUBBISH = Held(0, "", b"no spectrum " * 300, 3601)
STAMPING: list[Callable[[int], int]] = []


def stamp_files(patch: pytest.MonkeyPatch) -> None:
    """Have the times of all files be what the last of `STAMPING` makes of them."""
    of = Signature.of

    def stamped(stat: os.stat_result) -> Signature:
        seen = of(stat)
        return seen._replace(mtime_ns=STAMPING[-1](seen.mtime_ns), ctime_ns=STAMPING[-1](seen.ctime_ns))

    patch.setattr(Signature, "of", stamped)


def fiber_of(path: str) -> int:
    return int(Path(path).stem[-3:])


def swapped(path: str) -> str:
    first, slash, rest = path.partition("/")
    return f"{'b' if first == 'a' else 'a'}/{rest}" if slash else path


@contextmanager
def instead_of(name: str, step: Callable[..., Any]) -> Iterator[None]:
    """Have `step` called in the place of a function of `ingest`, which it gets as its first argument."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, name, partial(step, getattr(ingest, name)))
        yield


@contextmanager
def killed(when: str) -> Iterator[None]:
    """Have the process end at a point of the turn, if the turn comes to it."""

    def die(real: Callable[..., Any], *given: Any) -> None:
        if when != "before the record":
            real(*given)
        raise Killed

    with instead_of("_write" if when == "in the transaction" else "record", die):
        if when == "between turns":
            raise Killed
        yield
