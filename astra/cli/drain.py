"""`astra drain`: let what runs come to its end, start nothing more, and wait."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json
from astra.cli.targeting import HOLDABLE, answer, counted, opened, targeted, told

if TYPE_CHECKING:
    from astra.clock import Clock
    from astra.targets import Open, Target

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
    over = {each for each in found if not steering.drain(each, by)}
    try:
        left = wait(found, timeout, SYSTEM)
    except KeyboardInterrupt:
        click.echo(f"astra: no longer waited for, but still draining: {', '.join(map(str, found))}", err=True)
        raise click.Abort from None
    answer([_said(each, left, each in over) for each in found], as_json)
    if left:
        click.get_current_context().exit(1)


def wait(found: list[Target], timeout: float | None, clock: Clock) -> dict[Target, list[Open]]:
    """Wait until nothing of the targets runs, and say how much still does as it changes; return what still does.

    What a service that is gone has left behind is looked for twice, as another service takes it back, and then not
    waited for.
    """
    from astra import steering

    never, start = threading.Event(), clock.monotonic()
    said: dict[Target, tuple[int, int]] = {}
    hopeless = False
    while True:
        left = {}
        for target in found:
            running = steering.running(target)
            count = (len(running), sum(each.unfinished for each in running))
            if running:
                left[target] = running
                if said.get(target) != count:
                    words = f"{counted(count[0], 'bundle')} with {counted(count[1], 'unfinished task')}"
                    click.echo(f"{target}: {words}", err=True)
            said[target] = count
        passed = clock.monotonic() - start
        before, hopeless = hopeless, all(steering.left_behind(running) == running for running in left.values())
        if not left or (before and hopeless) or (timeout is not None and passed >= timeout):
            return left
        clock.wait(never, EVERY if timeout is None else min(EVERY, timeout - passed))


def _said(target: Target, left: dict[Target, list[Open]], over: bool) -> tuple[dict[str, Any], str]:
    from astra import steering

    running = left.get(target, [])
    behind = steering.left_behind(running)
    kept = " and held" if target.kind in HOLDABLE else ""
    if over:
        sentence = f"{target} has ended already"
    elif not running:
        sentence = f"{target} is drained{kept}"
    elif behind:
        sentence = _left_behind(target, behind, kept)
    else:
        sentence = f"{target} still runs; it goes on draining"
    return {**told(target), "drained": not running, "left_behind": [each.bundle for each in behind]}, sentence


def _left_behind(target: Target, behind: list[Open], kept: str) -> str:
    first, more = behind[0], len(behind) - 1
    others = f" and {counted(more, 'more bundle')}" if more else ""
    now = f", or `astra pause {target} --now` does it without one" if kept else ""
    return (
        f"{target} is not drained{', but held' if kept else ''}: bundle {first.bundle}{others} was run {first.place}, "
        f"which is gone; start the service, which gives the tasks back{now}"
    )
