"""`astra` and `astrad` as real processes, with a config file: started, asked, waited for, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from astra.clock import SYSTEM
from tests.support.missing import lacking

CHECKOUT = Path(__file__).resolve().parents[2]
Answer = TypeVar("Answer")
MODULES = {"astra": "astra.cli", "astrad": "daemon.cli"}


def until(predicate: Callable[[], Answer], timeout: float = 20.0, every: float = 0.05) -> Answer:
    """Ask `predicate` until its answer is true, at most `timeout` seconds; return that answer.

    Raises
    ------
    AssertionError
        If it never was; the message names the predicate and its last answer.
    """
    deadline = SYSTEM.monotonic() + timeout
    never = threading.Event()
    while not (answer := predicate()):
        if SYSTEM.monotonic() > deadline:
            name = getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"{name} was not true within {timeout:g} s; its last answer: {answer!r}")
        SYSTEM.wait(never, every)
    return answer


def write_config(path: Path, settings: Mapping[str, Any]) -> Path:
    """Write `settings` as TOML: tables, lists of tables, and plain values."""
    plain = {key: value for key, value in settings.items() if not _is_table(value)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in settings.items():
        if _is_table(value):
            tables, heading = ([value], f"[{key}]") if isinstance(value, Mapping) else (value, f"[[{key}]]")
            for table in tables:
                lines += [heading, *(f"{name} = {_toml(item)}" for name, item in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def command(program: str) -> list[str]:
    """Return how to start `astra` or `astrad`: the installed script, or its `main` where nothing is installed."""
    script = Path(sys.executable).with_name(program)
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", f"import sys; from {MODULES[program]} import main; sys.exit(main())"]


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without settings of the person who runs the tests, and with `extra`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASTRA_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), inherited.get("PYTHONPATH", "")]))
    return {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **extra}


def run(program: str, *arguments: str | Path, config: Path, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with `config`, and return its output and exit status, whatever that is."""
    return subprocess.run(
        [*command(program), *map(str, arguments)],
        cwd=config.parent,
        env=environment(ASTRA_CONFIG=str(config)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_json(program: str, *arguments: str | Path, config: Path) -> Any:
    """Run a command with ``--json``, expect it to succeed, and return what it printed."""
    done = run(program, *arguments, "--json", config=config)
    assert done.returncode == 0, f"{program} {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


class Daemon:
    """`astrad run` (or another long command, or one that is `started` in another way) in a process group of its own.

    A context: leaving it kills the whole group, so that a failed test leaves nothing behind.
    """

    def __init__(
        self, config: Path, *arguments: str, program: str = "astrad", started: Sequence[str] | None = None
    ) -> None:
        self.log = config.parent / f"{program}-{os.urandom(3).hex()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*(started or command(program)), *(arguments or ("run",))],
                cwd=config.parent,
                env=environment(ASTRA_CONFIG=str(config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """Return all that it has said so far."""
        return self.log.read_text(errors="replace")

    def says(self, text: str, timeout: float = 20.0) -> str:
        """Wait until its output holds `text`, and return the output; fail early where it has ended."""

        def said() -> bool:
            output = self.output()
            if text not in output and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} and never said {text!r}:\n{output}")
            return text in output

        until(said, timeout)
        return self.output()

    def terminate(self, timeout: float = 30.0) -> int:
        """Ask it to stop (SIGTERM), wait for its end, and return the exit status."""
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end and return the exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.output()}") from None

    def kill(self) -> None:
        """SIGKILL the service alone: its workers find out by themselves."""
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """SIGKILL the service and all it has started, as a power cut or the kernel's memory killer may.

        Not where it was waited for: its number may be a stranger's by now, and that would be killed without a word.
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_children(self) -> list[int]:
        """SIGKILL the processes that it has started, and return their ids; the service itself lives on."""
        killed = descendants(self.process.pid)
        for pid in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return killed


def stranger(number: int) -> subprocess.Popen[bytes]:
    """Return a process in a session of its own that was given the number of one that is gone (Linux, as root)."""
    for _ in range(1000):  # others start processes too
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        except OSError as error:
            lacking(f"nobody but root can say which number comes next: {error}")
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        if process.pid == number:
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"no process was given the number {number}")


def lives(pid: int) -> bool:
    """Return whether a process is there and has not ended (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below `pid` (Linux)."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(child) for child in children.read_text().split()]
        except OSError:  # that thread has ended meanwhile
            continue
        for child in pids:
            found += [child, *descendants(child)]
    return found


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
