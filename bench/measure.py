"""Timing ways of doing one thing side by side, and saying how they compare."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from astra.clock import SYSTEM


class Turn(NamedTuple):
    """One turn of one way: how many things it did, and in how many seconds."""

    done: int
    seconds: float


Way = Callable[[], Turn]


@dataclass
class Table:
    """One part of the report."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the table as Markdown that is also easy to read as it stands."""
        lines = [self.columns, *self.rows]
        widths = [max(2, *(len(line[at]) for line in lines)) for at in range(len(self.columns))]  # a rule has two signs
        rule = tuple("-" * width if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths))
        shown = [_line(line, widths) for line in (self.columns, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *shown, *(["", *self.notes] if self.notes else [])])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"


def timed(work: Callable[[], int]) -> Turn:
    """Return how many things `work` says it did, and how long it took."""
    gc.collect()
    began = SYSTEM.monotonic()
    count = work()
    return Turn(count, SYSTEM.monotonic() - began)


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, list[Turn]]:
    """Take a turn of every way in each round, so that what else the machine does meets them all alike."""
    found: dict[str, list[Turn]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(ways[name]())
    return found


COLUMNS = ("n", "us each: median (min to max)", "per second", "times as fast as the first (min to max)")


def compare(found: Mapping[str, Sequence[Turn]]) -> list[tuple[str, ...]]:
    """Return a row for each way; the first is what the others are compared with, round by round."""
    costs = {name: [each.seconds / max(1, each.done) for each in turns] for name, turns in found.items()}
    first = next(iter(costs.values()))
    rows: list[tuple[str, ...]] = []
    for name, own in costs.items():
        ratios = [one / each for one, each in zip(first, own, strict=True)]
        spread = "1" if own is first else summary(ratios)
        shown = summary([each * 1e6 for each in own])
        rows.append((name, f"{found[name][0].done:,}", shown, f"{1 / median(own):,.0f}", spread))
    return rows


def summary(numbers: Sequence[float]) -> str:
    """Return the median of some numbers, and the least and the greatest of them, where there are several."""
    if len(numbers) == 1:
        return _short(numbers[0])
    return f"{_short(median(numbers))} ({_short(min(numbers))} to {_short(max(numbers))})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def memory(name: str) -> float | None:
    """Return ``VmRSS`` or ``VmHWM`` of this process in megabytes; None where the system does not tell."""
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(match[1]) / 1024 if match else None
