"""Taking in again and enqueueing again, planned and done, on both databases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import replay, taking_in
from astra.base import Parameter, Plan, TaskInstance
from astra.clock import SYSTEM, Clock
from astra.database.astradb import Ingestion, Replay, Task
from astra.errors import AstraError
from astra.ingest import Root
from astra.replay import Request, Settings, Verb
from astra.rules import Rule
from astra.selection import Selection
from astra.states import IngestionOutcome, TaskState
from astra.taking_in import Terms
from tests.support import fits
from tests.support.clock import FakeClock

OLD = 1_600_000_000


class Measure(TaskInstance):
    """A component to enqueue; it never runs here."""

    version = "1"
    depth = Parameter(default=3)


def rule(name: str = "visits", filetype: str = "apVisit") -> Rule:
    made = Measure().plan()
    return Rule(name, filetype, Plan(made.name, made.component_version, made.parameters, made.bundle_key), 100, ())


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "watched").mkdir()
    return Root("watched", tmp_path / "watched", None)


def put(root: Root, path: str, content: bytes, mtime: int = OLD) -> Path:
    place = fits.write(root.folder / path, content)
    os.utime(place, (mtime, mtime))
    return place


def visits(root: Root, count: int, first: int = 1) -> list[Path]:
    return [
        put(root, fits.visit_name(mjd=55870 + n, fiber=n), fits.apvisit(MJD5=55870 + n, FIBERID=n))
        for n in range(first, first + count)
    ]


def take_in(root: Root, *rules: Rule) -> None:
    outcomes = list(taking_in.take_in([root.folder], Terms([root], rules, patience=0.0)))
    assert all(each.outcome for each in outcomes), outcomes


def all_are(state: TaskState) -> None:
    Task.update(state=state).execute()


def request(verb: Verb, root: Root, *rules: Rule, **selected: Any) -> Request:
    return Request(verb, Selection(**selected), (root,), rules)


def do(asked: Request, clock: Clock) -> replay.Progress:
    plan = replay.make_plan(asked)
    *_, last = replay.carry_out(plan, replay.begin(plan, clock), Settings(patience=0.0, clock=clock))
    return last


def rows() -> dict[str, list[dict[str, Any]]]:
    return {table.__name__: list(table.select().order_by(table.id).dicts()) for table in (Ingestion, Task, Replay)}


@pytest.fixture
def night(database: peewee.Database, root: Root) -> Root:
    """Three visits and their star, taken in, with a task for each visit that has ended well."""
    visits(root, 3)
    put(root, fits.star_name(), fits.apstar())
    take_in(root, rule())
    all_are(TaskState.COMPLETED)
    return root


@pytest.mark.parametrize("verb", [Verb.INGESTION, Verb.TASKS])
def test_a_plan_writes_nothing(night: Root, verb: Verb) -> None:
    before = rows()
    plan = replay.make_plan(request(verb, night, rule(), filetypes=("apVisit",)))
    assert len(plan.entries) == 3
    assert list(plan.counts.values()) == [3]
    assert rows() == before


def test_files_taken_in_again_get_new_rows_and_new_tasks_of_the_replay(night: Root, clock: FakeClock) -> None:
    before = rows()
    done = do(request(Verb.INGESTION, night, rule(), filetypes=("apVisit",)), clock)
    after = rows()
    assert (done.done, done.outcomes["ingested"], done.outcomes["tasks"]) == (3, 3, 3)
    assert after["Ingestion"][:4] == before["Ingestion"]
    assert after["Task"][:3] == before["Task"]
    new = after["Task"][3:]
    assert {(each["state"], each["priority"], each["replay"]) for each in new} == {
        (TaskState.PENDING, 100, done.replay)
    }
    assert sorted(each["identity"] for each in new) == sorted(each["identity"] for each in before["Task"])
    for row in after["Ingestion"][4:]:
        assert (row["replay"], row["outcome"]) == (done.replay, IngestionOutcome.INGESTED)
        assert row["supersedes"] is not None
    record = after["Replay"][0]
    assert (record["planned"], record["done"], record["state"]) == (3, 3, "completed")
    assert (record["verb"], record["selection"]) == ("ingestion", {"filetypes": ["apVisit"]})


def test_a_quarantined_file_is_taken_in_once_it_is_whole(database: peewee.Database, root: Root) -> None:
    place = put(root, fits.visit_name(), fits.apvisit()[:-2880])
    take_in(root)
    assert Ingestion.get().outcome is IngestionOutcome.QUARANTINED
    asked = request(Verb.INGESTION, root, rule(), outcomes=(IngestionOutcome.QUARANTINED,))
    assert do(asked, SYSTEM).outcomes["quarantined"] == 1
    put(root, place.name, fits.apvisit())
    done = do(asked, SYSTEM)
    assert (done.outcomes["ingested"], done.outcomes["tasks"]) == (1, 1)
    assert replay.make_plan(asked).entries == []


def test_what_cannot_be_taken_in_again_is_told_and_its_record_stands(night: Root, clock: FakeClock) -> None:
    (night.folder / fits.visit_name(mjd=55871, fiber=1)).unlink()
    visit = put(night, fits.visit_name(mjd=55872, fiber=2), fits.apvisit(MJD5=55872, FIBERID=2)[:-2880])
    os.utime(visit)  # being written at this moment
    plan = replay.make_plan(request(Verb.INGESTION, night, rule(), filetypes=("apVisit",)))
    assert [(each.key, each.reason) for each in plan.left] == [(plan.left[0].key, "the file is gone")]
    *_, done = replay.carry_out(plan, replay.begin(plan), Settings())
    assert done.outcomes["ingested"] == 1
    assert [Path(each.place).name for each in done.left][1:] == [visit.name]
    assert "63,360 bytes present" in done.left[1].reason
    assert Ingestion.select().where(Ingestion.outcome == IngestionOutcome.QUARANTINED).count() == 0


def test_a_folder_that_is_watched_no_more_is_told(night: Root) -> None:
    plan = replay.make_plan(request(Verb.INGESTION, Root("other", night.folder / "x", None), paths=("*",)))
    assert plan.entries == []
    assert {each.reason for each in plan.left} == {"no folder named watched is watched any more"}


def test_tasks_enqueued_again_name_what_they_repeat(night: Root, clock: FakeClock) -> None:
    before = rows()
    done = do(request(Verb.TASKS, night, states=(TaskState.COMPLETED,)), clock)
    after = rows()
    assert done.outcomes["enqueued"] == 3
    assert after["Task"][:3] == before["Task"]
    new = after["Task"][3:]
    assert sorted(each["repeat_of"] for each in new) == [each["id"] for each in before["Task"]]
    assert {(each["state"], each["priority"], each["replay"], each["rule"]) for each in new} == {
        (TaskState.PENDING, 100, done.replay, "visits")
    }
    inputs = {task.id: [each.id for each in task.input_data_products] for task in Task.select()}
    assert all(inputs[each["id"]] == inputs[each["repeat_of"]] for each in new)


def test_work_that_is_pending_is_not_doubled(night: Root, clock: FakeClock) -> None:
    asked = request(Verb.TASKS, night, states=(TaskState.FAILED, TaskState.PENDING))
    Task.update(state=TaskState.PENDING).where(Task.id == Task.select(peewee.fn.min(Task.id))).execute()
    Task.update(state=TaskState.FAILED).where(Task.state == TaskState.COMPLETED).execute()
    plan = replay.make_plan(asked)
    assert len(plan.entries) == 2
    assert [each.reason for each in plan.left] == [
        f"task {plan.left[0].key}, which is the same work, is pending or running"
    ]
    assert do(asked, clock).outcomes["enqueued"] == 2
    assert Task.select().count() == 5


def test_a_twin_that_appears_after_the_plan_is_not_doubled_either(night: Root, clock: FakeClock) -> None:
    plan = replay.make_plan(request(Verb.TASKS, night, paths=("*",)))
    do(request(Verb.TASKS, night, paths=("*",)), clock)
    *_, done = replay.carry_out(plan, replay.begin(plan), Settings(clock=clock))
    assert done.outcomes["enqueued"] == 0
    assert len(done.left) == 3
    assert Task.select().count() == 6


def test_what_failed_and_then_went_well_is_not_failed_any_more(night: Root, clock: FakeClock) -> None:
    all_are(TaskState.FAILED)
    asked = request(Verb.TASKS, night, states=(TaskState.FAILED,))
    done = do(asked, clock)
    Task.update(state=TaskState.COMPLETED).where(Task.replay == done.replay).execute()
    assert replay.make_plan(asked).entries == []


def test_a_task_is_repeated_on_the_current_file_version_with_the_component_as_it_is_now(
    night: Root, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(night, fits.visit_name(mjd=55871, fiber=1), fits.apvisit(MJD5=55871, FIBERID=1, SNR=7.0), OLD + 50)
    take_in(night)
    monkeypatch.setattr(Measure, "version", "2")
    do(request(Verb.TASKS, night, paths=("*-55871-001.fits",), versions=("1",)), clock)
    new = Task.get(Task.component_version == "2")
    newest = Ingestion.select(peewee.fn.max(Ingestion.id)).scalar()
    given = new.input_data_products[0].__data__["current_ingestion"]
    assert (Task.select().count(), given) == (4, newest)


def test_a_component_that_cannot_be_built_is_told_and_left_alone(night: Root) -> None:
    Task.update(name="gone.Component").where(Task.id == Task.select(peewee.fn.min(Task.id))).execute()
    plan = replay.make_plan(request(Verb.TASKS, night, paths=("*",)))
    assert len(plan.entries) == 2
    assert "there is no component gone.Component" in plan.left[0].reason


@pytest.mark.parametrize(
    ("selected", "count"),
    [
        ({"mjd_from": 55872}, 2),
        ({"mjd_from": 55872, "mjd_to": 55872}, 1),
        ({"mjd_to": 55870}, 0),
        ({"paths": ("*-55872-*",)}, 1),
        ({"paths": ("watched",)}, 0),
        ({"source": "2M00005143+5615568"}, 3),
        ({"components": ("Measure",)}, 3),
        ({"components": ("easure",)}, 0),
        ({"rules": ("visits",)}, 3),
        ({"rules": ("stars",)}, 0),
        ({"states": (TaskState.FAILED,)}, 0),
        ({"versions": ("1",)}, 3),
        ({"releases": ("dr99",)}, 0),
    ],
)
def test_both_verbs_select_alike(night: Root, selected: dict[str, Any], count: int) -> None:
    for verb in (Verb.INGESTION, Verb.TASKS):
        plan = replay.make_plan(request(verb, night, filetypes=("apVisit",), **selected))
        assert len(plan.entries) == count, verb


def test_the_day_of_taking_in_selects(night: Root, clock: FakeClock) -> None:
    started = Ingestion.select(peewee.fn.max(Ingestion.id)).scalar()
    newest = Ingestion.get_by_id(started).started
    assert replay.make_plan(request(Verb.INGESTION, night, until=newest)).entries[0].key < started
    assert replay.make_plan(request(Verb.INGESTION, night, since=newest)).entries[0].key == started


def test_a_rule_reaches_the_products_that_were_there_before_it_and_only_those(night: Root, clock: FakeClock) -> None:
    stars, more = rule("stars", "apStar"), rule()
    asked = request(Verb.RULE, night, stars, more, rules=("stars",))
    assert do(asked, clock).outcomes["enqueued"] == 1
    new = Task.select().order_by(Task.id.desc()).get()
    assert (new.rule, new.priority, new.repeat_of_id) == ("stars", 100, None)
    assert new.input_data_products[0].filetype == "apStar"
    assert replay.make_plan(asked).entries == []
    assert replay.make_plan(request(Verb.RULE, night, stars, more, rules=("visits",))).entries == []


def test_a_rule_that_is_not_in_the_settings_is_refused_with_those_there_are(night: Root) -> None:
    with pytest.raises(AstraError, match="no rule strs in the settings; there are stars"):
        replay.make_plan(request(Verb.RULE, night, rule("stars", "apStar"), rules=("strs",)))


@pytest.mark.parametrize("verb", list(Verb))
def test_a_replay_that_was_cut_short_does_the_rest_and_nothing_twice(
    night: Root, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 2)
    rules = (rule(), rule("deep")) if verb is Verb.RULE else (rule(),)
    if verb is Verb.RULE:
        Task.update(identity=None, rule=None).execute()
    selected = {"rules": ("deep",)} if verb is Verb.RULE else {"filetypes": ("apVisit",)}
    plan = replay.make_plan(request(verb, night, *rules, **selected))
    number = replay.begin(plan, clock)
    next(replay.carry_out(plan, number, Settings(clock=clock)))
    record = Replay.get_by_id(number)
    assert (record.planned, record.done, record.state) == (3, 2, "running")
    all_are(TaskState.COMPLETED)  # the service was quick
    before = rows()
    rest = replay.resume(number, (night,), rules)
    assert len(rest.entries) == 1
    assert rows() == before
    list(replay.carry_out(rest, number, Settings(clock=clock)))
    record = Replay.get_by_id(number)
    assert (record.planned, record.done, record.state) == (3, 3, "completed")
    new = list(Task.select().where(Task.replay == number))
    assert len(new) == 3
    assert len({task.input_data_products[0].id for task in new}) == 3
    with pytest.raises(AstraError, match=f"replay {number} is completed"):
        replay.resume(number, (night,), rules)


@pytest.mark.parametrize("verb", list(Verb))
def test_a_replay_that_is_cancelled_while_it_is_carried_out_stops(
    night: Root, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 2)
    rules = (rule(), rule("deep"))
    if verb is Verb.RULE:
        Task.update(identity=None, rule=None).execute()
    all_are(TaskState.COMPLETED)
    selected = {"rules": ("deep",)} if verb is Verb.RULE else {"filetypes": ("apVisit",)}
    plan = replay.make_plan(request(verb, night, *rules, **selected))
    number = replay.begin(plan, clock)
    steps = replay.carry_out(plan, number, Settings(clock=clock))
    next(steps)
    assert replay.cancel(number)
    before = rows()
    with pytest.raises(AstraError, match=f"replay {number} was cancelled by somebody else meanwhile"):
        next(steps)
    assert rows() == before
    with pytest.raises(AstraError, match=f"replay {number} is cancelled: there is nothing left of it to do"):
        replay.resume(number, (night,), rules)
    assert not replay.cancel(number)


def test_a_replay_that_nobody_asked_for_cannot_be_resumed(database: peewee.Database, root: Root) -> None:
    with pytest.raises(AstraError, match="there is no replay 41"):
        replay.resume(41, (root,), ())


def test_the_plan_takes_a_constant_number_of_statements(
    database: peewee.Database, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for first, count in ((1, 2), (3, 20)):
        visits(root, count, first)
        take_in(root, rule())
        all_are(TaskState.COMPLETED)
        said: list[str] = []
        real = database.execute_sql
        monkeypatch.setattr(
            database, "execute_sql", lambda sql, *a, said=said, real=real: (said.append(sql), real(sql, *a))[1]
        )
        replay.make_plan(request(Verb.TASKS, root, filetypes=("apVisit",)))
        monkeypatch.undo()
        counts.append(len(said))
    assert counts[0] == counts[1]


def test_two_records_of_the_same_work_are_repeated_once_even_by_a_replay_cut_short(
    night: Root, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 2)
    do(request(Verb.INGESTION, night, rule(), filetypes=("apVisit",)), clock)
    all_are(TaskState.COMPLETED)
    plan = replay.make_plan(request(Verb.TASKS, night, paths=("*",)))
    assert (len(plan.entries), len(plan.left)) == (3, 3)
    assert {each.reason[:21] for each in plan.left} == {"the same work as task"}
    number = replay.begin(plan, clock)
    next(replay.carry_out(plan, number, Settings(clock=clock)))
    all_are(TaskState.COMPLETED)
    assert len(replay.resume(number, (night,), ()).entries) == 1
