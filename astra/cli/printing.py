"""How answers are printed: JSON for programs, a table on a terminal, aligned plain text anywhere else."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
EXACT = 1 << 53  # a larger integer loses digits in programs that read JSON numbers as doubles


def instant(value: datetime) -> str:
    """Return an instant as ISO 8601 in UTC, with a Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: instants as text with Z, integers that doubles cannot hold as text."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return value if abs(value) <= EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def text(value: Any) -> str:
    """Return a value as one line for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={text(each)}" for key, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "-"
    return " ".join(str(value).split("\n"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows under their columns' names."""
    cells = [[text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, title)
        return
    if title:
        click.echo(title)
    lines = [list(columns), *cells]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    Console().print(table)


def width() -> int | None:
    """Return how many characters a line of the terminal has; None where the output is no terminal."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console().width


def fitting(columns: Sequence[str], rows: Sequence[Sequence[Any]], importance: Sequence[str], most: int) -> list[int]:
    """Return which columns to print so that a row stays one line of `most` characters, the important before others."""
    wide = {name: max(len(name), *(len(text(row[at])) for row in rows)) + 2 for at, name in enumerate(columns)}
    kept: set[str] = set()
    left = most + 2
    for name in importance:
        if name in wide and (wide[name] <= left or not kept):
            kept.add(name)
            left -= wide[name]
    return [at for at, name in enumerate(columns) if name in kept]


def print_wide(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    """Print rows of many columns: as several tables, one below the other, each begun with the first column."""
    most = width() or 120
    cells = [[text(value) for value in row] for row in rows]
    wide = [max(map(len, column)) + 2 for column in zip(columns, *cells, strict=True)]
    start = 1
    while start < len(columns):
        end, used = start + 1, wide[0] + wide[start]
        while end < len(columns) and used + wide[end] <= most + 2:
            used += wide[end]
            end += 1
        shown = [0, *range(start, end)]
        print_table([columns[at] for at in shown], [[row[at] for at in shown] for row in cells], title)
        title, start = "", end


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {text(value)}")


def print_list(rows: Sequence[Mapping[str, Any]], json_asked: bool, none: str) -> None:
    """Print records of one kind, as JSON or as a table; `none` says that there are none."""
    if json_asked:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo(none)
