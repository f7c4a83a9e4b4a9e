"""The tables as a scientist asks them: what belongs to what, in order."""

from __future__ import annotations

import peewee
import pytest

from astra import queue
from astra.database.astradb import (
    TABLES,
    Bundle,
    DataProduct,
    Source,
    SourceDataProduct,
    SourceIdentifier,
    Task,
    TaskOutputDataProduct,
)
from astra.states import BundleState, TaskOutcome, TaskState
from astra.work import Finish
from tests.support.clock import START
from tests.support.tasks import TOTALS, by_hand, ended, new_task, product, running


def source() -> Source:
    return Source.create(provisional=True, created=START)


def link(where: Source | None, what: int) -> SourceDataProduct:
    return SourceDataProduct.create(source=where, data_product=what, method="header", created=START)


def test_a_source_has_the_data_products_that_are_linked_to_it_now(database: peewee.Database) -> None:
    star, other = source(), source()
    first, second = product("/a").data_product, product("/b").data_product
    link(star, second)
    old = link(other, first)
    assert [each.id for each in other.data_products] == [first]
    with database.atomic():
        SourceDataProduct.update(superseded_by=old).where(SourceDataProduct.id == old).execute()
        new = link(star, first)
        SourceDataProduct.update(superseded_by=new).where(SourceDataProduct.id == old).execute()
    assert [each.id for each in star.data_products] == [first, second]
    assert other.data_products == []
    assert DataProduct.get_by_id(first).source == star


def test_a_data_product_has_one_link_at_a_time(database: peewee.Database) -> None:
    given = product("/a").data_product
    link(source(), given)
    with pytest.raises(peewee.IntegrityError):
        link(source(), given)


def test_a_data_product_of_no_source_has_none(database: peewee.Database) -> None:
    given = product("/a").data_product
    assert DataProduct.get_by_id(given).source is None
    link(None, given)
    assert DataProduct.get_by_id(given).source is None


def test_a_source_is_known_by_its_identifiers_and_some_belong_to_one_source_only(database: peewee.Database) -> None:
    star = source()
    SourceIdentifier.create(source=star, kind="apogee", value="2M00000000+0000000")
    SourceIdentifier.create(source=star, kind="gaia_dr3", value="9223372036854775807")
    assert star.identifiers == (("gaia_dr3", "9223372036854775807"), ("apogee", "2M00000000+0000000"))
    SourceIdentifier.create(source=source(), kind="gaia_dr3", value="9223372036854775807")
    with pytest.raises(peewee.IntegrityError):
        SourceIdentifier.create(source=source(), kind="apogee", value="2M00000000+0000000")


def test_a_task_has_its_inputs_in_the_order_they_were_given(database: peewee.Database) -> None:
    given = [product(name) for name in ("/c", "/a", "/b")]
    held, keys = queue.open_by_hand(by_hand(new_task(inputs=tuple(given), identity=None)), START)
    task = Task.get_by_id(keys[0])
    assert [each.path for each in task.input_data_products] == ["/c", "/a", "/b"]
    assert task.output_data_products == []
    TaskOutputDataProduct.create(task=task, bundle=held.bundle, data_product=given[0].data_product)
    assert [each.path for each in task.output_data_products] == ["/c"]


def test_a_bundle_has_its_tasks_in_order_and_each_answers_its_times(database: peewee.Database) -> None:
    held = running(3)
    outcomes = [TaskOutcome.COMPLETED, TaskOutcome.FAILED, TaskOutcome.COMPLETED]
    queue.finish([Finish(held.bundle, held.token, ended(held.bundle, *outcomes), (), TOTALS)], START)
    bundle = Bundle.get_by_id(held.bundle)
    assert bundle.state is BundleState.ENDED
    assert [each.state for each in bundle.tasks] == [TaskState.COMPLETED, TaskState.FAILED, TaskState.COMPLETED]
    task = bundle.tasks[1]
    assert task.time_total == 3.75
    assert (task.time_execute, task.time_execute_task, task.time_execute_bundle_overhead) == (3.0, 1.5, 1.5)
    assert (task.time_pre_execute, task.time_pre_execute_task, task.time_pre_execute_bundle_overhead) == (
        0.5,
        0.25,
        0.25,
    )
    assert task.time_post_execute_task == 0.125
    with pytest.raises(AttributeError, match="Task has no attribute 'time_of_day'"):
        task.time_of_day  # noqa: B018 -- reading it is the test
    with pytest.raises(AttributeError):
        task.colour  # noqa: B018


def test_every_table_is_listed_after_those_it_refers_to() -> None:
    seen: set[type[peewee.Model]] = set()
    for model in TABLES:
        seen.add(model)
        for reference in model._meta.refs:
            assert reference.rel_model in seen or reference.name == "current_ingestion"
