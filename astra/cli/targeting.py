"""The words that say what a command is about, the same in `pause`, `resume`, `cancel`, `drain` and `retry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from astra.cli.choosing import key_of
from astra.cli.printing import print_json

if TYPE_CHECKING:
    from astra.config import Settings
    from astra.steering import Done
    from astra.targets import Target

Command = TypeVar("Command", bound=Callable[..., Any])
HOLDABLE = ("component", "replay")  # held as such, what comes later included; of the others, their tasks are
KINDS = (*HOLDABLE, "bundle", "task")


def targeted(*kinds: str) -> Callable[[Command], Command]:
    """Give a command the words that name work: its `kind`, and one or several `names`."""

    def give(command: Command) -> Command:
        command = click.argument("names", nargs=-1, required=True, metavar="NAME...")(command)
        return click.argument("kind", type=click.Choice(kinds))(command)

    return give


def opened(config: Path | None, kind: str, names: Sequence[str]) -> list[Target]:
    """Open the records and return what the words mean."""
    if kind != "component":
        for name in names:
            key_of(kind, name)
    from astra.cli.opening import open_records
    from astra.targets import Kind, find

    named = in_settings(open_records(config))
    return list(dict.fromkeys(find(Kind(kind), name, named) for name in names))


def in_settings(settings: Settings) -> set[str]:
    """Return the components that rules and the calendar name, of which there may be no record yet."""
    return {each.task for each in settings.rules} | {each.task for each in settings.schedule}


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_bundles(done: Done) -> str:
    """Return how many running tasks were taken, and from how many bundles."""
    return f"{counted(done.running, 'running task')} of {counted(done.bundles, 'bundle')}"


def by_hand(done: Done) -> str:
    """Return what was left to those who run it; empty where nothing was."""
    if not done.by_hand:
        return ""
    first = done.by_hand[0]
    more = f" and {counted(len(done.by_hand) - 1, 'more bundle')}" if len(done.by_hand) > 1 else ""
    return f"; bundle {first.bundle}, run by hand {first.place},{more} is left to whoever runs it"


def told(target: Target) -> dict[str, Any]:
    """Return a target as JSON has it."""
    return {"kind": target.kind, "target": target.value}


def answer(rows: Sequence[tuple[dict[str, Any], str]], as_json: bool) -> None:
    """Print what was done to each target: as JSON, or its sentence."""
    if as_json:
        print_json([row for row, _ in rows])
        return
    for _, sentence in rows:
        click.echo(sentence)
