"""What the state machine of taking in is made of: what a file holds, and where the process may be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from astra import ingest


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

    @property
    def whole(self) -> bool:
        return self.present == len(self.content)

    @property
    def part(self) -> bool:
        return self.present < len(self.content)


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
