"""`astra replay`: take in again, or enqueue again, on purpose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.cli.choosing import selecting, selection_of
from astra.cli.printing import as_json, print_json, print_table

if TYPE_CHECKING:
    from astra.replay import Left, Plan, Progress

SAMPLE = 10

EPILOG = """\b
Examples:
  astra replay ingestion --outcome quarantined --plan      what taking in again would do
  astra replay tasks --component SpectrumQuality --state failed
  astra replay tasks --filetype apVisit --mjd 59000:59030 --component-version 1
  astra replay --rule quality-of-stars                     a rule on what was there before it
  astra replay --resume 3                                  go on with one that was cut short
"""


@click.command(epilog=EPILOG)
@click.argument("verb", type=click.Choice(["ingestion", "tasks"]), required=False)
@selecting
@click.option("--plan", "only_plan", is_flag=True, help="Show exactly what would happen, and write nothing.")
@click.option("--resume", type=int, metavar="ID", help="Go on with a replay that was cut short.")
@as_json
@click.pass_obj
def command(
    config: Path | None, /, verb: str | None, only_plan: bool, resume: int | None, as_json: bool, **given: Any
) -> None:
    """Take files in again, or enqueue tasks again; old records stand.

    `ingestion` examines the selected files again and records what it finds, with the tasks that the rules call for.
    `tasks` enqueues the selected tasks that have ended once more, on the current file versions, with the components as
    they are now. With neither, --rule NAME enqueues what that rule calls for on data products that lack it.

    Replayed tasks run after new ones. Work that is pending or running already is not doubled. It works whether the
    service runs or not.
    """
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    _check_usage(verb, resume, asked)
    from astra import replay
    from astra.cli.opening import linking_of, make_result_tables, open_records, roots_of, rules_of

    settings = open_records(config)
    roots, rules = roots_of(settings), rules_of(settings)
    if resume is not None:
        plan, key = replay.resume(resume, roots, rules), resume
    else:
        request = replay.Request(replay.Verb(verb or "rule"), selection_of(given), roots, rules)
        plan, key = replay.make_plan(request), None
    if only_plan or (key is None and not plan.entries):
        _show_plan(plan, only_plan, as_json)
        return
    make_result_tables(rules)
    number = replay.begin(plan) if key is None else key
    how = replay.Settings(settings.settle.patience, linking_of(settings))
    _carry_out(replay.carry_out(plan, number, how), plan, number, as_json)


def _check_usage(verb: str | None, resume: int | None, asked: dict[str, Any]) -> None:
    if resume is not None:
        if verb or asked:
            raise click.UsageError("--resume goes on with what was selected then: give nothing but its ID")
    elif verb is None and len(asked.get("rules", ())) != 1:
        raise click.UsageError("say what to replay: ingestion, tasks, or one --rule NAME")
    elif verb is None and set(asked) & {"components", "states", "versions"}:
        raise click.UsageError(
            "--rule NAME alone is about data products without that rule's task: leave out the task options"
        )
    elif verb is not None and not asked:
        raise click.UsageError(f"say which {'files' if verb == 'ingestion' else 'tasks'}; --path '*' means all")


def _show_plan(plan: Plan, only_plan: bool, as_json: bool) -> None:
    request = plan.request
    if as_json:
        print_json(
            {
                "plan": only_plan,
                "verb": request.verb,
                "selection": request.selection.given(),
                "planned": len(plan.entries),
                "counts": plan.counts,
                "entries": [
                    {
                        "id": each.key,
                        "kind": each.kind,
                        "path": each.place,
                        "component_version": each.task.component_version if each.task else None,
                        "repeat_of": each.task.repeat_of if each.task else None,
                    }
                    for each in plan.entries
                ],
                "left": _left_as_json(plan.left),
            }
        )
        return
    what = "files would be taken in again" if request.verb == "ingestion" else "tasks would be enqueued"
    what = "sources would be gathered" if plan.gathers else what
    click.echo(f"{len(plan.entries)} {what}, {len(plan.left)} selected ones would be left alone")
    if plan.entries:
        print_table(("kind", "count"), list(plan.counts.items()))
        shown = plan.entries[:SAMPLE]
        print_table(("id", "path"), [(each.key, each.place) for each in shown], f"the first {len(shown)}:")
    _show_left(plan.left)


def _left_as_json(left: list[Left]) -> list[dict[str, Any]]:
    return [{"id": each.key, "kind": each.kind, "path": each.place, "reason": each.reason} for each in left]


def _show_left(left: list[Left]) -> None:
    if left:
        print_table(("id", "reason"), [(each.key, each.reason) for each in left[:SAMPLE]], "left alone:")
    if len(left) > SAMPLE:
        click.echo(f"and {len(left) - SAMPLE} more; --plan --json lists all")


def _carry_out(steps: Any, plan: Plan, number: int, as_json: bool) -> None:
    progress: Progress | None = None
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=len(plan.entries), label=f"replay {number}", file=sys.stderr, hidden=hidden) as bar:
        for progress in steps:
            bar.update(progress.done - bar.pos)
    if progress is None:
        return
    outcomes = dict(progress.outcomes)
    if as_json:
        left = _left_as_json(progress.left)
        counts = {"plan": False, "replay": number, "planned": progress.planned, "done": progress.done}
        print_json(counts | {"outcomes": outcomes, "left": left})
        return
    said = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())) or "nothing to do"
    click.echo(f"replay {number}: {progress.done} of {progress.planned} done; {said}")
    _show_left(progress.left)
