"""What is handed to `queue` and what it hands out: plain values, and what makes two tasks the same work."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from astra.database.astradb import ResultModel, Task
from astra.database.fields import canonical_json
from astra.provenance import Code, Owner
from astra.states import BundleState, ErrorKind, TaskOutcome


class Input(NamedTuple):
    """One input of a task: the data product, the file version it was given, and what identifies both."""

    data_product: int
    ingestion: int | None
    identity: str
    signature: str


class NewTask(NamedTuple):
    """A task to record. `parameters` is canonical JSON; `identity` is null for a task run by hand.

    `after` is the identity of the work that it comes after.
    """

    name: str
    component_version: str
    parameters: str
    bundle_key: str
    inputs: tuple[Input, ...] = ()
    priority: int = 100
    identity: str | None = None
    rule: str | None = None
    replay: int | None = None
    repeat_of: int | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A bundle taken from the queue, not yet started. Those of one claim, and those of one start, share a token."""

    bundle: int
    size: int
    token: str
    key: str = ""

    @property
    def component(self) -> str:
        """The import path of the component that its tasks are of."""
        return self.key.partition(" ")[0]


class Pick(NamedTuple):
    """What to claim: bundles of up to `limit` pending tasks of one lane, priority and key; `times` of them.

    A lane is a replay's, or None for live work.
    """

    replay: int | None
    priority: int
    key: str
    limit: int
    times: int = 1

    @property
    def component(self) -> str:
        """The component's import path, with which every key of it begins."""
        return self.key.partition(" ")[0]


def lane(replay: int | None) -> str:
    """Return the condition that a task is of a lane."""
    return "replay_id IS NULL" if replay is None else f"replay_id = {int(replay)}"


class Retry(NamedTuple):
    """How often a task may be tried again, and the seconds before the first time; by hand nothing is."""

    retries: int = 0
    backoff: float = 0.0


NO_RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Load:
    """What a process is handed at once: bundles to run one after another. Short ones share transactions.

    `lease` is how many seconds each may go unrenewed.
    """

    bundles: tuple[Claimed, ...]
    lease: float
    retry: Retry = NO_RETRY


class Ended(NamedTuple):
    """How one task left its bundle, with its own seconds in each of `STAGES` (None where a stage never began)."""

    position: int
    task: int
    outcome: TaskOutcome
    time_pre_execute: float | None
    time_execute: float | None
    time_post_execute: float | None
    error_class: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    error_kind: ErrorKind | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The end of a bundle: seconds and overhead of each of `STAGES`, and the error that ended it, if one did.

    And its peak of memory in bytes, and between which places of its log what it printed lies.
    """

    stages: tuple[tuple[float | None, float | None], ...]
    error: str | None = None
    peak_memory: int | None = None
    log: tuple[str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class ByHand:
    """A bundle that a person runs here and now.

    Its tasks come in their order, a chunk at a time: new ones, and recorded ones by key. All of these are among
    `recorded` too, for they are taken together or not at all.
    """

    name: str
    bundle_key: str
    size: int
    recorded: Sequence[int]
    chunks: Iterable[Sequence[NewTask | int]]
    owner: Owner
    code: Code
    environment: int


@dataclass(frozen=True, slots=True)
class Finish:
    """A chunk of a bundle's tasks that ended; `totals` with the last.

    With those that completed come their result rows, and the files they made as (task, data product).
    """

    bundle: int
    token: str
    ended: Sequence[Ended]
    results: Sequence[ResultModel]
    totals: Totals | None
    outputs: Sequence[tuple[int, int]] = ()
    retry: Retry = NO_RETRY


@dataclass(frozen=True, slots=True)
class Expiry:
    """A bundle whose process died or was stopped, or went with its service: what happened, and how often to try again.

    Where it is known which task was in hand, by its `position`, that one alone is blamed, and the others run again at
    once. Else the bundle is halved, until the task that does it is alone. `stack` says where each thread was.
    """

    bundle: int
    token: str
    kind: ErrorKind
    reason: str
    retry: Retry
    position: int | None = None
    stack: str | None = None
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A bundle that is submitted or running, with who holds it and since when it is there."""

    bundle: int
    component: str
    token: str
    state: BundleState
    owner: Owner
    executor: str
    size: int
    lapsed: bool
    created: datetime
    external_id: str | None = None
    external_name: str | None = None
    keeper: Owner | None = None


def identity_of(name: str, component_version: str, parameters: str, inputs: Iterable[Input]) -> str:
    """Return what makes a task the same work as another: component, its version, parameters and exact inputs."""
    given = ",".join([f"[{canonical_json(each.identity)},{canonical_json(each.signature)}]" for each in inputs])
    whole = f"[{_beginning(name, component_version)},{canonical_json(parameters)},[{given}]]"
    return hashlib.sha256(whole.encode()).hexdigest()


@functools.lru_cache(maxsize=100)
def _beginning(name: str, component_version: str) -> str:
    return f"{canonical_json(name)},{canonical_json(component_version)}"


def with_identity(task: NewTask, priority: int) -> NewTask:
    """Return a task as it is enqueued: told from other work by its identity."""
    identity = identity_of(task.name, task.component_version, task.parameters, task.inputs)
    return NewTask(*task[:5], priority, identity, *task[7:])


def repeat(task: Task, inputs: tuple[Input, ...], component_version: str) -> NewTask:
    """Return a new task that does a completed one's work again, with the same inputs and today's component."""
    parameters = canonical_json(task.parameters)
    return NewTask(task.name, component_version, parameters, task.bundle_key, inputs, repeat_of=task.id)


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_hex(16)
