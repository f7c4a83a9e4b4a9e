"""What the machine does at best: rows of tasks inserted, or a state changed, by bare SQL; files read for checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

from astra.clock import SYSTEM
from astra.database.astradb import Task
from astra.database.connection import changed, database, execute, execute_many, run
from astra.database.fields import instant_text
from astra.database.staging import load
from bench.components import Trivial

_COLUMNS = ("name", "parameters", "version", "component_version", "state", "priority", "bundle_key", "identity")


def rows_of_tasks(count: int) -> list[tuple[object, ...]]:
    """Return rows of pending tasks, made beforehand, with keys that no row has yet."""
    now, last = instant_text(SYSTEM.now()), run("SELECT coalesce(max(id), 0) FROM task")[0][0]
    rows: list[tuple[object, ...]] = []
    for number, plan in enumerate(Trivial(number=list(range(count))).plans(), start=last + 1):
        identity = hashlib.sha256(b"%d" % number).hexdigest()
        own = (plan.name, plan.parameters, "0", plan.component_version, "pending", 100, plan.bundle_key, identity)
        rows.append((number, *own, 1, now))
    return rows


def insert(rows: list[tuple[object, ...]]) -> int:
    """Insert them into astra's own table, by executemany or COPY."""
    with database.atomic():
        load(Task._meta.table_name, ["id", *_COLUMNS, "generation", "created"], rows)
    return len(rows)


def make_states(count: int) -> None:
    """Make a table of things that have a state, and nothing else."""
    execute("CREATE TABLE floor (id BIGINT PRIMARY KEY, state SMALLINT, bundle BIGINT)")
    execute("CREATE INDEX floor_waiting ON floor (state, id) WHERE state = 0")
    with database.atomic():
        execute_many("INSERT INTO floor VALUES (?, 0, NULL)", [(number,) for number in range(count)])


def change_states(size: int, count: int) -> int:
    """Claim and complete all of them, `size` at a time, in two transactions."""
    done = 0
    while done < count:
        done += _claim_and_complete(size)
    return done


def _claim_and_complete(size: int) -> int:
    with database.atomic():
        picked = "SELECT id FROM floor WHERE state = 0 ORDER BY state, id LIMIT ?"
        rows = run(f"UPDATE floor SET state = 1 WHERE id IN ({picked}) RETURNING id", (size,))
        keys = sorted(row[0] for row in rows)
    with database.atomic():
        return changed("UPDATE floor SET state = 2 WHERE state = 1 AND id BETWEEN ? AND ?", (keys[0], keys[-1]))


def take_checksums(folder: Path) -> int:
    """Read every file of a tree, and take the checksum of its bytes."""
    files = list(folder.rglob("*.fits"))
    for each in files:
        with each.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return len(files)
