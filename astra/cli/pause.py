"""`astra pause`: have nothing more of something started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json
from astra.cli.targeting import HOLDABLE, KINDS, answer, by_hand, counted, in_bundles, opened, targeted, told

if TYPE_CHECKING:
    from astra.steering import By
    from astra.targets import Target

EPILOG = """\b
Examples:
  astra pause component SpectrumQuality --reason "disk is nearly full"
  astra pause component SpectrumQuality --now     and give back what runs
  astra pause bundle 12                           its unfinished tasks wait for `astra resume bundle 12`
"""


@click.command(epilog=EPILOG)
@targeted(*KINDS)
@click.option("--now", "at_once", is_flag=True, help="Give back what runs of a component or a replay, unfinished.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who find it held.")
@as_json
@click.pass_obj
def command(
    config: Path | None, /, kind: str, names: tuple[str, ...], at_once: bool, reason: str, as_json: bool
) -> None:
    """Hold components or replays, or the unfinished tasks of bundles or single tasks, until they are resumed.

    Of a component or a replay nothing more is started, what is enqueued later included; what runs goes on to its end,
    unless --now gives it back. Bundles and tasks are always given back at once. What was recorded stands, and what was
    given back is run from its beginning. People who run something by hand are not hindered.
    """
    found = opened(config, kind, names)
    from astra.clock import SYSTEM
    from astra.steering import By, who

    by = By(who(), reason, SYSTEM.now())
    answer([_held(each, by, at_once) if kind in HOLDABLE else _kept(each, by) for each in found], as_json)


def _held(target: Target, by: By, at_once: bool) -> tuple[dict[str, Any], str]:
    from astra import holds, steering

    before = steering.pause(target, by)
    sentence = f"{target} is held" if before is None else f"{target} is held already, {holds.told(before)}"
    row = {**told(target), "held_before": before is not None, "who": before.who if before else by.who}
    row |= {"since": before.created if before else by.now, "reason": before.reason if before else by.reason}
    if at_once:
        done = steering.give_back(target, by)
        sentence += f"; {in_bundles(done)} given back{by_hand(done)}"
        row |= {"given_back": done.running, "bundles": done.bundles}
    elif running := steering.running(target):
        sentence += f"; {counted(len(running), 'bundle')} of it still run{'s' if len(running) == 1 else ''}"
    return row, sentence


def _kept(target: Target, by: By) -> tuple[dict[str, Any], str]:
    from astra import steering

    done = steering.hold_work(target, by)
    sentence = f"{target}: {counted(done.waiting + done.running, 'task')} held"
    if done.running:
        sentence += f", {done.running:,} of them given back unfinished"
    return {**told(target), "held": done.waiting + done.running, "given_back": done.running}, sentence
