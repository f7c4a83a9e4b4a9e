"""The tasks of a bundle as records: as peewee would read them, in ranges, with inputs, sources and file versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from astra import members, queue
from astra.database.astradb import DataProduct, Source, SourceDataProduct, Task
from astra.inputs import resolve
from astra.members import Member, members_of_range, parameters_of_bundle, task_keys, tasks_by_key, uses_of_range
from tests.support.clock import START
from tests.support.tasks import by_hand, fill, new_task, product, running, statements


def opened(*inputs: tuple[str | int, ...]) -> int:
    """Record a bundle of one task for each of `inputs`: paths or data products."""
    given = resolve(inputs)
    held, _ = queue.open_by_hand(by_hand(*[new_task(identity=None, inputs=each) for each in given]), START)
    return held.bundle


def members_of_bundle(bundle: int) -> Iterator[tuple[Task, Member]]:
    """Yield the tasks of a bundle with their places, range by range."""
    for first in range(0, len(task_keys(bundle)), members.RANGE):
        yield from members_of_range(bundle, first)


def test_a_member_is_the_record_that_peewee_would_read(database: peewee.Database, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    bundle = opened((str(path),), ())
    (task, first), (_, second) = members_of_bundle(bundle)
    row = Task.get_by_id(first.task)
    assert task == row
    assert task.__data__ == row.__data__
    assert task.dirty_fields == []
    assert task.bundle.id == bundle
    found = DataProduct.get_by_id(first.data_products[0].id)
    assert first.data_products[0].__data__ == found.__data__
    assert (second.data_products, second.given, second.sources) == ([], [], {})
    task.priority = 3
    assert task.dirty_fields == [Task.priority]


def test_members_come_in_order_whatever_the_ranges(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = running(7)
    keys = list(task_keys(held.bundle))
    for size in (1, 2, 7, 8):
        monkeypatch.setattr(members, "RANGE", size)
        monkeypatch.setattr(members, "KEYS", size)
        assert [each.position for _, each in members_of_bundle(held.bundle)] == list(range(7))
        assert [(task.id, each.task) for task, each in members_of_bundle(held.bundle)] == [(key, key) for key in keys]
        assert list(task_keys(held.bundle)) == keys
        assert [each["n"] for each in parameters_of_bundle(held.bundle)] == [
            each.parameters["n"] for each in tasks_by_key(keys)
        ]
        assert [each.id for each in tasks_by_key(keys[::-1])] == keys[::-1]
    assert list(members_of_bundle(987654)) == []


def test_reading_a_range_takes_a_constant_number_of_statements(database: peewee.Database) -> None:
    given = product()
    keys = queue.enqueue([new_task(inputs=(given,)) for _ in range(500)], START)
    held, _ = queue.open_by_hand(by_hand(recorded=tuple(keys)), START)
    with statements(database) as seen:
        found = list(members_of_range(held.bundle, 0))
    assert len(seen) == 2
    assert len({id(each.data_products[0]) for _, each in found}) == 1, "one product of many tasks is held once"


def test_a_member_knows_the_source_of_each_data_product_as_it_is_linked_now(database: peewee.Database) -> None:
    star = Source.create(provisional=True, created=START)
    linked, free = product("/a"), product("/b")
    old = SourceDataProduct.create(source=star, data_product=free.data_product, method="m", created=START)
    SourceDataProduct.update(superseded_by=old).where(SourceDataProduct.id == old.id).execute()
    SourceDataProduct.create(source=star, data_product=linked.data_product, method="m", created=START)
    held, _ = queue.open_by_hand(by_hand(new_task(inputs=(free, linked))), START)
    _, member = next(members_of_bundle(held.bundle))
    assert member.sources == {free.data_product: None, linked.data_product: star.id}
    assert [each.path for each in member.data_products] == ["/b", "/a"]


def test_a_file_given_to_many_tasks_is_read_as_one_version(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    for path in (shared, own):
        path.write_bytes(b"spectrum")
    bundle = opened((str(shared),), (str(own), str(shared)), (str(shared),))
    uses = uses_of_range(bundle, 0)
    assert [(use.position, use.given.path) for use in uses] == [
        (0, str(shared)), (1, str(own)), (1, str(shared)), (2, str(shared)),
    ]  # fmt: skip
    assert len({id(use.given) for use in uses}) == 2
    assert len({id(each) for _, member in members_of_bundle(bundle) for each in member.given}) == 2
    assert [use for _, member in members_of_bundle(bundle) for use in member.uses()] == uses
    monkeypatch.setattr(members, "KEYS", 2)
    assert [uses_of_range(bundle, first) for first in (0, 2, 4)] == [uses[:3], uses[3:], []]


def test_a_task_that_does_not_exist_is_missed(database: peewee.Database) -> None:
    keys = fill(2)
    with pytest.raises(KeyError):
        tasks_by_key([*keys, 987654])
