"""A load whose process is to begin nothing more: what is done is recorded, the rest given back, nobody is killed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.astradb import Task, TaskBundle
from daemon import executors
from daemon.scheduler import Scheduler
from tests.support.components import Trace, Waits, make_gate, open_gate, waiting
from tests.support.processes import lives, until
from tests.support.rig import Rig, settings


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return make_gate(tmp_path / "gate")


def test_a_load_that_is_wound_up_loses_nothing(
    tmp_path: Path, database: peewee.Database, database_url: str, gate: Path
) -> None:
    migrate.create_result_tables([Trace])
    rig = Rig(settings(tmp_path, database_url, {"executor": {"workers": 1}}), "local")
    try:
        Waits(gate=str(gate), note=["a", "b", "c"]).enqueue()
        bundles = rig.hand_over(*rig.claim(limit=1, times=3))
        [pid] = until(lambda: waiting(gate))
        rig.executor.drain()
        open_gate(gate)
        ended = rig.endings(bundles)
        assert [each.kind for each in ended] == [None] * 3
        assert [bool(each.trouble) for each in ended] == [False, True, True]
        assert lives(pid)
    finally:
        rig.executor.stop()


def test_a_service_that_winds_up_gives_back_what_was_not_begun(
    tmp_path: Path, database: peewee.Database, database_url: str, gate: Path
) -> None:
    migrate.create_result_tables([Trace])
    given = settings(tmp_path, database_url, {"executor": {"workers": 1}, "scheduler": {"max_bundle_size": 1}})
    executor = executors.build(given, SYSTEM, lambda: None)
    executor.start()
    scheduler = Scheduler(given, executor, SYSTEM)
    try:
        Waits(gate=str(make_gate(tmp_path / "first")), note="known").enqueue()
        open_gate(tmp_path / "first")
        until(lambda: scheduler.tick(SYSTEM.monotonic()).ended)
        Waits(gate=str(gate), note=[str(number) for number in range(5)]).enqueue()
        until(lambda: scheduler.tick(SYSTEM.monotonic()).submitted or waiting(gate))
        until(lambda: waiting(gate))
        scheduler.draining = True
        scheduler.wind_up()
        open_gate(gate)

        def is_over() -> bool:
            scheduler.tick(SYSTEM.monotonic())
            return not scheduler.running

        until(is_over)
        states = Counter(str(task.state) for task in Task.select())
        assert states["running"] == 0
        assert states["pending"] + states["completed"] == 6
        assert {row.outcome for row in TaskBundle.select()} <= {"completed", "released"}
        assert Trace.select().count() == states["completed"]
    finally:
        scheduler.stop()
