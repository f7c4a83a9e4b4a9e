"""`astra resume`: let go what is held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json
from astra.cli.targeting import HOLDABLE, KINDS, answer, counted, opened, targeted, told

if TYPE_CHECKING:
    from datetime import datetime

    from astra.targets import Target

EPILOG = """\b
Examples:
  astra resume component SpectrumQuality
  astra resume bundle 12
"""


@click.command(epilog=EPILOG)
@targeted(*KINDS)
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, names: tuple[str, ...], as_json: bool) -> None:
    """Let components, replays, bundles' tasks or single tasks be started again.

    It lifts what `astra pause` and `astra drain` held, and what was held because too much of a component failed.
    """
    found = opened(config, kind, names)
    from astra.clock import SYSTEM

    answer([_lifted(each, SYSTEM.now()) if kind in HOLDABLE else _let_go(each) for each in found], as_json)


def _lifted(target: Target, now: datetime) -> tuple[dict[str, Any], str]:
    from astra import holds, steering

    held = steering.lift(target, now)
    sentence = f"{target} was not held" if held is None else f"{target} is resumed; it was held {holds.told(held)}"
    for name, count, first in holds.tasks_by_component():
        if name == target.name:
            sentence += f"; {counted(count, 'task')} of it, such as {first}, still held one by one"
    return {**told(target), "was_held": held is not None, "by": held.who if held else None}, sentence


def _let_go(target: Target) -> tuple[dict[str, Any], str]:
    from astra import steering

    count = steering.let_go(target)
    return {**told(target), "resumed": count}, f"{target}: {counted(count, 'task')} resumed"
