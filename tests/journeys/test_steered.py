"""Work that is paused, drained, cancelled and resumed while the service runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from astra.database import migrate
from astra.database.astradb import Bundle, Task, TaskBundle
from tests.support.components import Trace, Traced, Waits, make_gate, open_gate, waiting
from tests.support.misbehaving import HangsAt
from tests.support.processes import lives, run, until
from tests.support.site import Site

SECTIONS: dict[str, Any] = {"executor": {"workers": 1, "grace": 0.2}}


@pytest.fixture(autouse=True)
def table(live: Site) -> None:
    migrate.create_result_tables([Trace])


def astra(live: Site, *words: object) -> str:
    done = run("astra", *map(str, words), config=live.folder / "config.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def states(tasks: Sequence[Task]) -> Counter[str]:
    keys = [task.id for task in tasks]
    return Counter(str(row.state) for row in Task.select(Task.state).where(Task.id << keys))


def running(gate: Path, *notes: str) -> tuple[Sequence[Task], int, int]:
    """Enqueue tasks that wait at a gate, and return them with their bundle and its process when they run."""
    tasks = Waits(gate=str(make_gate(gate)), note=list(notes)).enqueue()
    [pid] = until(lambda: waiting(gate))
    return tasks, until(lambda: Task.get_by_id(tasks[0].id).bundle_id), pid


def test_a_component_that_is_paused_waits_and_what_runs_goes_on(live: Site, tmp_path: Path) -> None:
    tasks, _, _ = running(tmp_path / "gate", "a")
    name = Waits.component_name()
    astra(live, "pause", "component", name, "--reason", "maintenance")
    later = Waits(gate=str(tmp_path / "gate"), note=["b"]).enqueue()
    other = Traced(note=["beside"]).enqueue()
    open_gate(tmp_path / "gate")
    until(lambda: states(tasks) == states(other) == {"completed": 1})
    assert states(later) == {"pending": 1}
    astra(live, "resume", "component", name)
    until(lambda: states(later) == {"completed": 1})


def test_a_pause_now_takes_what_runs_from_its_process(live: Site, tmp_path: Path) -> None:
    tasks, bundle, pid = running(tmp_path / "gate", "a", "b")
    name = Waits.component_name()
    astra(live, "pause", "component", name, "--now")
    assert states(tasks) == {"pending": 2}
    until(lambda: not lives(pid))
    assert Bundle.get_by_id(bundle).state == "released"
    open_gate(tmp_path / "gate")
    astra(live, "resume", "component", name)
    until(lambda: states(tasks) == {"completed": 2})
    assert Trace.select().where(Trace.task << [task.id for task in tasks]).count() == 2


def test_a_bundle_that_is_cancelled_ends_at_once_and_its_process_writes_nothing(live: Site, tmp_path: Path) -> None:
    tasks, bundle, pid = running(tmp_path / "gate", "a", "b")
    astra(live, "cancel", "bundle", bundle)
    assert states(tasks) == {"cancelled": 2}
    until(lambda: not lives(pid))
    open_gate(tmp_path / "gate")
    assert Bundle.get_by_id(bundle).error.startswith("cancelled by ")
    assert not Trace.select().where(Trace.task << [task.id for task in tasks]).exists()
    astra(live, "retry", "bundle", bundle, "--cancelled")
    until(lambda: states(tasks) == {"completed": 2})


def test_a_bundle_that_is_drained_keeps_what_is_done_and_gives_the_rest_back(live: Site, tmp_path: Path) -> None:
    gate = make_gate(tmp_path / "gate")
    tasks = HangsAt(gate=str(gate), note=["first", "bad", "third", "fourth"]).enqueue()
    until(lambda: waiting(gate))
    bundle = Task.get_by_id(tasks[0].id).bundle_id
    astra(live, "pause", "component", HangsAt.component_name())
    done = run("astra", "drain", "bundle", str(bundle), "--timeout", "0.1", config=live.folder / "config.toml")
    assert done.returncode == 1, "it has not ended yet"
    assert live.running is not None
    until(lambda: asked_for(bundle))
    open_gate(gate)
    astra(live, "drain", "bundle", bundle)
    assert states(tasks) == {"completed": 2, "pending": 2}
    outcomes = [row.outcome for row in TaskBundle.select().where(TaskBundle.bundle == bundle)]
    assert outcomes == ["completed", "completed", "released", "released"]
    astra(live, "resume", "component", HangsAt.component_name())
    until(lambda: states(tasks) == {"completed": 4})


def asked_for(bundle: int) -> bool:
    return Bundle.get_by_id(bundle).asked == "drain"
