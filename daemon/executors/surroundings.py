"""What a component finds around it in its process: standard streams, folder, umask; as they were, for each bundle.

A component may close its streams, replace them, or go to another folder. It may do so to itself, not to what comes
after it in its process.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

_HIGH = 200  # a component that closes, or is handed, the lowest descriptors does not meet these


def high(descriptor: int) -> int:
    """Return a copy of a descriptor that is not among the first ones, and is not handed to programs."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # this system allows fewer
        return os.dup(descriptor)


class _Raw(io.RawIOBase):
    """Writes to a descriptor. What the system does not take is lost: a full disk is no reason for a task to fail."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.name = {1: "<stdout>", 2: "<stderr>"}[descriptor]
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # the base class names a type of the type checker's own
        try:
            return os.write(self._descriptor, view)
        except OSError as error:
            self.lost = self.lost or error
            return view.nbytes


class Stream(io.TextIOWrapper):
    """Standard output or error. It cannot be closed: the next bundle, and logging, write to it too."""

    def __init__(self, descriptor: int) -> None:
        self._raw = _Raw(descriptor)
        buffered = io.BufferedWriter(self._raw)
        super().__init__(buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def close(self) -> None:
        """Flush."""
        with suppress(ValueError):
            self.flush()

    @property
    def is_whole(self) -> bool:
        """Whether it can be written to: what is under it may be closed, or taken away."""
        try:
            return not self.buffer.closed
        except (AttributeError, ValueError):
            return False

    def loss(self) -> OSError | None:
        """Return why something was lost since the last time."""
        lost, self._raw.lost = self._raw.lost, None
        return lost


class Surroundings:
    """What this process has now, and is given back by `put_back`. From now on its streams are of the kind above."""

    def __init__(self) -> None:
        self._service = high(2)
        self._target = self._service
        self._folder = os.getcwd()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._streams: dict[str, Stream] = {}
        self._handlers: list[logging.Handler] = []
        self._put_back_streams()

    def log_to(self, handlers: list[logging.Handler]) -> None:
        """Keep these handlers of the root logger in their place."""
        self._handlers = list(handlers)

    def print_to(self, descriptor: int) -> None:
        """Let standard output and error go there from now on; they went to the service's before."""
        self._target = descriptor

    def put_back(self) -> None:
        """Give back what there was at the start; what cannot be given back is left as it is."""
        steps: tuple[Callable[[], object], ...] = (
            self.flush,
            lambda: os.dup2(self._target, 1),
            lambda: os.dup2(self._target, 2),
            self._put_back_streams,
            self._put_back_handlers,
            lambda: os.chdir(self._folder),
            lambda: os.umask(self._umask),
        )
        for step in steps:
            _try(step)  # one that fails is no reason to leave out the others

    def flush(self) -> None:
        """Write what is held back, also by a stream that a component has put in the place of ours."""
        for stream in (sys.stdout, sys.stderr, *self._streams.values()):
            _try(partial(_flush, stream))

    def loss(self) -> OSError | None:
        """Return why something that was printed is lost, or None."""
        lost = [each.loss() for each in self._streams.values()]
        return next(filter(None, lost), None)

    def tell(self, words: str) -> None:
        """Write a line where the service writes."""
        with suppress(OSError):
            os.write(self._service, f"{words}\n".encode(errors="backslashreplace"))

    def _put_back_streams(self) -> None:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            stream = self._streams.get(name)
            if stream is None or not stream.is_whole:
                self._streams[name] = stream = Stream(descriptor)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def _put_back_handlers(self) -> None:
        logging.disable(logging.NOTSET)
        root = logging.getLogger()
        for each in self._handlers:
            if isinstance(each, logging.StreamHandler) and each.stream is not self._streams["stderr"]:
                each.stream = self._streams["stderr"]  # `setStream` flushes the old one, which may be broken
            if each not in root.handlers:
                root.addHandler(each)


def _flush(stream: Any) -> None:
    if stream is not None:
        stream.flush()


def _try(step: Callable[[], object]) -> None:
    """Take a step that may fail in any way: it deals with what a component has put in the place of ours."""
    try:
        step()
    except Exception:
        return
