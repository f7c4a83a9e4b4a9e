"""`astra execute`: run a recorded task or bundle again, here and now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import recorded
from astra.cli.printing import as_json, print_list

if TYPE_CHECKING:
    from astra.base import TaskInstance

EPILOG = """\b
Examples:
  astra execute task 41
  astra execute task 41 --debug       the debugger, where it failed; nothing is recorded
"""


@click.command(epilog=EPILOG)
@recorded
@click.option("--debug", is_flag=True, help="Open the debugger where it fails; record nothing.")
@click.option("--record", is_flag=True, help="With --debug: record it all the same.")
@as_json
@click.pass_obj
def command(config: Path | None, /, kind: str, key: int, debug: bool, record: bool, as_json: bool) -> None:
    """Run a recorded task, or all tasks of a bundle, again in this process.

    What is pending, failed or cancelled is run and recorded as the task that it is; what is completed, as a new task
    that names the old one. The exit status is 1 if it fails.
    """
    from astra.cli.opening import open_records
    from astra.cli.records import instance_of

    if record and not debug:
        raise click.UsageError("--record goes with --debug: without it everything is recorded")
    open_records(config)
    instance = instance_of(kind, key)
    if debug:
        _debug(instance, record)
        return
    ran = _run(instance, kind, key)
    print_list(ran, as_json, "nothing ran")


def _run(instance: TaskInstance, kind: str, key: int) -> list[dict[str, Any]]:
    from astra.errors import AstraError

    try:
        instance.execute()
    except AstraError:
        raise
    except Exception as error:  # the component's own, and recorded
        failed = next((row["task"] for row in _newest() if row["state"] == "failed"), None)
        shown = f"task {failed}" if failed is not None else f"{kind} {key}"
        hint = f"`astra show {shown}` has the traceback, `astra execute {kind} {key} --debug` goes there"
        raise AstraError(f"it failed: {type(error).__name__}: {error}; {hint}") from error
    return _newest()


def _newest() -> list[dict[str, Any]]:
    """Return the tasks that this process has just run."""
    import os

    from astra.database.astradb import Bundle

    bundle = Bundle.select().where(Bundle.owner_pid == os.getpid()).order_by(Bundle.id.desc()).get()
    return [
        {
            "task": task.id,
            "state": task.state,
            "repeat_of": task.__data__["repeat_of"],
            "bundle": bundle.id,
            "seconds": task.time_total,
            "results": len(task.results()),
        }
        for task in bundle.tasks
    ]


def _debug(instance: TaskInstance, record: bool) -> None:
    import pdb  # noqa: T100 -- what was asked for
    import traceback

    try:
        if record:
            instance.execute(debug=True)  # type: ignore[call-arg]
        else:
            instance.rehearse(debug=True)
    except Exception as error:  # whatever it is: this is what the person wants to look at
        traceback.print_exception(error)
        pdb.post_mortem(error.__traceback__)
        click.get_current_context().exit(1)
    click.echo("it did not fail" + ("" if record else "; nothing was recorded"))
