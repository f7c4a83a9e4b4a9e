"""`astra verify`: what lies on disk against the ledger, the proof that nothing is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from astra.cli.printing import as_json, print_json, print_list

if TYPE_CHECKING:
    from astra.verifying import Verified

EPILOG = """\b
Examples:
  astra verify                     every watched folder: files there, files known, files lacking
  astra verify --root redux --deep read every byte too, and compare checksums
"""
SHOWN = 20


@click.command(epilog=EPILOG)
@click.option("--root", "names", multiple=True, metavar="NAME", help="Only this watched folder; may be given again.")
@click.option("--deep", is_flag=True, help="Read every file from end to end; record or compare its checksum.")
@as_json
@click.pass_context
def command(ctx: click.Context, /, names: tuple[str, ...], deep: bool, as_json: bool) -> None:
    """Compare every file below the watched folders with the ledger.

    What lacks was missed, or has not been taken in yet: with the service running, its next whole sweep finds it. The
    exit status is 1 if a file lacks, has changed behind its stamps, or could not be looked at.
    """
    from astra.cli.opening import open_records, roots_of
    from astra.clock import SYSTEM
    from astra.errors import ConfigurationError
    from astra.verifying import Wait, verify, verify_bytes

    settings = open_records(ctx.obj)
    roots = {root.name: root for root in roots_of(settings)}
    if unknown := [name for name in names if name not in roots]:
        raise click.UsageError(f"there is no watched folder named {unknown[0]}; there are {', '.join(roots) or 'none'}")
    if not roots:
        raise ConfigurationError("the settings watch no folder, so there is nothing to verify: add a [[watch]] section")
    found = []
    for name in names or roots:
        one = verify(roots[name], Wait(settings.settle.quiet, settings.settle.patience), SYSTEM)
        if deep:
            verify_bytes(roots[name], one)
        found.append(one)
    _show(found, as_json)
    if not all(each.proven for each in found):
        ctx.exit(1)


def _show(found: list[Verified], as_json: bool) -> None:
    if as_json:
        print_json([_row(each) | _paths(each) for each in found])
        return
    print_list([_row(each) for each in found], False, "nothing is watched")
    for each in found:
        for kind, paths in _paths(each).items():
            for path in paths[:SHOWN]:
                click.echo(f"{kind:8} {path}")
            if (more := each.counts[kind] - SHOWN) > 0:
                click.echo(f"{kind:8} ... and {more} more")


def _row(each: Verified) -> dict[str, Any]:
    return {
        "root": each.root,
        "folders": each.folders,
        "files": each.files,
        "known": each.known,
        "on_their_way": each.on_their_way,
        "not_ours": each.not_ours,
        "lacking": each.counts["lacking"],
        "unseen": each.counts["unseen"],
        "quarantined": each.outcomes["quarantined"],
        "missing": each.missing,
        "checked": each.checked,
        "altered": each.counts["altered"],
        "proven": each.proven,
    }


def _paths(each: Verified) -> dict[str, list[str]]:
    unseen = [f"{problem.path}: {problem.reason}" for problem in each.unseen]
    return {"lacking": each.lacking, "altered": each.altered, "unseen": unseen}
