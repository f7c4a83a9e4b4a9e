"""What tasks are expected to cost, and bundles divided by it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import bundling
from astra.base import Parameter, TaskInstance, bundler
from astra.costs import expected_seconds
from astra.database.astradb import Bundle, DataProduct, Task
from tests.support.bundles import by_person
from tests.support.clock import FakeClock
from tests.support.tasks import statements


class Takes(TaskInstance):
    """Takes as many seconds as a task's parameter says, on the clock it is given."""

    clock: FakeClock
    seconds = Parameter(default=0.0)
    model = Parameter(default="m", bundled=True)

    def execute(self) -> None:
        for task, _ in self.iterable():
            self.clock.advance(task.parameters["seconds"])


class Other(Takes):
    """Another component, of which nothing is recorded."""


def record(clock: FakeClock, paths: list[Path], seconds: list[float]) -> None:
    Takes.clock = clock
    instance = Takes(paths, seconds=seconds)
    _, session = by_person(instance, clock)
    instance._run(session, {})


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{number}.txt" for number in range(6)]
    for path in made:
        path.write_text(path.name)
    return made


def test_a_task_is_expected_to_take_what_it_took_on_the_same_data_products(
    database: peewee.Database, clock: FakeClock, paths: list[Path]
) -> None:
    record(clock, paths[:3], [1.0, 2.0, 9.0])
    record(clock, paths[:1], [4.0])
    assert expected_seconds(Takes(paths[:3])) == pytest.approx([4.0, 2.0, 9.0]), "the latest counts"
    assert expected_seconds(Takes(paths[2:4])) == pytest.approx([9.0, 4.0]), "of a new one, the mean"
    assert expected_seconds(Takes([[paths[0], paths[1]]])) == pytest.approx([6.0]), "of several, their sum"
    assert expected_seconds(Other(paths[:2])) == [1.0, 1.0], "of another component nothing is known"
    keys = [product.id for product in DataProduct.select().order_by(DataProduct.id)]
    assert expected_seconds(Takes(keys)) == pytest.approx([4.0, 2.0, 9.0])
    assert expected_seconds(Bundle.get_by_id(1).instance()) == pytest.approx([4.0, 2.0, 9.0])


def test_parts_are_of_about_equal_cost(database: peewee.Database, clock: FakeClock, paths: list[Path]) -> None:
    took = [10.0, 1.0, 2.0, 3.0, 4.0, 10.0]
    record(clock, paths, took)
    parts = bundler([Takes(paths)], balance=3)
    assert [each._inputs for each in parts] == [
        [[str(paths[0])]], [[str(paths[1])], [str(paths[2])], [str(paths[3])], [str(paths[4])]], [[str(paths[5])]],
    ]  # fmt: skip
    rows = bundler(Task.select().order_by(Task.id), balance=3)
    assert [each._tasks for each in rows] == [[1], [2, 3, 4, 5], [6]]


def test_the_number_of_statements_does_not_grow_with_the_tasks(
    database: peewee.Database, clock: FakeClock, paths: list[Path]
) -> None:
    record(clock, paths, [1.0] * 6)
    counts = []
    for given_paths in (paths[:1], paths):
        with statements(database) as seen:
            bundler([Takes(given_paths)], balance=2)
        counts.append(len(seen))
    assert counts[0] == counts[1]


@given(seconds=st.lists(st.floats(0, 100), min_size=1, max_size=30), count=st.integers(1, 12))
def test_no_part_is_empty_and_none_costs_more_than_it_must(seconds: list[float], count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundling, "expected_seconds", lambda whole: [seconds[n] for n in whole._spread["seconds"]])
        parts = bundler([Takes(seconds=list(range(len(seconds))))], balance=count)
    own = [each._spread["seconds"] for each in parts]
    assert len(own) == min(count, len(seconds))
    assert all(own)
    assert sorted(n for part in own for n in part) == list(range(len(seconds)))
    assert all(first < second for part in own for first, second in pairwise(part)), "in the order given"
    costs = [sum(seconds[n] for n in part) for part in own]
    assert max(costs) <= sum(seconds) / len(own) + max(seconds) + 1e-9


def test_bundles_of_several_models_are_divided_each(database: peewee.Database) -> None:
    parts = bundler([Takes(model="a", seconds=[1, 2, 3]), Takes(model="b", seconds=[1])], balance=2)
    assert [(each._shared["model"], each.bundle_size) for each in parts] == [("a", 2), ("a", 1), ("b", 1)]
    for words, wrong in (("balance must be at least 1", {"balance": 0}), ("not both", {"balance": 1, "max_size": 1})):
        with pytest.raises(ValueError, match=words):
            bundler([Takes()], **wrong)


def test_a_divided_bundle_is_executed_whole(database: peewee.Database, clock: FakeClock) -> None:
    Takes.clock = clock
    for part in bundler([Takes(seconds=[1.0, 2.0, 3.0])], balance=2):
        _, session = by_person(part, clock)
        part._run(session, {})
    assert sorted(task.parameters["seconds"] for task in Task.select()) == [1.0, 2.0, 3.0]
    assert [task.state for task in Task.select()] == ["completed"] * 3
