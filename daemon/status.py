"""One snapshot of the service and its records: what `astrad status` shows, in words and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from astra import backlog, gathering, holds, provenance
from astra.clock import Clock
from astra.config import Settings, Watch
from astra.database.astradb import Hold
from astra.database.connection import place, run
from astra.database.fields import instant_text
from astra.errors import UnreadableFile
from astra.filesystem import filesystem_kind, is_network
from daemon.intake import Intake
from daemon.scheduler import Scheduler
from daemon.sweeper import Sweeper
from daemon.watcher import Watcher

STALE_SECONDS = 15.0  # a service that has written nothing for so long is not alive, or hangs


def live(parts: tuple[Watcher, Sweeper, Intake, Scheduler], began: datetime, clock: Clock) -> dict[str, Any]:
    """Return what only the running service knows."""
    watcher, sweeper, intake, scheduler = parts
    owner = provenance.owner()
    return {
        "written": _text(clock.now()),
        "began": _text(began),
        "version": provenance.astra_version(),
        "pid": owner.pid,
        "start": owner.start,
        "boot": owner.boot,
        "host": owner.host,
        "roots": [_root(name, watcher, sweeper) for name in sweeper.roots],
        "overflows": watcher.overflows,
        "intake": asdict(intake.counts)
        | {"on_their_way": intake.waiting, "oldest_seconds": _oldest(intake, clock), "trouble": intake.trouble},
        "lag_seconds": percentiles(list(intake.lags)),
        "bundles_running": scheduler.running,
        "executor": scheduler.executor_state,
        "state": "running" if not scheduler.draining else "draining" if scheduler.running else "stopped",
    }


def _root(name: str, watcher: Watcher, sweeper: Sweeper) -> dict[str, Any]:
    state = sweeper.roots[name]
    return {
        "name": name,
        "path": str(state.watch.path),
        "polled": state.polled,
        "blind": watcher.blind.get(name),
        "deaf": watcher.deaf.get(name),
        "events": watcher.events(name),
        "outage": state.outage,
        "sweeps": state.sweeps,
        "files": state.last.files,
        "folders": state.last.folders,
        "problems": state.last.problem_count,
        "sweep_seconds": round(state.seconds, 6),
        "changed_sweep_seconds": round(state.changed_seconds, 6),
        "offered": state.offered,
    }


def stood_by(watches: Sequence[Watch], others: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what there is to tell of the folders that other services watch, and this one when they are gone."""
    return [
        {"name": each.name, "path": str(each.path), "watched_by": others[each.name]}
        for each in watches
        if each.name in others
    ]


def _oldest(intake: Intake, clock: Clock) -> float | None:
    """Return for how long the file that has been on its way longest has been."""
    since = intake.settler.oldest
    return None if since is None else round(clock.monotonic() - since, 1)


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return the median, 90th and 99th percentile and the maximum, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": round(ordered[-1], 3)}


def records(clock: Clock) -> dict[str, Any]:
    """Return what the database says, whoever wrote it."""
    tasks = {str(state): count for state, count in run("SELECT state, count(*) FROM task GROUP BY state")}
    outcomes = {str(name): count for name, count in run("SELECT outcome, count(*) FROM ingestion GROUP BY outcome")}
    counts = "SELECT (SELECT count(*) FROM data_product), count(DISTINCT source_id), count(source_id) "
    products, sources, linked = run(f"{counts} FROM source_data_product WHERE superseded_by_id IS NULL")[0]
    oldest = run("SELECT min(created) FROM task WHERE state = 'pending'")[0][0]
    return {
        "database": place(),
        "data_products": products,
        "linked": linked,
        "sources": sources,
        "ingestions": outcomes,
        "tasks": tasks,
        "oldest_pending": str(oldest) if oldest is not None else None,
        "waiting_for_others": backlog.waiting_for_others(),
        "gathering": [
            {"rule": rule, "sources": count, "next": _text(due) if due else None}
            for rule, count, due in gathering.counts()
        ],
        "running": _running(),
        "holds": [_held(each) for each in holds.standing()],
        "asked": _text(clock.now()),
    }


def _running() -> list[dict[str, Any]]:
    """Return how many bundles, and tasks in them, each machine runs or has handed over, by executor."""
    rows = run(
        "SELECT host, executor, state, count(*), sum(size) FROM bundle WHERE state IN ('submitted', 'running') "
        "GROUP BY host, executor, state ORDER BY host, executor, state"
    )
    names = ("host", "executor", "state", "bundles", "tasks")
    return [dict(zip(names, (*row[:3], int(row[3]), int(row[4])), strict=True)) for row in rows]


def _held(held: Hold) -> dict[str, Any]:
    return {
        "kind": str(held.kind),
        "target": held.target,
        "who": held.who,
        "since": _text(held.created),
        "reason": held.reason,
        "next_probe": _text(held.probe_at) if held.probe_at else None,
    }


def last_ingestion() -> int:
    """Return the key of the newest ingestion, 0 where there is none."""
    return int(run("SELECT max(id) FROM ingestion")[0][0] or 0)


def troubles(before: int, began: datetime) -> int:
    """Return how many tasks failed or gave up, and how many files were quarantined, in this run of the service."""
    failed = (
        "SELECT count(*) FROM task t JOIN bundle b ON b.id = t.bundle_id "
        "JOIN task_bundle m ON m.bundle_id = b.id AND m.task_id = t.id "
        "WHERE t.state IN ('failed', 'cancelled') AND m.outcome IN ('failed', 'cancelled', 'expired') "
        "AND b.ended >= ? AND b.executor <> 'interactive'"
    )
    refused = "SELECT count(*) FROM ingestion WHERE id > ? AND outcome = 'quarantined'"
    return int(run(failed, (instant_text(began),))[0][0]) + int(run(refused, (before,))[0][0])


def status_file(settings: Settings) -> Path:
    """Return where this machine's service writes what it knows."""
    folder = settings.service.state
    shared = is_network(filesystem_kind(folder))  # a home, say, that several machines have
    return folder / (f"status-{platform.node()}.json" if shared else "status.json")


def write(path: Path, snapshot: dict[str, Any]) -> None:
    """Replace the status file, so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        beside.write_text(json.dumps(snapshot))
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read(path: Path, clock: Clock) -> dict[str, Any] | None:
    """Return what the running service last wrote, with `alive`; None where none has run here.

    Raises
    ------
    UnreadableFile
        If the file is there but cannot be read.
    """
    try:
        snapshot: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"cannot read the status file {path}: {error}") from error
    age = (clock.now() - datetime.fromisoformat(snapshot["written"])).total_seconds()
    gone = provenance.is_dead(snapshot["boot"], snapshot["pid"], snapshot["start"], snapshot["host"])
    alive = not gone and age < STALE_SECONDS and snapshot.get("state") != "stopped"
    return snapshot | {"alive": alive, "age_seconds": round(age, 1), "gone": gone}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
