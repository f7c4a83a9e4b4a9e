"""Which changes of state does `astra.queue` make? Read from the UPDATE statements in its source."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any, NamedTuple

from astra import queue
from astra.queue import awaiting, ending, enqueueing, giving_back, handing, holding, opening
from astra.states import STATE_AFTER, BundleState

_FROM = re.compile(r"\bstate(?: \|\| '')? (?:= '(?P<one>\w+)'|IN \((?P<many>[^)]*)\))")


MODULES = (awaiting, enqueueing, opening, handing, ending, giving_back, holding)
NAMES = {name: value for module in MODULES for name, value in vars(module).items()}


class Change(NamedTuple):
    """One change of state, and the public function that makes it."""

    old: str
    new: str
    by: str


def changes(table: str) -> set[Change]:
    """Return every change of state of `task` or `bundle` that the source makes."""
    functions = {
        node.name: node
        for module in MODULES
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef)
    }
    found: set[Change] = set()
    for name in queue.__all__:
        reached = _reached(name, functions)
        statements = [text for each in reached for text in _texts(functions[each])]
        closings = _closings(functions[name])
        found |= _changes_of(name, table, statements, closings)
    return found


def _changes_of(name: str, table: str, statements: list[str], closings: set[str]) -> set[Change]:
    found: set[Change] = set()
    setting = re.compile(rf"UPDATE {table} SET state = (?:'(\w+)'|(\?)|(state))")
    updates = [(match, text[: match.start()] + text[match.end() :]) for text in statements
               if (match := setting.search(text))]  # fmt: skip
    fenced = {old for match, rest in updates if match[3] for old in _old(rest)}
    for match, rest in updates:
        if match[3]:
            continue
        after = {str(state) for state in STATE_AFTER.values()} if table == "task" else closings
        for new in {match[1]} if match[1] else after:
            found |= {Change(old, new, name) for old in _old(rest) or fenced}
    return found


def _old(statement: str) -> set[str]:
    found: set[str] = set()
    for match in _FROM.finditer(statement):
        found |= {match["one"]} if match["one"] else set(re.findall(r"'(\w+)'", match["many"]))
    return found


def _closings(function: ast.FunctionDef) -> set[str]:
    """Return the states that a function hands to the one that closes bundles."""
    return {
        str(BundleState[node.attr])
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "BundleState"
    }


def _reached(name: str, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """Return a function and those that it calls, directly or not, and nobody outside can."""
    seen, waiting = {name}, [name]
    while waiting:
        for node in ast.walk(functions[waiting.pop()]):
            if not isinstance(node, ast.Name) or node.id in seen or node.id in queue.__all__:
                continue
            if node.id in functions:
                seen.add(node.id)
                waiting.append(node.id)
    return seen


def _texts(function: ast.FunctionDef) -> list[str]:
    """Return the texts of a function; what an f-string takes from the module is filled in, all else is ``?``."""
    pieces = {id(part) for node in ast.walk(function) if isinstance(node, ast.JoinedStr) for part in node.values}
    return [
        _text(node)
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in pieces
    ]


def _text(node: ast.JoinedStr | ast.Constant) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(_filled(part) for part in node.values)


def _filled(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value: Any = None
    if isinstance(part.value, ast.Name):
        value = NAMES.get(part.value.id)
    elif isinstance(part.value, ast.Attribute) and isinstance(part.value.value, ast.Name):
        value = getattr(NAMES.get(part.value.value.id), part.value.attr, None)
    return "?" if value is None else str(value)
