"""What a person may give as `input_data_products`, checked at once and recorded when the tasks are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import PurePath
from typing import Any

from astra import known, noting
from astra.database.astradb import DataProduct
from astra.database.connection import by_index, run
from astra.work import Input

CHUNK = 10_000  # tasks asked for at a time


def entries(component: str, given: Any) -> list[list[Any]] | None:
    """Return the inputs of each task as lists, checked; None where no input was given."""
    if given is None:
        return None
    if isinstance(given, str | PurePath | DataProduct | Integral):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise TypeError(
            f"{component}: input_data_products is a {type(given).__name__}; give a path, a DataProduct or a list"
        )
    checked = [list(each) if isinstance(each, list | tuple) else [each] for each in given]
    for position, entry in enumerate(checked):
        for index, each in enumerate(entry):
            entry[index] = _checked_input(component, position, each)
    return checked


def _checked_input(component: str, position: int, given: Any) -> Any:
    if isinstance(given, DataProduct):
        if given.id is None:
            raise ValueError(f"{component}: input_data_products[{position}] is a DataProduct that is not recorded")
        return given.id
    if isinstance(given, str | PurePath):
        path = os.path.abspath(os.path.expanduser(os.fspath(given)))
        if not path.isascii() and any("\ud800" <= each <= "\udfff" for each in path):
            raise ValueError(
                f"{component}: input_data_products[{position}], {path!a}, has a name that is no text, "
                "which cannot be recorded: rename it"
            )
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{component}: input_data_products[{position}], {os.fspath(given)!r}, is not a file"
            )
        return path
    if isinstance(given, Integral) and given is not True and given is not False:
        return int(given)
    raise TypeError(
        f"{component}: input_data_products[{position}] is a {type(given).__name__}; "
        "give a path, a DataProduct or its key"
    )


def resolve(given: Sequence[Sequence[str | int]]) -> list[tuple[Input, ...]]:
    """Return each task's inputs as recorded data products and file versions, noting files that are new."""
    paths = list(dict.fromkeys(each for entry in given for each in entry if isinstance(each, str)))
    noted = {each.path: each for each in noting.note(paths)} if paths else {}
    keys = list(dict.fromkeys(each for entry in given for each in entry if isinstance(each, int)))
    current = known.current_inputs(keys) if keys else {}
    _refuse([key for key in keys if key not in current])
    return [
        tuple(current[each] if isinstance(each, int) else noted[each].as_input() for each in entry) for entry in given
    ]


def refuse_missing(given: Sequence[Sequence[str | int]]) -> None:
    """Raise `ValueError` where a data product is given by a key that no data product has."""
    keys = list(dict.fromkeys(each for entry in given for each in entry if isinstance(each, int)))
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        current = known.current_inputs(chunk)
        _refuse([key for key in chunk if key not in current])


def _refuse(missing: Sequence[int]) -> None:
    if missing:
        raise ValueError(f"there is no data product {', '.join(map(str, missing[:5]))}; nothing was recorded")


def recorded_inputs(tasks: Sequence[int]) -> dict[int, tuple[Input, ...]]:
    """Return the inputs that recorded tasks were given, by task."""
    found: dict[int, list[Input]] = {task: [] for task in tasks}
    for start in range(0, len(tasks), CHUNK):
        listed = ", ".join(str(int(task)) for task in tasks[start : start + CHUNK])
        query = "SELECT task_id, data_product_id, ingestion_id FROM task_input_data_product WHERE task_id IN"
        with by_index():
            for task, product, ingestion in run(f"{query} ({listed}) ORDER BY task_id, position"):
                found[task].append(Input(product, ingestion, "", ""))
    return {task: tuple(given) for task, given in found.items()}
