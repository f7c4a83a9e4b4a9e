"""Turn file system events into hints: the paths that may be new or changed, and the roots that must be swept.

Comes from watchdog, whose threads call the handlers here; goes to `settler`, through the callbacks, which must only
put what they get into a queue. Whatever watchdog loses or cannot watch becomes a sweep: its overflow warning, a reader
that died, a root that vanished or was exchanged, fewer watches held than there are folders.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import termios
import warnings
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from watchdog.events import (
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from astra.config import Watch
from astra.filesystem import filesystem_kind, is_network
from daemon.logs import event

log = logging.getLogger(__name__)

# watchdog's readers: the first says that events were lost, the second that the watches could not be made again
_READERS = ("watchdog.observers.inotify_c", "watchdog.observers.inotify")
_FILTER: list[type[FileSystemEvent]] = [FileCreatedEvent, FileClosedEvent, FileMovedEvent, DirMovedEvent]
_RETRY_EVERY = 30.0
_LOOK_AGAIN = (1.0, 5.0)  # seconds after events were lost
_LATE_BYTES = 262_144  # about half of what the kernel keeps unread by default before it drops events


@dataclass(frozen=True)
class Hints:
    """Where hints go, called from watchdog's threads.

    `offer` takes a root's name and a path relative to it, `lost` a root's name and the reason why it must be swept,
    `late` the same where events are not lost, but so late that to look for changed folders is quicker.
    `wanted` tells by its base name whether any product type might claim a file.
    """

    offer: Callable[[str, str], None]
    lost: Callable[[str, str], None]
    late: Callable[[str, str], None]
    wanted: Callable[[str], bool]


def choose_mode(watch: Watch, mounts: str | None = None) -> tuple[str, str]:
    """Return ``events`` or ``poll`` for a watched folder, and why.

    Parameters
    ----------
    watch
        The folder's settings.
    mounts
        The text of ``/proc/self/mountinfo``; read where it is not given.
    """
    if watch.mode != "auto":
        return watch.mode, f"the settings say {watch.mode}"
    kind = filesystem_kind(watch.path, mounts)
    if is_network(kind):
        return "poll", f"{kind} does not tell of what other hosts write"
    return "events", f"{kind} is a local file system"


class Watcher:
    """Events of all roots that can be watched.

    Nothing here raises for a root that cannot be watched: it is blind, `blind` says why, and `ensure` tries again.
    """

    def __init__(self, watches: Sequence[Watch], hints: Hints) -> None:
        self.hints = hints
        self.blind: dict[str, str] = {}
        self.deaf: dict[str, int] = {}  # roots whose events did not tell of files that a sweep found, and how many
        self._roots = {watch.name: _Root(watch, hints) for watch in watches}
        self._overflow = _Overflow()
        self.overflows = 0
        self._look_again: list[float] = []
        self._retry_at: dict[str, float] = {}

    def start(self, now: float) -> None:
        """Watch every root that can be watched."""
        # watchdog formats its whole watch table into this warning, up to megabytes of text
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        self._overflow.attach()
        for root in self._roots.values():
            self._start(root, now)

    def stop(self) -> None:
        """Stop watching."""
        for root in self._roots.values():
            root.stop()
        self._overflow.detach()

    def ensure(self, now: float) -> None:
        """Look after the watches, once in every turn of the loop: sweep for what was lost, watch again what failed."""
        if self._overflow.lost.is_set():
            self._overflow.lost.clear()
            self.overflows += 1
            self._lost_all("events were lost: the kernel's queue ran over")
            self._look_again = [now + each for each in _LOOK_AGAIN]
        if self._look_again and now >= self._look_again[0]:
            # files made while watchdog set its watches anew are in neither the events nor, perhaps, the first sweep
            del self._look_again[0]
            self._lost_all("events were lost: another look")
        broken = self._overflow.broken.is_set()
        self._overflow.broken.clear()
        for name, root in self._roots.items():
            if name not in self.blind and (broken or not root.alive()):
                root.stop()
                self._set_blind(root, now, "the watch ended: the folder vanished or was exchanged, or its reader died")
                self._retry_at[name] = now
            elif name not in self.blind and root.unread() > _LATE_BYTES:
                # watchdog may need many seconds to come to the mark that tells of lost events; a look does not wait
                self.hints.late(name, "events come faster than they are read")
            if name in self.blind and now >= self._retry_at[name]:
                self._start(root, now)

    def try_again(self, root: str) -> None:
        """Have `ensure` try at once to watch a root that is blind."""
        if root in self.blind:
            self._retry_at[root] = -math.inf

    def events(self, root: str) -> int:
        """Return how many events have told of a file below a root."""
        return self._roots[root].events if root in self._roots else 0

    def unread(self, root: str) -> bool:
        """Return whether the kernel holds events of a root that nobody has read yet."""
        return self._roots[root].unread() > 0

    def distrust(self, root: str, count: int) -> None:
        """Take note that a sweep found files that were still for long, and of which no event told."""
        if root not in self.deaf:
            event(log, "root_deaf", logging.WARNING, root=root, files=count)
            self._roots[root].heard = self._roots[root].events
        self.deaf[root] = count

    def trust(self, root: str) -> None:
        """Take note that a sweep found no such file: events count again once one has told of a file."""
        if root in self.deaf and self._roots[root].events > self._roots[root].heard:
            del self.deaf[root]
            event(log, "watching_again", root=root)

    def held(self, root: str) -> int | None:
        """Return the number of folders that are really watched below a root, or None where that cannot be told."""
        return self._roots[root].held() if root not in self.blind else 0

    def missing(self, root: str, folders: int) -> str | None:
        """Return what is wrong if a sweep saw more `folders` than are watched, or None.

        watchdog says nothing when the kernel's limit of watches is reached.
        """
        held = self.held(root)
        if held is None or held >= folders:
            return None
        return f"{held} of {folders} folders are watched; raise fs.inotify.max_user_watches above {folders}"

    def _start(self, root: _Root, now: float) -> None:
        name = root.watch.name
        trouble = root.start()
        if trouble:
            self._set_blind(root, now, trouble)
        elif self.blind.pop(name, None) is not None:
            event(log, "watching_again", root=name)
            self.hints.lost(name, "it is watched again")

    def _set_blind(self, root: _Root, now: float, why: str) -> None:
        name = root.watch.name
        if name not in self.blind:
            event(log, "root_blind", logging.WARNING, root=name, reason=why)
            self.hints.lost(name, "it is not watched")
        self.blind[name] = why
        self._retry_at[name] = now + _RETRY_EVERY

    def _lost_all(self, why: str) -> None:
        for name in self._roots:
            self.hints.lost(name, why)


class _Root:
    """One root's observer, apart from the others so that one that fails harms none."""

    def __init__(self, watch: Watch, hints: Hints) -> None:
        self.watch, self.hints = watch, hints
        self.observer: BaseObserver | None = None
        self.identity: tuple[int, int] | None = None
        self.events = self.heard = 0  # that told of a file: in all, and before they were found wanting

    def start(self) -> str | None:
        """Watch the root; return why that is not possible, if so."""
        try:
            self.identity = self._identity()
            self.observer = Observer()
            # under its real path: below a link watchdog tells of nothing that lies in the folder itself
            place = os.path.realpath(self.watch.path)
            handler = _Handler(self, place, self.hints)
            self.observer.schedule(handler, place, recursive=True, event_filter=_FILTER)
            self.observer.start()
        except OSError as error:
            self.stop()
            return f"cannot watch {self.watch.path}: {error.strerror or error}"
        return None

    def stop(self) -> None:
        observer, self.observer = self.observer, None
        if observer is None:
            return
        if observer.is_alive():
            observer.stop()
            observer.join()
        else:
            observer.on_thread_stop()  # one that failed to start has a descriptor and a reader thread all the same

    def alive(self) -> bool:
        """Whether every thread of the observer lives and the root is still the folder that is watched."""
        if self.observer is None or not self.observer.is_alive():
            return False
        reader = getattr(self.observer, "_inotify_fd", None)
        threads = [*self.observer.emitters, *([reader] if reader is not None else [])]
        try:
            return all(thread.is_alive() for thread in threads) and self._identity() == self.identity
        except OSError:
            return False

    def held(self) -> int | None:
        # watchdog has no public count; where its insides are others, nothing is told
        watched = 0
        for emitter in self.observer.emitters if self.observer else ():
            table = getattr(getattr(emitter, "_inotify", None), "_active_callbacks_by_path", None)
            if table is None:
                return None
            watched += len(table)
        return watched

    def unread(self) -> int:
        """Return the bytes of events that the kernel holds for us, or 0 where that cannot be told."""
        descriptor = getattr(getattr(self.observer, "_inotify_fd", None), "_inotify_fd", None)
        if not isinstance(descriptor, int):
            return 0
        waiting = array("i", [0])
        try:
            fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        except OSError:
            return 0
        return waiting[0]

    def _identity(self) -> tuple[int, int]:
        stat = os.stat(self.watch.path)
        return stat.st_dev, stat.st_ino


class _Handler(FileSystemEventHandler):
    """Hands the paths of events over, and does nothing else."""

    def __init__(self, root: _Root, path: str, hints: Hints) -> None:
        self.own, self.root, self.hints = root, root.watch.name, hints
        self.prefix = path.rstrip("/") + "/"

    def on_any_event(self, event: FileSystemEvent) -> None:
        moved = isinstance(event, FileMovedEvent | DirMovedEvent)
        path = os.fsdecode(event.dest_path if moved else event.src_path)
        if isinstance(event, DirMovedEvent):
            if event.is_synthetic:
                return  # one of the folders below the one that was moved
            self.hints.lost(self.root, f"a folder was moved: {path.encode('utf-8', 'backslashreplace').decode()}")
        elif path.startswith(self.prefix) and self.hints.wanted(os.path.basename(path)) and _is_unicode(path):
            self.own.events += 1
            self.hints.offer(self.root, path.removeprefix(self.prefix))


class _Overflow(logging.Handler):
    """Hears from watchdog's log what it tells nobody else, and keeps the repeated lines out of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lost, self.broken = Event(), Event()
        self._propagated: dict[str, bool] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lost.set()
        if record.levelno >= logging.ERROR:
            self.broken.set()

    def attach(self) -> None:
        for name in _READERS:
            reader = logging.getLogger(name)
            self._propagated[name] = reader.propagate
            reader.propagate = False
            reader.addHandler(self)

    def detach(self) -> None:
        for name, propagated in self._propagated.items():
            reader = logging.getLogger(name)
            reader.removeHandler(self)
            reader.propagate = propagated
        self._propagated.clear()


def _is_unicode(path: str) -> bool:
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)
