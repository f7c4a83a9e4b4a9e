"""What is wrong with a component's class, said when it is defined and not in the middle of the night."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from astra.database.astradb import STAGES, TABLES, ResultModel

if TYPE_CHECKING:
    from astra.base import TaskInstance

_OWN_TABLES = frozenset(str(model._meta.table_name) for model in TABLES)


def check(component: type[TaskInstance], base: type[TaskInstance]) -> None:
    """Raise `TypeError` for what no component may do; `base` is `TaskInstance` itself."""
    name = component.__name__
    if component.__init__ is not base.__init__:
        raise TypeError(
            f"{name} cannot have an __init__ of its own, for its tasks are made again from their records: "
            "prepare the work in pre_execute(), and return what execute() needs as a dictionary, for self.context"
        )
    reserved = {"context", "bundle_size", "input_data_products", *dir(base)}
    if taken := sorted(each for each in component.parameters if each in reserved or each.startswith("_")):
        raise TypeError(f"{name} cannot have a parameter called {taken[0]}: every TaskInstance has its own such name")
    for stage in STAGES:
        _check_stage(name, stage, inspect.getattr_static(component, stage))
    _check_models(name, component.result_models)


def _check_stage(name: str, stage: str, method: Any) -> None:
    if isinstance(method, staticmethod | classmethod) or not inspect.isfunction(method):
        raise TypeError(f"{name}.{stage} must be a method that takes self")
    author = inspect.unwrap(method)
    for kind, word in (
        (inspect.iscoroutinefunction, "is async"),
        (inspect.isasyncgenfunction, "is async"),
        (inspect.isgeneratorfunction, "yields"),
    ):
        if kind(author):
            raise TypeError(f"{name}.{stage} {word}, so calling it would do nothing: let it return its results")


def _check_models(name: str, models: Any) -> None:
    if not isinstance(models, list | tuple):
        raise TypeError(f"{name}.result_models must be a list or tuple of result tables, such as (MyResult,)")
    for model in models:
        if not (isinstance(model, type) and issubclass(model, ResultModel)):
            shown = model.__name__ if isinstance(model, type) else repr(model)
            raise TypeError(f"{name}.result_models holds {shown}, which is no subclass of ResultModel")
        if model._meta.table_name in _OWN_TABLES:
            raise TypeError(
                f"{name}.result_models: {model.__name__} would be the table {model._meta.table_name}, which is astra's "
                "own: give it another table_name in its class Meta"
            )
