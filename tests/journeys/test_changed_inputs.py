"""A file that is rewritten, replaced, removed or touched while a bundle works on it and its neighbours.

Whatever happens to it and whenever: the task that was given the old version keeps no result, its neighbours have theirs
in the end, the new version's own task does the work, and every result names the bytes that it came from.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import peewee
import pytest

from astra import queue, taking_in
from astra.base import TaskInstance
from astra.clock import SYSTEM
from astra.database.astradb import Bundle, DataProduct, Ingestion, ResultModel, Task, TaskInputDataProduct
from astra.database.migrate import create_result_tables
from astra.errors import InputChanged
from astra.ingest import Root
from astra.rules import Rule
from astra.work import Pick
from tests.support import fits
from tests.support.bundles import started, states
from tests.support.tasks import OWNER

FIBERS = (1, 2, 3)
CHANGED = 1  # the position of the task whose file changes
TURNS = {"before its turn": 0, "during its turn": 1, "after its turn": 2}


class Bytes(ResultModel):
    sha256 = peewee.TextField()

    class Meta:
        table_name = "test_bytes"


class ReadsAll(TaskInstance):
    """Records the checksum of what it reads; at each turn a test may do something to the files."""

    result_models = (Bytes,)
    turn: Callable[[int], object] = staticmethod(lambda position: None)

    def execute(self) -> None:
        for position, (task, data_products) in enumerate(self.iterable()):
            content = Path(data_products[0].path).read_bytes()
            type(self).turn(position)
            self.record_result(task, Bytes(sha256=sha256(content).hexdigest()))


def content(fiber: int, snr: float = 101.25) -> bytes:
    return fits.apvisit(FIBERID=fiber, SNR=snr)


def rewrite(path: Path) -> None:
    path.write_bytes(content(FIBERS[CHANGED], snr=7.0))
    os.utime(path, (1, 1))  # whatever the file system's clock says


def replace(path: Path) -> None:
    """Put another file there, of the same size and modification time."""
    instead(path, content(FIBERS[CHANGED], snr=102.25))


def replace_data(path: Path) -> None:
    """The same, with the same header."""
    instead(path, path.read_bytes().replace(b"\1", b"\2"))


def instead(path: Path, content: bytes) -> None:
    before = path.stat()
    assert len(content) == before.st_size
    beside = fits.write(path.with_suffix(".part"), content)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(path)


class Place:
    """A watched folder of three visits, taken in by a rule, and their tasks run as the service does."""

    def __init__(self, folder: Path, whole: bool) -> None:
        self.paths = [fits.write(folder / fits.visit_name(fiber=each), content(each)) for each in FIBERS]
        rule = Rule("every visit", "apVisit", ReadsAll().plan(), 100, ())
        self.terms = taking_in.Terms([Root("watched", folder, None, whole)], [rule])
        create_result_tables([Bytes])
        self.take_in()

    def take_in(self) -> None:
        list(taking_in.take_in(self.paths, self.terms))

    def run(self) -> list[str]:
        """Run all tasks that wait, as one bundle, and return the states they are left in."""
        claimed = queue.claim([Pick(None, 100, Task.get().bundle_key, 10)], OWNER, "local", SYSTEM.now())
        if not claimed:
            return []
        held = started(claimed[0], ReadsAll, SYSTEM)
        instance = Bundle.get_by_id(held.bundle).instance()
        with suppress(InputChanged):
            instance.run_held(held)
        return states(held.bundle)

    def check(self) -> None:
        """Assert that each completed task has one result, of the bytes that its file version is recorded to have."""
        given = {row.task_id: Ingestion.get_by_id(row.ingestion_id) for row in TaskInputDataProduct.select()}
        results = {row.task_id: row.sha256 for row in Bytes.select()}
        completed = {task.id for task in Task.select() if task.state == "completed"}
        assert Bytes.select().count() == len(results)
        assert set(results) == completed
        assert {task: given[task].sha256 for task in results} == results

    def change(self, change: Callable[[Path], object], turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have something done to the file in the middle, once, at one turn of the first bundle."""
        left = [turn]

        def do(position: int) -> None:
            if left == [position]:
                left.clear()
                change(self.paths[CHANGED])

        monkeypatch.setattr(ReadsAll, "turn", staticmethod(do))


@pytest.mark.parametrize("when", TURNS)
@pytest.mark.parametrize(("change", "whole"), [(rewrite, False), (replace, False), (replace_data, True)])
def test_a_file_that_changes_in_mid_bundle_ends_its_task_alone_and_its_new_version_is_worked_on(
    database: peewee.Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    whole: bool,
    when: str,
) -> None:
    place = Place(tmp_path / "watched", whole)
    place.change(change, TURNS[when], monkeypatch)
    others = "pending" if when == "before its turn" else "completed"  # nothing of a bundle that broke off is kept
    assert place.run() == [others, "failed", others]
    place.check()
    place.take_in()
    assert place.run() == ["completed"] * (3 if others == "pending" else 1)
    place.check()
    assert [task.state for task in Task.select().order_by(Task.id)] == ["completed", "failed", "completed", "completed"]
    path = place.paths[CHANGED]
    current = DataProduct.get(DataProduct.path == str(path)).current_ingestion
    assert current.sha256 == sha256(path.read_bytes()).hexdigest()
    place.take_in()
    assert place.run() == []


@pytest.mark.parametrize("when", TURNS)
def test_a_file_that_vanishes_in_mid_bundle_ends_its_task_alone(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    place = Place(tmp_path / "watched", whole=False)
    place.change(Path.unlink, TURNS[when], monkeypatch)
    place.run()
    place.run()
    assert [task.state for task in Task.select().order_by(Task.id)] == ["completed", "failed", "completed"]
    place.check()


@pytest.mark.parametrize("when", TURNS)
def test_a_file_that_is_only_touched_in_mid_bundle_is_what_it_was(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    place = Place(tmp_path / "watched", whole=False)
    place.change(lambda path: path.chmod(0o640), TURNS[when], monkeypatch)
    assert place.run() == ["completed"] * 3
    told = [row.sha256 is not None for row in Ingestion.select().order_by(Ingestion.id)]
    assert told == [True, False, True], "whether it was read before or after it was touched, nobody can tell"
    place.take_in()
    assert place.run() == []
    assert Ingestion.select().count() == 3
