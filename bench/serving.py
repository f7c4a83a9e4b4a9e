"""Tasks enqueued, claimed, executed and recorded: what the scheduler and an executor's process do, in one process.

The pipes between the two are left out, so that what is timed is the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from astra import config, provenance, queue, recording
from astra.clock import SYSTEM
from astra.config import Settings
from astra.database.connection import close_database, open_database, run
from astra.inhand import InHand
from astra.running import Told, run_load
from astra.session import Desk
from astra.work import Load, NewTask, Retry, with_identity
from bench.components import Trivial
from bench.measure import Turn
from daemon.choosing import Choice
from daemon.executors.local import SPAN
from tests.support.processes import write_config

PRIORITY = 100


def enqueue(count: int) -> int:
    """Record `count` tasks of one key as pending; each has parameters of its own."""
    return len(Trivial(number=list(range(count))).enqueue())


def enqueue_keys(count: int) -> int:
    """Record `count` tasks as pending, each of a key of its own."""
    tasks: list[NewTask] = []
    for number in range(count):
        [made] = next(recording.new_tasks(Trivial(number=number, model=f"model {number}")))
        tasks.append(with_identity(made, PRIORITY))
    return len(queue.enqueue(tasks, SYSTEM.now()))


def warm_up() -> int:
    """Run one bundle, from whose times the scheduler learns; return the key of the last task that is not measured."""
    Trivial(number=list(range(-10, 0))).enqueue()
    serve(10)
    last: int = run("SELECT max(id) FROM task")[0][0]
    return last


def serve(size: int) -> int:
    """Run all that waits, in bundles of up to `size` tasks and as many of them at once as the scheduler hands over."""
    settings = _settings(size)
    choice, owner, count = Choice(settings, lambda own: SPAN), provenance.owner(), 0
    retry = Retry(settings.scheduler.retries, settings.scheduler.backoff)
    troubles: list[str] = []
    told = Told(
        lambda _: None,
        lambda _, trouble: troubles.append(trouble) if trouble else None,
        lambda _, why, away: troubles.append(why),
    )
    with TemporaryDirectory(prefix="astra-bench-") as folder:
        desk = Desk(_in_hand(), Path(folder))
        while picks := choice.next((), 1, SYSTEM.now()):
            if claimed := queue.claim(picks, owner, "local", SYSTEM.now()):
                run_load(Load(tuple(claimed), settings.scheduler.lease, retry), desk, told)
                choice.learn(picks[0].component)
                count += sum(each.size for each in claimed)
    assert not troubles, troubles[0]
    return count


@cache
def _settings(size: int) -> Settings:
    with TemporaryDirectory(prefix="astra-bench-") as folder:
        path = write_config(Path(folder) / "config.toml", {"scheduler": {"max_bundle_size": size}})
        return config.load(path, {"HOME": folder})


@cache
def _in_hand() -> InHand:
    return InHand()


def check(count: int, after: int) -> None:
    """Look at every task above the key `after`: completed, once, in a bundle that has ended, with all its times."""
    is_right = (
        "t.state = 'completed' AND m.outcome = 'completed' AND t.bundle_id = b.id AND b.state = 'ended' "
        "AND b.completed = b.size AND m.time_pre_execute IS NOT NULL AND m.time_execute IS NOT NULL "
        "AND m.time_post_execute IS NOT NULL AND b.time_execute IS NOT NULL"
    )
    tasks, times_run, right = run(
        f"SELECT count(DISTINCT t.id), count(*), sum(CASE WHEN {is_right} THEN 1 ELSE 0 END) FROM task t "
        "LEFT JOIN task_bundle m ON m.task_id = t.id LEFT JOIN bundle b ON b.id = m.bundle_id WHERE t.id > ?",
        (after,),
    )[0]
    assert (tasks, times_run, right) == (count, count, count), (tasks, times_run, right, count)


def together(url: str, size: int, processes: int) -> Turn:
    """Run all that waits in the database at `url` by several processes at once; none is counted while it starts."""
    context = get_context("spawn")
    pipes: list[Connection] = []
    started = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        started.append(context.Process(target=_claimer, args=(url, size, theirs)))
        started[-1].start()
        theirs.close()  # so that one that dies is noticed
        pipes.append(ours)
    for each in pipes:
        each.recv()
    began = SYSTEM.monotonic()
    for each in pipes:
        each.send(None)
    counts: Sequence[int] = [each.recv() for each in pipes]
    seconds = SYSTEM.monotonic() - began
    for process in started:
        process.join()
    return Turn(sum(counts), seconds)


def _claimer(url: str, size: int, told: Connection) -> None:
    open_database(url)
    provenance.environment_id()
    provenance.code_of(Trivial)
    _settings(size)
    told.send("ready")
    told.recv()
    told.send(serve(size))
    close_database()
