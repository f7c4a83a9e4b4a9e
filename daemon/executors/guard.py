"""Watches over one process while it runs bundles: it is stopped when it takes too long, or too much memory.

A thread of its own, which asks no database and so is never held up by one, looks ten times a second at what the process
says in shared memory and at what the system says of it. A process to be stopped is asked for the stack of every thread,
then to end, and is then ended; who supervises it hears of that as of any other death.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from astra.clock import Clock
from astra.inhand import ON_THE_WAY, InHand, Place
from astra.settings import Own
from astra.states import ErrorKind
from daemon.executors import memory, output
from daemon.executors.memory import MEGABYTE, Family
from daemon.executors.output import Printed
from daemon.executors.stacks import ASK, Stacks
from daemon.logs import event

log = logging.getLogger(__name__)
_LOOK_EVERY = 0.1
_STACK_SECONDS = 0.5
_END_SECONDS = 5.0
_START_SECONDS = 60.0  # that a process may take to come to listen, on a machine that is busy


@dataclass(frozen=True, slots=True)
class Watched:
    """A process, and what it shares with its supervisor."""

    process: subprocess.Popen[str]
    in_hand: InHand
    stacks: Stacks
    printed: Printed
    log: Path


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for all bundles: seconds between the request to end and the end, and bytes of log for each."""

    grace: float
    most: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a process is being stopped: for which bundle of its load, at which task, and what it was doing."""

    kind: ErrorKind
    reason: str
    place: Place
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class _Load:
    own: Own
    sizes: Sequence[int]
    since: float


class Guard:
    """The thread that watches over one process."""

    def __init__(self, watched: Watched, bounds: Bounds, clock: Clock) -> None:
        self._watched, self._bounds, self._clock = watched, bounds, clock
        self._family = Family(watched.process.pid)
        self._load: _Load | None = None
        self._seen: _Load | None = None
        self._place = watched.in_hand.place()
        self._bundle_since = self._turn_since = self._ready = 0.0
        self._file: int | None = None
        self._members: dict[int, int] = {}
        self._trouble: str | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._stopped = threading.Event()
        self.verdict: Verdict | None = None
        self.peak: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"guard of {watched.process.pid}", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Take note that the process has begun to listen: the time that took is no bundle's."""
        self._ready = self._clock.monotonic()

    def watch(self, own: Own, sizes: Sequence[int]) -> None:
        """Watch over a load that was handed to the process: what holds for its component, the sizes of its bundles."""
        self._load = _Load(own, sizes, self._clock.monotonic())
        self._wake.set()

    def rest(self) -> None:
        """Take note that the process has nothing to run."""
        self._load = None

    @property
    def stopping(self) -> bool:
        """Whether the process is being stopped, and that is not over."""
        return self.verdict is not None and not self._stopped.is_set()

    def end(self) -> None:
        """Watch no longer: the process is gone."""
        self._over.set()
        self._wake.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        try:
            while not self._over.is_set() and self.verdict is None and self._watched.process.poll() is None:
                if self._load is None:
                    self._wake.wait()
                    self._wake.clear()
                elif not self._clock.wait(self._over, _LOOK_EVERY):
                    self._carefully(self._look)
                    self._carefully(self._bound_log)
        finally:
            if self._file is not None:
                os.close(self._file)

    def _carefully(self, step: Callable[[], None]) -> None:
        """Take a step; what goes wrong with it is told, once in a row, and no limit is given up for it."""
        try:
            step()
        except Exception as error:  # the boundary of this loop
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                event(log, "guard_stumbled", logging.ERROR, pid=self._watched.process.pid, reason=trouble)
            self._trouble = trouble

    def _look(self) -> None:
        load, now = self._load, self._clock.monotonic()
        if load is not None:
            self._look_at(load, now)

    def _look_at(self, load: _Load, now: float) -> None:
        place = self._watched.in_hand.place()
        if load is not self._seen:
            self._seen, self._place = load, Place(0, ON_THE_WAY, None)
            self._bundle_since = self._turn_since = load.since
        if place.bundle != self._place.bundle:
            self._bundle_since, self.peak = now, None
        if place != self._place:
            self._turn_since, self._place = now, place
        peak = memory.peak(self._watched.process.pid)
        self.peak = max(filter(None, (self.peak, peak)), default=None)
        excess = self._too_long(load, place, now) or self._too_large(load)
        same = self._load is load and self._watched.in_hand.place().bundle == place.bundle
        if excess is not None and same:  # to look took a moment, in which the next bundle may have begun
            self._stop(Verdict(*excess, place))

    def _too_long(self, load: _Load, place: Place, now: float) -> tuple[ErrorKind, str] | None:
        own = load.own
        on_the_way = place.bundle == ON_THE_WAY
        since = max(self._bundle_since, self._ready) if on_the_way else self._bundle_since
        if now - since > (own.timeout if self._ready or not on_the_way else max(own.timeout, _START_SECONDS)):
            return ErrorKind.TIMEOUT, f"stopped: it ran longer than {own.timeout:g} s"
        alone = 0 <= place.bundle < len(load.sizes) and load.sizes[place.bundle] == 1
        in_hand = 0 if place.position is None and alone else place.position
        if own.task_timeout is not None and in_hand is not None and now - self._turn_since > own.task_timeout:
            words = f"stopped: task at position {in_hand} was in hand for longer than {own.task_timeout:g} s"
            return ErrorKind.TIMEOUT, words
        return None

    def _too_large(self, load: _Load) -> tuple[ErrorKind, str] | None:
        if load.own.memory is None:
            return None
        most = load.own.memory * MEGABYTE
        if self._family.resident() <= most:
            return None
        held = self._family.proportional()  # copies of a process share most of what each of them seems to hold
        if held <= most:
            return None
        self.peak = max(held, self.peak or 0)
        words = f"stopped: it held {held / MEGABYTE:,.0f} MB, more than the {load.own.memory:,} MB allowed"
        return ErrorKind.RESOURCE, words

    def _bound_log(self) -> None:
        printed, most = self._watched.printed, self._bounds.most
        if self._file is None and printed.get() is not None:
            with suppress(OSError):
                self._file = os.open(self._watched.log, os.O_RDWR | os.O_APPEND)
        if self._file is None:
            return
        with suppress(OSError), printed.held(wait=False) as held:  # a full disk, say: there is less to be bounded
            if held:  # else the process is at it, or was stopped in the midst of that
                output.cut(self._file, printed, most, most // 2)  # it is copied: not again for every line

    # ------------------------------------------------------------------------------------------------- stopping

    def _stop(self, verdict: Verdict) -> None:
        self.verdict = verdict
        try:
            self._members = self._family.members()
            self.verdict = replace(verdict, stack=self._ask_for_stacks())
            self._signal(signal.SIGTERM)
            if not self._ends_within(self._bounds.grace):
                self._signal(signal.SIGKILL)
                self._ends_within(_END_SECONDS)  # one that hangs in the kernel ends when its disk answers
        finally:
            self._stopped.set()

    def _ask_for_stacks(self) -> str | None:
        stacks, deadline = self._watched.stacks, self._clock.monotonic() + _STACK_SECONDS
        stacks.clear()
        self._watched.process.send_signal(ASK)
        size = 0
        while self._clock.monotonic() < deadline:
            self._clock.wait(self._over, _LOOK_EVERY / 5)
            if size and stacks.size() == size:  # it is whole
                break
            size = stacks.size()
        return stacks.text()

    def _signal(self, number: signal.Signals) -> None:
        self._members |= self._family.members()
        self._family.signal(number)  # with the programs that a component started
        memory.send({pid: start for pid, start in self._members.items() if self._is_apart(pid)}, number)

    def _is_apart(self, pid: int) -> bool:
        """Whether a program leads a group of its own, or is of such a group: the others were sent the signal."""
        with suppress(OSError):
            return os.getpgid(pid) != self._watched.process.pid
        return False

    def _ends_within(self, seconds: float) -> bool:
        """Wait until nothing is left of the process and what it started, and return whether that came to pass."""
        deadline = self._clock.monotonic() + seconds
        while self._lives():
            if self._over.is_set() or self._clock.monotonic() >= deadline:
                return False
            self._clock.wait(self._over, _LOOK_EVERY / 2)
        return True

    def _lives(self) -> bool:
        if self._watched.process.poll() is None:
            return True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._watched.process.pid, 0)
            return True
        return any(memory.lives(pid, start) for pid, start in self._members.items())
