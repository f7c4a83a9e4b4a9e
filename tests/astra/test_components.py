"""A component's class is found again by the name that its tasks are recorded under."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from astra.base import TaskInstance
from astra.components import component_class
from astra.errors import ComponentError

MODULE = """
from astra.base import TaskInstance
class Outer:
    class Inner(TaskInstance):
        pass
class Plain:
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "found_components"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text(MODULE)
    (package / "broken.py").write_text("raise RuntimeError('no licence')")
    (package / "lacking.py").write_text("import no_such_library_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    yield "found_components"  # type: ignore[misc]
    for name in [name for name in sys.modules if name.startswith("found_components")]:
        del sys.modules[name]


def test_a_class_is_imported_by_its_path_even_inside_another(module: str) -> None:
    found = component_class(f"{module}.good.Outer.Inner")
    assert issubclass(found, TaskInstance)
    assert found.component_name() == f"{module}.good.Outer.Inner"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "found_components.good.Nothing",
            "there is no component .*: found_components.good has no Nothing",
        ),
        (
            "found_components.good.Plain",
            "found_components.good.Plain is no component: it is no subclass",
        ),
        ("found_components.nowhere.Thing", "there is no component"),
        ("no_such_package.Thing", "there is no component no_such_package.Thing"),
        ("nothing", "there is no component nothing"),
        ("found_components.broken.Thing", "cannot be imported: RuntimeError: no licence"),
        ("found_components.lacking.Thing", "cannot be imported: No module named 'no_such_library_anywhere'"),
    ],
)
def test_what_cannot_be_found_is_told_with_its_name_and_why(module: str, name: str, words: str) -> None:
    with pytest.raises(ComponentError, match=words):
        component_class(name)


def test_a_class_of_a_notebook_is_found_while_it_lives_and_by_its_newest_definition() -> None:
    def define(version: str) -> type[TaskInstance]:
        return type("Cell", (TaskInstance,), {"__module__": "__main__", "version": version})

    first = define("1")
    second = define("2")
    assert component_class("__main__.Cell") is second
    assert first is not second
    del first, second
    gc.collect()
    with pytest.raises(ComponentError, match=r"no component __main__\.Cell: it was defined in a notebook or script"):
        component_class("__main__.Cell")
