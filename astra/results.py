"""From a result to what made it, and back: rows of result tables, their tasks, inputs, file versions, environment.

Comes from `results()` of a `Source`, `Task` or `DataProduct`, and `ResultModel.provenance()`. Reads; writes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from astra.asking import family
from astra.components import component_class
from astra.database.astradb import (
    Bundle,
    DataProduct,
    Environment,
    Ingestion,
    ResultModel,
    Source,
    Task,
    TaskInputDataProduct,
)
from astra.database.connection import database, run
from astra.errors import ComponentError

CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Given:
    """One input of a task: the data product, and the exact file version it was given."""

    data_product: DataProduct
    ingestion: Ingestion | None

    @property
    def is_current(self) -> bool:
        """Whether the data product still has this file version."""
        return self.ingestion is None or self.data_product.__data__["current_ingestion"] == self.ingestion.id


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a result: its task with parameters, the bundle with code, host and times, the inputs, the packages."""

    task: Task
    bundle: Bundle
    environment: Environment | None
    inputs: tuple[Given, ...]
    outputs: tuple[DataProduct, ...]

    @property
    def parameters(self) -> dict[str, Any]:
        """The task's parameters, defaults included."""
        return cast("dict[str, Any]", self.task.parameters)

    @property
    def stale(self) -> bool:
        """Whether an input has a newer file version than the one this result was made from."""
        return not all(each.is_current for each in self.inputs)

    def __str__(self) -> str:
        task, bundle = self.task, self.bundle
        code = f"commit {bundle.git_commit}{' with changes' if bundle.git_dirty else ''}" if bundle.git_commit else None
        lines = [
            f"{task.name} version {bundle.component_version}, task {task.id}, bundle {bundle.id}",
            f"parameters   {self.parameters}",
            f"code         {code or f'source sha256 {bundle.source_sha256}'}, astra {bundle.version}",
            f"where, when  {bundle.user} on {bundle.host}, {bundle.started} to {bundle.ended}",
        ]
        if self.environment is not None:
            lines.append(f"environment  {self.environment.python}, {self.environment.platform}")
        for each in self.inputs:
            version, since = each.ingestion, "" if each.is_current else ", since replaced"
            told = f"{version.size} bytes, {_checksum(version)}" if version is not None else "no file"
            lines.append(f"input        {each.data_product.path}, {told}{since}")
        lines += [f"output       {each.path}" for each in self.outputs]
        return "\n".join(lines)


def _checksum(version: Ingestion) -> str:
    """Return the checksum of all that was read, or where it is not known, that of the header."""
    return f"sha256 {version.sha256}" if version.sha256 else f"header sha256 {version.header_sha256}"


def of_task(task: Task) -> list[ResultModel]:
    """Return the result rows of a task, in the order in which they were recorded.

    Raises
    ------
    ComponentError
        If the component, which knows its tables, cannot be imported.
    """
    return _rows(component_class(task.name), lambda model: model.task == task.id)


def of_tasks(component: str, keys: Sequence[int]) -> dict[int, list[ResultModel]]:
    """Return the result rows of tasks of one component, by task, each in order; a statement for 1,000 of each table."""
    found: dict[int, list[ResultModel]] = {}
    for start in range(0, len(keys), CHUNK):
        some = list(keys[start : start + CHUNK])
        for row in _rows(component_class(component), lambda model, some=some: model.task.in_(some)):
            found.setdefault(row.__data__["task"], []).append(row)
    return found


class OfComponent(NamedTuple):
    """The result rows of one component; none, and the reason, where it cannot be imported, for it knows its tables."""

    component: str
    rows: list[ResultModel]
    reason: str | None = None


def of_source(source: Source) -> list[ResultModel]:
    """Return the result rows of a source, of every component that was run on its data products.

    A component that cannot be imported any more is warned of: its tables cannot be known without it.
    """
    return _all(by_component(source))


def by_component(source: Source) -> list[OfComponent]:
    """Return the results of a source, and of those that were merged into it, by component."""
    keys = family(int(source.id))
    names = run(
        "SELECT DISTINCT t.name FROM source_data_product l "
        "JOIN task_input_data_product i ON i.data_product_id = l.data_product_id JOIN task t ON t.id = i.task_id "
        "WHERE l.source_id = ? AND l.superseded_by_id IS NULL ORDER BY t.name",
        keys[:1],
    )
    return [_of_component(name, lambda model: model.source.in_(keys)) for (name,) in names]


def of_product(product: DataProduct) -> list[ResultModel]:
    """Return the result rows of all tasks that a data product was given to, whatever else they were given."""
    given = TaskInputDataProduct
    tasks = given.select(given.task).where(given.data_product == product.id)
    names = run(
        "SELECT DISTINCT t.name FROM task_input_data_product i JOIN task t ON t.id = i.task_id "
        "WHERE i.data_product_id = ? ORDER BY t.name",
        (product.id,),
    )
    return _all([_of_component(name, lambda model: model.task.in_(tasks)) for (name,) in names])


def _of_component(name: str, condition: Any) -> OfComponent:
    try:
        return OfComponent(name, _rows(component_class(name), condition))
    except ComponentError as error:
        return OfComponent(name, [], str(error))


def _all(found: Iterable[OfComponent]) -> list[ResultModel]:
    rows: list[ResultModel] = []
    for each in found:
        if each.reason is not None:
            warnings.warn(f"the results of {each.component} are left out: {each.reason}", stacklevel=4)
        rows += each.rows
    return rows


def _rows(component: type[Any], condition: Any) -> list[ResultModel]:
    models: Iterable[type[ResultModel]] = component.result_models
    return [
        row
        for model in models
        if database.table_exists(model._meta.table_name)
        for row in model.select().where(condition(model)).order_by(model.id)
    ]


def provenance_of(row: ResultModel) -> Provenance:
    """Return what made a result, in a constant number of queries."""
    task = Task.get_by_id(row.__data__["task"])
    bundle = Bundle.get_by_id(task.__data__["bundle"])
    environment = Environment.get_or_none(Environment.id == bundle.__data__["environment"])
    given = (
        TaskInputDataProduct.select(TaskInputDataProduct, DataProduct, Ingestion)
        .join(DataProduct)
        .switch(TaskInputDataProduct)
        .left_outer_join(Ingestion, on=(TaskInputDataProduct.ingestion == Ingestion.id))
        .where(TaskInputDataProduct.task == task.id)
        .order_by(TaskInputDataProduct.position)
    )
    inputs = tuple(Given(each.data_product, each.ingestion) for each in given)
    return Provenance(task, bundle, environment, inputs, tuple(task.output_data_products))
