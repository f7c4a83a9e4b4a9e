"""One bundle, run: every time of every task, who is to blame for an error, and what is recorded of how it ended."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import execution, queue, recording, session
from astra.base import Parameter, TaskInstance
from astra.cli import records
from astra.clock import SYSTEM
from astra.database.astradb import Bundle, DataProduct, Ingestion, ResultModel, Task, TaskBundle
from astra.database.connection import open_database
from astra.database.migrate import create_result_tables
from astra.errors import DatabaseUnavailable, InputChanged, LeaseLost
from astra.inhand import InHand
from astra.session import Desk, Session
from astra.states import TaskOutcome
from astra.work import Finish, Pick
from tests.support.bundles import by_person, held, rows, states, tasks, times
from tests.support.clock import FakeClock
from tests.support.tasks import TOTALS, ended, statements

# What has nothing to do with the database is run on one of them.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def tables(database: peewee.Database) -> None:
    create_result_tables([Measured])


class Measured(ResultModel):
    value = peewee.DoubleField()
    number = peewee.BigIntegerField(null=True, unique=True)

    class Meta:
        table_name = "test_measured"


class Component(TaskInstance):
    """Does in `execute` what the test gives it."""

    n = Parameter(default=0)
    result_models = (Measured,)
    body: Callable[[Any], Any] = staticmethod(lambda self: None)

    def execute(self) -> Any:
        return type(self).body(self)


def doing(body: Callable[[Any], Any], size: int = 3, **stages: Callable[[Any], Any]) -> TaskInstance:
    """Return an instance of `size` tasks whose execute is `body`, and other stages as given."""
    made: type[TaskInstance] = type("Doing", (Component,), {"body": staticmethod(body), **stages})
    return made(n=list(range(size)))


def run_held(instance: TaskInstance, clock: FakeClock) -> int:
    bundle = held(instance, clock)
    instance.run_held(bundle, clock)
    return bundle.bundle


def failing(instance: TaskInstance, clock: FakeClock, error: type[BaseException] = ZeroDivisionError) -> int:
    bundle = held(instance, clock)
    with pytest.raises(error):
        instance.run_held(bundle, clock)
    return bundle.bundle


# -------------------------------------------------------------------------------------------------------- ten times


def stage_times(bundle: int, stage: str) -> tuple[float, float, list[float]]:
    """Return a stage's seconds, its overhead, and each task's own."""
    found = [times(task) for task in tasks(bundle)]
    assert len({(each[stage], each[f"{stage}_bundle_overhead"]) for each in found}) == 1
    return found[0][stage], found[0][f"{stage}_bundle_overhead"], [each[f"{stage}_task"] for each in found]


def test_the_ten_times_of_every_task_of_a_bundle(database: peewee.Database, clock: FakeClock) -> None:
    def before(self: Any) -> None:
        clock.advance(1)
        for _ in self.iterable():
            clock.advance(0.5)

    def body(self: Any) -> None:
        clock.advance(2)
        for task, _ in self.iterable():
            clock.advance(4 + task.parameters["n"])
        clock.advance(0.25)

    bundle = run_held(doing(body, pre_execute=before, post_execute=lambda self: clock.advance(8)), clock)
    assert [times(task) for task in tasks(bundle)] == [
        {
            "total": 2.5 + 17.25 + 8,
            "pre_execute": 2.5, "pre_execute_task": 0.5, "pre_execute_bundle_overhead": 1.0,
            "execute": 17.25, "execute_task": 4.0 + n, "execute_bundle_overhead": 2.25,
            "post_execute": 8.0, "post_execute_task": 0.0, "post_execute_bundle_overhead": 8.0,
        }
        for n in range(3)
    ]  # fmt: skip


@on_sqlite
def test_a_bundle_of_one_that_does_not_iterate_owns_all_its_time(database: peewee.Database, clock: FakeClock) -> None:
    bundle = run_held(doing(lambda self: clock.advance(3), size=1), clock)
    assert stage_times(bundle, "execute") == (3, 0, [3])
    assert stage_times(bundle, "pre_execute") == (0, 0, [0])


@on_sqlite
def test_a_bundle_of_one_that_iterates_owns_its_turn(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        clock.advance(1)
        for _ in self.iterable():
            clock.advance(2)

    assert stage_times(run_held(doing(body, size=1), clock), "execute") == (3, 1, [2])


@on_sqlite
def test_a_bundle_that_does_not_iterate_is_all_overhead(database: peewee.Database, clock: FakeClock) -> None:
    assert stage_times(run_held(doing(lambda self: clock.advance(3)), clock), "execute") == (3, 3, [0, 0, 0])


@on_sqlite
def test_two_loops_add_up(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for seconds in (1, 10):
            for _ in self.iterable():
                clock.advance(seconds)

    assert stage_times(run_held(doing(body), clock), "execute") == (33, 0, [11, 11, 11])


@on_sqlite
def test_in_a_nested_loop_the_inner_task_owns_the_time(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for _ in self.iterable():
            clock.advance(100)
            for _ in self.iterable():
                clock.advance(1)
            clock.advance(10)

    assert stage_times(run_held(doing(body), clock), "execute") == (339, 0, [113, 113, 113])


@on_sqlite
def test_an_early_break_keeps_the_times_so_far(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            clock.advance(2)
            if task.parameters["n"] == 1:
                break
        clock.advance(5)

    bundle = run_held(doing(body), clock)
    assert stage_times(bundle, "execute") == (9, 5, [2, 2, 0])
    assert states(bundle) == ["completed"] * 3


@on_sqlite
def test_a_generator_left_open_owns_its_stage_and_no_later_one(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        self.context["open"] = self.iterable()
        next(self.context["open"])
        clock.advance(3)

    def after(self: Any) -> None:
        clock.advance(4)
        next(self.context["open"])
        clock.advance(1)

    bundle = run_held(doing(body, post_execute=after), clock)
    assert stage_times(bundle, "execute") == (3, 0, [3, 0, 0])
    assert stage_times(bundle, "post_execute") == (5, 4, [0, 1, 0])


@on_sqlite
@pytest.mark.parametrize("where", ["pre_execute", "execute", "post_execute"])
def test_an_exception_keeps_the_times_of_what_had_been_done(
    database: peewee.Database, clock: FakeClock, where: str
) -> None:
    def stage(name: str) -> Callable[[Any], None]:
        def body(self: Any) -> None:
            clock.advance(1)
            for task, _ in self.iterable():
                clock.advance(2)
                if name == where and task.parameters["n"] == 1:
                    raise ZeroDivisionError

        return body

    instance = doing(stage("execute"), pre_execute=stage("pre_execute"), post_execute=stage("post_execute"))
    bundle = failing(instance, clock)
    names = ["pre_execute", "execute", "post_execute"]
    done = names.index(where)
    for name in names[:done]:
        assert stage_times(bundle, name) == (7, 1, [2, 2, 2])
    assert stage_times(bundle, where) == (5, 1, [2, 2, 0]), "to the moment of the error, and none lost"
    for name in names[done + 1 :]:
        assert stage_times(bundle, name) == (None, None, [None] * 3)
    assert tasks(bundle)[1].time_total == 7 * done + 5
    # a bundle taken again has times of its own, those of the first stand
    assert Bundle.get_by_id(bundle).time_pre_execute is not None


@on_sqlite
def test_the_parent_s_execute_is_part_of_the_child_s_and_the_hooks_are_called_once(
    database: peewee.Database, clock: FakeClock
) -> None:
    calls = []

    class Parent(TaskInstance):
        def pre_execute(self) -> None:
            calls.append("pre")
            clock.advance(1)

        def execute(self) -> list[int]:
            found = []
            for _ in self.iterable():
                clock.advance(2)
                found.append(1)
            return found

        def post_execute(self) -> None:
            calls.append("post")

    class Child(Parent):
        def execute(self) -> list[int]:
            clock.advance(4)
            return super().execute() + super().execute()

    claimed, session = by_person(child := Child(), clock)
    assert child._run(session, {}) == [1, 1]
    assert calls == ["pre", "post"]
    assert Bundle.select().count() == 1
    assert stage_times(claimed.bundle, "execute") == (8, 4, [4])


@on_sqlite
def test_the_times_of_a_task_are_those_of_its_latest_bundle(database: peewee.Database, clock: FakeClock) -> None:
    bad = [True]

    def body(self: Any) -> None:
        clock.advance(5 if bad else 1)
        if bad:
            raise ZeroDivisionError

    instance = doing(body, size=1)
    first = failing(instance, clock)
    bad.clear()
    task = tasks(first)[0]
    assert task.time_execute == 5
    again, _ = queue.open_by_hand(recording.by_hand(task.instance()), clock.now())
    instance._run(Session(again, clock, interactive=True), {})
    assert Task.get_by_id(task.id).time_execute == 1
    assert [each.time_execute for each in Bundle.select().order_by(Bundle.id)] == [5, 1]


# ---------------------------------------------------------------------------------------------------- who is to blame


def in_the_loop(self: Any) -> None:
    for task, _ in self.iterable():
        1 / (task.parameters["n"] - 1)


def after_a_break(self: Any) -> None:
    for _ in self.iterable():
        break
    raise ZeroDivisionError


def before_the_loop(self: Any) -> None:
    1 / 0  # noqa: B018


def after_the_loop(self: Any) -> None:
    for _ in self.iterable():
        pass
    raise ZeroDivisionError


def through_zip(self: Any) -> None:
    for (task, _), _number in zip(self.iterable(), itertools.count(), strict=False):
        1 / (task.parameters["n"] - 1)


def through_enumerate_and_islice(self: Any) -> None:
    for _, (task, _d) in enumerate(itertools.islice(self.iterable(), 3)):
        1 / (task.parameters["n"] - 1)


def progress(iterable: Any) -> Iterator[Any]:
    """Like tqdm: a generator around another, with something to do at its end."""
    count = 0
    try:
        for each in iterable:
            yield each
            count += 1
    finally:
        count += 1


class Bar:
    """Like tqdm's object: iterable, a context, and it keeps what it goes through."""

    def __init__(self, iterable: Any) -> None:
        self.iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        yield from self.iterable

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.iterable = None


def through_a_progress_bar(self: Any) -> None:
    for task, _ in progress(progress(self.iterable())):
        1 / (task.parameters["n"] - 1)


def through_a_bar_that_is_a_context(self: Any) -> None:
    with Bar(self.iterable()) as bar:
        for task, _ in bar:
            1 / (task.parameters["n"] - 1)


def in_a_comprehension(self: Any) -> list[float]:
    return [1 / (task.parameters["n"] - 1) for task, _ in self.iterable()]


def in_a_generator_expression(self: Any) -> float:
    return sum(1 / (task.parameters["n"] - 1) for task, _ in self.iterable())


def inverse(pair: Any) -> float:
    return 1 / (pair[0].parameters["n"] - 1)


def in_a_map(self: Any) -> list[float]:
    return list(map(inverse, self.iterable()))


def helper(number: int) -> float:
    return 1 / (number - 1)


def in_a_helper(self: Any) -> None:
    for task, _ in self.iterable():
        helper(task.parameters["n"])


def in_the_author_s_own_generator(self: Any) -> None:
    def values() -> Iterator[float]:
        for task, _ in self.iterable():
            yield 1 / (task.parameters["n"] - 1)

    for _ in values():
        pass


def outside_of_the_author_s_own_generator(self: Any) -> None:
    def numbers() -> Iterator[int]:
        for task, _ in self.iterable():
            yield task.parameters["n"]

    for number in numbers():
        1 / (number - 1)


def as_another_error(self: Any) -> None:
    try:
        for task, _ in self.iterable():
            helper(task.parameters["n"])
    except ZeroDivisionError as error:
        raise ValueError("one of them") from error


def inside_a_with(self: Any) -> None:
    with threading.Lock():
        for task, _ in self.iterable():
            helper(task.parameters["n"])


def by_next(self: Any) -> None:
    tasks = self.iterable()
    while True:
        task, _ = next(tasks)
        helper(task.parameters["n"])


def in_the_inner_loop(self: Any) -> None:
    for _ in self.iterable():
        for task, _d in self.iterable():
            helper(task.parameters["n"])


def first_of(self: Any, fail: bool) -> Any:
    if fail:
        raise ZeroDivisionError
    for task, _ in self.iterable():
        return task
    return None


def by_a_helper_that_left_its_loop_before(self: Any) -> None:
    for fail in (False, True):
        first_of(self, fail)


def after_an_error_that_was_caught(self: Any) -> None:
    with suppress(ZeroDivisionError):
        in_the_loop(self)
    raise ZeroDivisionError


@on_sqlite
@pytest.mark.parametrize(
    "body",
    [
        in_the_loop, through_zip, through_enumerate_and_islice, through_a_progress_bar,
        through_a_bar_that_is_a_context, in_a_comprehension, in_a_generator_expression, in_a_map, in_a_helper,
        in_the_author_s_own_generator, outside_of_the_author_s_own_generator, as_another_error, inside_a_with, by_next,
        in_the_inner_loop,
    ],
)  # fmt: skip
def test_the_task_that_raised_fails_and_the_others_are_given_back(
    database: peewee.Database, clock: FakeClock, body: Callable[[Any], Any]
) -> None:
    bundle = failing(doing(body), clock, (ZeroDivisionError, ValueError))  # type: ignore[arg-type]
    assert states(bundle) == ["pending", "failed", "pending"]
    assert [row.outcome for row in rows(bundle)] == ["released", "failed", "released"]
    failed = rows(bundle)[1]
    assert failed.error_class in ("ZeroDivisionError", "ValueError")
    assert "Traceback" in failed.traceback
    assert rows(bundle)[0].error_class is None
    assert Bundle.get_by_id(bundle).error.startswith(failed.error_class)


@on_sqlite
@pytest.mark.parametrize(
    "body",
    [
        before_the_loop, after_the_loop, after_a_break, by_a_helper_that_left_its_loop_before,
        after_an_error_that_was_caught,
    ],
)  # fmt: skip
def test_where_no_single_task_raised_all_have_failed(
    database: peewee.Database, clock: FakeClock, body: Callable[[Any], Any]
) -> None:
    bundle = failing(doing(body), clock)
    assert states(bundle) == ["failed"] * 3
    assert {row.error_class for row in rows(bundle)} == {"ZeroDivisionError"}


@on_sqlite
def test_the_others_run_again_without_the_one_that_failed(database: peewee.Database, clock: FakeClock) -> None:
    instance = doing(in_the_loop)
    failing(instance, clock)
    key = Task.get().bundle_key
    from astra import provenance
    from tests.support.bundles import started

    [claimed] = queue.claim([Pick(None, 100, key, 10)], provenance.owner(), "local", clock.now())
    assert claimed.size == 2
    instance.run_held(started(claimed, type(instance), clock), clock)
    assert sorted(str(task.state) for task in Task.select()) == ["completed", "completed", "failed"]


@on_sqlite
def test_by_hand_the_one_that_raised_fails_and_the_rest_are_cancelled(
    database: peewee.Database, clock: FakeClock
) -> None:
    error = KeyError("my own")

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            if task.parameters["n"] == 1:
                raise error

    claimed, session = by_person(instance := doing(body), clock)
    with pytest.raises(KeyError) as caught:
        instance._run(session, {})
    assert caught.value is error
    assert states(claimed.bundle) == ["cancelled", "failed", "cancelled"]
    assert Bundle.get_by_id(claimed.bundle).state == "ended"


@on_sqlite
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("person", [True, False])
def test_a_request_to_stop_is_a_cancellation_for_a_person_and_a_failure_in_the_service(
    database: peewee.Database, clock: FakeClock, error: type[BaseException], person: bool
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            if task.parameters["n"] == 1:
                raise error

    instance = doing(body)
    if person:
        claimed, session = by_person(instance, clock)
        with pytest.raises(error):
            instance._run(session, {})
        assert states(claimed.bundle) == ["cancelled"] * 3
        return
    bundle = failing(instance, clock, error)
    assert states(bundle) == ["pending", "failed", "pending"]


@on_sqlite
def test_an_error_that_no_database_can_keep_is_kept_as_well_as_can_be(
    database: peewee.Database, clock: FakeClock
) -> None:
    def body(self: Any) -> None:
        raise ValueError("a\0b \udcff " + "x" * 100_000)

    bundle = failing(doing(body, size=1), clock, ValueError)
    row = rows(bundle)[0]
    assert row.error_message.startswith("a\\0b \\udcff xxx")
    assert len(row.error_message) < 2_100
    assert row.traceback.endswith("x\n")


# ------------------------------------------------------------------------------------------------ what is kept early


def measure(self: Any, task: Task, value: float | None = 1.0, **more: Any) -> None:
    self.record_result(task, Measured(value=value, **more))


def test_what_is_done_stands_whatever_follows(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            clock.advance(2)
            if task.parameters["n"] == 2:
                raise ZeroDivisionError
            measure(self, task)
            self.done(task)

    bundle = failing(doing(body, size=4), clock)
    assert states(bundle) == ["completed", "completed", "failed", "pending"]
    assert Measured.select().count() == 2
    assert stage_times(bundle, "execute") == (6, 0, [2, 2, 2, 0])


@on_sqlite
def test_an_error_after_a_task_was_done_is_not_its_failure_nor_the_others(
    database: peewee.Database, clock: FakeClock
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            self.done(task)
            raise ZeroDivisionError

    assert states(failing(doing(body), clock)) == ["completed", "pending", "pending"]


@on_sqlite
def test_the_time_of_a_long_task_that_is_done_is_its_whole_time(database: peewee.Database, clock: FakeClock) -> None:
    written = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            clock.advance(60)
            self.done(task)
            clock.advance(1)
            written.append(TaskBundle.select().where(TaskBundle.outcome == "completed").count())

    bundle = run_held(doing(body), clock)
    assert stage_times(bundle, "execute") == (183, 0, [61, 61, 61])
    assert written == [0, 1, 2], "each is written as soon as it has been left"


@on_sqlite
def test_many_short_tasks_that_are_done_are_written_together(
    database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DONE_AT_ONCE", 4)
    written = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            clock.advance(0.001)
            self.done(task)
            written.append(TaskBundle.select().where(TaskBundle.outcome == "completed").count())

    run_held(doing(body, size=10), clock)
    assert written == [0, 1, 1, 3, 3, 3, 3, 7, 7, 7], "one, two, then four together"


@on_sqlite
def test_tasks_that_are_done_are_not_handed_out_again(
    database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DONE_AT_ONCE", 2)
    seen = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            if task.parameters["n"] != 3:
                self.done(task)

    def after(self: Any) -> None:
        seen.extend(task.parameters["n"] for task, _ in self.iterable())

    run_held(doing(body, size=6, post_execute=after), clock)
    assert seen == [3], "whether they have been written yet or not"


@on_sqlite
def test_tasks_collected_in_a_list_can_be_done_after_the_loop(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task in [task for task, _ in self.iterable()][:2]:
            measure(self, task)
            self.done(task)
        raise ZeroDivisionError

    bundle = failing(doing(body), clock)
    assert states(bundle) == ["completed", "completed", "failed"]


@on_sqlite
def test_nothing_more_is_recorded_for_a_task_that_is_done(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            self.done(task)
            with pytest.raises(ValueError, match=f"task {task.id} has ended in this bundle"):
                measure(self, task)
            with pytest.raises(ValueError, match="has ended"):
                self.done(task)

    assert states(run_held(doing(body), clock)) == ["completed"] * 3


@on_sqlite
def test_a_task_of_another_bundle_is_refused(database: peewee.Database, clock: FakeClock) -> None:
    taken: list[Task] = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            taken.append(task)
        with pytest.raises(ValueError, match="is not one that iterable\\(\\) has handed out in this bundle"):
            self.done(Task.get_by_id(task.id))

    run_held(doing(body), clock)
    run_held(doing(body), clock)

    def misuse(self: Any) -> None:
        with pytest.raises(ValueError, match=f"task {taken[0].id} is not one"):
            self.done(taken[0])

    run_held(doing(misuse), clock)


# ------------------------------------------------------------------------------------------------------------ results


def test_results_are_written_with_the_task_s_end_and_not_for_one_that_failed(
    database: peewee.Database, clock: FakeClock
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            measure(self, task, 1.5 * task.parameters["n"])
            helper(task.parameters["n"] - 1)

    bundle = failing(doing(body, size=4), clock)
    assert states(bundle) == ["pending", "pending", "failed", "pending"]
    assert Measured.select().count() == 0


@on_sqlite
def test_a_result_of_a_model_that_is_not_the_component_s_is_refused(
    database: peewee.Database, clock: FakeClock
) -> None:
    class Other(ResultModel):
        pass

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            with pytest.raises(TypeError, match=r"Doing records rows of its result_models \(Measured\), not Other"):
                self.record_result(task, Other())

    run_held(doing(body), clock)


@pytest.mark.parametrize("bad", [None, "text", float("nan")])
def test_a_result_without_a_value_it_needs_fails_its_task_alone(
    database: peewee.Database, clock: FakeClock, bad: Any
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            measure(self, task, bad if task.parameters["n"] == 1 else 2.0)

    bundle = failing(doing(body), clock, ValueError)
    assert states(bundle) == ["pending", "failed", "pending"]
    assert "Measured.value" in rows(bundle)[1].error_message


@pytest.mark.parametrize("bad", [{"number": 5}])
def test_a_result_that_the_database_refuses_fails_its_task_alone_and_the_bundle_ends(
    database: peewee.Database, clock: FakeClock, bad: dict[str, int]
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            n = task.parameters["n"]
            measure(self, task, 2.0, **({"number": 5} if n == 0 else bad if n == 2 else {}))

    claimed, session = by_person(instance := doing(body, size=4), clock)
    with pytest.raises((peewee.PeeweeException, OverflowError)):
        instance._run(session, {})
    assert states(claimed.bundle) == ["completed", "completed", "failed", "completed"]
    assert Measured.select().count() == 3
    ended_bundle = Bundle.get_by_id(claimed.bundle)
    assert ended_bundle.state == "ended"
    assert ended_bundle.error
    assert stage_times(claimed.bundle, "execute")[0] == 0


# ------------------------------------------------------------------------------------------------------ input changed


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def with_files(body: Callable[[Any], Any], folder: Path, **stages: Any) -> tuple[TaskInstance, list[Path]]:
    paths = [folder / f"{number}.dat" for number in range(3)]
    for path in paths:
        path.write_bytes(b"bytes")
    made: type[TaskInstance] = type("Doing", (Component,), {"body": staticmethod(body), **stages})
    return made(input_data_products=paths, n=[0, 1, 2]), paths


def test_an_input_that_changed_before_it_was_used_ends_its_task_and_no_other(
    database: peewee.Database, clock: FakeClock, tmp_path: Path
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            measure(self, task)

    instance, paths = with_files(body, tmp_path)
    bundle = held(instance, clock)
    rewrite(paths[1])
    with pytest.raises(InputChanged, match=f"input changed: {paths[1]} is not the file version that task"):
        instance.run_held(bundle, clock)
    assert states(bundle.bundle) == ["pending", "failed", "pending"]
    assert rows(bundle.bundle)[1].error_class == "InputChanged"


@pytest.mark.parametrize("way", ["rewritten", "deleted", "touched"])
def test_an_input_that_changed_while_it_was_used_leaves_no_result(
    database: peewee.Database, clock: FakeClock, tmp_path: Path, way: str
) -> None:
    def body(self: Any) -> None:
        for task, data_products in self.iterable():
            measure(self, task)
            if task.parameters["n"] == 1:
                path = Path(data_products[0].path)
                if way == "rewritten":
                    rewrite(path)
                elif way == "deleted":
                    path.unlink()
                else:
                    os.utime(path, (1, 1))

    instance, _ = with_files(body, tmp_path)
    claimed, session = by_person(instance, clock)
    with pytest.raises(InputChanged):  # a person is told, too: what execute returned is not to be trusted
        instance._run(session, {})
    assert states(claimed.bundle) == ["completed", "failed", "completed"]
    assert rows(claimed.bundle)[1].error_message.startswith("input changed")
    assert {each.task_id for each in Measured.select()} == {tasks(claimed.bundle)[0].id, tasks(claimed.bundle)[2].id}


@on_sqlite
def test_a_task_whose_input_changed_cannot_be_done(database: peewee.Database, clock: FakeClock, tmp_path: Path) -> None:
    def body(self: Any) -> None:
        for task, data_products in self.iterable():
            measure(self, task)
            if task.parameters["n"] == 1:
                rewrite(Path(data_products[0].path))
            self.done(task)

    instance, _ = with_files(body, tmp_path)
    bundle = failing(instance, clock, InputChanged)
    assert states(bundle) == ["completed", "failed", "pending"]
    assert Measured.select().count() == 1


def checksums() -> list[str | None]:
    return [each.sha256 for each in Ingestion.select().order_by(Ingestion.id)]


def test_what_was_read_has_its_checksum_recorded_unless_its_task_kept_nothing(
    database: peewee.Database, clock: FakeClock, tmp_path: Path
) -> None:
    def body(self: Any) -> None:
        for task, data_products in self.iterable():
            measure(self, task)
            if task.parameters["n"] == 1:
                rewrite(Path(data_products[0].path))

    instance, paths = with_files(body, tmp_path)
    paths[2].write_bytes(b"others")
    claimed, session = by_person(instance, clock)
    with pytest.raises(InputChanged):
        instance._run(session, {})
    assert states(claimed.bundle) == ["completed", "failed", "completed"]
    assert checksums() == [sha256(b"bytes").hexdigest(), None, sha256(b"others").hexdigest()]


def test_what_a_task_read_that_is_done_is_recorded_before_its_end_whatever_follows(
    database: peewee.Database, clock: FakeClock, tmp_path: Path
) -> None:
    def body(self: Any) -> None:
        for task, data_products in self.iterable():
            measure(self, task)
            self.done(task)
            rewrite(Path(data_products[0].path))  # too late to matter
            if task.parameters["n"] == 1:
                raise ZeroDivisionError

    instance, _ = with_files(body, tmp_path)
    bundle = failing(instance, clock)
    assert states(bundle) == ["completed", "completed", "pending"]
    assert checksums() == [sha256(b"bytes").hexdigest()] * 2 + [None]
    assert Measured.select().count() == 2


@on_sqlite
def test_the_data_products_of_each_task_are_its_own(
    database: peewee.Database, clock: FakeClock, tmp_path: Path
) -> None:
    seen: list[tuple[int, list[DataProduct]]] = []

    def body(self: Any) -> None:
        seen.extend((task.parameters["n"], data_products) for task, data_products in self.iterable())

    instance, paths = with_files(body, tmp_path)
    run_held(instance, clock)
    assert [(n, [each.path for each in products]) for n, products in seen] == [
        (n, [str(path)]) for n, path in enumerate(paths)
    ]


# ------------------------------------------------------------------------------------------- the lease, the database


@on_sqlite
def test_who_lost_the_bundle_is_told_and_has_written_nothing(database: peewee.Database, clock: FakeClock) -> None:
    bundle = held(
        instance := doing(lambda self: [measure(self, task) for task, _ in self.iterable()]), clock
    )  # fmt: skip
    queue.release(bundle.bundle, bundle.token, "stopped", clock.now())
    with pytest.raises(LeaseLost):
        instance.run_held(bundle, clock)
    assert states(bundle.bundle) == ["pending"] * 3
    assert Measured.select().count() == 0


@on_sqlite
def test_a_lost_lease_found_out_in_the_middle_stops_the_work(
    database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DONE_AT_ONCE", 1)
    seen = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            seen.append(task.id)
            if len(seen) == 2:
                queue.release(bundle.bundle, bundle.token, "stopped", clock.now())
            self.done(task)

    bundle = held(instance := doing(body, size=5), clock)
    with pytest.raises(LeaseLost):
        instance.run_held(bundle, clock)
    assert len(seen) == 2
    assert states(bundle.bundle) == ["completed", *["pending"] * 4]


@on_sqlite
def test_another_finisher_with_the_same_token_makes_the_work_void(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            measure(self, task)
        other = ended(bundle.bundle, *[TaskOutcome.FAILED] * 3)
        queue.finish([Finish(bundle.bundle, bundle.token, other, (), TOTALS)], clock.now())

    bundle = held(instance := doing(body), clock)
    with pytest.raises(LeaseLost):
        instance.run_held(bundle, clock)
    assert states(bundle.bundle) == ["failed"] * 3
    assert Measured.select().count() == 0


class Impatient(FakeClock):
    """Lets a locked database go when somebody has waited for it for so long."""

    def __init__(self, free: Callable[[], None], after: float) -> None:
        super().__init__()
        self.free, self.after = free, after

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        if sum(self.waits) >= self.after:
            self.free()


@on_sqlite
def test_finished_work_waits_for_a_database_that_is_away(
    database: peewee.Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    from astra.database import sqlite

    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    lock = open(database_url.removeprefix("sqlite:///") + ".lock", "ab")  # noqa: SIM115
    in_hand, seen = InHand(), []

    def free() -> None:
        seen.append(in_hand.waits)
        fcntl.flock(lock, fcntl.LOCK_UN)

    def body(self: Any) -> None:
        seen.append(in_hand.waits)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    clock = Impatient(free, after=60.0)
    bundle = held(instance := doing(body), clock)
    instance.run_held(bundle, clock, Desk(in_hand))
    assert states(bundle.bundle) == ["completed"] * 3
    assert [*seen, in_hand.waits] == [False, True, False], "its supervisor sees that it only waits"
    in_hand.close()
    assert clock.waits[:3] == [0.5, 1.0, 2.0]
    lock.close()


@on_sqlite
def test_a_database_that_stays_away_is_told_in_the_end_and_is_nobody_s_failure(
    database: peewee.Database, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    from astra.database import sqlite

    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    lock = open(database_url.removeprefix("sqlite:///") + ".lock", "ab")  # noqa: SIM115
    bundle = held(instance := doing(lambda self: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)), clock)
    with pytest.raises(DatabaseUnavailable):
        instance.run_held(bundle, clock)
    assert 120 <= sum(clock.waits) < 140
    lock.close()
    assert states(bundle.bundle) == ["running"] * 3, "its lease runs out, and it is tried again"


@on_sqlite
def test_a_bundle_that_could_not_be_built_fails_with_the_reason(database: peewee.Database, clock: FakeClock) -> None:
    bundle = held(doing(lambda self: None), clock)
    execution.fail(Session(bundle, clock, interactive=False), ValueError("cannot be built"))
    assert states(bundle.bundle) == ["failed"] * 3
    assert rows(bundle.bundle)[0].error_message == "cannot be built"
    assert Bundle.get_by_id(bundle.bundle).error == "ValueError: cannot be built"


# --------------------------------------------------------------------------------------------------------------- cost


def test_the_number_of_statements_of_a_run_is_the_same_for_ten_tasks_and_for_a_thousand(
    database: peewee.Database, clock: FakeClock
) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            measure(self, task)

    run_held(doing(body, size=2), clock)
    counts = []
    for size in (10, 1000):
        bundle = held(instance := doing(body, size=size), clock)
        with statements(database) as seen:
            instance.run_held(bundle, clock)
        counts.append(len(seen))
    assert counts[0] == counts[1] < 30


def test_a_bundle_of_several_ranges_is_run_and_written_in_ranges(
    database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astra import members

    monkeypatch.setattr(members, "RANGE", 3)
    monkeypatch.setattr(execution, "CHUNK", 3)
    monkeypatch.setattr(session, "RANGE", 3)
    seen = []

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            seen.append(task.parameters["n"])
            measure(self, task)
            clock.advance(1)

    for size in (3, 6, 7):
        seen.clear()
        bundle = run_held(doing(body, size=size), clock)
        assert seen == list(range(size))
        assert states(bundle) == ["completed"] * size
        assert stage_times(bundle, "execute") == (size, 0, [1] * size)


@on_sqlite
def test_a_run_uses_the_real_clock_where_none_is_given(database: peewee.Database) -> None:
    bundle = held(instance := doing(lambda self: None), SYSTEM)
    instance.run_held(bundle)
    task = tasks(bundle.bundle)[0]
    assert task.time_total >= 0
    assert task.time_total == pytest.approx(task.time_pre_execute + task.time_execute + task.time_post_execute)


@on_sqlite
def test_opening_the_same_database_again_keeps_all(
    database: peewee.Database, database_url: str, clock: FakeClock
) -> None:
    bundle = run_held(doing(lambda self: None), clock)
    open_database(database_url)
    assert states(bundle) == ["completed"] * 3


@on_sqlite
def test_a_task_that_is_done_in_an_outer_loop_is_written_with_its_whole_time(
    database: peewee.Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DONE_AT_ONCE", 1)

    def body(self: Any) -> None:
        for outer, _ in self.iterable():
            self.done(outer)
            for _, _ in self.iterable():
                clock.advance(1)
            clock.advance(10)

    bundle = run_held(doing(body, size=2), clock)
    assert states(bundle) == ["completed", "completed"]
    assert stage_times(bundle, "execute") == (21, 0, [10, 11])


@on_sqlite
def test_a_row_is_recorded_once(database: peewee.Database, clock: FakeClock) -> None:
    row = Measured(value=1.0)

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            self.record_result(task, row)

    bundle = failing(doing(body, size=2), clock, ValueError)
    assert states(bundle) == ["pending", "failed"]
    assert "this Measured is recorded already: make a new one for each result" in rows(bundle)[1].error_message


def test_one_refused_result_among_many_costs_few_statements(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            n = task.parameters["n"]
            measure(self, task, 2.0, number=0 if n in (0, 200) else None)

    claimed = held(instance := doing(body, size=256), clock)
    with statements(database) as seen, pytest.raises(peewee.IntegrityError):
        instance.run_held(claimed, clock)
    assert Counter(states(claimed.bundle)) == Counter(completed=255, failed=1)
    assert Bundle.get_by_id(claimed.bundle).state == "ended"
    assert len(seen) < 256


@on_sqlite
def test_which_task_is_in_hand_is_said_to_whoever_watches(database: peewee.Database, clock: FakeClock) -> None:
    watching = InHand()
    seen: list[int | None] = []

    def look(self: Any) -> None:
        for _ in self.iterable():
            seen.append(watching.place().position)
        seen.append(watching.place().position)

    bundle = held(instance := doing(look), clock)
    instance.run_held(bundle, clock, Desk(watching))
    assert seen == [0, 1, 2, None]
    other = InHand(os.dup(watching.descriptor))
    watching.set(7)
    assert other.place().position == 7, "who has mapped the same memory sees it"
    assert not watching.draining
    other.draining = True
    assert watching.draining
    for each in (watching, other, watching):
        each.close()


@on_sqlite
def test_an_error_whose_own_text_raises_is_recorded_and_known(database: peewee.Database, clock: FakeClock) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            if task.parameters["n"] == 1:
                raise Mute

    instance = doing(body)
    bundle = held(instance, clock)
    with pytest.raises(Mute):
        instance.run_held(bundle, clock)
    assert [row.error_class for row in rows(bundle.bundle)] == [None, "Mute", None]
    assert rows(bundle.bundle)[1].error_message == "(its text cannot be had: RuntimeError)"


@on_sqlite
def test_a_copy_of_the_process_has_no_part_in_the_records(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        for task, _ in self.iterable():
            child = os.fork()
            if child == 0:
                raise ValueError("in the copy")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
            self.done(task)

    instance = doing(body)
    bundle = held(instance, clock)
    instance.run_held(bundle, clock)
    assert states(bundle.bundle) == ["completed"] * 3


def test_an_error_of_a_whole_bundle_has_its_traceback_once(database: peewee.Database, clock: FakeClock) -> None:
    def body(self: Any) -> None:
        raise ValueError("all of it")

    instance = doing(body, size=3)
    bundle = held(instance, clock)
    with pytest.raises(ValueError, match="all of it"):
        instance.run_held(bundle, clock)
    found = [(row.error_class, row.error_message, row.traceback is not None) for row in rows(bundle.bundle)]
    assert found == [
        ("ValueError", "all of it", True),
        ("ValueError", "all of it", False),
        ("ValueError", "all of it", False),
    ]
    shown = records.task(tasks(bundle.bundle)[2].id)
    assert shown is not None
    assert "all of it" in shown["traceback"]
