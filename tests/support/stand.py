"""A service with one of the executors, as a real process on PostgreSQL, driven and looked at from outside."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astra.database.connection import run as query
from tests.support.components import make_gate, open_gate, waiting
from tests.support.processes import Daemon, run, until
from tests.support.site import Site
from tests.support.slurm import Job, PrivateSlurm
from tests.support.witness import Acts

PATIENCE = 60.0  # seconds within which Slurm begins a job, or tells of its end, on a busy machine
COLUMNS = "m.outcome, m.error_kind, m.error_message, m.bundle_id"


@dataclass
class Stand:
    """One executor, its service's settings, the component's witness and gate, and Slurm if that runs the bundles."""

    name: str
    site: Site
    slurm: PrivateSlurm | None = None
    earlier: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        make_gate(self.where)
        executor = self.site.sections.setdefault("executor", {})
        executor |= {"name": self.name, "timeout": 120, **executor}
        self.site.sections.setdefault("log", {})["level"] = "info"
        self.site.sections.setdefault("scheduler", {}).setdefault("retries", 1)
        if self.slurm is not None:
            executor["slurm"] = {"poll": 0.3, "time": 30, "memory": 700, **executor.get("slurm", {})}
            self.earlier = {job.id for job in self.slurm.jobs()}

    @property
    def where(self) -> Path:
        """Where the component notes its calls, and waits."""
        return self.site.gate

    def service(self, started: Sequence[str] | None = None) -> Daemon:
        """Start the service, in another way if that is `started`, and wait until it says that it has started."""
        daemon = Daemon(self.site.write(), "run", started=started)
        try:
            daemon.says(" started ", PATIENCE)
        except BaseException:
            daemon.kill_all()
            raise
        return daemon

    def enqueue(self, *notes: str, group: int = 0, files: Sequence[str] = ()) -> list[int]:
        """Enqueue a task for each note, all of one bundle key, each with a file if there are any; return them."""
        numbers = list(range(len(notes)))
        given: dict[str, Any] = {"input_data_products": list(files)} if files else {}
        before = self._last_task()
        Acts(where=str(self.where), group=group, note=list(notes), number=numbers, **given).enqueue()
        return [key for (key,) in query("SELECT id FROM task WHERE id > ? ORDER BY id", (before,))]

    def at_gate(self, count: int = 1) -> list[int]:
        """Wait until so many processes have come to the gate, and return their ids."""
        return until(lambda: waiting(self.where) if len(waiting(self.where)) >= count else [], PATIENCE)

    def open_gate(self) -> None:
        """Let all at the gate go on, and all that come later."""
        open_gate(self.where)

    def reach(self, tasks: Sequence[int], *states: str, timeout: float = PATIENCE) -> None:
        """Wait until these tasks have these states, one for each, or one for all."""
        wanted = list(states) * (len(tasks) if len(states) == 1 else 1)

        def they_have() -> bool:
            known = dict(query("SELECT id, state FROM task"))
            return [str(known[task]) for task in tasks] == wanted

        self._until(they_have, f"tasks {list(tasks)} are {wanted}", timeout)

    def first_try_ends(self, task: int, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until the first try of a task has ended, and return how."""
        self._until(lambda: bool(self._ended(task)), f"a try of task {task} has ended", timeout)
        return self.tries(task)[0]

    def _ended(self, task: int) -> list[str]:
        return [each["outcome"] for each in self.tries(task) if each["outcome"]]

    def _until(self, predicate: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            until(predicate, timeout)
        except AssertionError:
            said = "\n".join(path.read_text()[-4000:] for path in self.site.folder.glob("astrad-*.log"))
            jobs = (self.jobs(), self.slurm("scontrol", "show", "nodes")) if self.slurm is not None else ()
            states = query("SELECT id, state FROM task ORDER BY id LIMIT 20")
            raise AssertionError(f"not within {timeout:g} s: {what}; tasks {states}; jobs {jobs}\n{said}") from None

    def tries(self, task: int) -> list[dict[str, Any]]:
        """Return how each try of a task ended, the oldest first."""
        rows = query(f"SELECT {COLUMNS} FROM task_bundle m WHERE m.task_id = ? ORDER BY m.bundle_id", (task,))
        return [dict(zip(("outcome", "kind", "message", "bundle"), row, strict=True)) for row in rows]

    def bundle_of(self, task: int) -> dict[str, Any]:
        """Return the columns of a task's latest bundle; nothing where it has been in none."""
        names = ("id", "state", "executor", "host", "user", "owner_pid", "external_id", "created", "started", "ended")
        columns = ", ".join(f'b."{name}"' for name in names)
        rows = query(f"SELECT {columns} FROM bundle b JOIN task t ON t.bundle_id = b.id WHERE t.id = ?", (task,))
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def astra(self, *arguments: str | int) -> str:
        """Run `astra`, expect it to succeed, and return what it printed."""
        return _succeeded(run("astra", *map(str, arguments), config=self.site.write()))

    def status(self) -> str:
        """Return what `astrad status` prints."""
        return _succeeded(run("astrad", "status", config=self.site.write()))

    def jobs(self) -> list[Job]:
        """Return the jobs that this stand's service has given to Slurm, one for each element of an array."""
        assert self.slurm is not None
        ours = [job for job in self.slurm.jobs() if job.id not in self.earlier]
        return [job for job in ours if job.name.startswith("astra-")]

    def job_states(self) -> list[str]:
        """Return the states of those jobs."""
        return [job.state for job in self.jobs()]

    def arrays(self) -> Counter[str]:
        """Return how many jobs each array has, by its name."""
        return Counter(job.name for job in self.jobs())

    def node(self, job: str) -> str:
        """Return the node on which a job runs."""
        assert self.slurm is not None
        return self.slurm("squeue", "-h", "-j", job, "-o", "%N")

    def said_in_job(self, job: str) -> str:
        """Return what a job has printed of itself so far."""
        index = job.partition("_")[2]
        found = (self.site.folder / "state" / "slurm").glob(f"*/{index}.out")
        return "\n".join(path.read_text(errors="replace") for path in found)

    def job_of(self, task: int) -> str:
        """Wait until it is recorded which job has a task, and return that."""
        return str(until(lambda: self.bundle_of(task).get("external_id"), PATIENCE))

    @staticmethod
    def _last_task() -> int:
        last: int | None = query("SELECT max(id) FROM task")[0][0]
        return last or 0


def _succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
