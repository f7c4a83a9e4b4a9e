"""The same work in huey (SQLite) and in procrastinate (PostgreSQL), in a process of its own: they are installed apart.

Comes from `peers`, which says on the command line what to do, on the standard input when, and hears on the standard
output when this is ready, then how many tasks it was.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHUNK = 1_000  # jobs deferred at once
CONCURRENCY = 10  # of one process: what procrastinate does best with
_FINISHED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


def _parameters(number: int) -> dict[str, Any]:
    return {"number": number, "model": "a model", "snr": 100.0}


class Huey:
    """`SqliteHuey`: takes one task at a time, keeps a result where there is one, and nothing else."""

    def __init__(self, place: str) -> None:
        from huey import SqliteHuey

        self._huey: Any = SqliteHuey(filename=place, fsync=False)
        self._task: Any = self._huey.task()(self._trivial)

    @staticmethod
    def _trivial(number: int, model: str, snr: float) -> bool:
        return True

    def prepare(self, count: int) -> int:
        """Make its tables, with the results of `count` tasks that are finished."""
        numbers = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
        finished = f"INSERT INTO kv {numbers} SELECT 'huey', lower(hex(randomblob(16))), x'80048a2e' FROM number"
        if count:
            self._huey.storage.sql(finished, (count,), commit=True)
        return count

    def enqueue(self, count: int) -> int:
        """Enqueue, one by one, for it has no other way."""
        for number in range(count):
            self._task(**_parameters(number))
        return count

    def work(self, count: int) -> int:
        """Do what its consumer's worker does, until nothing is left."""
        done = 0
        while (task := self._huey.dequeue()) is not None:
            self._huey.execute(task)
            done += 1
        return done

    def finished(self, count: int) -> int:
        """Return how many tasks have a result."""
        return int(self._huey.result_count())


class Procrastinate:
    """`procrastinate`: a row for each job, and one for each change of its state; both stay."""

    def __init__(self, place: str) -> None:
        import procrastinate

        self._place, self._done = place, 0
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=place))
        self._task: Any = self._app.task(name="trivial")(self._trivial)

    async def _trivial(self, number: int, model: str, snr: float) -> None:
        self._done += 1

    def prepare(self, count: int) -> int:
        """Make its tables, with `count` jobs that are finished, and their events."""

        async def made() -> None:
            async with self._app.open_async():
                await self._app.schema_manager.apply_schema_async()

        asyncio.run(made())
        jobs = "SELECT 'default', 'trivial', args, CAST('succeeded' AS procrastinate_job_status), 1"
        given = """CAST('{"number": 1, "model": "a model", "snr": 100.0}' AS jsonb) AS args"""
        kinds = "unnest(CAST('{deferred,started,succeeded}' AS procrastinate_job_event_type[]))"
        with self._connection() as connection:
            connection.execute("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
            connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts) "
                f"{jobs} FROM (SELECT {given} FROM generate_series(1, %s)) number",
                (count,),
            )
            connection.execute(
                f"INSERT INTO procrastinate_events (job_id, type) SELECT id, {kinds} FROM procrastinate_jobs"
            )
            connection.execute("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
            connection.execute("VACUUM ANALYZE")
        return count

    def enqueue(self, count: int) -> int:
        """Defer in batches."""

        async def deferred() -> None:
            async with self._app.open_async():
                for first in range(0, count, CHUNK):
                    numbers = range(first, min(first + CHUNK, count))
                    await self._task.batch_defer_async(*map(_parameters, numbers))

        asyncio.run(deferred())
        return count

    def work(self, count: int) -> int:
        """Be one of its worker processes, until nothing is left."""

        async def worked() -> None:
            async with self._app.open_async():
                await self._app.run_worker_async(
                    wait=False, concurrency=CONCURRENCY, listen_notify=False, install_signal_handlers=False
                )

        asyncio.run(worked())
        return self._done

    def finished(self, count: int) -> int:
        """Return how many jobs have succeeded."""
        with self._connection() as connection:
            return int(connection.execute(_FINISHED).fetchone()[0])

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        import psycopg

        with psycopg.connect(self._place, autocommit=True) as connection:
            yield connection


KINDS: dict[str, Callable[[str], Any]] = {"huey": Huey, "procrastinate": Procrastinate}


def main() -> None:
    """Do one verb of one of them, when told to."""
    kind, verb, place, count = sys.argv[1:]
    found = KINDS[kind](place)
    print("ready", flush=True)
    sys.stdin.readline()
    print(getattr(found, verb)(int(count)), flush=True)
