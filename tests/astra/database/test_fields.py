"""What goes into a column comes out of it again, the same from both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra.database.astradb import AstraModel, Environment, Source, Task
from astra.database.fields import (
    InstantField,
    JsonField,
    StateField,
    canonical_json,
    canonical_objects,
    instant_text,
    read_instant,
)
from astra.states import TaskState
from tests.support.clock import START
from tests.support.tasks import fill

on_one_database = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LARGEST = 2**63 - 1


class Kept(AstraModel):
    id = peewee.BigAutoField()
    at = InstantField(null=True)
    value = JsonField(null=True)
    state = StateField(TaskState, null=True)


@pytest.fixture
def kept(database: peewee.Database) -> Iterator[type[Kept]]:
    database.create_tables([Kept])
    yield Kept
    database.drop_tables([Kept])


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(100, 1, 1), datetime(9998, 12, 31), timezones=zones)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
values = values.filter(lambda value: "\\ud" not in ascii(value))  # half of a character is no text


@on_one_database
@given(instants)
def test_an_instant_comes_back_in_utc(kept: type[Kept], instant: datetime) -> None:
    row = kept.get_by_id(kept.create(at=instant).id)
    assert row.at == instant
    assert row.at.tzinfo is UTC


@on_one_database
@given(st.lists(instants, max_size=8))
def test_instants_are_ordered_by_the_database(kept: type[Kept], given: list[datetime]) -> None:
    kept.delete().execute()
    for each in given:
        kept.create(at=each)
    assert [row.at for row in kept.select().order_by(kept.at)] == sorted(given)
    for bound in given[:1]:
        assert kept.select().where(kept.at < bound).count() == sum(each < bound for each in given)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        instant_text(START.replace(tzinfo=None))


def test_no_instant_is_none_both_ways(kept: type[Kept]) -> None:
    assert instant_text(None) is None
    assert read_instant(None) is None
    row = kept.get_by_id(kept.create().id)
    assert (row.at, row.value, row.state) == (None, None, None)


@on_one_database
@given(values)
def test_a_json_value_comes_back_as_it_was(kept: type[Kept], value: Any) -> None:
    row = kept.get_by_id(kept.create(value=value).id)
    assert row.value == value
    assert canonical_json(row.value) == canonical_json(value)


@on_one_database
@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2, max_size=5), st.randoms())
def test_equal_json_values_are_equal_bytes_in_whatever_order_they_were_typed(
    value: dict[str, int], random: Any
) -> None:
    shuffled = list(value.items())
    random.shuffle(shuffled)
    assert canonical_json(dict(shuffled)) == canonical_json(value)


@given(values)
def test_a_json_value_has_the_text_that_python_gives_it(value: Any) -> None:
    assert canonical_json(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(st.dictionaries(st.sampled_from("acegi"), values), st.lists(st.tuples(values, values), min_size=1, max_size=5))
def test_objects_that_share_values_have_the_text_of_each_alone(shared: dict[str, Any], own: list[Any]) -> None:
    spread = {"b": [each[0] for each in own], "z": [each[1] for each in own]}
    expected = [canonical_json({**shared, "b": b, "z": z}) for b, z in own]
    assert list(canonical_objects(shared, spread, len(own))) == expected
    assert list(canonical_objects(shared, {}, 3)) == [canonical_json(shared)] * 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [float("-inf")]])
def test_a_number_that_json_has_no_word_for_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError):
        canonical_json(bad)


def test_a_state_is_one_of_its_words(kept: type[Kept]) -> None:
    row = kept.get_by_id(kept.create(state="running").id)
    assert row.state is TaskState.RUNNING
    with pytest.raises(ValueError, match="asleep"):
        kept.create(state="asleep")


@pytest.mark.parametrize("number", [2**31, 2**53 + 1, LARGEST])
def test_ids_keep_all_64_bits(database: peewee.Database, number: int) -> None:
    source = Source.create(id=number, sdss_id=number, catalogid=-number, provisional=True, created=START)
    found = Source.get(Source.sdss_id == number)
    assert (found.id, found.sdss_id, found.catalogid) == (source.id, number, -number)
    made = Environment.create(digest="d", python="", platform="", packages={"catalogid": str(number)})
    assert Environment.get_by_id(made.id).packages == {"catalogid": str(number)}


def test_keys_beyond_32_bits_are_given_to_tasks(database: peewee.Database) -> None:
    if isinstance(database, peewee.PostgresqlDatabase):
        database.execute_sql("ALTER SEQUENCE task_id_seq RESTART WITH 5000000000")
    else:
        fill(1)
        database.execute_sql("UPDATE task SET id = 4999999999")
    assert Task.get_by_id(fill(1)[0]).id == 5_000_000_000
