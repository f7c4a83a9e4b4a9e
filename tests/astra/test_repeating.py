"""Finished tasks run again: what is equal, what differs, and that nothing is written unless asked."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import peewee
import pytest

from astra.base import Parameter, TaskInstance
from astra.database.astradb import Bundle, Ingestion, ResultModel, Task
from astra.errors import AstraError, ComponentError, InputChanged
from astra.repeating import Difference, repeat
from tests.support.records import count


class Drift(ResultModel):
    value = peewee.DoubleField(null=True)
    label = peewee.TextField(default="same")

    class Meta:
        table_name = "test_drift"


class Drifts(TaskInstance):
    """Gives the value it was given, and a little more each time that `drift` was set."""

    result_models = (Drift,)
    drift = 0.0
    rows = 1
    value = Parameter(default=1.0)

    def execute(self) -> str:
        for task, _ in self.iterable():
            for _ in range(type(self).rows):
                self.record_result(task, Drift(value=task.parameters["value"] + type(self).drift))
        return "done"


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drifts, "drift", 0.0)
    monkeypatch.setattr(Drifts, "rows", 1)


def test_what_is_repeated_without_a_change_is_equal_and_leaves_no_trace(database: peewee.Database) -> None:
    Drifts(value=[1.0, 2.0, float("1e300")]).execute()
    before = {name: count(name) for name in ("task", "bundle", "task_bundle", "test_drift")}
    found = repeat([task.id for task in Task.select().order_by(Task.id)])
    assert (found.equal, found.tasks, found.rows, found.new_tasks) == (True, 3, 3, ())
    assert Task.get_by_id(1).repeat().equal
    assert {name: count(name) for name in before} == before


def test_what_differs_beyond_the_tolerance_is_named(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Drifts(value=[1.0, 1000.0]).execute()
    monkeypatch.setattr(Drifts, "drift", 1e-3)
    found = repeat([1, 2], rtol=1e-5)
    assert found.differences == (Difference(1, "test_drift", 0, "value", 1.0, 1.001),)
    assert repeat([1, 2], rtol=0, atol=0.01).equal
    monkeypatch.setattr(Drifts, "rows", 2)
    assert repeat([2], rtol=1).differences == (Difference(2, "test_drift", 1, "row", None, "there"),)


def test_a_repetition_that_is_recorded_is_new_tasks_and_the_old_ones_stand(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Drifts(value=[1.0, 2.0]).execute()
    monkeypatch.setattr(Drifts, "drift", 0.5)
    found = repeat([1, 2], record=True)
    assert found.new_tasks == (3, 4)
    assert [each.repeat_of_id for each in Task.select().where(Task.id > 2).order_by(Task.id)] == [1, 2]
    assert [(each.recorded, each.found) for each in found.differences] == [(1.0, 1.5), (2.0, 2.5)]
    assert Drift.select().count() == 4


def test_what_is_not_finished_or_of_another_component_is_refused(database: peewee.Database) -> None:
    class Other(TaskInstance):
        def execute(self) -> None:
            pass

    Drifts().execute()
    Other().execute()
    Drifts().enqueue()
    with pytest.raises(AstraError, match="task 3 is not completed"):
        repeat([1, 3])
    with pytest.raises(AstraError, match="the tasks are of several components"):
        repeat([1, 2])


def test_other_bytes_are_not_compared(database: peewee.Database, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    Drifts(path).execute()
    path.write_text("another")
    with pytest.raises(InputChanged, match="is not the file version that task 1 was given"):
        repeat([1])


def test_a_rehearsal_compares_its_inputs_with_their_checksums_and_records_none(
    database: peewee.Database, tmp_path: Path
) -> None:
    class Keeps(TaskInstance):
        def execute(self) -> None:
            for task, _ in self.iterable():
                self.done(task)

    path = tmp_path / "a"
    path.write_text("a")
    for component in (Drifts, Keeps):
        component(path).execute()
    known = Ingestion.get().sha256
    assert known == sha256(b"a").hexdigest()
    Ingestion.update(sha256=None).execute()
    assert repeat([1]).equal
    assert repeat([2]).equal
    assert Ingestion.get().sha256 is None
    path.write_text("b")
    os.utime(path, ns=(1, Ingestion.get().mtime_ns))
    Ingestion.update(sha256=known).execute()
    for task in (1, 2):
        with pytest.raises(InputChanged, match="it was touched, and its content is another"):
            repeat([task])


@pytest.mark.parametrize("keeps", [False, True])
def test_an_input_that_changes_under_a_rehearsal_ends_it(
    database: peewee.Database, tmp_path: Path, keeps: bool
) -> None:
    class Writes(TaskInstance):
        text = "a"

        def execute(self) -> None:
            for task, data_products in self.iterable():
                Path(data_products[0].path).write_text(type(self).text)
                os.utime(data_products[0].path, ns=(1, 1))
                if keeps:
                    self.done(task)

    path = tmp_path / "a"
    path.write_text("a")
    os.utime(path, ns=(1, 1))
    Writes(path).execute()
    Ingestion.update(sha256=sha256(b"a").hexdigest()).execute()
    assert repeat([1]).equal
    Writes.text = "b"
    with pytest.raises(InputChanged, match="it was touched, and its content is another"):
        repeat([1])


def test_a_rehearsal_gives_what_execute_returned_and_its_rows(database: peewee.Database, tmp_path: Path) -> None:
    Drifts(value=[3.0, 4.0]).execute()
    returned, rows = Bundle.get().instance().rehearse(debug=True)
    assert returned == "done"
    assert {key: [row.value for row in own] for key, own in rows.items()} == {1: [3.0], 2: [4.0]}
    assert all(row.id is None for own in rows.values() for row in own)
    with pytest.raises(ComponentError, match="only tasks that are recorded can be rehearsed"):
        Drifts().rehearse()


def test_the_files_of_a_rehearsal_are_not_kept(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    class Writes(TaskInstance):
        def execute(self) -> None:
            for task, _ in self.iterable():
                path = self.output_path(task, "a.txt")
                path.write_text("a")
                self.record_output(task, path)
                seen.append(path)

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Writes().execute()
    made = Path(Task.get().output_data_products[0].path)
    assert made.read_text() == "a"
    Task.get().instance().rehearse()
    assert not seen[1].exists()
    assert not seen[1].is_relative_to(tmp_path)
    assert list(tmp_path.rglob("a.txt")) == [made]
