"""Components whose end a test decides: they wait for a file, raise, die, or hold the interpreter.

Nothing here sleeps: a component that waits opens a pipe in the file system (FIFO) and reads until the test writes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from peewee import BigIntegerField, TextField

from astra.base import Parameter, TaskInstance
from astra.database.astradb import DataProduct, Link, ResultModel
from astra.database.connection import execute

COMPONENTS = __name__


class Trace(ResultModel):
    """One row for each task that was done."""

    data_product = Link(DataProduct, null=True)
    pid = BigIntegerField()
    note = TextField()

    class Meta:
        table_name = "test_trace"


class Traced(TaskInstance):
    """Records one row for each task."""

    result_models = (Trace,)
    note = Parameter(default="")

    def execute(self) -> None:
        for task, data_products in self.iterable():
            self.work(task.parameters)
            product = data_products[0].id if data_products else None
            self.record_result(task, Trace(data_product=product, pid=os.getpid(), note=task.parameters["note"]))

    def work(self, parameters: dict[str, object]) -> None:
        """Do what this component is for."""


class Waits(Traced):
    """Says in `gate`/started.PID that it has begun, then waits at the pipe `gate`/pipe until a test opens it."""

    gate = Parameter(bundled=True)

    def pre_execute(self) -> None:
        folder = Path(self.gate)
        (folder / f"started.{os.getpid()}").touch()
        with (folder / "pipe").open("rb") as pipe:
            pipe.read()


class LeavesTable(Waits):
    """Waits, and leaves a temporary table behind in its process's connection."""

    def pre_execute(self) -> None:
        execute("CREATE TEMPORARY TABLE left_behind (x INTEGER)")
        super().pre_execute()


class Computes(Traced):
    """Keeps a processor busy for a good part of a second over a few tasks, so that a kill meets it at work."""

    def work(self, parameters: dict[str, object]) -> None:
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 150_000)


class Witnessed(Traced):
    """Writes down, outside of all records, that a task was begun, and computes for half a millisecond."""

    where = Parameter(bundled=True)
    group = Parameter(default=0, bundled=True)
    number = Parameter(default=0)

    def execute(self) -> None:
        with open(Path(self.where) / f"{os.getpid()}.begun", "a", buffering=1) as begun:
            for task, _ in self.iterable():
                begun.write(f"{task.id}\n")
                hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000)
                self.record_result(task, Trace(pid=os.getpid(), note=""))


class ReadsLate(Waits):
    """Waits at the gate with a task in hand, then reads its file."""

    def pre_execute(self) -> None:
        pass

    def execute(self) -> None:
        for task, data_products in self.iterable():
            super().pre_execute()
            Path(data_products[0].path).read_bytes()
            self.record_result(task, Trace(data_product=data_products[0].id, pid=os.getpid(), note=""))


class NeedsQuality(Traced):
    """Fails where the quality of its data product was not measured before."""

    def execute(self) -> None:
        from astra.contrib.spectrum_quality.models import SpectrumQualityResult

        for task, data_products in self.iterable():
            [measured] = SpectrumQualityResult.select().where(SpectrumQualityResult.data_product == data_products[0].id)
            self.record_result(task, Trace(data_product=data_products[0].id, pid=os.getpid(), note=f"{measured.snr}"))


class Combines(Traced):
    """Records which data products each task was given together, in their order."""

    def execute(self) -> None:
        for task, data_products in self.iterable():
            note = " ".join(str(each.id) for each in data_products)
            assert all(Path(each.path).stat().st_size for each in data_products)
            self.record_result(task, Trace(pid=os.getpid(), note=note))


class Raises(Traced):
    """Raises at the tasks whose note says so."""

    def work(self, parameters: dict[str, object]) -> None:
        if parameters["note"] == "bad":
            raise RuntimeError("this one is bad")


class Exits(Traced):
    """Ends its process without a word."""

    def work(self, parameters: dict[str, object]) -> None:
        os._exit(3)


class Killed(Traced):
    """Is killed, as by the kernel's memory killer."""

    def work(self, parameters: dict[str, object]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KilledAt(Traced):
    """Is killed at the tasks whose note says so."""

    def work(self, parameters: dict[str, object]) -> None:
        if parameters["note"] == "bad":
            os.kill(os.getpid(), signal.SIGKILL)


class LeavesChild(Waits):
    """Is killed while a child of it goes on, with its pipes open."""

    def pre_execute(self) -> None:
        if os.fork() == 0:
            super().pre_execute()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


class HoldsInterpreter(TaskInstance):
    """Does not let any other thread of its process run for about `seconds`."""

    seconds = Parameter(default=2.0)

    def execute(self) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            end = os.times().elapsed + float(self.seconds)
            while os.times().elapsed < end:
                pass
        finally:
            sys.setswitchinterval(before)


class ReadsAndPrints(TaskInstance):
    """Prints, reads what a terminal would give it, and starts a program that does the same."""

    def execute(self) -> None:
        print("printed by the component", flush=True)
        assert sys.stdin.read() == ""
        subprocess.run(["cat"], check=True)
        os.write(1, b"written by the component\n")


class StartsPrograms(TaskInstance):
    """Starts a program that would outlive it, and waits for it."""

    gate = Parameter(bundled=True)

    def execute(self) -> None:
        child = subprocess.Popen(["cat", str(Path(self.gate) / "pipe")])
        (Path(self.gate) / f"child.{child.pid}").touch()
        child.wait()


class BadRow(TaskInstance):
    """Records a row that its table cannot take."""

    result_models = (Trace,)

    def execute(self) -> None:
        for task, _ in self.iterable():
            self.record_result(task, Trace(pid=1, note=None))


def make_gate(folder: Path) -> Path:
    """Make the folder and the pipe that `Waits` waits at."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe")
    return folder


def waiting(gate: Path) -> list[int]:
    """Return the processes that wait, or have waited, at a gate."""
    return sorted(int(path.suffix[1:]) for path in gate.glob("started.*"))


def open_gate(gate: Path) -> None:
    """Let all who wait at a gate go on, and all who come later."""
    descriptor = os.open(gate / "pipe", os.O_RDWR)  # never blocks, and lets the others in
    (gate / "open").touch()
    (gate / "open").replace(gate / "pipe")
    os.close(descriptor)
