"""Kinds of errors, and how long is waited before another try."""

from __future__ import annotations

import errno
import json
import socket
import subprocess

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import ComponentError, DatabaseUnavailable, InputChanged, PermanentFailure, TemporaryFailure
from astra.failures import JITTER, LONGEST_WAIT, again_after, kind_of, wait_after
from astra.states import ErrorKind
from tests.support.clock import START


class Busy(Exception):
    """An error that its component knows to pass."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TemporaryFailure("the server is busy"), ErrorKind.RETRY),
        (DatabaseUnavailable("away"), ErrorKind.RETRY),
        (peewee.OperationalError("locked"), ErrorKind.RETRY),
        (ConnectionResetError("reset"), ErrorKind.RETRY),
        (OSError(errno.EIO, "input/output error"), ErrorKind.RETRY),
        (OSError(errno.ESTALE, "stale file handle"), ErrorKind.RETRY),
        (MemoryError(), ErrorKind.RESOURCE),
        (OSError(errno.ENOSPC, "no space left"), ErrorKind.RESOURCE),
        (OSError(errno.EMFILE, "too many open files"), ErrorKind.RESOURCE),
        (TimeoutError("too slow"), ErrorKind.TIMEOUT),
        (socket.timeout("timed out"), ErrorKind.TIMEOUT),  # noqa: UP041 -- what libraries write
        (subprocess.TimeoutExpired("idl", 5), ErrorKind.TIMEOUT),
        (PermanentFailure("no line in the spectrum"), ErrorKind.PERMANENT),
        (InputChanged("input changed"), ErrorKind.PERMANENT),
        (ComponentError("gone"), ErrorKind.PERMANENT),
        (FileNotFoundError(errno.ENOENT, "no such file"), ErrorKind.PERMANENT),
        (OSError("Empty or corrupt FITS file"), ErrorKind.PERMANENT),
        (ValueError("bad"), ErrorKind.BUG),
        (json.JSONDecodeError("bad", "", 0), ErrorKind.BUG),
        (Busy("busy"), ErrorKind.BUG),
        (SystemError("odd"), ErrorKind.BUG),
        (SystemExit("cannot open the model"), ErrorKind.BUG),
        (KeyboardInterrupt(), ErrorKind.RETRY),
    ],
)
def test_an_error_is_of_one_kind(error: BaseException, kind: ErrorKind) -> None:
    assert kind_of(error) is kind


def test_a_component_names_errors_of_its_own_that_may_pass() -> None:
    assert kind_of(Busy("busy"), (Busy,)) is ErrorKind.RETRY
    assert kind_of(ValueError("bad"), (Busy,)) is ErrorKind.BUG


@given(st.integers(0, 10_000), st.floats(0.001, 1e6))
def test_the_wait_doubles_up_to_an_hour_with_a_little_by_chance(tries: int, backoff: float) -> None:
    plain = min(LONGEST_WAIT, backoff * 2 ** max(0, min(40, tries) - 1))
    assert plain * (1 - JITTER) * 0.999 <= wait_after(tries, backoff) <= plain * (1 + JITTER) * 1.001


def test_waits_differ_so_that_what_failed_together_does_not_come_back_together() -> None:
    assert len({again_after(1, 10.0, START) for _ in range(50)}) > 40
