"""`astra retry`: failed tasks run again."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astra.cli.printing import as_json, print_json
from astra.cli.targeting import KINDS, counted, opened, targeted

if TYPE_CHECKING:
    from astra.queue.holding import Retried
    from astra.states import TaskState
    from astra.targets import Target

SHOWN = 10

EPILOG = """\b
Examples:
  astra retry task 41 42
  astra retry component SpectrumQuality --plan
  astra retry component SpectrumQuality --error "OSError: cannot open"
  astra retry bundle 12 --cancelled
"""


@click.command(epilog=EPILOG)
@targeted(*KINDS)
@click.option("--error", metavar="TEXT", help="Only where the last error holds this, as `astra failures` has it.")
@click.option("--cancelled", is_flag=True, help="Cancelled tasks too.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would happen, and write nothing.")
@as_json
@click.pass_obj
def command(
    config: Path | None,
    /,
    kind: str,
    names: tuple[str, ...],
    error: str | None,
    cancelled: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Make failed tasks pending again: single ones, or those of components, replays or bundles.

    Each is the task that it was, and its earlier tries stay in its record, but count no more towards `retries`. What
    somebody else does is left alone, and said: the same work enqueued again, or the task of a newer file version.
    Without a failed task that can be retried the exit status is 1 where tasks were named, else 0.
    """
    found = opened(config, kind, names)
    from astra import queue
    from astra.states import TaskState

    states = frozenset({TaskState.FAILED, TaskState.CANCELLED} if cancelled else {TaskState.FAILED})
    keys = _keys(found, states, error)
    done = queue.plan_retry(keys, states) if only_plan else queue.retry(keys, states)
    if as_json:
        left = [{"task": each.task, "reason": each.reason} for each in done.left]
        counts = {"plan": only_plan, "retried": len(done.again), "tasks": done.again, "left": done.alone}
        print_json(counts | {"left_alone": left})
    else:
        _say(done, only_plan)
    if kind == "task" and not done.again:
        click.get_current_context().exit(1)


def _keys(found: list[Target], states: frozenset[TaskState], error: str | None) -> array[int]:
    """Return the tasks that are meant; those that are named, in whatever state they are."""
    from astra import alike, targets

    keys: array[int] = array("q")
    for each in found:
        keys += array("q", [int(each.name)]) if each.kind == "task" else targets.ended(each, states)
    return alike.with_error(keys, error) if error else keys


def _say(done: Retried, only_plan: bool) -> None:
    verb = "would be pending" if only_plan else "pending"
    click.echo(f"{counted(len(done.again), 'task')} {verb} again, {done.alone:,} left alone")
    for each in done.left[:SHOWN]:
        click.echo(f"  {each.reason}")
    if done.alone > SHOWN:
        click.echo(
            f"  and {done.alone - SHOWN:,} more; --json has {'them all' if done.alone == len(done.left) else 'more'}"
        )
