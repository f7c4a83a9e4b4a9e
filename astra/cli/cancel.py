"""`astra cancel`: give up what has not ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json
from astra.cli.targeting import KINDS, answer, by_hand, counted, in_bundles, opened, targeted, told

if TYPE_CHECKING:
    from astra.steering import By
    from astra.targets import Target

EPILOG = """\b
Examples:
  astra cancel replay 3
  astra cancel component SpectrumQuality
  astra cancel bundle 12
"""


@click.command(epilog=EPILOG)
@targeted(*KINDS)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, names: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Cancel the unfinished tasks of components, replays or bundles, or single tasks; finished ones stand.

    What runs is stopped, and what it has not recorded is lost. Rules go on enqueuing tasks for new files: to keep those
    from running, pause the component. Of a replay nothing more is enqueued. `astra retry --cancelled` takes it back.
    """
    found = opened(config, kind, names)
    from astra.clock import SYSTEM
    from astra.steering import By, who

    by = By(who(), reason, SYSTEM.now())
    answer([_cancelled(each, by) for each in found], as_json)


def _cancelled(target: Target, by: By) -> tuple[dict[str, Any], str]:
    from astra import steering

    row: dict[str, Any] = told(target)
    if target.kind == "replay":
        from astra import replay

        row["stopped"] = replay.cancel(int(target.name))
    done = steering.cancel(target, by)
    row |= {"cancelled": done.waiting + done.running, "waiting": done.waiting, "running": done.running}
    counts = f"{counted(done.waiting, 'waiting task')} and {in_bundles(done)} cancelled{by_hand(done)}"
    return row, f"{target} is stopped, and {counts}" if row.get("stopped") else f"{target}: {counts}"
