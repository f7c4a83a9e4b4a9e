"""Talks to Slurm: one thread that submits, looks and cancels, one command after another, each within a time limit.

Comes from `slurm`, which asks and goes on; what came of it is heard later. A controller that is away answers after a
minute, or never: no loop waits for that.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from astra.errors import ExecutorUnusable
from daemon.executors import slurm_words
from daemon.executors.slurm_words import Listed

SECONDS = 60.0  # that one command may take
_NAMES = 100  # asked for at once
_DAYS = 30  # that the accounts are asked back for
_NOT_FOR_JOBS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS")


@dataclass(frozen=True, slots=True)
class Array:
    """A job array to be submitted: its name, the options, and where its script is."""

    name: str
    options: tuple[str, ...]
    script: Path


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
    """What Slurm says of the arrays it was asked for, by name and index; `away` where it could not be asked."""

    listed: dict[str, Listed]
    away: str | None = None


class _Unreachable(Exception):
    """Slurm did not answer, or not to this."""


class SlurmClient:
    """Submits, looks and cancels, in a thread of its own.

    Parameters
    ----------
    wake
        Called, from that thread, when there is something to be heard.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._asked: SimpleQueue[Array | Sequence[str] | frozenset[str] | None] = SimpleQueue()
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
        self._asked.put(elements)

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel elements of arrays by what Slurm calls them; those that are over already are nobody's concern."""
        self._asked.put(list(jobs))

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
            if isinstance(asked, Array):
                self._answers.put(self._submit(asked))
            elif isinstance(asked, frozenset):
                self._answers.put(self._look(asked))
            else:
                self._cancel(asked)
                continue
            self._wake()

    def _submit(self, array: Array) -> Submitted:
        try:
            answer = _run(["sbatch", *array.options, str(array.script)])
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
            names = sorted({each.rpartition("_")[0] for each in elements})
            listed = self._listed(names or ["astra"])  # of nothing: whether it answers
            missing = sorted({each.rpartition("_")[0] for each in elements - listed.keys()})
            if missing and self._accounts:
                listed = {**self._accounted(missing), **listed}
        except _Unreachable as error:
            return Seen({}, str(error))
        return Seen(listed)

    def _listed(self, names: Sequence[str]) -> dict[str, Listed]:
        found: list[Listed] = []
        for part in _parts(names):
            command = ["squeue", "-h", "-r", "-t", "all", "-n", ",".join(part), "-o", slurm_words.SQUEUE_COLUMNS]
            answer = _run(command)
            if answer.returncode != 0:
                raise _Unreachable(_words(answer))
            found += slurm_words.parse_squeue(answer.stdout)
        return slurm_words.latest(found)

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

    def _cancel(self, jobs: Sequence[str]) -> None:
        for part in _parts(jobs):
            try:
                _run(["scancel", *part])
            except _Unreachable:  # its bundle is nobody's any more, so the job, if it starts, finds nothing to do
                return


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
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_JOBS}
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=SECONDS, env=environ, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _Unreachable(f"{command[0]} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise _Unreachable(f"{command[0]} cannot be run: {error.strerror}") from error


def _words(answer: subprocess.CompletedProcess[str]) -> str:
    """Return what a command complained of, in one line."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
    return "; ".join(lines)[:500] or f"{answer.args[0]} ended with status {answer.returncode}"
