"""Components that take too long or too much, die in ugly ways, print, or keep things: nothing here sleeps either."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from astra.base import Parameter
from astra.errors import PermanentFailure, TemporaryFailure
from tests.support.components import Trace, Traced, Waits

log = logging.getLogger(__name__)
MEGABYTE = 1_000_000


class HangsAt(Waits):
    """Waits at the gate with a task in hand whose note says so."""

    def pre_execute(self) -> None:
        pass

    def work(self, parameters: dict[str, object]) -> None:
        if parameters["note"] == "bad":
            self.stuck_in_this_function()

    def stuck_in_this_function(self) -> None:
        """Wait at the gate."""
        super().pre_execute()


class PoisonedTogether(Traced):
    """Looks at all its tasks first, and is killed in the work on them together, if one is bad."""

    def execute(self) -> None:
        if any(task.parameters["note"] == "bad" for task, _ in self.iterable()):
            os.kill(os.getpid(), signal.SIGKILL)
        super().execute()


class RaisesOnce(Traced):
    """Raises the error that its note names, where it has not done so before."""

    where = Parameter(bundled=True)

    def work(self, parameters: dict[str, object]) -> None:
        before = Path(self.where) / str(parameters["note"])
        if not before.exists():
            before.touch()
            raise ERRORS[str(parameters["note"])]


ERRORS: dict[str, BaseException] = {
    "retry": TemporaryFailure("the server is busy"),
    "resource": MemoryError("no more"),
    "timeout": TimeoutError("too slow"),
    "permanent": PermanentFailure("no such line"),
    "bug": KeyError("typo"),
}


class FailsUntilMended(Traced):
    """Raises until a file called mended is there."""

    where = Parameter(bundled=True)

    def work(self, parameters: dict[str, object]) -> None:
        if not (Path(self.where) / "mended").exists():
            raise RuntimeError("the model is broken")


class Segfaults(Traced):
    """Reads where there is no memory, at the tasks whose note says so."""

    def work(self, parameters: dict[str, object]) -> None:
        if parameters["note"] == "bad":
            self.reads_nowhere()

    def reads_nowhere(self) -> None:
        """Die of a fault."""
        ctypes.string_at(0)


class Hogs(HangsAt):
    """Holds a third of a gigabyte while it waits."""

    def stuck_in_this_function(self) -> None:
        held = b"x" * (300 * MEGABYTE)
        super().stuck_in_this_function()
        del held


class HogsElsewhere(HangsAt):
    """Starts a program that does the same."""

    apart = False

    def stuck_in_this_function(self) -> None:
        hog = f"held = b'x' * {300 * MEGABYTE}; open({str(Path(self.gate) / 'pipe')!r}).read()"
        child = subprocess.Popen([sys.executable, "-c", hog], start_new_session=self.apart)
        (Path(self.gate) / f"child.{child.pid}").touch()
        child.wait()


class IgnoresTerm(Waits):
    """Will not end when it is asked to, and neither will a program that it has started."""

    def pre_execute(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["cat", str(Path(self.gate) / "pipe")])
        (Path(self.gate) / f"child.{child.pid}").touch()
        super().pre_execute()


class EndsInItsWay(Waits):
    """Ends in good order when it is asked to."""

    def pre_execute(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        super().pre_execute()

    def _end(self, *_: object) -> None:
        (Path(self.gate) / "ended").touch()
        os._exit(0)


class Lingers(Traced):
    """Leaves a thread behind that keeps its process from ending by itself."""

    gate = Parameter(bundled=True)

    def work(self, parameters: dict[str, object]) -> None:
        threading.Thread(target=(Path(self.gate) / "pipe").read_bytes).start()


class Prints(Traced):
    """Prints and logs its note, and dies where that says so."""

    def work(self, parameters: dict[str, object]) -> None:
        note = parameters["note"]
        if note:
            print(f"printed {note}")
            log.info("logged %s", note)
        if note == "exits":
            os._exit(3)


class Upsets(Traced):
    """Does to its process what its note says, and prints a line before and after."""

    def work(self, parameters: dict[str, object]) -> None:
        note = str(parameters["note"])
        print(f"before {note}")
        UPSETS[note]()
        print(f"after {note}")


def _both(act: Callable[[str], object]) -> None:
    for name in ("stdout", "stderr"):
        act(name)


def _quiet() -> None:
    logging.disable()
    logging.getLogger().handlers.clear()


def _away() -> None:
    os.chdir("/")
    os.umask(0o777)


UPSETS: dict[str, Callable[[], object]] = {
    "close": lambda: _both(lambda name: getattr(sys, name).close()),
    "close below": lambda: _both(lambda name: getattr(sys, name).buffer.close()),
    "detach": lambda: _both(lambda name: getattr(sys, name).detach()),
    "close descriptors": lambda: os.closerange(1, 3),
    "replace": lambda: _both(lambda name: setattr(sys, name, None)),
    "replace by anything": lambda: _both(lambda name: setattr(sys, name, object())),
    "quiet": _quiet,
    "away": _away,
}


class Looks(Prints):
    """Prints and logs its note, and where it is."""

    def work(self, parameters: dict[str, object]) -> None:
        super().work(parameters)
        print(f"in {os.getcwd()} with {os.umask(0o22):o}")
        os.write(1, b"past python\n")


class PrintsMuch(Traced):
    """Prints more than the file that it prints to may hold."""

    def work(self, parameters: dict[str, object]) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        for _ in range(20):
            print("x" * 999)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Renames(HangsAt):
    """Gives its process a name that is cut in the middle of a letter, and waits."""

    def stuck_in_this_function(self) -> None:
        ctypes.CDLL(None).prctl(15, "звёздызвёзды".encode()[:15], 0, 0, 0)
        super().stuck_in_this_function()


class HogsApart(HogsElsewhere):
    """Starts a program that leads a session of its own."""

    apart = True


class Noisy(Waits):
    """Prints five megabytes, then waits at the gate."""

    def pre_execute(self) -> None:
        print("the first line")
        for _ in range(500):
            print("x" * 9_999)
        print("the last line")
        super().pre_execute()


class Repeats(Traced):
    """Prints three megabytes of its note."""

    def work(self, parameters: dict[str, object]) -> None:
        for _ in range(30):
            print("\n".join([str(parameters["note"])] * 50_000))


class Keeps(Traced):
    """Keeps a model in its process, if it has one, and records whether it had to be loaded."""

    model = Parameter(bundled=True)
    megabytes = Parameter(bundled=True, default=0)

    def execute(self) -> None:
        if not self.model:
            return
        before = self.kept.get("model")
        if before is None:
            self.kept["model"] = self.model, b"x" * (self.megabytes * MEGABYTE)
        words = "loaded" if before is None else f"kept {before[0]}"
        for task, _ in self.iterable():
            self.record_result(task, Trace(pid=os.getpid(), note=f"{self.model}: {words}"))
