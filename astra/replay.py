"""Take in again, or enqueue again, on purpose: first a plan that writes nothing, then the doing, in chunks.

Comes from `astra replay`; goes to `ingest` and `queue`, which write as they do for new work, and what it enqueues is
claimed when no new work waits. Old records stand. What a replay has done bears its id, so one that was cut short is
planned again and does the rest; it needs no daemon and minds none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from astra import gathering, provenance, queue, taking_in
from astra.catalogue.consulting import LOCAL, Linking
from astra.clock import SYSTEM, Clock
from astra.database.astradb import Replay
from astra.database.connection import changed, database, run
from astra.errors import AstraError
from astra.ingest import Root
from astra.replay_plan import known_work, make_plan
from astra.replay_request import Entry, Left, Plan, Request, Verb
from astra.rules import Rule
from astra.selection import Selection

__all__ = ["Left", "Plan", "Request", "Verb", "begin", "carry_out", "make_plan", "resume"]

CHUNK = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """How long a file that is not whole is waited for, how sources are looked for, and the clock."""

    patience: float = 600.0
    linking: Linking = LOCAL
    clock: Clock = SYSTEM


@dataclass(slots=True)
class Progress:
    """How far a replay has come: entries done of those planned, what became of them, and what could not be done."""

    replay: int
    planned: int
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    left: list[Left] = field(default_factory=list)


def begin(plan: Plan, clock: Clock = SYSTEM) -> int:
    """Record that a plan is to be carried out, and return the replay's id."""
    owner, request = provenance.owner(), plan.request
    with database.atomic():
        made: Replay = Replay.create(
            who=f"{owner.user}@{owner.host}",
            created=clock.now(),
            verb=request.verb.value,
            selection=request.selection.given(),
            planned=len(plan.entries),
            state="running",
        )
    return int(made.id)


def resume(replay: int, roots: tuple[Root, ...], rules: tuple[Rule, ...]) -> Plan:
    """Return what a replay that was cut short has still to do.

    Raises
    ------
    AstraError
        If there is no such replay, or it is completed.
    """
    record = Replay.get_or_none(Replay.id == replay)
    if record is None:
        raise AstraError(f"there is no replay {replay}")
    if record.state != "running":
        raise AstraError(f"replay {replay} is {record.state}: there is nothing left of it to do")
    return make_plan(Request(Verb(record.verb), Selection.read(record.selection), roots, rules), replay)


def cancel(replay: int) -> bool:
    """Have nothing more of a replay done, whoever carries it out; False where it is not being carried out."""
    with database.atomic():
        stopped = changed("UPDATE replay SET state = 'cancelled' WHERE id = ? AND state = 'running'", (replay,)) == 1
        gathering.drop(replay)
        return stopped


def carry_out(plan: Plan, replay: int, settings: Settings | None = None) -> Iterator[Progress]:
    """Do what a plan says, a chunk at a time, each in a transaction of its own; yield after each.

    Parameters
    ----------
    plan
        What `make_plan` or `resume` returned.
    replay
        The id that `begin` returned, or that was resumed.
    """
    settings = settings or Settings()
    _count_from(replay, len(plan.entries))
    progress = Progress(replay, len(plan.entries), left=list(plan.left))
    for start in range(0, len(plan.entries), CHUNK):
        chunk = plan.entries[start : start + CHUNK]
        _refuse_ended(replay)
        if plan.request.verb is Verb.INGESTION:
            _take_in(chunk, plan.request, progress, settings)
        elif plan.gathers:
            _mark(chunk, plan.request.rule, progress, settings.clock)
        else:
            _enqueue(chunk, progress, settings.clock)
        progress.done += len(chunk)
        yield progress
    with database.atomic():
        changed("UPDATE replay SET state = 'completed' WHERE id = ? AND state = 'running'", (replay,))
    if not plan.entries:
        yield progress


def _count_from(replay: int, left: int) -> None:
    """Count as done all that is not left: of a replay that was cut short, also what it did not come to count."""
    with database.atomic():
        changed(
            "UPDATE replay SET done = planned - ? WHERE id = ? AND state = 'running' AND planned >= ?",
            (left, replay, left),
        )


def _advance(replay: int, count: int) -> None:
    """Count what is done; on PostgreSQL this also keeps a second process with the same replay out of this chunk."""
    if changed("UPDATE replay SET done = done + ? WHERE id = ? AND state = 'running'", (count, replay)) != 1:
        _refuse_ended(replay)


def _refuse_ended(replay: int) -> None:
    """Raise `AstraError` where a replay was cancelled, or another process has completed it."""
    state = run("SELECT state FROM replay WHERE id = ?", (replay,))[0][0]
    if state != "running":
        raise AstraError(f"replay {replay} was {state} by somebody else meanwhile; this process stops")


def _enqueue(chunk: Sequence[Entry], progress: Progress, clock: Clock) -> None:
    tasks = [(each, each.task._replace(replay=progress.replay)) for each in chunk if each.task]
    with database.atomic():
        _advance(progress.replay, len(chunk))
        live, done = known_work([str(task.identity) for _, task in tasks], progress.replay)
        new = [task for _, task in tasks if task.identity not in live and task.identity not in done]
        queue.enqueue(new, clock.now())
    progress.outcomes["enqueued"] += len(new)
    for entry, task in tasks:
        if (twin := live.get(str(task.identity))) is not None:
            reason = f"task {twin}, which is the same work, is pending or running"
            progress.left.append(Left(entry.key, entry.kind, entry.place, reason))


def _mark(chunk: Sequence[Entry], rule: Rule, progress: Progress, clock: Clock) -> None:
    with database.atomic():
        _advance(progress.replay, len(chunk))
        gathering.mark_due(rule, [each.key for each in chunk], clock.now(), progress.replay)
    progress.outcomes["sources marked"] += len(chunk)


def _take_in(chunk: Sequence[Entry], request: Request, progress: Progress, settings: Settings) -> None:
    terms = taking_in.Terms(request.roots, request.rules, settings.patience, progress.replay, settings.linking)
    entries = {each.place: each for each in chunk}
    # It has transactions of its own, so the count follows them: cut short in between, `resume` puts it right.
    for recorded in taking_in.take_in(entries, terms, settings.clock):
        entry = entries.get(recorded.file.place)
        if recorded.outcome is None and entry is not None:
            progress.left.append(Left(entry.key, entry.kind, entry.place, recorded.reason or "nothing was recorded"))
        else:
            progress.outcomes[recorded.outcome or "left"] += 1
            progress.outcomes["tasks"] += recorded.tasks
    with database.atomic():
        _advance(progress.replay, len(chunk))
