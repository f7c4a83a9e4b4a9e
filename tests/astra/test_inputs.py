"""What may be given as input, and the data product and file version that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peewee
import pytest

from astra import queue
from astra.database.astradb import DataProduct, Ingestion, TaskInputDataProduct
from astra.inputs import entries, recorded_inputs, resolve
from astra.states import IngestionOutcome
from tests.support.clock import START
from tests.support.tasks import fill, new_task, product, statements, version_of


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spectra"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode())
    monkeypatch.chdir(folder)
    return folder


def test_one_product_is_one_task_and_a_list_has_one_entry_for_each(files: Path) -> None:
    a, b = str(files / "a"), str(files / "b")
    record = DataProduct(id=7)
    assert entries("T", None) is None
    for given, found in [
        ("a", [[a]]), (files / "a", [[a]]), (record, [[7]]), (5, [[5]]), (np.int64(2**40), [[2**40]]),
        (["a", "b"], [[a], [b]]), (("a", Path("b")), [[a], [b]]), ([["a", "b"]], [[a, b]]),
        ([["a", "b"], "b", [7, record]], [[a, b], [b], [7, 7]]), ([[]], [[]]), ([], []),
        (np.array(["a", "b"]), [[a], [b]]), (np.array([3, 4]), [[3], [4]]), ((name for name in "ab"), [[a], [b]]),
    ]:  # fmt: skip
        assert entries("T", given) == found
    assert all(type(key) is int for entry in entries("T", np.array([3, 4])) or () for key in entry)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("gone", FileNotFoundError, r"T: input_data_products\[0\], 'gone', is not a file"),
        (["a", ["b", "gone"]], FileNotFoundError, r"T: input_data_products\[1\], 'gone', is not a file"),
        (".", FileNotFoundError, r"'\.', is not a file"),
        (1.5, TypeError, "T: input_data_products is a float; give a path, a DataProduct or a list"),
        (b"a", TypeError, "T: input_data_products is a bytes"),
        (["a", None], TypeError, r"T: input_data_products\[1\] is a NoneType; give a path, a DataProduct or its key"),
        (True, TypeError, r"T: input_data_products\[0\] is a bool"),
        ([[["a"]]], TypeError, r"T: input_data_products\[0\] is a list"),
    ],
)
def test_what_is_no_input_is_refused_at_once(files: Path, given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        entries("T", given)


def test_a_plain_file_becomes_a_data_product_known_by_its_path_in_the_version_that_it_has_now(
    database: peewee.Database, files: Path
) -> None:
    path = str(files / "a")
    first = resolve([[path], [path, str(files / "b")]])
    assert first[0][0] == first[1][0]
    row = DataProduct.get_by_id(first[0][0].data_product)
    assert (row.filetype, row.kwargs, row.path) == ("full", {"full": path}, path)
    version = Ingestion.get_by_id(first[0][0].ingestion)
    assert (version.outcome, version.size, version.data_product_id) == (IngestionOutcome.NOTED, 1, row.id)
    assert resolve([[path]])[0] == first[0], "nothing new is recorded for the same version"
    (files / "a").write_bytes(b"more")
    again = resolve([[path]])[0][0]
    assert again.data_product == row.id
    assert again.ingestion != version.id
    assert again.signature != first[0][0].signature


def test_a_data_product_is_given_in_its_current_file_version(database: peewee.Database) -> None:
    given = product("/gone/since.fits")
    newer = version_of(given.data_product, "/gone/since.fits")
    found = resolve([[given.data_product], []])
    assert found[1] == ()
    assert (found[0][0].data_product, found[0][0].ingestion, found[0][0].identity) == (
        given.data_product, newer, given.identity,
    )  # fmt: skip


def test_a_data_product_that_does_not_exist_is_named(database: peewee.Database) -> None:
    with pytest.raises(ValueError, match="there is no data product 98765"):
        resolve([[98765]])


def test_recorded_inputs_are_read_in_order_and_in_one_statement(database: peewee.Database) -> None:
    given = tuple(product(f"/{name}") for name in "cab")
    keys = queue.enqueue([new_task(inputs=given), new_task(inputs=given[:1]), new_task()], START)
    found = recorded_inputs(keys)
    assert [[each.data_product for each in found[key]] for key in keys] == [
        [each.data_product for each in given], [given[0].data_product], [],
    ]  # fmt: skip
    assert found[keys[0]][0].ingestion == given[0].ingestion
    many = fill(1200)
    with statements(database) as seen:
        recorded_inputs(many)
    assert len(seen) <= 2
    assert TaskInputDataProduct.select().count() == 4
