"""The guide that users have, block by block as it is written: bundles.

The guide leaves `load_model`, `load_data_product`, model files and spectra to its reader. Here the model files are
pickled grids, and the spectra are real ones under the guide's names; see `tests.support.notebook`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import peewee
import pytest
from numpy.typing import NDArray

from astra.base import bundler
from astra.database.astradb import Bundle, DataProduct, Task, TaskBundle
from astra.database.connection import run
from astra.database.fields import canonical_json
from astra.states import TaskState
from tests.support.bundles import run_by_person
from tests.support.clock import FakeClock
from tests.support.notebook import GridModel, Labels, Notebook, Reader, write_model
from tests.support.realdata import RealFile

AS_WRITTEN = """
import os
from astra.base import TaskInstance, Parameter
from astra.database.astradb import Task, DataProduct

class AnalysisTask(TaskInstance):

    model_path = Parameter(bundled=True)

    initial_teff = Parameter()
    initial_logg = Parameter()
    initial_fe_h = Parameter()

    sigma_clip_limit = Parameter(default=3)

    def pre_execute(self):
        \""" Pre-execute hook called before execution. \"""

        # Let's explain how self.iterable() works!
        for task, data_products in self.iterable():

            # Let's check the types of these things.

            # Here, task is the database record (a Task object).
            # It's *not* a TaskInstance.
            assert isinstance(task, Task)

            # And data_products is a list of DataProduct objects,
            # even if the user only gave file paths!
            for data_product in data_products:
                assert isinstance(data_product, DataProduct)

                # The path of the data product is given by the
                # data_product.path attribute
                assert os.path.exists(data_product.path)

            # All the parameters for this task are given by
            # the task.parameters attribute, which includes
            # any default parameters.
            for key, parameter in task.parameters.items():
                print(key, value)

        return None


    def execute(self):

        # Since model_path is a bundled parameter, we can access it like this.
        # (For non-bundled parameters, use the iterable()!)
        model = load_model(self.model_path)

        results = []
        for task, data_products in self.iterable():

            task_results = []
            for data_product in data_products:
                data = load_data_product(data_product.path)

                result = model.estimate_stellar_properties(
                    task.parameters["initial_teff"],
                    task.parameters["initial_logg"],
                    task.parameters["initial_fe_h"],
                )
                task_results.append(result)

            # Finished with this task in the bundle
            results.append(task_results)

        return results
"""

# A slip: `value` is defined nowhere, and the loop calls what it means `parameter`.
ANALYSIS_TASK = AS_WRITTEN.replace("print(key, value)", "print(key, parameter)")

A_B_C = """
# Give different values for a couple of un-bundled parameters.
# In this case, astra will use initial_fe_h = 0 for both data products.
A = AnalysisTask(
    input_data_products=["apStar-1.fits", "apStar-2.fits"],
    model_path="my_model.pkl",
    initial_teff=(5000, 5125),
    initial_logg=(3.5, 3.75),
    initial_fe_h=0
)

# Here we will use the same un-bundled parameter values for
# all data products.
B = AnalysisTask(
    input_data_products=["apStar-1.fits", "apStar-2.fits"],
    model_path="my_model.pkl",
    initial_teff=5777,
    initial_logg=4.4,
    initial_fe_h=0
)

# Or, be explicit
C = AnalysisTask(
    input_data_products=["apStar-1.fits", "apStar-2.fits"],
    model_path="my_model.pkl",
    initial_teff=(5125, 5000),
    initial_logg=(4.4, 2.5),
    initial_fe_h=(0, 0.1)
)
"""

MANY = """
import numpy as np
from astra.base import bundler

# Create some random model paths.
model_paths = [f"my_model_{i}.pkl" for i in range(10)]

# 100 observations
observation_paths = [f"apStar-{i}.fits" for i in range(100)]

M = len(model_paths)

tasks = []
for observation_path in observation_paths:
    # Chose a random number of models to use
    N_models = np.random.choice(1, M)

    # Chose N_models random models
    for model_path in np.random.choice(model_paths, size=M, replace=True):
        task = AnalysisTask(
            input_data_products=observation_path,
            model_path=model_path,
            initial_teff=np.random.uniform(4000, 6000),
            initial_logg=np.random.uniform(0, 5),
            initial_fe_h=np.random.uniform(-1.5, 0)
        )
        tasks.append(task)

# Bundle tasks together if they share all the same bundled parameters to minimize overhead.
for instance in bundler(tasks):
    instance.execute()
"""

# `choice(1, M)` is M zeros, which nothing reads, and `size=M` with replacement gives every observation ten models, some
# of them twice. What the comments say: a number of models from 1 to M, and so many different ones.
MANY_AS_MEANT = MANY.replace("np.random.choice(1, M)", "np.random.randint(1, M + 1)").replace(
    "size=M, replace=True", "size=N_models, replace=False"
)

# What each task of A, B and C is to be given: temperature, gravity, metallicity.
GIVEN: dict[str, list[Labels]] = {
    "A": [(5000, 3.5, 0), (5125, 3.75, 0)],
    "B": [(5777, 4.4, 0), (5777, 4.4, 0)],
    "C": [(5125, 4.4, 0), (5000, 2.5, 0.1)],
}
FILES = ["apStar-1.fits", "apStar-2.fits"]


@pytest.fixture(scope="module")
def desk(real_files: list[RealFile], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with the guide's files, and which star each of its 100 spectra is of; tests only read there.

    There are fewer real spectra than observations in the guide: further names are links to the first copies.
    """
    folder = tmp_path_factory.mktemp("desk")
    spectra = [file for file in real_files if file.filetype == "apStar"]
    for number in range(100):
        place = folder / f"apStar-{number}.fits"
        if number < len(spectra):
            shutil.copyfile(spectra[number].path, place)
        else:
            place.hardlink_to(folder / f"apStar-{number % len(spectra)}.fits")
    for number, name in enumerate(["my_model", *(f"my_model_{number}" for number in range(10))]):
        write_model(folder / f"{name}.pkl", number)
    return folder, [spectra[number % len(spectra)].obj for number in range(100)]


@pytest.fixture
def folder(desk: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's working directory."""
    monkeypatch.chdir(desk[0])
    return desk[0]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def notebook(folder: Path, reader: Reader) -> Notebook:
    """A notebook that has run the guide's class."""
    made = Notebook(load_model=reader.load_model, load_data_product=reader.load_data_product)
    made.run(ANALYSIS_TASK)
    return made


def answer(path: str, labels: Labels) -> Labels:
    return Reader().load_model(path).estimate_stellar_properties(*labels)


def labels_of(task: Task) -> Labels:
    given = task.parameters
    return given["initial_teff"], given["initial_logg"], given["initial_fe_h"]


def paths_of(task: Task) -> list[str]:
    return [each.path for each in task.input_data_products]


# ------------------------------------------------------------------------------------------------------------ A, B, C


def test_making_the_three_bundles_records_nothing(database: peewee.Database, notebook: Notebook) -> None:
    notebook.run(A_B_C)
    assert [notebook[name].bundle_size for name in GIVEN] == [2, 2, 2]
    assert Task.select().count() == DataProduct.select().count() == Bundle.select().count() == 0


@pytest.mark.parametrize("name", GIVEN)
def test_each_task_has_its_own_file_and_values_and_the_model_is_loaded_once(
    database: peewee.Database, notebook: Notebook, reader: Reader, desk: tuple[Path, list[str]], name: str
) -> None:
    folder, stars = desk
    notebook.run(A_B_C)
    assert notebook[name].execute() == [[answer("my_model.pkl", labels)] for labels in GIVEN[name]]
    assert reader.models == ["my_model.pkl"]
    assert reader.stars == [stars[1], stars[2]]
    found = Bundle.get().tasks
    assert [paths_of(task) for task in found] == [[str(folder / each)] for each in FILES]
    assert [task.parameters for task in found] == [
        {
            "model_path": "my_model.pkl", "sigma_clip_limit": 3,
            "initial_teff": teff, "initial_logg": logg, "initial_fe_h": fe_h,
        }
        for teff, logg, fe_h in GIVEN[name]
    ]  # fmt: skip
    assert [task.state for task in found] == [TaskState.COMPLETED] * 2
    assert Task.select().count() == 2


def test_the_three_bundles_together_load_the_model_once(
    database: peewee.Database, notebook: Notebook, reader: Reader
) -> None:
    notebook.run(A_B_C)
    [instance] = bundler([notebook[name] for name in GIVEN])
    given = [labels for name in GIVEN for labels in GIVEN[name]]
    assert instance.execute() == [[answer("my_model.pkl", labels)] for labels in given]
    assert reader.models == ["my_model.pkl"]
    assert [labels_of(task) for task in Bundle.get().tasks] == given
    assert DataProduct.select().count() == 2


def test_the_parameters_that_are_printed_are_all_there_are_with_their_defaults(
    database: peewee.Database, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run(A_B_C, "A.execute()")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 5
    expected = {"model_path my_model.pkl", "initial_fe_h 0", "sigma_clip_limit 3"}
    assert set(lines[:5]) == {"initial_teff 5000", "initial_logg 3.5", *expected}
    assert set(lines[5:]) == {"initial_teff 5125", "initial_logg 3.75", *expected}


def test_the_slip_as_it_is_written_is_on_record_as_what_it_is(
    database: peewee.Database, folder: Path, reader: Reader
) -> None:
    notebook = Notebook(load_model=reader.load_model, load_data_product=reader.load_data_product)
    notebook.run(AS_WRITTEN, A_B_C)
    with pytest.raises(NameError, match="name 'value' is not defined"):
        notebook["A"].execute()
    first, second = TaskBundle.select().order_by(TaskBundle.position)
    assert (first.outcome, first.error_class) == ("failed", "NameError")
    assert "in pre_execute" in first.traceback
    assert (second.outcome, second.error_class) == ("cancelled", None)
    assert reader.models == []


def test_loading_the_model_is_the_overhead_and_each_star_s_time_is_its_own(
    database: peewee.Database, folder: Path, reader: Reader, clock: FakeClock
) -> None:
    seconds = iter(range(1, 11))

    def load_model(path: str) -> GridModel:
        clock.advance(30)
        return reader.load_model(path)

    def load_data_product(path: str) -> NDArray[np.float64]:
        clock.advance(next(seconds))
        return reader.load_data_product(path)

    notebook = Notebook(load_model=load_model, load_data_product=load_data_product)
    notebook.run(ANALYSIS_TASK)
    instance = notebook["AnalysisTask"](
        input_data_products=[f"apStar-{number}.fits" for number in range(10)],
        model_path="my_model.pkl", initial_teff=5777, initial_logg=4.4, initial_fe_h=0,
    )  # fmt: skip
    found = run_by_person(instance, clock)
    assert [task.time_execute_task for task in found] == list(range(1, 11))
    assert {task.time_execute for task in found} == {30 + 55}
    assert {task.time_execute_bundle_overhead for task in found} == {30}, "all of it, less what the tasks took"


def test_the_overhead_is_the_total_less_the_sum_of_the_tasks_on_a_real_clock(
    database: peewee.Database, notebook: Notebook
) -> None:
    notebook.run(A_B_C, "A.execute()")
    found = Bundle.get().tasks
    for stage in ("pre_execute", "execute", "post_execute"):
        own = sum(getattr(task, f"time_{stage}_task") for task in found)
        for task in found:
            assert getattr(task, f"time_{stage}_bundle_overhead") == pytest.approx(
                getattr(task, f"time_{stage}") - own, abs=1e-9
            )
    assert all(task.time_execute_task > 0 for task in found)
    assert found[0].time_execute_bundle_overhead > 0


def test_a_bundle_is_built_again_from_its_record_and_gives_the_same_answers(
    database: peewee.Database, notebook: Notebook, reader: Reader
) -> None:
    notebook.run(A_B_C)
    answers = notebook["C"].execute()
    again = Bundle.get().instance()
    assert again.bundle_size == 2
    assert again.execute() == answers
    assert reader.stars[:2] == reader.stars[2:]


# ---------------------------------------------------------------------------------------- 10 models, 100 observations


def observed(given: list[Any]) -> list[tuple[int, str]]:
    """Return the number of the observation and the model of each instance, in order."""
    return [(int(Path(each._inputs[0][0]).stem.removeprefix("apStar-")), each.model_path) for each in given]


def assert_each_has_a_record_of_its_own(given: list[Any]) -> None:
    """And in it all of its parameters, how it ended, and how long it took."""
    records = list(Task.select())
    assert Counter(canonical_json(each.parameters) for each in records) == Counter(
        each.plan().parameters for each in given
    )
    assert {str(each.state) for each in records} == {"completed"}
    rows = run("SELECT time_total, time_execute_task, time_execute_bundle_overhead FROM task_time")
    assert len(rows) == len(given)
    assert all(total > own > 0 and overhead > 0 for total, own, overhead in rows)


@pytest.mark.parametrize("block", [MANY, MANY_AS_MEANT], ids=["as written", "as meant"])
def test_ten_models_and_a_hundred_observations(
    database: peewee.Database, notebook: Notebook, reader: Reader, desk: tuple[Path, list[str]], block: str
) -> None:
    folder, stars = desk
    np.random.seed(2022)
    notebook.run(block)
    given: list[Any] = notebook["tasks"]
    assert len(given) == 1000 if block is MANY else 100 < len(given) < 1000
    assert_each_has_a_record_of_its_own(given)

    # a bundle for each model, which is loaded once for all its tasks
    models = list(dict.fromkeys(each.model_path for each in given))
    assert len(models) == 10
    assert reader.models == models
    bundles = list(Bundle.select().order_by(Bundle.id))
    assert [{task.parameters["model_path"] for task in bundle.tasks} for bundle in bundles] == [{m} for m in models]
    assert sum(bundle.size for bundle in bundles) == len(given)

    # each task has read its own observation: in a bundle, in the order in which the tasks were made
    expected = [number for model in models for number, each in observed(given) if each == model]
    assert reader.stars == [stars[number] for number in expected]
    assert [paths_of(task) for task in bundles[0].tasks] == [
        [str(folder / f"apStar-{number}.fits")] for number in expected[: bundles[0].size]
    ]
    assert DataProduct.select().count() == 100
