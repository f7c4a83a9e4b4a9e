"""Talks to Slurm: one thread that submits, looks and cancels, one command after another, each within a time limit.

Comes from `slurm`, which asks and goes on; what came of it is heard later. A controller that is away answers after a
minute, or never: no loop waits for that.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import NamedTuple

from astra.config import Settings
from astra.errors import ExecutorUnusable
from astra.work import Load
from daemon.executors import slurm_words
from daemon.executors.handed import remove_array, write_array
from daemon.executors.slurm_words import Listed

log = logging.getLogger(__name__)
SECONDS = 60.0  # that one command may take
_NAMES = 100  # asked for at once
_DAYS = 30  # that the accounts are asked back for
# of the service's environment: what systemd tells it, and what would bend our questions
_KEPT_BACK = (
    "NOTIFY_SOCKET", "WATCHDOG_", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_", "SQUEUE_", "SACCT_", "SCANCEL_",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Array:
    """A job array to be submitted: its name, and a load for each of its jobs, all of one component."""

    name: str
    loads: tuple[Load, ...]


class _Look(NamedTuple):
    elements: frozenset[str]


class _Cancel(NamedTuple):
    array: str
    job: str


class _Remove(NamedTuple):
    array: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of an array: the number Slurm gave it, its refusal, or why it could not be asked.

    Then nobody knows whether Slurm has it, unless it is certain that it was not `told`.
    """

    name: str
    job: str | None = None
    refusal: str | None = None
    away: str | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What Slurm says of the elements it was asked for, by their names; `away` where it could not be asked.

    `controller` tells one that has begun anew from the one before.
    """

    listed: dict[str, Listed]
    controller: str = ""
    away: str | None = None


class _Unreachable(Exception):
    """Slurm did not answer, or not to this."""


class _CannotRun(_Unreachable):
    """A command of Slurm's is not to be had."""


class SlurmClient:
    """Submits, looks and cancels, in a thread of its own.

    Parameters
    ----------
    settings
        For what is asked of Slurm, and where the files of its jobs are kept.
    wake
        Called, from that thread, when there is something to be heard.
    """

    def __init__(self, settings: Settings, wake: Callable[[], None]) -> None:
        self._settings, self._wake = settings, wake
        self._asked: SimpleQueue[Array | _Look | _Cancel | _Remove | None] = SimpleQueue()
        self._answers: SimpleQueue[Submitted | Seen] = SimpleQueue()
        self._stopped = threading.Event()
        self._accounts = True
        self._thread = threading.Thread(target=self._work, name="slurm", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, array: Array) -> None:
        """Submit an array; `Submitted` tells what came of it."""
        self._asked.put(array)

    def look(self, elements: frozenset[str]) -> None:
        """Ask for elements of arrays, by name and index; `Seen` tells of those that Slurm knows."""
        self._asked.put(_Look(elements))

    def cancel(self, array: str, job: str) -> None:
        """Cancel one element of an array; one that is over already is nobody's concern."""
        self._asked.put(_Cancel(array, job))

    def remove(self, array: str) -> None:
        """Remove the files of an array that is over."""
        self._asked.put(_Remove(array))

    def heard(self) -> Iterator[Submitted | Seen]:
        """Yield what there is to be heard."""
        while True:
            try:
                yield self._answers.get_nowait()
            except Empty:
                return

    def stop(self, seconds: float) -> list[str]:
        """Begin nothing more, wait for what is being done, and return the names of arrays that were not submitted."""
        self._stopped.set()
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)
        left: list[str] = []
        while True:
            try:
                each = self._asked.get_nowait()
            except Empty:
                return left
            if isinstance(each, Array):
                left.append(each.name)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if self._stopped.is_set():
                self._asked.put(asked)
                return
            answer = self._answer(asked)
            if answer is not None:
                self._answers.put(answer)
                self._wake()

    def _answer(self, asked: Array | _Look | _Cancel | _Remove) -> Submitted | Seen | None:
        try:
            if isinstance(asked, Array):
                return self._submit(asked)
            if isinstance(asked, _Look):
                return self._look(asked.elements)
            self._do(asked)
        except Exception as error:  # this thread's one boundary: one that is gone would answer nothing ever after
            log.exception("talking to Slurm failed; it goes on")
            why = f"{type(error).__name__}: {error}"
            if isinstance(asked, Array):
                return Submitted(asked.name, away=why)
            if isinstance(asked, _Look):
                return Seen({}, away=why)
        return None

    def _do(self, asked: _Cancel | _Remove) -> None:
        """Do what nobody waits to hear of."""
        if isinstance(asked, _Remove):
            return remove_array(self._settings, asked.array)
        with suppress(_Unreachable):  # a job whose bundles are nobody's any more finds nothing to do
            # with the name as well: a controller that has crashed may give the number to another one's job
            _run(["scancel", f"--name={asked.array}", asked.job])

    def _submit(self, array: Array) -> Submitted:
        asked = self._settings.slurm_of(array.loads[0].bundles[0].component)
        try:
            script = write_array(self._settings, array.name, array.loads)
        except OSError as error:
            why = f"cannot write into {self._settings.slurm_folder}: {error.strerror}"
            return Submitted(array.name, refusal=why)
        try:
            options = slurm_words.sbatch_options(array.name, len(array.loads), asked, script.parent)
            answer = _run(["sbatch", *options, str(script)])
        except _CannotRun as error:
            return Submitted(array.name, refusal=str(error))
        except _Unreachable as error:
            return Submitted(array.name, away=str(error))
        words = _words(answer)
        if answer.returncode == 0 and (job := slurm_words.job_number(answer.stdout)):
            return Submitted(array.name, job=job)
        if answer.returncode == 0 or slurm_words.is_away(words):
            return Submitted(array.name, away=words, told=not slurm_words.was_not_told(words))
        return Submitted(array.name, refusal=words)

    def _look(self, elements: frozenset[str]) -> Seen:
        try:
            # Before the jobs: what it lists then is not taken for a later controller's, which may have lost it.
            controller = self._controller()
            names = sorted({each.rpartition("_")[0] for each in elements})
            said = self._said(names or ["astra"])  # of nothing: whether it answers
            listed = slurm_words.latest(slurm_words.parse_squeue(said))
            missing = sorted({each.rpartition("_")[0] for each in elements - listed.keys()})
            if missing and self._accounts:
                listed = {**self._accounted(missing), **listed}
            listed |= slurm_words.parse_cancelled(said, elements - listed.keys())
        except _Unreachable as error:
            return Seen({}, away=str(error))
        return Seen(listed, controller)

    def _controller(self) -> str:
        answer = _run(["scontrol", "show", "config"])
        if answer.returncode != 0:
            raise _Unreachable(_words(answer))
        return slurm_words.began(answer.stdout)

    def _said(self, names: Sequence[str]) -> str:
        said = ""
        for part in _parts(names):
            command = ["squeue", "-h", "-r", "-t", "all", "-n", ",".join(part), "-o", slurm_words.SQUEUE_COLUMNS]
            answer = _run(command)
            if answer.returncode != 0:
                raise _Unreachable(_words(answer))
            said += answer.stdout
        return said

    def _accounted(self, names: Sequence[str]) -> dict[str, Listed]:
        found: list[Listed] = []
        for part in _parts(names):
            command = ["sacct", "-n", "-X", "-P", "-S", f"now-{_DAYS}days", f"--name={','.join(part)}"]
            answer = _run([*command, "-o", slurm_words.SACCT_COLUMNS])
            if answer.returncode != 0:
                if slurm_words.has_no_accounts(_words(answer)):
                    self._accounts = False
                    return {}
                raise _Unreachable(_words(answer))
            found += slurm_words.parse_sacct(answer.stdout)
        return slurm_words.latest(found)


def would_take(options: Sequence[str]) -> str:
    """Return what Slurm says of a job that is not really submitted.

    Raises
    ------
    ExecutorUnusable
        With its own words, if it would not take it, or cannot be asked.
    """
    try:
        answer = _run(["sbatch", "--test-only", *options, "--wrap=true"])
    except _Unreachable as error:
        raise ExecutorUnusable(str(error)) from error
    if answer.returncode != 0:
        raise ExecutorUnusable(_words(answer))
    return _words(answer).removeprefix("sbatch: ")


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _NAMES):
        yield names[start : start + _NAMES]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=SECONDS, env=environ, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _Unreachable(f"{command[0]} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise _CannotRun(f"{command[0]} cannot be run: {error.strerror}") from error


def _words(answer: subprocess.CompletedProcess[str]) -> str:
    """Return what a command complained of, in one line."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
    return "; ".join(lines)[:500] or f"{answer.args[0]} ended with status {answer.returncode}"
