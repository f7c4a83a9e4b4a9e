"""Parameters: what a component is told, one value for all its tasks or one for each.

Values are kept as plain JSON: numpy scalars and arrays, tuples and paths become what JSON can hold when they are given,
so that what a component reads in a notebook is what it will read from the database.
"""

from __future__ import annotations

import builtins
import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

_REQUIRED: Any = object()
MOST_BITS = 10_000
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", lambda value, bound: bool(value >= bound)),
    "gt": ("greater than", lambda value, bound: bool(value > bound)),
    "le": ("at most", lambda value, bound: bool(value <= bound)),
    "lt": ("less than", lambda value, bound: bool(value < bound)),
}


class Parameter:
    """One parameter of a component.

    Parameters
    ----------
    default
        The value where none is given; without it the parameter must be given.
    bundled
        Whether tasks must share this value to run together.
    type
        What a value must be: ``int``, ``float`` (takes an int too), ``str``, ``bool``. Untyped where not given.
    ge, gt, le, lt
        Bounds of a value: at least, greater than, at most, less than.
    choices
        The values allowed.
    """

    def __init__(
        self,
        default: Any = _REQUIRED,
        *,
        bundled: bool = False,
        type: type | None = None,
        choices: Sequence[Any] | None = None,
        **bounds: float,
    ) -> None:
        unknown = set(bounds) - set(_BOUNDS)
        if unknown:
            raise TypeError(f"Parameter() takes no {', '.join(sorted(unknown))}: its bounds are {', '.join(_BOUNDS)}")
        self.name = ""
        self.bundled = bundled
        if type is not None and not isinstance(type, builtins.type):
            raise TypeError(f"Parameter(type=...) takes int, float, str or bool, not {type!r}")
        self.type = type
        self.choices = None if choices is None else [plain(each, "choices") for each in choices]
        self.bounds = bounds
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def settle(self, component: str) -> None:
        """Check the default, once the component is known by its name; what is wrong is raised as it is."""
        if self._default is not _REQUIRED:
            self._default = self.checked(component, self._default)
        self.__doc__ = self.describe()  # what help() says beside the name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.present(instance.value_of(self))

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(
            f"{type(instance).__name__}.{self.name} cannot be changed, for it is what the record says of the task: "
            "make a new instance, or use a name that is no parameter"
        )

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self._default is _REQUIRED

    @property
    def default(self) -> Any:
        """The value where none is given, as plain JSON."""
        return self._default

    def describe(self) -> str:
        """Return what this parameter takes, for people."""
        words = [self.type.__name__ if self.type else "any value"]
        words += [f"{_BOUNDS[key][0]} {bound}" for key, bound in self.bounds.items()]
        words += [f"one of {', '.join(map(repr, self.choices))}"] if self.choices else []
        words += ["required" if self.required else f"default {self._default!r}"]
        return ", ".join(words + (["bundled"] if self.bundled else []))

    def spread(self, component: str, given: Any) -> list[Any] | None:
        """Return one checked value for each task, or None where `given` is a single value for all."""
        if self.bundled or not isinstance(given, list | tuple | np.ndarray):
            return None
        if isinstance(given, np.ndarray) and given.ndim == 0:
            return None
        return [self.checked(component, value) for value in given]

    def checked(self, component: str, given: Any) -> Any:
        """Return `given` as plain JSON, or raise with the component's and the parameter's name."""
        place = f"{component}.{self.name}"
        try:
            value = plain(given, place)
        except RecursionError:
            raise ValueError(f"{place} is nested too deeply, or holds itself, so it cannot be recorded") from None
        if value is None:
            return value
        if self.type is not None and not _is(value, self.type):
            raise TypeError(f"{place} must be {self.type.__name__}, not {type(value).__name__} {value!r}")
        for key, bound in self.bounds.items():
            words, holds = _BOUNDS[key]
            if not _is(value, float):
                raise TypeError(f"{place} must be a number {words} {bound}, not {type(value).__name__} {value!r}")
            if not holds(value, bound):
                raise ValueError(f"{place} must be {words} {bound}, not {value!r}")
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{place} must be one of {', '.join(map(repr, self.choices))}, not {value!r}")
        return value

    def present(self, value: Any) -> Any:
        """Return a kept value as the component reads it: its own copy, whatever the component does to it."""
        return copy.deepcopy(value) if isinstance(value, list | dict) else value


class TupleParameter(Parameter):
    """A parameter whose one value is a tuple; a list of tuples gives one to each task."""

    def spread(self, component: str, given: Any) -> list[Any] | None:
        if self.bundled or not isinstance(given, list):
            return None
        return [self.checked(component, value) for value in given]

    def checked(self, component: str, given: Any) -> Any:
        if given is not None and not isinstance(given, tuple | list | np.ndarray):
            raise TypeError(f"{component}.{self.name} must be a tuple, not {type(given).__name__} {given!r}")
        return super().checked(component, given)

    def present(self, value: Any) -> Any:
        return tuple(copy.deepcopy(value)) if isinstance(value, list) else value


class DictParameter(Parameter):
    """A parameter whose one value is a dictionary; a list of dictionaries gives one to each task."""

    def spread(self, component: str, given: Any) -> list[Any] | None:
        if self.bundled or not isinstance(given, list | tuple):
            return None
        return [self.checked(component, value) for value in given]

    def checked(self, component: str, given: Any) -> Any:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{component}.{self.name} must be a dictionary, not {type(given).__name__} {given!r}")
        return super().checked(component, given)


def plain(value: Any, place: str) -> Any:
    """Return `value` as JSON can hold it; `place` names it in the error where it cannot."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise ValueError(f"{place} is a number of more than {MOST_BITS} bits, which cannot be recorded")
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value!r}, which cannot be recorded: give None where there is no value")
        return float(value)
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{place} holds a NUL character, which databases cannot keep")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise ValueError(f"{place} is {value!a}, which holds bytes that are no text, so it cannot be recorded")
        return str.__str__(value)
    return _plain_container(value, place)


def _plain_container(value: Any, place: str) -> Any:
    own = isinstance(value, np.generic | np.ndarray) and type(value).__module__.partition(".")[0] == "numpy"
    if own and not isinstance(listed := value.tolist(), np.generic):
        return plain(listed, place)
    if isinstance(value, PurePath):
        return plain(str(value), place)
    if isinstance(value, list | tuple):
        return [plain(each, f"{place}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}: keys of a recorded dictionary are text")
        return {plain(key, place): plain(each, f"{place}[{key!r}]") for key, each in value.items()}
    raise TypeError(
        f"{place} is a {type(value).__name__}, which cannot be recorded: give a number, text, list or dictionary, "
        "or the path of a file that holds it"
    )


def by_value(value: Any) -> Any:
    """Return a plain value so that equal values have one text: 1.0 becomes 1, True stays True."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [by_value(each) for each in value]
    if isinstance(value, dict):
        return {key: by_value(each) for key, each in value.items()}
    return value


def parameters_of(component: type) -> dict[str, Parameter]:
    """Return all parameters of a component, its bases' first, by name."""
    found: dict[str, Parameter] = {}
    for each in reversed(component.__mro__):
        for name, value in vars(each).items():
            if isinstance(value, Parameter):
                found[name] = value
            elif name in found:
                del found[name]
    return found


def signature_of(parameters: Mapping[str, Parameter]) -> inspect.Signature:
    """Return how a component with these parameters is made: what help() and a notebook's tab key show."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = [inspect.Parameter("input_data_products", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)]
    for name, each in sorted(parameters.items(), key=lambda item: not item[1].required):
        default = inspect.Parameter.empty if each.required else each.present(each.default)
        given.append(inspect.Parameter(name, keyword, default=default))
    return inspect.Signature(given)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
