"""`astra drain`: let what runs come to its end, start nothing more, and wait."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json
from astra.cli.targeting import answer, counted, opened, targeted, told

if TYPE_CHECKING:
    from astra.clock import Clock
    from astra.targets import Target

EVERY = 1.0  # seconds between two looks

EPILOG = """\b
Examples:
  astra drain component SpectrumQuality
  astra drain bundle 12 --timeout 600
"""


@click.command(epilog=EPILOG)
@targeted("component", "replay", "bundle")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer than this.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who find it held.")
@as_json
@click.pass_obj
def command(
    config: Path | None, /, kind: str, names: tuple[str, ...], timeout: float | None, reason: str, as_json: bool
) -> None:
    """Hold components or replays and wait until nothing of them runs; or have bundles end early, and wait for that.

    A bundle that is drained ends the task in hand and gives back those that it has not begun. Ctrl-C, or the end of
    --timeout (exit status 1), ends the waiting only. A component or a replay stays held until `astra resume`.
    """
    found = opened(config, kind, names)
    from astra import steering
    from astra.clock import SYSTEM

    by = steering.By(steering.who(), reason or "drained", SYSTEM.now())
    for each in found:
        steering.drain(each, by)
    try:
        left = wait(found, timeout, SYSTEM)
    except KeyboardInterrupt:
        click.echo(f"astra: no longer waited for, but still draining: {', '.join(map(str, found))}", err=True)
        raise click.Abort from None
    answer([_said(each, left) for each in found], as_json)
    if left:
        click.get_current_context().exit(1)


def wait(found: list[Target], timeout: float | None, clock: Clock) -> set[Target]:
    """Wait until nothing of the targets runs, and say how much still does as it changes; return those that still do."""
    from astra import steering

    never, start = threading.Event(), clock.monotonic()
    said: dict[Target, tuple[int, int]] = {}
    while True:
        left = set()
        for target in found:
            running = steering.running(target)
            count = (len(running), sum(each.unfinished for each in running))
            if running:
                left.add(target)
                if said.get(target) != count:
                    words = f"{counted(count[0], 'bundle')} with {counted(count[1], 'unfinished task')}"
                    click.echo(f"{target}: {words}", err=True)
            said[target] = count
        passed = clock.monotonic() - start
        if not left or (timeout is not None and passed >= timeout):
            return left
        clock.wait(never, EVERY if timeout is None else min(EVERY, timeout - passed))


def _said(target: Target, left: set[Target]) -> tuple[dict[str, Any], str]:
    done = target not in left
    kept = " and held" if target.kind != "bundle" else ""
    sentence = f"{target} is drained{kept}" if done else f"{target} still runs; it goes on draining"
    return {**told(target), "drained": done}, sentence
