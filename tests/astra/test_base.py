"""The class that a scientist writes: built, run, recorded, bundled, and built again from its record."""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import pydoc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units
import numpy as np
import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra import backlog, queue, recording
from astra.base import DictParameter, Parameter, TaskInstance, TupleParameter, bundler
from astra.database.astradb import Bundle, DataProduct, ResultModel, Source, SourceDataProduct, Task, TaskBundle
from astra.database.fields import canonical_json
from astra.errors import AstraError, ComponentError
from astra.provenance import astra_version
from astra.queue import opening
from astra.states import TaskState
from tests.support.bundles import states
from tests.support.clock import START
from tests.support.tasks import statements

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


# ------------------------------------------------------------------------------------------------ the guide's classes


class GreedyPrimes(TaskInstance):
    min_value = Parameter(default=2)
    max_value = Parameter()

    def execute(self) -> list[int]:
        primes = []
        for n in range(self.min_value, self.max_value):
            for i in range(2, n):
                if n % i == 0:
                    break
            else:
                primes.append(n)
        return primes


class Model:
    """What the guide's `load_model` gives: it estimates nothing, but says what it was told."""

    loaded = 0

    def estimate_stellar_properties(self, *labels: float) -> tuple[float, ...]:
        return labels


def load_model(path: str) -> Model:
    Model.loaded += 1
    with open(path, "rb") as file:
        assert pickle.load(file) == "model"
    return Model()


def load_data_product(path: str) -> bytes:
    return Path(path).read_bytes()


class AnalysisTask(TaskInstance):
    model_path = Parameter(bundled=True)

    initial_teff = Parameter()
    initial_logg = Parameter()
    initial_fe_h = Parameter()

    sigma_clip_limit = Parameter(default=3)

    def pre_execute(self) -> None:
        """Pre-execute hook called before execution."""
        for task, data_products in self.iterable():
            assert isinstance(task, Task)
            for data_product in data_products:
                assert isinstance(data_product, DataProduct)
                assert os.path.exists(data_product.path)
            assert set(task.parameters) == set(self.parameters)

    def execute(self) -> list[list[Any]]:
        model = load_model(self.model_path)
        results = []
        for task, data_products in self.iterable():
            task_results = []
            for data_product in data_products:
                load_data_product(data_product.path)
                result = model.estimate_stellar_properties(
                    task.parameters["initial_teff"],
                    task.parameters["initial_logg"],
                    task.parameters["initial_fe_h"],
                )
                task_results.append(result)
            results.append(task_results)
        return results


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the guide's reader: models and spectra beside each other."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("my_model.pkl", *(f"my_model_{number}.pkl" for number in range(10))):
        (place / name).write_bytes(pickle.dumps("model"))
    for number in range(12):
        (place / f"apStar-{number}.fits").write_bytes(b"a spectrum")
    return place


FILES = ["apStar-1.fits", "apStar-2.fits"]


def test_the_guide_s_greedy_primes(database: peewee.Database) -> None:
    ti = GreedyPrimes(max_value=30)
    assert ti.execute() == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    task = Task.get()
    assert task.name == f"{__name__}.GreedyPrimes"
    assert task.parameters == {"min_value": 2, "max_value": 30}
    assert (task.version, task.component_version, task.state) == (astra_version(), "0", TaskState.COMPLETED)
    assert task.time_total == pytest.approx(task.time_pre_execute + task.time_execute + task.time_post_execute)
    assert (task.time_execute_task, task.time_execute_bundle_overhead) == (task.time_execute, 0.0)
    bundle = Bundle.get()
    assert bundle.owner_pid == os.getpid()
    assert bundle.environment.packages["peewee"]
    assert bundle.created <= bundle.started <= bundle.ended


def test_the_guide_s_suspicious_task(database: peewee.Database) -> None:
    GreedyPrimes(max_value=30).execute()
    task = Task.get_by_id(Task.get().id)
    ti = TaskInstance.from_task(task)
    assert isinstance(ti, GreedyPrimes)
    assert ti.execute(debug=True, verbose=True)[-1] == 29
    repeated = Task.get(Task.repeat_of == task)
    assert repeated.state is TaskState.COMPLETED


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (((5000, 5125), (3.5, 3.75), 0), [(5000, 3.5, 0), (5125, 3.75, 0)]),
        ((5777, 4.4, 0), [(5777, 4.4, 0), (5777, 4.4, 0)]),
        (((5125, 5000), (4.4, 2.5), (0, 0.1)), [(5125, 4.4, 0), (5000, 2.5, 0.1)]),
    ],
    ids=["A", "B", "C"],
)
def test_the_guide_s_examples_make_two_tasks_of_one_data_product_each(
    database: peewee.Database, folder: Path, given: Any, expected: Any
) -> None:
    teff, logg, fe_h = given
    instance = AnalysisTask(
        input_data_products=FILES, model_path="my_model.pkl", initial_teff=teff, initial_logg=logg, initial_fe_h=fe_h
    )
    Model.loaded = 0
    assert instance.execute() == [[labels] for labels in expected]
    assert Model.loaded == 1
    found = Bundle.get().tasks
    assert [[each.path for each in task.input_data_products] for task in found] == [[str(folder / n)] for n in FILES]
    assert [task.parameters["initial_teff"] for task in found] == [labels[0] for labels in expected]
    assert {task.parameters["sigma_clip_limit"] for task in found} == {3}


def test_the_guide_s_bundler_loads_each_model_once(database: peewee.Database, folder: Path) -> None:
    random = np.random.default_rng(5)
    model_paths = [f"my_model_{i}.pkl" for i in range(10)]
    tasks = []
    for number in range(12):
        for model_path in random.choice(model_paths, size=4, replace=True):
            task = AnalysisTask(
                input_data_products=f"apStar-{number}.fits",
                model_path=model_path,
                initial_teff=random.uniform(4000, 6000),
                initial_logg=random.uniform(0, 5),
                initial_fe_h=random.uniform(-1.5, 0),
            )
            tasks.append(task)
    Model.loaded = 0
    instances = bundler(tasks)
    for instance in instances:
        instance.execute()
    assert Model.loaded == len(instances) == len({task.model_path for task in tasks})
    assert Task.select().where(Task.state == "completed").count() == 48
    for bundle in Bundle.select():
        assert len({task.parameters["model_path"] for task in bundle.tasks}) == 1
    keys = sorted(canonical_json(task.parameters) for task in Task.select())
    assert keys == sorted(task.plan().parameters for task in tasks)


# --------------------------------------------------------------------------------------------------------- building


class Sum(TaskInstance):
    """Adds up what it is given; a bundle shares `base`."""

    base = Parameter(default=0, bundled=True)
    n = Parameter(default=1)
    pair = TupleParameter(default=(0, 0))
    options = DictParameter(default={})

    def execute(self) -> list[Any]:
        return [task.parameters["n"] + self.base + sum(task.parameters["pair"]) for task, _ in self.iterable()]


def values_of(instance: TaskInstance) -> list[Any]:
    import json

    return [json.loads(plan.parameters)["n"] for plan in instance.plans()]


def test_building_an_instance_asks_and_writes_nothing(database: peewee.Database, folder: Path) -> None:
    with statements(database) as seen:
        Sum(input_data_products=FILES, n=[1, 2])
        bundler([Sum(n=1), Sum(n=2)])
        repr(Sum(n=5))
    assert seen == []


@on_sqlite
def test_what_is_given_wrongly_is_refused_before_anything_is_written(database: peewee.Database, folder: Path) -> None:
    with pytest.raises(TypeError, match="GreedyPrimes needs max_value"):
        GreedyPrimes()
    with pytest.raises(TypeError):
        GreedyPrimes(30)
    with pytest.raises(ValueError, match="n has 3, input_data_products has 2"):
        Sum(input_data_products=FILES, n=[1, 2, 3])
    with pytest.raises(FileNotFoundError, match=r"Sum: input_data_products\[1\], 'gone.fits', is not a file"):
        Sum(input_data_products=["apStar-1.fits", "gone.fits"])
    assert Task.select().count() == 0


def test_a_value_that_may_differ_is_not_read_from_the_instance_of_several() -> None:
    instance = Sum(n=[1, 2], base=7)
    assert instance.base == 7
    with pytest.raises(AttributeError, match=r"Sum\.n may differ among the 2 tasks .* loop over self\.iterable\(\)"):
        instance.n  # noqa: B018
    with pytest.raises(AttributeError, match=r"task\.parameters\['pair'\]"):
        instance.pair  # noqa: B018
    assert Sum(n=[5]).n == 5


def test_what_works_inside_the_stages_only_says_so() -> None:
    instance = Sum()
    for use in (instance.iterable, lambda: instance.done(Task()), lambda: instance.record_result(Task(), Number())):
        with pytest.raises(RuntimeError, match="works inside pre_execute, execute and post_execute: call execute"):
            use()


def test_a_class_without_execute_says_what_to_write() -> None:
    class Empty(TaskInstance):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no execute"):
        Empty().execute()


def test_help_and_the_notebook_show_the_parameters() -> None:
    assert list(Sum.parameters) == ["base", "n", "pair", "options"]
    assert repr(Sum(n=[1, 2])) == "Sum(base=0, pair=[0, 0], options={}, n=[1, 2])"
    assert str(inspect.signature(AnalysisTask)) == (
        "(input_data_products=None, *, model_path, initial_teff, initial_logg, initial_fe_h, sigma_clip_limit=3)"
    )
    shown = pydoc.plain(pydoc.render_doc(AnalysisTask))
    assert "AnalysisTask(input_data_products=None, *, model_path, initial_teff" in shown
    assert "any value, required, bundled" in shown
    assert "any value, default 3" in shown
    assert str(inspect.signature(Sum)).endswith("(input_data_products=None, *, base=0, n=1, pair=(0, 0), options={})")


# ---------------------------------------------------------------------------------------------------------- executing


def test_what_pre_execute_returns_is_found_in_the_context(database: peewee.Database) -> None:
    class Prepared(TaskInstance):
        def pre_execute(self) -> dict[str, int]:
            return {"model": len(self.context) + 42}

        def execute(self) -> int:
            self.context["more"] = 1
            return int(self.context["model"])

        def post_execute(self) -> None:
            assert self.context == {"model": 42, "more": 1}

    instance = Prepared()
    assert instance.execute() == instance.execute() == 42, "and nothing is left of the first time"


class Keywords(TaskInstance):
    seen: list[Any] = []

    def pre_execute(self, debug: bool = False) -> None:
        self.seen.append(("pre", debug))

    def execute(self, tolerance: float = 1.0, debug: bool = False) -> None:
        self.seen.append(("execute", tolerance, debug))

    def post_execute(self) -> None:
        self.seen.append(("post",))


@on_sqlite
def test_each_stage_gets_the_keywords_that_it_takes(database: peewee.Database) -> None:
    Keywords.seen.clear()
    Keywords().execute(debug=True, verbose=True, tolerance=0.5)
    assert Keywords.seen == [("pre", True), ("execute", 0.5, True), ("post",)]


@on_sqlite
def test_a_keyword_that_no_stage_takes_is_refused_before_anything_is_recorded(database: peewee.Database) -> None:
    words = "no stage of Keywords takes speed, tolerence; accepted: debug, tolerance, verbose"
    with pytest.raises(TypeError, match=words):
        Keywords().execute(tolerence=0.5, speed=1)
    with pytest.raises(TypeError, match=r"Keywords\.execute\(\) takes keywords only"):
        Keywords().execute(0.5)
    assert Task.select().count() == Bundle.select().count() == 0


@on_sqlite
def test_a_stage_that_takes_any_keyword_gets_all(database: peewee.Database) -> None:
    class Any_(TaskInstance):
        def execute(self, **keywords: Any) -> dict[str, Any]:
            return keywords

    assert Any_().execute(debug=True, colour="red") == {"debug": True, "colour": "red"}


def logged(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        self.context.setdefault("calls", []).append(method.__name__)
        return method(self, *args, **keywords)

    return call


@on_sqlite
def test_an_author_s_decorators_are_kept(database: peewee.Database) -> None:
    class Decorated(TaskInstance):
        @logged
        def pre_execute(self) -> None: ...

        @logged
        def execute(self) -> list[str]:
            return list(self.context["calls"])

    class Again(Decorated):
        execute = logged(Decorated.execute)  # type: ignore[assignment]

    assert Decorated().execute() == ["pre_execute", "execute"]
    assert Again().execute() == ["pre_execute", "execute", "execute"]
    assert Bundle.select().count() == 2


@on_sqlite
def test_an_execute_from_a_class_that_is_no_component_is_recorded_too(database: peewee.Database) -> None:
    class Shared:
        def execute(self) -> int:
            return len(list(self.iterable()))  # type: ignore[attr-defined]

    class Mine(Shared, TaskInstance):
        n = Parameter()

    class Child(Mine):
        pass

    assert Mine(n=[1, 2, 3]).execute() == 3
    assert Child(n=1).execute() == 1
    assert [task.state for task in Task.select()] == ["completed"] * 4


@on_sqlite
def test_an_error_reaches_the_caller_unchanged_and_the_instance_can_run_again(database: peewee.Database) -> None:
    error = ValueError("mine")

    class Fails(TaskInstance):
        def execute(self) -> int:
            if Task.select().count() == 1:
                raise error
            return 5

    instance = Fails()
    with pytest.raises(ValueError) as caught:
        instance.execute()
    assert caught.value is error
    assert instance.execute() == 5
    assert [task.state for task in Task.select().order_by(Task.id)] == ["failed", "completed"]
    assert TaskBundle.get(TaskBundle.outcome == "failed").error_message == "mine"


def test_a_task_says_running_while_it_runs(database: peewee.Database) -> None:
    class Looks(TaskInstance):
        n = Parameter()

        def execute(self) -> list[str]:
            return [str(Task.get_by_id(task.id).state) for task, _ in self.iterable()]

    assert Looks(n=[1, 2]).execute() == ["running", "running"]


# --------------------------------------------------------------------------------------------------------- enqueueing


def test_enqueued_tasks_are_pending_and_known_by_their_work(database: peewee.Database, folder: Path) -> None:
    given: dict[str, Any] = {"input_data_products": FILES, "n": [1, 2], "base": 5}
    tasks = Sum(**given).enqueue(priority=7)
    assert [(task.state, task.priority, task.parameters["n"]) for task in tasks] == [
        (TaskState.PENDING, 7, 1), (TaskState.PENDING, 7, 2),
    ]  # fmt: skip
    assert [task.id for task in Sum(**given).enqueue()] == [task.id for task in tasks], "the same work, queued once"
    other = Sum(**{**given, "n": [1, 3]}).enqueue()
    assert [task.id == same.id for task, same in zip(other, tasks, strict=True)] == [True, False]
    (folder / FILES[0]).write_bytes(b"another spectrum")
    assert Sum(**given).enqueue()[0].id != tasks[0].id, "other bytes are other work"


def test_another_version_of_the_component_is_other_work(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Sum(n=1).enqueue()[0]
    monkeypatch.setattr(Sum, "version", "1")
    second = Sum(n=1).enqueue()[0]
    assert second.id != first.id
    assert second.component_version == "1"


@on_sqlite
def test_what_the_daemon_could_not_import_is_not_enqueued(database: peewee.Database) -> None:
    class Local(TaskInstance):
        def execute(self) -> None: ...

    cell = type("Cell", (TaskInstance,), {"__module__": "__main__", "execute": lambda self: None})
    for component in (Local, cell):
        with pytest.raises(ComponentError, match="put it in a module that can be imported, or call execute"):
            component().enqueue()
    assert Task.select().count() == 0


def test_enqueueing_a_thousand_takes_as_many_statements_as_ten(database: peewee.Database) -> None:
    Sum(n=[-1, -2]).enqueue()
    counts = []
    for size in (10, 1000):
        with statements(database) as seen:
            assert len(Sum(n=list(range(size, 3 * size, 2))).enqueue()) == size
        counts.append(len(seen))
    assert counts[0] == counts[1] < 15


def test_executing_a_thousand_takes_as_many_statements_as_ten(database: peewee.Database, folder: Path) -> None:
    Sum(n=[-1, -2], input_data_products=FILES).execute()
    counts = []
    for size in (10, 1000):
        with statements(database) as seen:
            Sum(n=list(range(size)), input_data_products=[FILES[0]] * size).execute()
        counts.append(len(seen))
    assert counts[0] == counts[1] < 40


# ---------------------------------------------------------------------------------------------------------- rebuilding


def enqueue_and_end(instance: TaskInstance, *outcomes: str) -> list[int]:
    """Enqueue an instance's tasks and end them in these states."""
    keys = [task.id for task in instance.enqueue()]
    for key, outcome in zip(keys, outcomes, strict=True):
        Task.update(state=outcome).where(Task.id == key).execute()
    return keys


@pytest.mark.parametrize("state", ["pending", "failed", "cancelled"])
def test_executing_what_is_not_done_runs_that_very_task(database: peewee.Database, folder: Path, state: str) -> None:
    key = enqueue_and_end(Sum(input_data_products=FILES[0], n=5, base=2), state)[0]
    assert Task.get_by_id(key).instance().execute() == [7]
    assert Task.select().count() == 1
    assert Task.get_by_id(key).state is TaskState.COMPLETED


def test_executing_what_is_done_is_a_new_task_and_the_old_one_stands(database: peewee.Database, folder: Path) -> None:
    Sum(input_data_products=[FILES], n=5).execute()
    old = Task.get()
    before = old.time_total, old.bundle_id
    instance = old.instance()
    assert instance.execute() == [5]
    assert instance.execute() == [5]
    repeats = list(Task.select().where(Task.repeat_of == old).order_by(Task.id))
    assert len(repeats) == 2
    assert [each.path for each in repeats[0].input_data_products] == [str(folder / name) for name in FILES]
    assert (repeats[0].parameters, repeats[0].bundle_key) == (old.parameters, old.bundle_key)
    again = Task.get_by_id(old.id)
    assert (again.time_total, again.bundle_id) == before


def test_a_rebuilt_instance_that_is_enqueued_keeps_its_data_products(database: peewee.Database, folder: Path) -> None:
    Sum(input_data_products=[FILES, [FILES[1]]], n=[5, 6]).execute()
    tasks = Bundle.get().instance().enqueue()
    assert [task.state for task in tasks] == ["pending", "pending"]
    assert [[each.path for each in task.input_data_products] for task in tasks] == [
        [str(folder / name) for name in FILES], [str(folder / FILES[1])],
    ]  # fmt: skip
    assert [task.parameters["n"] for task in tasks] == [5, 6]


def test_a_running_task_is_not_run_beside_itself(database: peewee.Database) -> None:
    task = Sum(n=1).enqueue()[0]
    Task.update(state="running").where(Task.id == task.id).execute()
    with pytest.raises(AstraError, match="1 of the 1 tasks are running or completed; nothing was started"):
        task.instance().execute()


@pytest.mark.parametrize(
    "given",
    [
        {"n": [[1, 2, 3]]}, {"n": [{"a": (1,)}]}, {"n": "text"}, {"n": None}, {"pair": (1, 2, 3)}, {"n": 1.0},
        {"options": {"b": [1, {"c": None}]}}, {"base": [1, 2], "n": 1},
    ],
)  # fmt: skip
def test_a_task_of_any_value_is_rebuilt_as_one_task(database: peewee.Database, given: dict[str, Any]) -> None:
    task = Sum(**given).enqueue()[0]
    instance = Task.get_by_id(task.id).instance()
    assert instance.bundle_size == 1
    assert canonical_json({name: getattr(instance, name) for name in instance.parameters}) == canonical_json(
        {name: getattr(Sum(**given), name) for name in Sum.parameters}
    )
    assert instance.plan() == Sum(**given).plan()


def test_a_bundle_is_rebuilt_in_its_order_and_in_a_constant_number_of_queries(database: peewee.Database) -> None:
    counts = []
    for size in (10, 1000):
        Sum(n=list(range(size))).execute()
        bundle = Bundle.select().order_by(Bundle.id.desc()).get()
        with statements(database) as seen:
            instance = bundle.instance()
        counts.append(len(seen))
        assert isinstance(instance, Sum)
        assert instance.bundle_size == size
        assert values_of(instance) == list(range(size))
    assert counts[0] == counts[1] <= 3
    assert values_of(TaskInstance.from_bundle(bundle)) == values_of(instance)


@on_sqlite
def test_a_task_of_another_version_is_rebuilt_with_a_warning_or_refused(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sum(n=1).execute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task.get().instance(strict=True)
    monkeypatch.setattr(Sum, "version", "7")
    words = r"test_base\.Sum is version 7 here, but was recorded with 0"
    with pytest.warns(UserWarning, match=words):
        assert Task.get().instance().execute() == [1]
    with pytest.raises(ComponentError, match=words):
        Task.get().instance(strict=True)
    with pytest.raises(ComponentError, match=words):
        Bundle.get().instance(strict=True)


@on_sqlite
def test_a_parameter_that_the_record_lacks_has_its_default(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Sum(n=3).enqueue()[0]
    Task.update(parameters={"n": 3, "gone": 1}).where(Task.id == task.id).execute()
    instance = Task.get_by_id(task.id).instance()
    assert (instance.n, instance.base, instance.pair) == (3, 0, (0, 0))  # type: ignore[attr-defined]


@on_sqlite
def test_a_component_that_is_gone_is_named(database: peewee.Database) -> None:
    task = Sum(n=1).enqueue()[0]
    Task.update(name="no_such_module.Thing").where(Task.id == task.id).execute()
    with pytest.raises(ComponentError, match=r"there is no component no_such_module\.Thing"):
        Task.get().instance()


# ------------------------------------------------------------------------------------------------------------ bundler


class Inherits(Sum):
    extra = Parameter(default=0)


def sizes(instances: list[TaskInstance]) -> list[int]:
    return [each.bundle_size for each in instances]


def test_tasks_with_equal_bundled_values_run_together_in_the_order_they_were_given() -> None:
    given = [Sum(base=base, n=n) for n, base in enumerate([1, 2, 1.0, True, 2, 1, "1", None, [1], [1.0]])]
    found = bundler(given)
    assert [values_of(each) for each in found] == [[0, 2, 5], [1, 4], [3], [6], [7], [8, 9]]


def test_inherited_bundled_parameters_count_and_other_classes_are_others() -> None:
    found = bundler([Inherits(base=1), Inherits(base=2), Sum(base=1), Inherits(base=1, extra=5)])
    assert [(type(each), each.base, each.bundle_size) for each in found] == [  # type: ignore[attr-defined]
        (Inherits, 1, 2), (Inherits, 2, 1), (Sum, 1, 1),
    ]  # fmt: skip


def test_a_bundle_has_no_more_tasks_than_asked_for() -> None:
    given = [Sum(n=[0, 1]), Sum(n=2), Sum(n=list(range(3, 10))), Sum(n=10)]
    for most in (1, 2, 3, 4, 100):
        found = bundler(given, max_size=most)
        assert max(sizes(found)) <= most
        assert [n for each in found for n in values_of(each)] == list(range(11))
    assert sizes(bundler(given, max_size=3)) == [3, 3, 3, 2]
    with pytest.raises(ValueError, match="max_size must be at least 1, not 0"):
        bundler(given, max_size=0)
    assert bundler([]) == []


def test_what_bundler_returns_is_executed_with_each_task_s_own_values(database: peewee.Database, folder: Path) -> None:
    given = [
        Sum(n=1), Sum(n=[2, 3], input_data_products=FILES), Sum(pair=[(1, 1), (2, 2)], n=10),
        Sum(n=4, input_data_products=[FILES]),
    ]  # fmt: skip
    instance = bundler(given)[0]
    assert instance.execute() == [1, 2, 3, 12, 14, 4]
    paths = [[Path(each.path).name for each in task.input_data_products] for task in Bundle.get().tasks]
    assert paths == [[], [FILES[0]], [FILES[1]], [], [], FILES]


def test_rows_are_bundled_and_run_as_the_tasks_they_are(database: peewee.Database) -> None:
    keys = [task.id for n, base in enumerate([1, 2, 1]) for task in Sum(n=n, base=base).enqueue()]
    rows = list(Task.select().order_by(Task.id))
    with statements(database) as seen:
        found = bundler(rows)
    assert seen == []
    assert sizes(found) == [2, 1]
    assert found[0].execute() == [1, 3]
    assert Task.select().count() == 3
    assert [str(Task.get_by_id(key).state) for key in keys] == ["completed", "pending", "completed"]


def test_rows_cut_into_parts_run_as_the_tasks_they_are(database: peewee.Database) -> None:
    Sum(n=[1, 2, 3]).execute()
    Task.update(state="failed").execute()
    parts = bundler([Bundle.get().instance()], max_size=2)
    assert [part.execute() for part in parts] == [[1, 2], [3]]
    assert Task.select().count() == 3


def test_new_and_recorded_tasks_are_not_mixed(database: peewee.Database) -> None:
    row = Sum(n=1).enqueue()[0]
    assert sizes(bundler([Sum(n=2), row, Sum(n=3)])) == [2, 1]


def test_a_very_long_bundled_value_has_a_key_of_bounded_length_and_is_still_told_apart() -> None:
    first, second = Sum(base="x" * 10_000), Sum(base="x" * 9_999 + "y")
    assert len(first.plan().bundle_key) < 500
    assert first.plan().bundle_key != second.plan().bundle_key
    assert first.plan().bundle_key == Sum(base="x" * 10_000).plan().bundle_key


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal as a person counts: 1 is 1.0, but no truth."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers(-3, 3).map(float) | st.sampled_from(["1", "a", ""])
)
shared = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("ab"), scalars, max_size=2)
own = st.one_of(scalars, st.integers(), st.floats(allow_nan=False, allow_infinity=False),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(shared, own), min_size=1, max_size=12))
def test_random_parameters_survive_the_database_and_bundle_exactly_by_equal_values(
    database: peewee.Database, pairs: list[tuple[Any, Any]]
) -> None:
    for table in (TaskBundle, Task):
        table.delete().execute()
    given = [Sum(base=base, n=value) for base, value in pairs]
    keys = [task.id for instance in given for task in instance.enqueue()]
    rows = [Task.get_by_id(key) for key in keys]
    for row, (base, value) in zip(rows, pairs, strict=True):
        assert canonical_json([row.parameters["base"], row.parameters["n"]]) == canonical_json([base, value])
    for found in (bundler(given), bundler(rows)):
        groups: list[tuple[Any, list[Any]]] = []
        for base, value in pairs:
            group = next((own for other, own in groups if same(base, other)), None)
            if group is None:
                groups.append((base, [value]))
            else:
                group.append(value)
        assert [canonical_json(values_of(each)) for each in found] == [canonical_json(own) for _, own in groups]


# ------------------------------------------------------------------------------------------------------------ results


class Number(ResultModel):
    data_product = peewee.ForeignKeyField(DataProduct, null=True, backref="+")
    value = peewee.DoubleField()

    class Meta:
        table_name = "test_number"


class Counts(TaskInstance):
    result_models = (Number,)

    def execute(self) -> None:
        for task, data_products in self.iterable():
            for data_product in data_products:
                self.record_result(task, Number(data_product=data_product, value=np.float32(0.5)))
            self.record_result(task, Number(value=1))


def test_a_result_belongs_to_its_task_and_to_its_data_product_s_source(database: peewee.Database, folder: Path) -> None:
    stars = [Source.create(provisional=True, created=START) for _ in range(2)]
    products = Sum(input_data_products=[FILES]).enqueue()[0].input_data_products
    for star, product in zip(stars, products, strict=True):
        SourceDataProduct.create(source=star, data_product=product, method="test", created=START)
    Counts(input_data_products=[products]).execute()
    task = Task.get(Task.name.endswith("Counts"))
    rows = list(Number.select().order_by(Number.id))
    assert {row.task_id for row in rows} == {task.id}
    assert [(row.data_product_id, row.source_id, row.value) for row in rows] == [
        (products[0].id, stars[0].id, 0.5), (products[1].id, stars[1].id, 0.5), (None, None, 1.0),
    ]  # fmt: skip
    Counts(input_data_products=products[:1]).execute()
    assert Number.select().order_by(Number.id.desc()).get().source_id == stars[0].id, "all its inputs are of one source"


def test_a_priority_that_the_records_cannot_hold_is_refused(database: peewee.Database, folder: Path) -> None:
    with pytest.raises(ValueError, match="priority is a number from -32768 to 32767, not 32768"):
        Sum(input_data_products=[FILES]).enqueue(priority=32768)
    assert Sum(input_data_products=[FILES]).enqueue(priority=-32768)[0].priority == -32768


def test_result_tables_are_made_at_first_use_by_hand(database: peewee.Database) -> None:
    assert not Number.table_exists()
    Counts().execute()
    assert Number.select().count() == 1


def test_a_run_by_hand_of_a_dead_process_can_be_ended_by_others(database: peewee.Database) -> None:
    class Dies(TaskInstance):
        def execute(self) -> None:
            found = backlog.open_bundles(START)
            assert [each.executor for each in found] == ["interactive"]
            assert queue.fail_gone(found[0].bundle, found[0].token, "process gone", START) == 1

    with pytest.raises(AstraError, match="is no longer this process's"):
        Dies().execute()
    assert states(Bundle.get().id) == ["failed"]


def test_a_bundle_with_mixed_ends_is_run_again_in_its_order(database: peewee.Database) -> None:
    keys = enqueue_and_end(Sum(n=[1, 2, 3, 4]), "completed", "failed", "cancelled", "completed")
    tasks = Task.select().order_by(Task.id)
    assert len(bundler(tasks)) == 1
    assert bundler(tasks)[0].execute() == [1, 2, 3, 4]
    made = list(Task.select().order_by(Task.id))
    assert [(each.id, each.repeat_of_id) for each in made[4:]] == [(made[4].id, keys[0]), (made[5].id, keys[3])]
    assert {str(each.state) for each in made} == {"completed"}
    members = TaskBundle.select().where(TaskBundle.bundle == Bundle.select().order_by(Bundle.id.desc()).get())
    order = [each.task_id for each in members.order_by(TaskBundle.position)]
    assert order == [made[4].id, keys[1], keys[2], made[5].id]


def test_enqueueing_makes_the_result_tables_that_the_service_will_need(database: peewee.Database) -> None:
    assert not Number.table_exists()
    Counts().enqueue()
    assert Number.table_exists()


def test_a_large_bundle_is_recorded_in_chunks_and_whole_or_as_failed(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CHUNK", 2)
    assert Sum(n=[1, 2, 3, 4, 5]).execute() == [1, 2, 3, 4, 5]
    assert states(Bundle.get().id) == ["completed"] * 5
    insert, calls = opening.insert, []

    def fails(*arguments: Any) -> list[int]:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return insert(*arguments)

    monkeypatch.setattr(opening, "insert", fails)
    with pytest.raises(KeyboardInterrupt):
        Sum(n=[1, 2, 3, 4, 5]).execute()
    assert Bundle.select().order_by(Bundle.id.desc()).get().state == "expired"
    assert not Task.select().where(Task.state.in_(["running", "pending"])).count()


def test_a_record_that_lacks_a_parameter_needed_now_is_not_guessed(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sum(n=1).execute()
    needed = Parameter()
    needed.__set_name__(Sum, "needed")
    monkeypatch.setattr(Sum, "parameters", {**Sum.parameters, "needed": needed})
    with pytest.raises(ComponentError, match="Sum needs needed now, which was no parameter of it"):
        Task.get().instance()


def test_a_class_defined_anew_under_its_name_is_another_class(database: peewee.Database) -> None:
    def define(result: int) -> type[TaskInstance]:
        class Anew(TaskInstance):
            def execute(self) -> int:
                return result

        return Anew

    old, new = define(1), define(2)
    assert [each.execute() for each in bundler([old(), new(), old()])] == [1, 2]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(1 << 20_000, "Sum.n is a number of more than 10000 bits", id="very long"),
        pytest.param(astropy.units.Quantity(3.0, "km"), "Sum.n is a Quantity, which cannot be recorded", id="quantity"),
    ],
)
def test_values_that_cannot_be_recorded_are_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Sum(n=value)


def test_a_value_that_holds_itself_is_refused_by_name() -> None:
    value: dict[str, Any] = {}
    value["again"] = value
    with pytest.raises(ValueError, match=r"Sum.options is nested too deeply, or holds itself"):
        Sum(options=value)


def test_inputs_that_cannot_be_recorded_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input_data_products\[0\] is a DataProduct that is not recorded"):
        Sum(DataProduct())
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(path).write_text("x")
    with pytest.raises(ValueError, match=r"input_data_products\[0\], .* has a name that is no text"):
        Sum(path)


def test_a_class_with_an_init_of_its_own_is_refused_for_its_tasks_are_made_again_without_it() -> None:
    with pytest.raises(TypeError, match=r"Own cannot have an __init__ of its own.*prepare the work in pre_execute\(\)"):

        class Own(TaskInstance):
            def __init__(self, **given: Any) -> None:
                super().__init__(**given)
                self.cache: dict[str, Any] = {}


def test_a_bare_number_is_not_taken_for_a_data_product(tmp_path: Path) -> None:
    class Lenient(TaskInstance):
        n = Parameter(default=1)

    for number in (1, 2.5, np.int64(3)):
        with pytest.raises(
            TypeError, match=r"Lenient\(.*\): parameters are given by name \(n\), and a data product's key"
        ):
            Lenient(number)
    path = tmp_path / "a.fits"
    path.write_bytes(b"a")
    with pytest.raises(TypeError, match="input_data_products was given twice"):
        Lenient(path, input_data_products=path)
    assert Lenient([path, path]).bundle_size == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("async def execute(self): pass", "is async, so calling it would do nothing", id="async"),
        pytest.param("def pre_execute(self): yield 1", "yields, so calling it would do nothing", id="generator"),
        pytest.param("execute = staticmethod(lambda: 1)", "must be a method that takes self", id="static"),
        pytest.param("result_models = Number", "must be a list or tuple of result tables", id="no tuple"),
        pytest.param("result_models = (int,)", "holds int, which is no subclass of ResultModel", id="no table"),
        pytest.param("_session = Parameter()", "cannot have a parameter called _session", id="private"),
        pytest.param("n = Parameter(default=float('nan'))", r"X\.n is nan, which cannot be recorded", id="default"),
        pytest.param("n = Parameter(type='int')", "takes int, float, str or bool, not 'int'", id="type"),
    ],
)
def test_a_class_that_could_not_work_is_refused_when_it_is_defined(body: str, words: str) -> None:
    names = {"TaskInstance": TaskInstance, "Parameter": Parameter, "Number": Number}
    with pytest.raises((TypeError, ValueError), match=words):
        exec(f"class X(TaskInstance):\n    {body}\n", names)


def test_a_result_table_that_would_be_astra_s_own_is_refused() -> None:
    class Own(ResultModel):
        class Meta:
            table_name = "task"

    with pytest.raises(TypeError, match="Own would be the table task, which is astra's own"):

        class Records(TaskInstance):
            result_models = (Own,)


def test_a_choice_of_tuples_is_met_by_a_tuple() -> None:
    class Windowed(TaskInstance):
        window = TupleParameter(choices=[(1, 2), (3, 4)])

    assert Windowed(window=(3, 4)).window == (3, 4)


def test_a_misspelt_parameter_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(TypeError, match="Sum has no parameter 'bsae': did you mean base"):
        Sum(bsae=1)


def test_a_task_recorded_without_a_parameter_that_has_a_default_now_is_given_it(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Grows(TaskInstance):
        n = Parameter(default=1)

        def execute(self) -> Any:
            return [task.parameters.get("added") for task, _ in self.iterable()]

    task = Task.get_by_id(Grows().execute() and Task.get().id)
    added = Parameter(default=[7])
    added.__set_name__(Grows, "added")
    added.settle("Grows")
    monkeypatch.setattr(Grows, "parameters", {**Grows.parameters, "added": added})
    assert task.instance().execute() == [[7]]


def test_work_done_again_by_a_newer_class_says_so(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Sum(n=1).execute()
    monkeypatch.setattr(Sum, "version", "next")
    with pytest.warns(UserWarning, match="is version next here"):
        instance = Task.get().instance()
    instance.execute()
    assert [each.component_version for each in Task.select().order_by(Task.id)] == ["0", "next"]


def test_what_a_dead_process_left_running_can_be_run_again(database: peewee.Database) -> None:
    Sum(n=[1, 2]).execute()
    keys = [each.id for each in Task.select()]
    Task.update(state="running").execute()
    Bundle.update(state="running", owner_start=1).execute()  # of a process of that number that is gone
    TaskBundle.delete().execute()
    TaskBundle.insert_many([{"bundle": 1, "position": at, "task": key} for at, key in enumerate(keys)]).execute()
    Task.get_by_id(keys[0]).instance().execute()
    assert [str(each.state) for each in Task.select().order_by(Task.id)] == ["completed", "failed"]
    assert Bundle.get_by_id(1).state == "expired"


def test_a_bundle_that_was_not_recorded_whole_is_not_rebuilt_as_a_smaller_one(database: peewee.Database) -> None:
    Sum(n=[1, 2, 3]).execute()
    TaskBundle.delete().where(TaskBundle.position == 2).execute()
    with pytest.raises(ComponentError, match="bundle 1 has 2 of its 3 tasks, for it could not be recorded whole"):
        Bundle.get().instance()


def test_a_bundle_is_rebuilt_without_the_values_of_its_tasks_until_they_are_asked_for(
    database: peewee.Database,
) -> None:
    Sum(n=[1, 2, 3]).execute()
    with statements(database) as seen:
        instance = Bundle.get().instance()
    assert not any("SELECT t.parameters" in each and "LIMIT" not in each for each in seen[:-1])
    count = len(seen)
    assert "n=[1, 2, 3]" in repr(instance)
    assert [part.bundle_size for part in bundler([instance], max_size=2)] == [2, 1]
    assert count == 4


def test_enqueued_tasks_are_a_sequence_read_when_asked(database: peewee.Database) -> None:
    tasks = Sum(n=[1, 2, 3]).enqueue()
    first, second, third = tasks
    assert [each.id for each in reversed(tasks)] == [third.id, second.id, first.id]
    assert (second in tasks, "second" in tasks, tasks.index(second), len(tasks[1:])) == (True, False, 1, 2)
    assert repr(tasks) == "<3 tasks>"
    Task.update(state="cancelled").where(Task.id == first.id).execute()
    assert tasks[0].state is TaskState.CANCELLED, "as it is now"


def test_an_input_that_is_lost_meanwhile_says_what_is_recorded(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CHUNK", 2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("x")
    instance = Sum(input_data_products=paths)
    paths[2].unlink()
    with pytest.raises(AstraError, match="the 2 tasks before it are recorded already"):
        instance.enqueue()
    with pytest.raises(ValueError, match="there is no data product 987; nothing was recorded"):
        Sum(input_data_products=[1, 2, 987]).execute()
