"""Where a component's class is found again by the name that its tasks are recorded under."""

from __future__ import annotations

import difflib
import importlib
import sys
import weakref
from typing import Any

from astra.errors import ComponentError

_known: weakref.WeakValueDictionary[str, type[Any]] = weakref.WeakValueDictionary()


def remember(name: str, component: type[Any]) -> None:
    """Let a class be found by its name while this process lives, wherever it was defined."""
    _known[name] = component


def component_class(name: str) -> type[Any]:
    """Return the component that an import path names.

    Raises
    ------
    ComponentError
        If it cannot be imported, or is no `TaskInstance`.
    """
    if name in _known:
        return _known[name]
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = sys.modules.get(module) or importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                continue
            raise ComponentError(f"the component {name} cannot be imported: {error}") from error
        except Exception as error:  # the author's module may raise anything when it is imported
            raise ComponentError(f"the component {name} cannot be imported: {type(error).__name__}: {error}") from error
        return _in_module(name, found, parts[cut:])
    raise ComponentError(
        f"there is no component {name}: {sys.executable} finds no module {parts[0]}; install it there, "
        "name its folder in $PYTHONPATH, or correct the name"
    )


def _in_module(name: str, module: Any, parts: list[str]) -> type[Any]:
    found = module
    if module.__name__ == "__main__":
        raise ComponentError(
            f"there is no component {name}: it was defined in a notebook or script; define it here, "
            "or put it in a module and import that"
        )
    for part in parts:
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, vars(found), n=1)
            hint = f"did you mean {near[0]}?" if near else "correct the name"
            raise ComponentError(f"there is no component {name}: {found.__name__} has no {part}; {hint}")
        found = getattr(found, part)
    if isinstance(found, type) and hasattr(found, "component_name"):
        return found
    raise ComponentError(f"{name} is no component: it is no subclass of astra.base.TaskInstance")
