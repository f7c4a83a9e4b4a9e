"""The guide that users have, block by block as it is written: one task, its record, its data products, its stages.

Blocks are kept as text and run as a notebook runs its cells; `test_seed_bundles` has those on bundles.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import peewee
import pytest

from astra import taking_in
from astra.base import DictParameter, Parameter, TaskInstance, TupleParameter, bundler
from astra.database.astradb import (
    Bundle,
    DataProduct,
    Ingestion,
    ResultModel,
    Source,
    SourceIdentifier,
    Task,
    TaskBundle,
)
from astra.ingest import Root
from astra.provenance import astra_version
from astra.states import TaskState
from astra.taking_in import Terms
from tests.support.bundles import run_by_person, times
from tests.support.clock import FakeClock
from tests.support.notebook import Notebook
from tests.support.processes import environment
from tests.support.realdata import RealFile, lay_out
from tests.support.tasks import fill

PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]

GREEDY_PRIMES = """
from astra.base import TaskInstance, Parameter

class GreedyPrimes(TaskInstance):

    min_value = Parameter(default=2)
    max_value = Parameter()

    def execute(self):
        primes = []
        for n in range(self.min_value, self.max_value):
            for i in range(2, n):
                if n%i == 0: break
            else:
                primes.append(n)
        return primes
"""

FIRST_RUN = """

ti = GreedyPrimes(max_value=30)
primes = ti.execute()
print(primes)
"""

OUTPUT = """[2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
"""

SUSPICIOUS = """
from astra.base import TaskInstance
from astra.database.astradb import Task

task = Task.get_by_id(666) # my suspicious task

ti = TaskInstance.from_task(task)

# execute the task interactively with some additional debug keywords
ti.execute(debug=True, verbose=True)
"""


# ------------------------------------------------------------------------------------------------- a first instance


def test_the_primes_are_printed_as_the_guide_shows_them(
    database: peewee.Database, capsys: pytest.CaptureFixture[str]
) -> None:
    Notebook().run(GREEDY_PRIMES, FIRST_RUN)
    assert capsys.readouterr().out == OUTPUT


def test_all_that_the_guide_says_is_recorded_is_recorded(database: peewee.Database) -> None:
    before = datetime.now(UTC)
    Notebook().run(GREEDY_PRIMES, FIRST_RUN)
    task = Task.get()
    assert task.name == "__main__.GreedyPrimes"
    assert task.state is TaskState.COMPLETED
    assert task.parameters == {"min_value": 2, "max_value": 30}, "the default too"
    assert task.version == astra_version()
    assert before <= task.created <= task.bundle.started <= task.bundle.ended <= datetime.now(UTC)
    assert (task.bundle.owner_pid, task.bundle.version) == (os.getpid(), astra_version())
    assert task.bundle.host
    assert task.bundle.user
    assert task.bundle.environment.python.startswith(sys.version.split()[0])
    assert {"numpy", "astropy", "peewee"} <= set(task.bundle.environment.packages)
    assert (task.time_execute > 0, task.time_execute_task) == (True, task.time_execute)
    assert task.time_total == pytest.approx(task.time_pre_execute + task.time_execute + task.time_post_execute)


def test_parameters_are_given_by_keyword_and_a_required_one_must_be(database: peewee.Database) -> None:
    notebook = Notebook()
    notebook.run(GREEDY_PRIMES)
    with pytest.raises(TypeError, match="GreedyPrimes needs max_value"):
        notebook["GreedyPrimes"]()
    with pytest.raises(TypeError, match="max_value"):
        notebook["GreedyPrimes"](min_value=5)
    with pytest.raises(TypeError):
        notebook["GreedyPrimes"](2, 30)
    with pytest.raises(TypeError):
        notebook["GreedyPrimes"](30)
    assert Task.select().count() == 0
    assert notebook["GreedyPrimes"](min_value=5, max_value=30).execute() == PRIMES[2:]


# ----------------------------------------------------------------------------------------------- the suspicious task


def test_the_suspicious_task_of_a_large_pipeline_is_built_again_and_run(database: peewee.Database) -> None:
    fill(665)  # the rest of the pipeline: the next task is number 666
    notebook = Notebook()
    notebook.run(GREEDY_PRIMES, FIRST_RUN)
    old = Task.get_by_id(666)
    recorded = old.parameters, old.bundle_id, times(old)
    notebook.run(SUSPICIOUS)
    ti = notebook["ti"]
    assert type(ti) is notebook["GreedyPrimes"]
    assert (ti.min_value, ti.max_value) == (2, 30)
    assert ti.execute(debug=True, verbose=True) == PRIMES
    repeats = list(Task.select().where(Task.id > 666).order_by(Task.id))
    assert [(each.repeat_of_id, each.state, each.parameters) for each in repeats] == [
        (666, "completed", recorded[0]), (666, "completed", recorded[0]),
    ]  # fmt: skip
    again = Task.get_by_id(666)
    assert (again.parameters, again.bundle_id, times(again)) == recorded, "what is recorded of the old one stands"


def in_a_process(folder: Path, url: str, text: str) -> str:
    """Run a script of the reader's in a process of its own, and return what it printed."""
    script = folder / "script.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment(HOME=str(folder), ASTRA_DATABASE_URL=url),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_suspicious_task_is_built_again_later_in_another_process(
    database: peewee.Database, database_url: str, tmp_path: Path
) -> None:
    fill(665)
    (tmp_path / "primes.py").write_text(GREEDY_PRIMES)
    assert in_a_process(tmp_path, database_url, "from primes import GreedyPrimes\n" + FIRST_RUN) == OUTPUT
    assert (
        in_a_process(tmp_path, database_url, SUSPICIOUS + "print(type(ti).__module__, ti.max_value)") == "primes 30\n"
    )
    first, second = Task.select().where(Task.id >= 666).order_by(Task.id)
    assert (first.name, first.state) == ("primes.GreedyPrimes", "completed")
    assert first.bundle.source_sha256
    assert first.bundle.source_sha256 == second.bundle.source_sha256
    assert (second.repeat_of_id, second.state) == (666, "completed")
    assert first.bundle.owner_pid != second.bundle.owner_pid


# ----------------------------------------------------------------------------------------------------- data products


def test_a_plain_path_is_recorded_as_a_data_product_and_linked_to_the_task(
    database: peewee.Database, tmp_path: Path
) -> None:
    theirs = tmp_path / "somebody_elses.pkl"
    theirs.write_bytes(pickle.dumps({"teff": 5777}))
    notebook = Notebook(theirs=str(theirs))
    notebook.run(GREEDY_PRIMES, "GreedyPrimes(max_value=30, input_data_products=theirs).execute()")
    [product] = Task.get().input_data_products
    assert (product.path, product.filetype, product.source) == (str(theirs), "full", None)
    version = Ingestion.get_by_id(product.current_ingestion_id)
    assert (version.size, version.mtime_ns) == (theirs.stat().st_size, theirs.stat().st_mtime_ns)
    notebook.run("GreedyPrimes(max_value=20, input_data_products=theirs).execute()")
    assert DataProduct.select().count() == 1, "the same file is the same data product"


class WritesPrimes(TaskInstance):
    """Writes what it found to a file."""

    max_value = Parameter()

    def execute(self) -> None:
        for task, _ in self.iterable():
            path = self.output_path(task, "primes.txt")
            path.write_text(" ".join(str(n) for n in PRIMES if n < task.parameters["max_value"]))
            self.record_output(task, path)


def test_a_data_product_that_a_task_creates_is_recorded_and_linked_to_it(
    database: peewee.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('[output]\nroot = "made"')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "config.toml"))
    WritesPrimes(max_value=[6, 12]).execute()
    made = [each for task in Task.select().order_by(Task.id) for each in task.output_data_products]
    assert [Path(each.path).read_text() for each in made] == ["2 3 5", "2 3 5 7 11"]
    assert DataProduct.select().count() == 2


STAR = "2M00005143+5615568"


def test_from_one_source_all_its_files_are_found_by_their_types(
    database: peewee.Database, real_files: list[RealFile], tmp_path: Path, clock: FakeClock
) -> None:
    placed = lay_out(real_files, tmp_path / "sas", lambda file: file.filetype in ("apStar", "apVisit"))
    recorded = list(taking_in.take_in([tmp_path / "sas"], Terms((Root("sas", tmp_path / "sas", None),)), clock))
    expected = {path for path, file in placed.items() if file.obj == STAR}
    assert len(recorded) == len(placed) > len(expected) == 4
    [name] = SourceIdentifier.select().where((SourceIdentifier.kind == "apogee") & (SourceIdentifier.value == STAR))
    products = Source.get_by_id(name.source_id).data_products
    assert {Path(each.path) for each in products} == expected
    assert sorted(each.filetype for each in products) == ["apStar", "apVisit", "apVisit", "apVisit"]


# ------------------------------------------------------------------------------------------------------------- hooks


class Squared(ResultModel):
    value = peewee.DoubleField()

    class Meta:
        table_name = "test_squared"


class Hooked(TaskInstance):
    """Loads before, works, and writes after; each takes its time on the test's clock."""

    clock: ClassVar[FakeClock]
    result_models = (Squared,)
    n = Parameter()

    def pre_execute(self) -> dict[str, Any]:
        self.clock.advance(30)
        return {"model": lambda n: n**2, "found": []}

    def execute(self) -> None:
        for task, _ in self.iterable():
            self.clock.advance(task.parameters["n"])
            self.context["found"].append(self.context["model"](task.parameters["n"]))

    def post_execute(self) -> None:
        for (task, _), found in zip(self.iterable(), self.context["found"], strict=True):
            self.clock.advance(0.5)
            self.record_result(task, Squared(value=found))


def test_the_times_of_the_three_stages_are_told_apart(database: peewee.Database, clock: FakeClock) -> None:
    from astra.database.migrate import create_result_tables

    create_result_tables([Squared])
    Hooked.clock = clock
    first, second = run_by_person(Hooked(n=[2, 5]), clock)
    assert (first.time_pre_execute, first.time_execute, first.time_post_execute) == (30, 7, 1)
    assert (first.time_execute_task, second.time_execute_task) == (2, 5)
    assert (first.time_pre_execute_bundle_overhead, first.time_execute_bundle_overhead) == (30, 0)
    assert first.time_total == second.time_total == 38
    assert [(row.task_id, row.value) for row in Squared.select().order_by(Squared.id)] == [
        (first.id, 4.0), (second.id, 25.0),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- parameter types


class Typed(TaskInstance):
    anything = Parameter(default=None)
    window = TupleParameter(default=())
    options = DictParameter(default={})
    limits = TupleParameter(default=(0, 1), bundled=True)

    def execute(self) -> list[Any]:
        return [[task.parameters["window"], task.parameters["options"], self.limits] for task, _ in self.iterable()]


def test_the_lengths_of_tuples_and_dictionaries_are_not_considered(database: peewee.Database, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text("x")
    given = Typed(paths, window=(1, 2, 3), options={"a": 1}, limits=(4, 5, 6))
    assert given.execute() == [[[1, 2, 3], {"a": 1}, (4, 5, 6)]] * 2
    assert Bundle.get().size == TaskBundle.select().count() == 2
    bundles = bundler([Typed(window=(1, 2)), Typed(window=(1, 2, 3)), Typed(limits=(9,))])
    assert [each.bundle_size for each in bundles] == [2, 1]


@pytest.mark.parametrize("value", [1, 2.5, "text", True, None, {"a": [1, {"b": None}]}], ids=repr)
def test_a_parameter_that_is_not_typed_takes_any_value_that_can_be_stored(
    database: peewee.Database, value: Any
) -> None:
    Typed(anything=value).execute()
    assert Task.get().parameters["anything"] == value
    assert Task.get().instance().anything == value  # type: ignore[attr-defined]
