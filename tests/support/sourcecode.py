"""Python sources as data: who imports what, what is called, what runs at import, which texts write a table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

Sources = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """One imported name, as a full path: ``from a import b`` is ``a.b``."""

    module: str
    line: int
    typing_only: bool


def sources(checkout: Path) -> dict[str, str]:
    """Return the text of every module of both packages, by its name."""
    found = {}
    for package in ("astra", "daemon"):
        for path in sorted((checkout / package).rglob("*.py")):
            parts = path.relative_to(checkout).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@lru_cache(maxsize=512)
def tree(text: str) -> ast.Module:
    return ast.parse(text)


@lru_cache(maxsize=512)
def nodes(text: str) -> tuple[ast.AST, ...]:
    """Return all nodes of a source."""
    return tuple(ast.walk(tree(text)))


def under(name: str, *parents: str) -> bool:
    """Return whether `name` is one of `parents` or below one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


@lru_cache(maxsize=512)
def imports(text: str) -> tuple[Import, ...]:
    """Return all that a source imports, inside functions too."""
    hidden = {
        id(inner)
        for node in nodes(text)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in nodes(text):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, id(node) in hidden) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [Import(f"{node.module}.{alias.name}", node.lineno, id(node) in hidden) for alias in node.names]
    return tuple(found)


@lru_cache(maxsize=512)
def aliases(text: str) -> dict[str, str]:
    """Return what the names that a source imports stand for."""
    names = {}
    for node in nodes(text):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def full_name(node: ast.expr, names: Mapping[str, str]) -> str:
    """Return a dotted expression with its first name replaced by what it stands for; "" for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        inner = full_name(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def module_of(imported: str, known: Sources) -> str | None:
    """Return the module of ours that an imported path means, or None."""
    name = imported
    while name:
        if name in known:
            return name
        name = name.rpartition(".")[0]
    return None


def edges(known: Sources, typing_too: bool) -> Iterator[tuple[str, str, int]]:
    """Yield (importer, imported, line) among our own modules."""
    for name, text in known.items():
        for imported in imports(text):
            target = module_of(imported.module, known)
            if target and target != name and (typing_too or not imported.typing_only):
                yield name, target, imported.line


def called(function: ast.expr, names: Mapping[str, str]) -> str:
    """Return the name of what is called; for a method of some value, only its own name is told: ``?.read_text``."""
    return full_name(function, names) or (f"?.{function.attr}" if isinstance(function, ast.Attribute) else "")


def writing_sql(tables: tuple[str, ...]) -> re.Pattern[str]:
    table = rf'"?(?P<table>{"|".join(sorted(tables, key=len, reverse=True))})"?\b'
    verbs = r"(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|REPLACE\s+INTO|MERGE\s+INTO|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?|COPY)\s+"
    update = rf"UPDATE(?:\s+ONLY)?\s+{table.replace('?P<table>', '?P<updated>')}(?:\s+(?:AS\s+)?\w+)?\s+SET\b"
    return re.compile(f"{verbs}{table}|{update}", re.IGNORECASE)


def texts_matching(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the places where a text of the source, docstrings apart, writes one of the tables."""
    prose = {
        id(node.body[0].value)
        for node in nodes(text)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    pieces = {id(value) for node in nodes(text) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in nodes(text):
        if id(node) in prose or id(node) in pieces:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value
        elif isinstance(node, ast.JoinedStr):
            words = "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
        else:
            continue
        for match in pattern.finditer(words):
            yield node.lineno, match["table"] or match["updated"]


def handlers(node: ast.AST, function: str) -> Iterator[tuple[str, ast.ExceptHandler]]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(child, ast.ExceptHandler):
            yield function, child
        yield from handlers(child, inside)


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler ends by raising what it caught again: it cleans up and hides nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all that runs when a module is imported: not the bodies of functions, but their decorators and defaults."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            decorators = [] if isinstance(child, ast.Lambda) else child.decorator_list
            for part in (*decorators, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield part
                yield from at_import(part)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "__name__ == '__main__'":
            continue
        else:
            yield child
            yield from at_import(child)
