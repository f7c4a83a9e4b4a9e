"""Rows on their way in arrive as they were sent, whatever characters they hold, on both databases."""

from __future__ import annotations

import math
from typing import Any

import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra.database.astradb import Environment, ResultModel, Source, Task
from astra.database.connection import execute, run
from astra.database.fields import instant_text
from astra.database.staging import among, check_row, insert_rows, key_source, load, reserve_ids, stage
from tests.support.clock import START
from tests.support.tasks import fill

on_one_database = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
awkward = st.sampled_from(
    ["\\N", "\\.", "\\", "\t", "\n", "\r", "\r\n", "a\\tb", "\\\\N", "", " ", "NULL", "é", "☃", "\U0001d538"]
)
texts = (awkward | st.text()).filter(lambda text: "\0" not in text and "\\ud" not in ascii(text))
rows = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | texts,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
COLUMNS = {"a": "BIGINT", "b": "TEXT", "c": "REAL"}


@on_one_database
@given(st.lists(rows, max_size=20))
def test_staged_rows_arrive_as_they_were_sent(database: peewee.Database, sent: list[tuple[Any, ...]]) -> None:
    with database.atomic():
        stage("sent", {"n": "BIGINT", **COLUMNS}, [(number, *row) for number, row in enumerate(sent)])
        assert run("SELECT a, b, c FROM sent ORDER BY n") == sent


def test_rows_that_are_one_empty_text_arrive_as_well(database: peewee.Database) -> None:
    with database.atomic():
        stage("sent", {"b": "TEXT"}, [("",), ("",)])
        assert run("SELECT b FROM sent") == [("",), ("",)]


@on_one_database
@given(st.lists(texts, max_size=10, unique=True))
def test_loaded_rows_arrive_as_they_were_sent_and_are_found_among_many(
    database: peewee.Database, sent: list[str]
) -> None:
    Environment.delete().execute()
    with database.atomic():
        load("environment", ("digest", "python", "platform", "packages"), [(each, each, "", "{}") for each in sent])
    assert sorted(each.python for each in Environment.select()) == sorted(sent)
    condition, parameter = among("digest", sent[:5])
    assert {each for (each,) in run(f"SELECT digest FROM environment WHERE {condition}", (parameter,))} == set(sent[:5])


def test_an_instant_and_a_truth_are_staged_as_each_database_keeps_them(database: peewee.Database) -> None:
    with database.atomic():
        stage("sent", {"at": "INSTANT"}, [(instant_text(START),), (None,)])
        source = (START.isoformat(), True)
        load("source", ("created", "provisional"), [source])
        assert run("SELECT count(*) FROM sent WHERE at IS NOT NULL") == [(1,)]
    assert Source.get().provisional is True


def test_a_staging_table_never_takes_the_place_of_a_real_one(database: peewee.Database) -> None:
    execute("CREATE TABLE members (kept INTEGER)")
    execute("INSERT INTO members VALUES (7)")
    with database.atomic():
        stage("members", {"a": "BIGINT"}, [(1,)])
        stage("members", {"a": "BIGINT"}, [(2,), (3,)])
        assert run("SELECT a FROM members ORDER BY a") == [(2,), (3,)]
        execute("DROP TABLE members")
    assert run("SELECT kept FROM members") == [(7,)]


def test_a_staged_row_that_does_not_fit_leaves_nothing(database: peewee.Database) -> None:
    with pytest.raises(peewee.PeeweeException), database.atomic():
        stage("sent", {"a": "BIGINT"}, [(1, 2)])
    with database.atomic():
        stage("sent", {"a": "BIGINT"}, [(1,)])
        assert run("SELECT a FROM sent") == [(1,)]


def test_reserved_keys_are_nobody_elses(database: peewee.Database) -> None:
    fill(3)
    with database.atomic():
        mine = reserve_ids("task", 4)
        assert len(set(mine)) == 4
        assert not set(mine) & {task.id for task in Task.select()}
        if isinstance(database, peewee.PostgresqlDatabase):
            assert not set(mine) & set(reserve_ids("task", 4))


def test_a_source_of_keys_asks_the_database_only_when_one_is_wanted(database: peewee.Database) -> None:
    with database.atomic():
        key = key_source("task", 2)
        first, second = key(), key()
        assert first != second
        with pytest.raises(StopIteration):
            key()
    untouched = key_source("nowhere", 2)
    assert callable(untouched)


class First(ResultModel):
    snr = peewee.DoubleField(null=True)
    good = peewee.BooleanField(default=False)
    note = peewee.TextField(default=lambda: "none")


class Second(ResultModel):
    number = peewee.BigIntegerField()


def test_rows_of_several_tables_are_inserted_with_their_defaults(database: peewee.Database) -> None:
    database.create_tables([First, Second])
    task = fill(1)[0]
    rows: list[peewee.Model] = [First(task=task, snr=number / 3) for number in range(1200)]
    rows += [Second(task=task, number=2**60), First(task=task, good=True, note="50 % ?\\N")]
    insert_rows(rows)
    assert First.select().count() == 1201
    plain = First.get(First.snr == 1 / 3)
    assert (plain.good, plain.note, plain.task_id, plain.source_id) == (False, "none", task, None)
    assert First.get(First.good).note == "50 % ?\\N"
    assert Second.get().number == 2**60
    assert math.isclose(sum(each.snr or 0.0 for each in First.select()), sum(range(1200)) / 3)
    insert_rows([])


class Narrow(ResultModel):
    small = peewee.SmallIntegerField(null=True)
    whole = peewee.IntegerField(null=True)
    large = peewee.BigIntegerField(null=True)
    single = peewee.FloatField(null=True)
    short = peewee.CharField(max_length=3, null=True)
    text = peewee.TextField(null=True)


@pytest.mark.parametrize(
    ("column", "fits", "does_not"),
    [
        ("small", -(1 << 15), 1 << 15),
        ("whole", (1 << 31) - 1, 1 << 40),
        ("large", (1 << 63) - 1, 1 << 70),
        ("single", 3e38, 1e300),
        ("short", "abc", "abcd"),
        ("text", "x" * 5000, "a\0b"),
    ],
)
def test_a_value_that_one_of_the_databases_cannot_hold_is_refused_on_both(
    database: peewee.Database, column: str, fits: object, does_not: object
) -> None:
    database.create_tables([Narrow])
    row = Narrow(task=fill(1)[0], **{column: fits})
    check_row(row)
    insert_rows([row])
    with pytest.raises(ValueError, match=f"Narrow.{column} cannot hold"):
        check_row(Narrow(task=1, **{column: does_not}))
