"""From a result to what made it, and back, one call each way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import peewee
import pytest

from astra import taking_in
from astra.base import Parameter, TaskInstance
from astra.database.astradb import DataProduct, Ingestion, Link, ResultModel, Source, Task
from astra.errors import ComponentError
from tests.support import fits
from tests.support.tasks import statements


class Length(ResultModel):
    data_product = Link(DataProduct, null=True)
    size = peewee.BigIntegerField()

    class Meta:
        table_name = "test_length"


class Lengths(TaskInstance):
    version = "7"
    result_models = (Length,)
    factor = Parameter(default=1)

    def execute(self) -> None:
        for task, data_products in self.iterable():
            for each in data_products:
                size = Path(each.path).stat().st_size * task.parameters["factor"]
                self.record_result(task, Length(data_product=each, size=size))


@pytest.fixture
def star(database: peewee.Database, tmp_path: Path) -> Path:
    path = fits.write(tmp_path / fits.star_name(), fits.apstar())
    list(taking_in.take_in([path], taking_in.Terms()))
    return path


def test_a_source_and_a_task_know_their_results_and_a_result_what_made_it(star: Path) -> None:
    Lengths(star, factor=2).execute()
    source = Source.get()
    [row] = source.results()
    assert isinstance(row, Length)
    task = Task.get()
    assert task.results() == [row]
    made = row.provenance()
    assert (made.task, made.parameters) == (task, {"factor": 2})
    assert (made.bundle, made.bundle.component_version, made.outputs) == (task.bundle, "7", ())
    assert made.environment is not None
    assert "peewee" in made.environment.packages
    [given] = made.inputs
    assert (given.data_product.path, given.ingestion) == (str(star), Ingestion.get())
    assert row.size == 2 * given.ingestion.size
    assert not made.stale
    assert [each.results() for each in Source.select()] == [[row]]


def test_a_result_says_that_its_input_was_rewritten_since(star: Path) -> None:
    Lengths(star).execute()
    star.write_bytes(fits.apstar(SNR=3.0))
    list(taking_in.take_in([star], taking_in.Terms()))
    [row] = Source.get().results()
    made = row.provenance()
    assert made.stale
    assert made.inputs[0].ingestion == Ingestion.select().order_by(Ingestion.id).first()
    told = str(made)
    read = hashlib.sha256(fits.apstar()).hexdigest()
    assert f"{star}, {made.inputs[0].ingestion.size} bytes, sha256 {read}, since replaced" in told
    assert "Lengths version 7, task 1, bundle 1" in told


def test_what_a_task_without_inputs_or_results_has(database: peewee.Database) -> None:
    Lengths().execute()
    assert Task.get().results() == []


def test_the_way_back_takes_a_constant_number_of_queries(star: Path, database: peewee.Database) -> None:
    counts = []
    for inputs in ([star], [star] * 4):
        Lengths([inputs]).execute()
        row = Length.select().order_by(Length.id.desc()).get()
        with statements(database) as seen:
            assert len(row.provenance().inputs) == len(inputs)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_component_that_is_gone_is_told_and_hides_no_other_s_results(
    star: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lengths(star).execute()

    class Gone(TaskInstance):
        def execute(self) -> None:
            pass

    Gone(star).execute()
    monkeypatch.setattr("astra.components._known", {Lengths.component_name(): Lengths})
    with pytest.warns(UserWarning, match=r"the results of .*Gone are left out: there is no component"):
        assert len(Source.get().results()) == 1
    with pytest.raises(ComponentError, match="there is no component"):
        Task.get_by_id(2).results()
