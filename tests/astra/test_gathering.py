"""All data products of a source in one task: when, which, once, and again when they change; on both databases."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import gathering, queue, replay, taking_in, tree
from astra.base import Parameter, TaskInstance
from astra.cli.records import next_of_waiting
from astra.cli.star import page, say
from astra.cli.tasks import listed, with_more
from astra.database.astradb import DataProduct, Gathering, Ingestion, Replay, Source, Task, TaskInputDataProduct
from astra.database.connection import database as opened
from astra.database.connection import drop_connection, run
from astra.gathering import follow_links, gather_due
from astra.ingest import Root
from astra.replay import Request, Verb
from astra.rules import Rule
from astra.selection import Selection
from astra.settings_values import Condition
from astra.states import ErrorKind, TaskOutcome, TaskState
from astra.taking_in import Terms
from astra.work import Finish, Pick
from daemon import status
from daemon.gatherer import Gatherer
from tests.support import fits
from tests.support.catalogue import adopt_rows, claim, link, row, target
from tests.support.clock import FakeClock
from tests.support.tasks import OWNER, TOTALS, ended, plans, start, statements

WAIT = 3600.0


def star(number: int) -> str:
    """Return the name of a star; neighbours are a minute of right ascension apart."""
    return f"2M{number // 60:02d}{number % 60:02d}5143+5615568"


STARS = (star(0), star(1))


class Combine(TaskInstance):
    """A component to enqueue; it never runs here."""

    version = "1"
    depth = Parameter(default=3)


class Further(TaskInstance):
    """What comes after another component; it never runs here."""

    version = "1"


def rule(name: str = "combine", wait: float = WAIT, **values: Any) -> Rule:
    where = values.pop("where", ())
    return Rule(name, "apVisit", Combine(**values).plan(), 100, where, gather="source", wait=wait)


RULE = rule()


class Field:
    """A folder of visits, taken in and gathered by one rule as the service would."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.root, self.clock = Root("watched", folder, None), clock
        self.rules: tuple[Rule, ...] = (RULE,)
        self.fibers: dict[str, int] = {}

    def visit(self, star: str = STARS[0], mjd: int = 55870, fluff: int = 0, **cards: Any) -> Path:
        """Write a visit of a star, or rewrite it."""
        fiber = self.fibers.setdefault(star, len(self.fibers) + 1)
        place = {"RA": 15 * (int(star[2:4]) + int(star[4:6]) / 60 + 51.43 / 3600), "DEC": 56.265797}
        content = fits.apvisit(MJD5=mjd, FIBERID=fiber, OBJID=star, **place, **cards)
        path = fits.write(self.root.folder / fits.visit_name(mjd=mjd, fiber=fiber), content)
        os.utime(path, (1_600_000_000 + fluff,) * 2)
        return path

    def take_in(self, *paths: Path, rules: Sequence[Rule] | None = None) -> None:
        terms = Terms([self.root], self.rules if rules is None else rules, patience=0.0)
        for each in taking_in.take_in(paths or [self.root.folder], terms, self.clock):
            assert each.outcome or not each.new, each

    def sweep(self) -> None:
        """Look at the folder as the service does, and take in what is new there."""
        report = tree.WalkReport(rules=self.rules)
        name, folder = self.root.name, self.root.folder
        for found in tree.sweep(name, folder, lambda path: path.endswith(".fits"), self.clock.now(), report):
            self.take_in(*[folder / each.path for each in found]) if found else None

    def later(self, seconds: float) -> list[gathering.Gathered]:
        while follow_links(self.rules, self.clock.now()):
            pass
        self.clock.advance(seconds)
        return gather_due(self.rules, self.clock.now())


@pytest.fixture
def field(database: peewee.Database, tmp_path: Path, clock: FakeClock) -> Field:
    (tmp_path / "watched").mkdir()
    made = Field(tmp_path / "watched", clock)
    follow_links(made.rules, clock.now())
    return made


def inputs(state: TaskState = TaskState.PENDING) -> list[list[int]]:
    """Return the nights of the inputs of each task in this state, in their order."""
    tasks = Task.select().where(Task.state == state).order_by(Task.id)
    return [[int(each.kwargs["mjd"]) for each in task.input_data_products] for task in tasks]


def complete() -> None:
    """Claim, run and complete all that is due of one key and replay."""
    task = Task.get(Task.state == TaskState.PENDING, Task.not_before.is_null())
    [claimed] = queue.claim([Pick(task.__data__["replay"], 100, task.bundle_key, 100)], OWNER, "local", task.created)
    held = start(claimed)
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * held.size)
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS)], FakeClock().now())


# ------------------------------------------------------------------------------------------------- when, and which


def test_a_source_is_gathered_once_when_nothing_came_for_as_long_as_the_rule_waits(field: Field) -> None:
    field.take_in(field.visit(mjd=55872), field.visit(mjd=55870), field.visit(STARS[1]))
    assert Task.select().count() == 0, "none for a data product alone"
    assert not field.later(WAIT - 1)
    field.take_in(field.visit(mjd=55871))
    assert [(each.sources, len(each.tasks)) for each in field.later(2)] == [(1, 1)], "the other star"
    assert inputs() == [[55870]]
    assert not field.later(WAIT - 3)
    field.later(2)
    assert inputs() == [[55870], [55870, 55871, 55872]], "in the order of their identities"
    assert {(each.rule, each.replay) for each in Task.select()} == {("combine", None)}
    assert Gathering.select().count() == 0
    assert not field.later(100 * WAIT)


def test_a_source_that_never_rests_is_gathered_all_the_same(field: Field) -> None:
    for hour in range(21):
        field.take_in(field.visit(mjd=55870 + hour))
        field.later(WAIT / 2)
    assert len(inputs()) == 1
    assert len(inputs()[0]) >= 20


def test_the_conditions_of_the_rule_choose_and_a_missing_file_is_left_out(field: Field) -> None:
    field.rules = (rule(where=(Condition("snr", "ge", 50),)),)
    for mjd, snr in ((55870, 60.0), (55871, 10.0), (55872, 70.0), (55873, 90.0)):
        field.visit(mjd=mjd, SNR=snr)
    field.take_in()
    gone = DataProduct.get(DataProduct.path.contains("55872"))
    Ingestion.update(missing_since=field.clock.now()).where(Ingestion.id == gone.current_ingestion).execute()
    field.later(WAIT)
    assert inputs() == [[55870, 55873]]


def test_a_source_of_which_nothing_is_left_is_no_task(field: Field) -> None:
    field.rules = (rule(where=(Condition("snr", "ge", 1e6),)),)
    field.take_in(field.visit())
    assert [(each.sources, each.tasks) for each in field.later(WAIT)] == [(1, [])]


def test_the_marks_of_a_rule_that_is_not_known_here_are_left_for_who_knows_it(field: Field) -> None:
    field.take_in(field.visit(), rules=(rule("elsewhere"), RULE))
    field.later(WAIT)
    assert [each.rule for each in Gathering.select()] == ["elsewhere"]
    assert gathering.is_left((rule("elsewhere"),))
    assert not gathering.is_left(field.rules)


def test_the_marks_of_a_rule_that_is_gone_are_told_at_the_start_and_a_rule_of_its_name_that_gathers_nothing_takes_them(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    field.take_in(field.visit(), field.visit(STARS[1]))
    field.later(WAIT)
    field.take_in(field.visit(mjd=55871))
    with caplog.at_level("WARNING", "daemon"):
        Gatherer((rule("renamed"),), field.clock)
    assert "marks_wait rule=combine sources=1" in caplog.text
    field.rules = (rule(where=(Condition("mjd", "lt", 0),), wait=0.0),)
    assert [(each.superseded, each.tasks) for each in field.later(WAIT)] == [(1, [])]
    assert (Gathering.select().count(), inputs()) == (0, [[55870]]), "what is pending of the other star stands"


def test_people_are_told_what_waits_to_be_gathered_and_until_when(
    field: Field, capsys: pytest.CaptureFixture[str]
) -> None:
    field.take_in(field.visit(), field.visit(STARS[1]))
    [told] = status.records(field.clock)["gathering"]
    due = (field.clock.now() + timedelta(seconds=WAIT)).strftime("%H:%M:%S")
    assert (told["rule"], told["sources"], due in told["next"]) == ("combine", 2, True)
    found = page(Source.get())
    say(found)
    assert "waits to be gathered by the rule combine: it changed at" in (said := capsys.readouterr().out)
    assert f"is due at {field.clock.now():%Y-%m-%d} {due}Z" in said
    field.later(WAIT)
    assert (status.records(field.clock)["gathering"], page(Source.get())["gathering"]) == ([], [])


def test_a_list_of_tasks_says_how_many_inputs_there_are_beside_the_first(field: Field) -> None:
    field.take_in(field.visit(), field.visit(mjd=55871), field.visit(mjd=55872), field.visit(STARS[1]))
    field.later(WAIT)
    found = listed(Selection(), 10)
    assert sorted(each["inputs"] for each in found) == [1, 3]
    assert sorted(with_more(each)["input"].partition(".fits")[2] for each in found) == ["", " and 2 more"]


def test_what_is_taken_in_without_rules_is_not_gathered(field: Field) -> None:
    field.take_in(field.visit(), rules=())
    assert not field.later(WAIT)


# ---------------------------------------------------------------------------------------- what changes afterwards


def test_a_pending_task_on_an_older_set_is_superseded_in_the_same_transaction(field: Field) -> None:
    field.take_in(field.visit(), field.visit(STARS[1]))
    field.later(WAIT)
    field.take_in(field.visit(mjd=55871))
    assert [each.superseded for each in field.later(WAIT)] == [1]
    assert inputs() == [[55870], [55870, 55871]], "the other star's stands"
    assert inputs(TaskState.CANCELLED) == [[55870]]


def test_a_pending_task_on_all_that_there_is_stands(field: Field) -> None:
    field.take_in(field.visit())
    field.later(WAIT)
    gathering.mark(RULE, {run("SELECT source_id FROM source_data_product")[0][0]}, field.clock.now())
    assert [(each.tasks, each.superseded) for each in field.later(WAIT)] == [([], 0)]
    assert inputs() == [[55870]]


def test_a_task_that_runs_on_an_older_set_finishes_and_stands(field: Field) -> None:
    field.take_in(field.visit())
    field.later(WAIT)
    [claimed] = queue.claim([Pick(None, 100, Task.get().bundle_key, 1)], OWNER, "local", field.clock.now())
    held = start(claimed)
    field.take_in(field.visit(mjd=55871))
    field.later(WAIT)
    assert inputs(TaskState.RUNNING) == [[55870]]
    rows = ended(held.bundle, TaskOutcome.COMPLETED)
    queue.finish([Finish(held.bundle, held.token, rows, (), TOTALS)], field.clock.now())
    assert (inputs(TaskState.COMPLETED), inputs()) == ([[55870]], [[55870, 55871]])


def test_a_task_whose_file_was_moved_while_it_ran_is_enqueued_anew_with_all_its_inputs(field: Field) -> None:
    field.take_in(moved := field.visit(), field.visit(mjd=55871))
    field.later(WAIT)
    [claimed] = queue.claim([Pick(None, 100, Task.get().bundle_key, 1)], OWNER, "local", field.clock.now())
    held = start(claimed)
    elsewhere = field.root.folder / "elsewhere" / moved.name
    elsewhere.parent.mkdir()
    moved.rename(elsewhere)
    field.take_in(elsewhere)
    assert [each.tasks for each in field.later(WAIT)] == [[]], "the same work runs"
    [failed] = ended(held.bundle, TaskOutcome.FAILED)
    failed = failed._replace(error_class="InputChanged", error_kind=ErrorKind.PERMANENT)
    queue.finish([Finish(held.bundle, held.token, [failed], (), TOTALS)], field.clock.now())
    assert inputs() == [[55870, 55871]]
    given = TaskInputDataProduct.select().join(Task).where(Task.state == TaskState.PENDING)
    assert all(each.ingestion == each.data_product.current_ingestion for each in given)


def test_a_new_version_is_gathered_again_and_the_same_set_is_not(field: Field) -> None:
    field.take_in(field.visit(), field.visit(mjd=55871))
    field.later(WAIT)
    complete()
    gathering.mark(RULE, {run("SELECT source_id FROM source_data_product")[0][0]}, field.clock.now())
    assert [each.tasks for each in field.later(WAIT)] == [[]], "completed already"
    field.take_in(field.visit(fluff=60, SNR=77.0))
    field.later(WAIT)
    assert inputs() == [[55870, 55871]]
    field.take_in(field.visit(fluff=120, SNR=78.0))
    assert inputs() == [], "one of its files was rewritten before it began"
    field.later(WAIT)
    assert inputs() == [[55870, 55871]]


def test_sources_that_turn_out_to_be_one_are_gathered_as_one(field: Field) -> None:
    field.take_in(field.visit(), field.visit(STARS[1], mjd=55871))
    field.later(WAIT)
    assert inputs() == [[55870], [55871]]
    field.take_in(field.visit(STARS[1], mjd=55872))  # it is marked under a key that is merged before it is due
    adopt_rows([row(("sdss_id", "7"), ("apogee", STARS[0])), row(("gaia_dr3", "9"), ("apogee", STARS[1]))])
    adopt_rows([row(("sdss_id", "7"), ("gaia_dr3", "9"))], "test 2")
    assert [(each.sources, each.superseded) for each in field.later(WAIT)] == [(1, 2)]
    assert inputs() == [[55870, 55871, 55872]]


def test_a_data_product_that_is_linked_to_another_source_is_gathered_there_and_missed_here(field: Field) -> None:
    field.take_in(field.visit(), field.visit(mjd=55871))
    field.later(WAIT)
    key = DataProduct.get(DataProduct.path.contains("55871")).id
    field.take_in(field.visit(STARS[1], mjd=55873))
    field.later(WAIT)
    relink_to(key, STARS[1], field)
    assert [(each.sources, each.superseded) for each in field.later(WAIT)] == [(2, 2)]
    assert sorted(inputs()) == [[55870], [55871, 55873]]


def test_a_data_product_that_turns_out_to_be_of_no_source_takes_its_pending_task_along(field: Field) -> None:
    field.take_in(field.visit())
    field.later(WAIT)
    link(claim(DataProduct.get().id, target(ra=None, dec=None)))
    assert [(each.sources, each.superseded) for each in field.later(WAIT)] == [(1, 1)]
    assert (inputs(), inputs(TaskState.CANCELLED)) == ([], [[55870]])


def test_a_file_that_goes_and_comes_back_has_its_source_gathered_anew_both_times(field: Field) -> None:
    field.visit()
    away = field.root.folder.parent / "away.fits"
    visit = field.visit(mjd=55871)
    field.take_in()
    field.later(WAIT)
    visit.rename(away)
    field.sweep()
    assert [each.superseded for each in field.later(WAIT)] == [1]
    assert inputs() == [[55870]]
    complete()
    away.rename(visit)
    field.sweep()
    field.later(WAIT)
    assert inputs() == [[55870, 55871]]
    assert not field.later(20 * WAIT), "a file that stays makes no mark"


def test_a_pending_task_on_a_file_that_is_gone_is_superseded_though_its_source_has_no_other(field: Field) -> None:
    visit = field.visit()
    field.take_in(field.visit(STARS[1]), visit)
    field.later(WAIT)
    kept = visit.rename(field.root.folder.parent / "away.fits")
    field.sweep()
    assert [(each.sources, each.superseded) for each in field.later(WAIT)] == [(1, 1)]
    assert inputs(TaskState.CANCELLED) == inputs() == [[55870]]
    shutil.copyfile(kept, visit)  # the same bytes with other stamps: its row is corrected, and there is no new version
    os.utime(visit, (1_600_000_000,) * 2)
    field.sweep()
    field.later(WAIT)
    assert len(inputs()) == 2


def relink_to(product: int, star: str, field: Field) -> None:
    """Link a data product as if its file now named another star."""
    link(claim(product, target(("apogee", star), ra=None, dec=None)))


# --------------------------------------------------------------------------------------------------------- replay


def ask(field: Field, verb: Verb = Verb.RULE, **selected: Any) -> replay.Plan:
    selected = {"rules": ("combine",)} if verb is Verb.RULE and not selected else selected
    return replay.make_plan(Request(verb, Selection(**selected), (field.root,), field.rules))


def carry_out(plan: replay.Plan, field: Field) -> replay.Progress:
    how = replay.Settings(patience=0.0, clock=field.clock)
    *_, last = replay.carry_out(plan, replay.begin(plan, field.clock), how)
    return last


def test_a_replay_of_the_rule_has_the_sources_gathered_at_once_that_were_not(field: Field) -> None:
    field.take_in(field.visit(STARS[1]))
    field.later(WAIT)
    complete()
    field.take_in(field.visit(), field.visit(mjd=55871), rules=())
    plan = ask(field)
    assert [each.kind for each in plan.entries] == [Combine.component_name()]
    done = carry_out(plan, field)
    assert (done.done, done.outcomes["sources marked"]) == (1, 1)
    field.later(0)
    assert inputs() == [[55870, 55871]]
    assert {each.__data__["replay"] for each in Task.select().where(Task.state == "pending")} == {done.replay}
    again = ask(field)
    assert again.entries == []
    assert [each.reason for each in again.left] == ["a task on all that it has now is pending or running"]


def test_a_replay_that_is_cancelled_or_overtaken_by_new_work_leaves_no_marks(field: Field) -> None:
    field.take_in(field.visit(), field.visit(STARS[1]), rules=())
    done = carry_out(ask(field), field)
    field.take_in(field.visit(mjd=55871))
    assert sorted(each.replay or 0 for each in Gathering.select()) == [0, done.replay]
    replay.cancel(done.replay)
    field.later(WAIT)
    assert inputs() == [[55870, 55871]]
    assert Task.get().replay is None


def test_what_new_work_waits_for_stays_new_work_though_a_replay_asks_for_it_too(field: Field) -> None:
    field.take_in(field.visit())
    carry_out(ask(field), field)
    field.later(0)
    assert [each.replay for each in Task.select()] == [None]


def test_files_taken_in_again_are_gathered_again_though_that_was_done(field: Field) -> None:
    field.take_in(field.visit())
    field.later(WAIT)
    complete()
    carry_out(ask(field, Verb.INGESTION, filetypes=("apVisit",)), field)
    field.later(WAIT)
    assert inputs() == [[55870]]
    assert Replay.select().count() == 1


@pytest.mark.parametrize("first", ["new work", "replay"])
def test_that_a_replay_wants_it_again_is_not_lost_where_new_work_has_marked_the_source_too(
    field: Field, first: str
) -> None:
    field.take_in(field.visit())
    field.later(WAIT)
    complete()
    source = run("SELECT source_id FROM source_data_product")[0][0]
    if first == "new work":
        gathering.mark(RULE, {source}, field.clock.now())
    carry_out(ask(field, Verb.INGESTION, filetypes=("apVisit",)), field)
    if first == "replay":
        gathering.mark(RULE, {source}, field.clock.now())
    field.later(WAIT)
    assert [each.replay for each in Task.select().where(Task.state == TaskState.PENDING)] == [None]
    complete()
    gathering.mark(RULE, {source}, field.clock.now())
    asked = carry_out(ask(field, Verb.INGESTION, filetypes=("apVisit",)), field)
    replay.cancel(asked.replay)
    assert [each.tasks for each in field.later(WAIT)] == [[]], "it is cancelled"


def test_tasks_enqueued_again_come_after_what_the_rule_says(field: Field) -> None:
    first = Rule("first", "apVisit", Combine(depth=1).plan(), 100, ())
    field.rules = (first, Rule("second", "apVisit", Combine(depth=2).plan(), 100, (), after=first))
    field.take_in(field.visit())
    one, two = Task.select().order_by(Task.id)
    assert (one.after, two.after) == (None, one.identity)
    queue.cancel_pending([one.id, two.id])
    carry_out(ask(field, Verb.TASKS, rules=("second",)), field)
    again = Task.get(Task.repeat_of == two.id)
    assert (again.after, again.not_before is not None) == (one.identity, True)
    carry_out(ask(field, Verb.TASKS, rules=("first",)), field)
    complete()
    assert Task.get_by_id(again.id).not_before is None


@pytest.mark.parametrize("chunk", [1, 500])
def test_work_and_what_comes_after_it_are_enqueued_again_so_that_the_second_waits(
    field: Field, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(replay, "CHUNK", chunk)
    first = Rule("first", "apVisit", Combine(depth=1).plan(), 100, ())
    field.rules = (first, Rule("second", "apVisit", Combine(depth=2).plan(), 100, (), after=first))
    field.take_in(field.visit(), field.visit(mjd=55871))
    complete()
    complete()
    plan = ask(field, Verb.TASKS, rules=("first", "second"))
    assert [each.key for each in plan.entries] == [3, 4, 1, 2], "the newest first, but each after what it waits for"
    carry_out(plan, field)
    waiting = Task.select().where(Task.not_before.is_null(False))
    assert {each.rule for each in waiting} == {"second"}
    assert waiting.count() == 2
    complete()
    complete()
    assert Task.select().where(Task.state == TaskState.COMPLETED).count() == 8


def chained(then: type[TaskInstance]) -> tuple[Rule, Rule]:
    first = Rule("first", "apVisit", Combine(depth=1).plan(), 100, ())
    return first, Rule("second", "apVisit", then().plan(), 100, (), after=first)


def test_a_rule_that_comes_after_a_new_version_has_that_enqueued_too_and_each_rule_lacks_what_is_its_own(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    field.rules = chained(Further)[:1]
    field.take_in(field.visit(), field.visit(mjd=55871))
    complete()
    assert ask(field, rules=("first",)).entries == []
    monkeypatch.setattr(Combine, "version", "2")
    field.rules = chained(Further)
    assert len(ask(field, rules=("first",)).entries) == 2, "of this version there is none"
    plan = ask(field, rules=("second",))
    assert [each.kind.rpartition(".")[2] for each in plan.entries] == ["Combine", "Combine", "Further", "Further"]
    carry_out(plan, field)
    assert (ask(field, rules=("first",)).entries, ask(field, rules=("second",)).entries) == ([], [])
    complete()
    complete()
    assert Task.select().where(Task.state == TaskState.COMPLETED).count() == 6


def test_the_next_command_of_what_waits_for_work_that_was_not_enqueued_brings_it_on(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    field.rules = chained(Further)
    field.take_in(field.visit())
    complete()
    complete()
    monkeypatch.setattr(Combine, "version", "2")
    field.rules = chained(Further)
    carry_out(ask(field, Verb.TASKS, rules=("second",)), field)
    waiting = Task.get(Task.state == TaskState.PENDING)
    assert next_of_waiting(waiting.id, field.rules) == "astra replay --rule first"
    monkeypatch.setattr(Combine, "version", "3")
    field.rules = chained(Further)
    assert next_of_waiting(waiting.id, field.rules).startswith(f"astra cancel task {waiting.id}; astra replay tasks")
    field.rules = (replace(field.rules[1], after=None),)  # or `after` was taken out of the rule
    queue.cancel_pending([waiting.id])
    carry_out(ask(field, Verb.TASKS, rules=("second",), states=(TaskState.CANCELLED,)), field)
    assert Task.get(Task.state == TaskState.PENDING).not_before is None


def test_of_tasks_of_a_rule_that_gathers_only_those_on_what_the_source_has_now_are_repeated(field: Field) -> None:
    for mjd in (55870, 55871, 55872):
        field.take_in(field.visit(mjd=mjd), field.visit(STARS[1]))
        field.later(WAIT)
        complete()
    assert inputs(TaskState.COMPLETED) == [[55870], [55870], [55870, 55871], [55870, 55871, 55872]]
    plan = ask(field, Verb.TASKS, rules=("combine",))
    assert sorted(len(each.task.inputs) for each in plan.entries if each.task) == [1, 3]
    assert {each.reason.partition(":")[0] for each in plan.left} == {"of an older set"}
    assert len(plan.left) == 2


# ------------------------------------------------------------------------------------------ cost, and several at once


def test_many_sources_take_no_more_statements_than_few(field: Field, database: peewee.Database) -> None:
    counts = []
    for first, number in ((0, 2), (2, 60)):
        for each in range(first, first + number):
            field.visit(star(each))
        field.take_in()
        field.clock.advance(WAIT)
        with statements(database) as seen:
            follow_links(field.rules, field.clock.now())
            assert len(gather_due(field.rules, field.clock.now())[0].tasks) == number
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_what_a_new_task_supersedes_is_found_by_its_data_products(field: Field, database: peewee.Database) -> None:
    for each in range(40):
        field.visit(star(each))
    field.take_in()
    field.clock.advance(WAIT)
    with plans(database) as seen:
        gather_due(field.rules, field.clock.now())
    [plan] = [plan for statement, plan in seen if "FROM task t WHERE t.id" in statement]
    assert "task_input_data_product_data_product_id" in plan, plan


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_task_that_somebody_held_when_it_was_to_be_superseded_is_looked_at_again(field: Field) -> None:
    field.take_in(field.visit(), field.visit(STARS[1]))
    field.later(WAIT)
    field.take_in(field.visit(mjd=55871))
    held, gathered = threading.Event(), threading.Event()

    def hold() -> None:
        with opened.atomic():
            queue.hold_tasks([each.id for each in Task.select()])
            held.set()
            assert gathered.wait(20)
        drop_connection()

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(20)
    assert [(each.superseded, len(each.tasks)) for each in field.later(WAIT)] == [(0, 1)]
    gathered.set()
    other.join()
    assert not field.later(59)
    assert [(each.sources, each.superseded, each.tasks) for each in field.later(1)] == [(1, 1, [])]
    assert inputs() == [[55870], [55870, 55871]]
    assert not field.later(20 * WAIT)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_several_services_share_the_sources_and_each_is_gathered_by_one(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "CHUNK", 7)
    for each in range(100):
        field.visit(star(each))
    field.take_in()
    field.clock.advance(WAIT)
    barrier, took = threading.Barrier(4), []

    def gather() -> None:
        barrier.wait()
        while found := gather_due(field.rules, field.clock.now()):
            took.append(found[0].sources)
        drop_connection()

    threads = [threading.Thread(target=gather) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (sum(took), max(took)) == (100, 7)
    assert len(inputs()) == 100
    assert run("SELECT count(DISTINCT identity) FROM task") == [(100,)]
    assert Gathering.select().count() == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_gathering_while_files_arrive_loses_nothing_and_leaves_one_task_for_each_source(field: Field) -> None:
    field.rules = (rule(wait=0.0),)
    errors: list[BaseException] = []
    over = threading.Event()

    def gather() -> None:
        try:
            while not over.is_set():
                follow_links(field.rules, field.clock.now())
                gather_due(field.rules, field.clock.now())
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            drop_connection()

    threads = [threading.Thread(target=gather) for _ in range(3)]
    for each in threads:
        each.start()
    for night in range(12):
        field.take_in(*[field.visit(star(each), mjd=55870 + night % 8, SNR=50.0 + night) for each in range(4)])
    over.set()
    for each in threads:
        each.join()
    assert errors == []
    field.later(0)
    field.later(0)
    assert inputs() == [list(range(55870, 55878))] * 4
    stale = run(
        "SELECT count(*) FROM task t JOIN task_input_data_product i ON i.task_id = t.id JOIN data_product p "
        "ON p.id = i.data_product_id WHERE t.state = 'pending' AND i.ingestion_id <> p.current_ingestion_id"
    )
    assert stale == [(0,)]
