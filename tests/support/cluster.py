"""A Slurm that lives in the test: what it is told it keeps, what it knows it says in squeue's own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from astra import provenance, queue
from astra.config import Settings
from astra.database.connection import run
from astra.provenance import Owner
from astra.states import TaskOutcome
from astra.work import Claimed, Ended, Finish, Load, NewTask, Pick
from daemon.executors.slurm import SlurmExecutor
from daemon.executors.slurm_client import Array, Seen, SlurmClient, Submitted
from daemon.executors.slurm_words import latest, parse_squeue
from daemon.scheduler import Scheduler
from tests.support.clock import FakeClock
from tests.support.tasks import CODE, TOTALS

NODE = Owner("the boot of a node", 77, 7, "node7", "user")


class Cluster(SlurmClient):
    """Answers in the place of the thread that talks to Slurm, when it is heard next.

    `jobs` says of each element what squeue does: state and reason. `noted` are the names that the records held whenever
    an array was submitted. `refuses` names components with what Slurm says of
    them; `away` is what it says where it cannot be asked, `loses` whether it takes an array before it falls silent,
    and `hears` whether it may have.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, lambda: None)
        self.jobs: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.arrays: list[Array] = []
        self.noted: list[set[str | None]] = []
        self.removed: list[str] = []
        self.cancelled: list[tuple[str, str]] = []
        self.looks: list[frozenset[str]] = []
        self.refuses: dict[str, str] = {}
        self.away: str | None = None
        self.hears, self.loses, self.answers = True, False, True
        self.controller = "monday"
        self._waiting: list[Array | frozenset[str]] = []

    def start(self) -> None:
        pass

    def submit(self, array: Array) -> None:
        self.noted.append({name for (name,) in run("SELECT external_name FROM bundle")})
        self.arrays.append(array)
        self._waiting.append(array)

    def look(self, elements: frozenset[str]) -> None:
        self.looks.append(elements)
        self._waiting.append(elements)

    def cancel(self, array: str, job: str) -> None:
        self.cancelled.append((array, job))
        number, _, index = job.partition("_")
        name = f"{array}_{index}"
        if self.numbers.get(array) == int(number) and name in self.jobs:
            if self.jobs[name].startswith("PENDING"):
                del self.jobs[name]
            else:
                self.jobs[name] = "CANCELLED|None"

    def remove(self, array: str) -> None:
        self.removed.append(array)

    def heard(self) -> Iterator[Submitted | Seen]:
        while self.answers and self._waiting:
            each = self._waiting.pop(0)
            yield self._take(each) if isinstance(each, Array) else self._say()

    def stop(self, seconds: float) -> list[str]:
        left, self._waiting = [each.name for each in self._waiting if isinstance(each, Array)], []
        return left

    def _take(self, array: Array) -> Submitted:
        component = array.loads[0].bundles[0].component
        if component in self.refuses:
            return Submitted(array.name, refusal=self.refuses[component])
        if self.away is None or self.loses:
            self.numbers[array.name] = len(self.numbers) + 1
            self.jobs |= {f"{array.name}_{index}": "PENDING|None" for index in range(len(array.loads))}
        if self.away is not None:
            return Submitted(array.name, away=self.away, told=self.hears)
        return Submitted(array.name, job=str(self.numbers[array.name]))

    def _say(self) -> Seen:
        if self.away is not None:
            return Seen({}, away=self.away)
        lines = []
        for name, state in self.jobs.items():
            array, _, index = name.rpartition("_")
            lines.append(f"{self.numbers[array]}|{index}|{array}|{state}")
        return Seen(latest(parse_squeue("\n".join(lines))), self.controller)


class Desk:
    """A scheduler, Slurm's executor and that Slurm; what the jobs do is done by hand."""

    def __init__(self, settings: Settings, clock: FakeClock) -> None:
        self.settings, self.clock, self.cluster = settings, clock, Cluster(settings)
        self.executor = SlurmExecutor(settings, clock, lambda: None, self.cluster)
        self.scheduler = Scheduler(settings, self.executor, clock)

    def enqueue(self, count: int = 1, component: str = "a.B") -> list[int]:
        """Enqueue tasks, each of a bundle key of its own."""
        last = run("SELECT coalesce(max(id), 0) FROM task")[0][0]
        tasks = [NewTask(component, "1", "{}", f"{component} {{{last + each}}}") for each in range(count)]
        return queue.enqueue(tasks, self.clock.now())

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and take a turn."""
        self.clock.advance(seconds)
        self.scheduler.tick(self.clock.monotonic())

    def ticks(self, seconds: float, every: float = 5.0) -> None:
        """Take turns for so many seconds."""
        for _ in range(int(seconds / every)):
            self.tick(every)

    def hand_over(self, count: int = 1, component: str = "a.B") -> str:
        """Enqueue tasks, hand them over, and return the name under which Slurm has the last of their arrays."""
        self.enqueue(count, component)
        self.tick()
        self.tick()  # what was claimed in one turn is submitted in the next
        self.tick()  # and heard of after that
        return self.cluster.arrays[-1].name

    def hand_over_together(self, count: int) -> str:
        """Hand over one load of so many bundles; return the name of its element."""
        self.enqueue(count)
        keys = [key for (key,) in run("SELECT bundle_key FROM task WHERE state = 'pending' ORDER BY id")]
        picks = [Pick(None, 100, key, 1) for key in keys]
        claimed = queue.claim(picks, provenance.owner(), "slurm", self.clock.now())
        assert len(claimed) == count
        self.executor.submit(Load(tuple(claimed), 60.0), self.clock.monotonic())
        self.tick()
        self.tick()
        return f"{self.cluster.arrays[-1].name}_0"

    def load(self, name: str) -> tuple[Claimed, ...]:
        """Return the bundles of an element, as they were handed over."""
        array, _, index = name.rpartition("_")
        [found] = [each for each in self.cluster.arrays if each.name == array]
        return found.loads[int(index)].bundles

    def begin(self, name: str, lease: float = 3600.0) -> str:
        """Have the job of an element begin its bundles, on its node; return their token."""
        return self.begin_all(name, self.load(name), lease)

    def begin_all(self, name: str, claimed: Sequence[Claimed], lease: float = 3600.0) -> str:
        """Have the job of an element, whoever handed it over, begin these bundles; return their token."""
        self.cluster.jobs[name] = "RUNNING|None"
        now = self.clock.now()
        until = now + timedelta(seconds=lease)
        return queue.start(claimed, NODE, CODE, provenance.environment_id(), until, now)[0]

    def finish(self, bundle: int, token: str) -> None:
        """Have a bundle end well, as its process does."""
        members = run("SELECT position, task_id FROM task_bundle WHERE bundle_id = ?", (bundle,))
        ended = [Ended(position, task, TaskOutcome.COMPLETED, 0.0, 0.0, 0.0) for position, task in members]
        queue.finish([Finish(bundle, token, ended, (), TOTALS)], self.clock.now())

    def tasks(self) -> list[str]:
        """Return the state of every task."""
        return [str(state) for (state,) in run("SELECT state FROM task ORDER BY id")]

    def bundles(self) -> list[str]:
        """Return the state of every bundle."""
        return [str(state) for (state,) in run("SELECT state FROM bundle ORDER BY id")]

    def errors(self) -> list[str | None]:
        """Return what is said of the end of every bundle."""
        return [error for (error,) in run("SELECT error FROM bundle ORDER BY id")]

    def kinds(self) -> list[str | None]:
        """Return the kind of error of every try."""
        return [kind for (kind,) in run("SELECT error_kind FROM task_bundle ORDER BY bundle_id, position")]

    def numbers(self) -> list[str | None]:
        """Return the number that Slurm gave every bundle, as it is recorded."""
        return [job for (job,) in run("SELECT external_id FROM bundle ORDER BY id")]
