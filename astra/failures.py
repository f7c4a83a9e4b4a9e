"""What kind of error is this? It decides whether another try may go better. Values in, values out.

A component that knows better raises `TemporaryFailure` or `PermanentFailure`, or names classes in `retry_on`.
"""

from __future__ import annotations

import errno
import random
import subprocess
from datetime import datetime, timedelta

import peewee

from astra.errors import AstraError, TemporaryFailure
from astra.states import ErrorKind

LONGEST_WAIT = 3600.0  # seconds
JITTER = 0.25  # of the wait, more or less
# What may be tried again; the others would only end the same way.
PASSING = frozenset({ErrorKind.RETRY, ErrorKind.RESOURCE, ErrorKind.TIMEOUT})
_RESOURCE = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
_PERMANENT = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


def kind_of(error: BaseException, retry_on: tuple[type[BaseException], ...] = ()) -> ErrorKind:
    """Return the kind of what a component raised.

    Parameters
    ----------
    error
        The exception.
    retry_on
        Classes of exceptions that, says the component, may pass.
    """
    if isinstance(error, (TemporaryFailure, peewee.OperationalError, peewee.InterfaceError, *retry_on)):
        return ErrorKind.RETRY
    if isinstance(error, KeyboardInterrupt):
        return ErrorKind.RETRY
    if isinstance(error, AstraError):
        return ErrorKind.RETRY if error.retry else ErrorKind.PERMANENT
    if isinstance(error, MemoryError):
        return ErrorKind.RESOURCE
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return ErrorKind.TIMEOUT
    if isinstance(error, OSError):
        return _of_system(error)
    return ErrorKind.BUG


def _of_system(error: OSError) -> ErrorKind:
    if isinstance(error, ConnectionError):
        return ErrorKind.RETRY
    if error.errno in _RESOURCE:
        return ErrorKind.RESOURCE
    if error.errno is None or error.errno in _PERMANENT:  # libraries say of a broken file that it is an OSError
        return ErrorKind.PERMANENT
    return ErrorKind.RETRY


def wait_after(tries: int, backoff: float) -> float:
    """Return how many seconds to wait after so many tries: doubled each time, up to an hour, and a little by chance."""
    wait = min(LONGEST_WAIT, backoff * 2.0 ** min(40, max(0, tries - 1)))
    return wait * random.uniform(1 - JITTER, 1 + JITTER)


def again_after(tries: int, backoff: float, now: datetime) -> datetime:
    """Return when a task that was tried so often may be tried again."""
    return now + timedelta(seconds=wait_after(tries, backoff))
