"""`astrad`, the command of the service."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from astra.config import Settings

USAGE_STATUS, FAILED_STATUS, CONFIGURATION_STATUS = 2, 1, 78
HOLDS_SHOWN = 10
JOBS_SHOWN = 3
_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file; by default it is looked for."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sdss-astra", message="%(prog)s %(version)s")
def astrad() -> None:
    """The astra service: watch folders, take in new spectra, run the analyses they call for.

    Example: astrad check && astrad run
    """


@astrad.command()
@_config
@click.option("--drain", is_flag=True, help="End when nothing is left to do; the status tells if all went well.")
@click.option("--once", is_flag=True, help="Sweep every folder once, run what is pending, and end.")
def run(config: Path | None, drain: bool, once: bool) -> None:
    """Run the service until it is stopped.

    SIGTERM lets running bundles finish for a while; a second one stops at once.

    Example: astrad run --config /etc/astra/config.toml
    """
    from astra.clock import SYSTEM
    from daemon import logs
    from daemon.service import Service, Until

    if drain and once:
        raise click.UsageError("--drain and --once exclude each other")
    settings = _settings(config)
    logs.configure(settings.log)
    until = Until.DRAINED if drain else Until.ONCE if once else Until.STOPPED
    sys.exit(Service(settings, SYSTEM, until).run())


@astrad.command()
@_config
@_json
def check(config: Path | None, as_json: bool) -> None:
    """Check settings, database, rules and folders, and say what to change. Nothing is started or written.

    Example: astrad check --config config.toml
    """
    from daemon.check import check as look

    findings = look(_settings(config))
    if as_json:
        click.echo(
            json.dumps([{"subject": f.subject, "good": f.good, "message": f.message} for f in findings], indent=2)
        )
    else:
        for each in findings:
            click.echo(f"{'ok ' if each.good else 'BAD'} {each.subject}: {each.message}")
    sys.exit(0 if all(each.good for each in findings) else FAILED_STATUS)


@astrad.command()
@_config
@_json
def status(config: Path | None, as_json: bool) -> None:
    """Show how the service is doing and what the records hold. Exit status 1 where no service is alive.

    While the database is away, what the service says of itself is shown all the same.

    Example: astrad status --json
    """
    from astra.clock import SYSTEM
    from daemon import status as snapshots

    settings = _settings(config)
    place = snapshots.status_file(settings)
    running = snapshots.read(place, SYSTEM)
    recorded, away = _recorded(settings)
    if as_json:
        click.echo(json.dumps({"service": running, "records": recorded, "database_away": away}, indent=2))
    else:
        last = _words_of_records(recorded) if recorded is not None else [f"database    away: {away}"]
        for line in [*_words_of_service(running, place), *last]:
            click.echo(line)
    sys.exit(0 if running is not None and running["alive"] else FAILED_STATUS)


@astrad.command()
@click.argument("bundles", type=int, nargs=-1, required=True, metavar="BUNDLE...")
@_config
@click.option(
    "--handed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that was handed with these bundles, and must be named: only with the token in it may they be run.",
)
def bundle(bundles: tuple[int, ...], config: Path | None, handed: Path | None) -> None:
    """Run bundles that a service handed to this job, as it would itself. Slurm's jobs call this.

    To run a recorded bundle again by hand, use `astra execute bundle ID`.

    Example: astrad bundle 41 --config config.toml --handed state/slurm/astra-b41-5d0c1f7a/0.load
    """
    from astra.clock import SYSTEM
    from daemon import logs
    from daemon.executors.handed import read_load
    from daemon.executors.job import Job

    if handed is None:
        again = f"to run a recorded bundle again: astra execute bundle {bundles[0]}"
        raise click.UsageError(f"--handed is missing, the file that a service hands to its job; {again}")
    settings = _settings(config)
    load = read_load(handed, bundles)
    logs.configure(settings.log)
    sys.exit(Job(settings, load, SYSTEM, os.environ).run())


def _recorded(settings: Settings) -> tuple[dict[str, Any] | None, str | None]:
    """Return what the records hold; where the database is away, None, and what it says."""
    from astra.cli.opening import open_records_of
    from astra.clock import SYSTEM
    from astra.database.connection import available
    from astra.errors import DatabaseUnavailable
    from daemon import status as snapshots

    try:
        with available():
            open_records_of(settings)
            return snapshots.records(SYSTEM), None
    except DatabaseUnavailable as error:
        return None, str(error)


def _words_of_service(running: dict[str, Any] | None, place: Path) -> list[str]:
    if running is None:
        lines = [f"service     has not run with these settings: there is no {place}"]
    elif not running["alive"]:
        words = "its process is gone" if running["gone"] else f"it has written nothing for {running['age_seconds']:g} s"
        ended = f"stopped at {running['written']}" if running["state"] == "stopped" else f"not alive: {words}"
        lines = [f"service     {ended}"]
    else:
        lines = [
            f"service     alive and {running['state']}, pid {running['pid']} since {running['began']}, "
            f"{running['bundles_running']} bundles running"
        ]
        for root in running["roots"]:
            if "watched_by" in root:
                lines.append(f"watch       {root['name']}: standing by; watched by {root['watched_by']}")
                continue
            deaf = f"polled: no event told of {root['deaf']} files" if root["deaf"] else None
            state = root["outage"] or root["blind"] or deaf or ("polled" if root["polled"] else "events and sweeps")
            lines.append(f"watch       {root['name']}: {root['files']} files in {root['folders']} folders; {state}")
        lines += _slurm(running["executor"])
        lines.append(f"on the way  {running['intake']['on_their_way']} files")
        if running["lag_seconds"]:
            shown = ", ".join(f"{name} {value:g} s" for name, value in running["lag_seconds"].items())
            lines.append(f"lag         {shown}, from last write to recorded")
    return lines


def _words_of_records(recorded: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(recorded["ingestions"].items())) or "nothing yet"
    tasks = ", ".join(f"{count} {name}" for name, count in sorted(recorded["tasks"].items())) or "none yet"
    products = (
        f"{recorded['data_products']} data products, {recorded['linked']} linked to {recorded['sources']} sources"
    )
    return [
        f"database    {recorded['database']}",
        f"records     {products}",
        f"ingested    {counts}",
        f"tasks       {tasks}{_after(recorded['waiting_for_others'])}",
        *(f"to gather   {_sources(each)}" for each in recorded["gathering"]),
        *_running(recorded["running"]),
        *_held(recorded["holds"]),
    ]


def _slurm(executor: dict[str, Any]) -> Iterator[str]:
    if executor["name"] != "slurm":
        return
    unseen = f", {executor['unseen']} not seen yet" if executor["unseen"] else ""
    yield f"slurm       {executor['jobs']} jobs: {executor['waiting']} wait, {executor['running']} run{unseen}"
    for reason, jobs in sorted(executor["held"].items()):
        more = f" and {len(jobs) - JOBS_SHOWN} more" if len(jobs) > JOBS_SHOWN else ""
        yield f"slurm       {reason}: {', '.join(jobs[:JOBS_SHOWN])}{more}"
    if executor["away"]:
        yield f"slurm       away: {executor['away']}"
    for component, reason in sorted(executor["refused"].items()):
        yield f"slurm       {component} is refused: {reason}"


def _after(count: int) -> str:
    return f"; {count} of the pending wait for other work" if count else ""


def _sources(gathering: dict[str, Any]) -> str:
    return f"{gathering['sources']} sources by {gathering['rule']}, the next at {gathering['next']}"


def _running(machines: list[dict[str, Any]]) -> Iterator[str]:
    for each in machines:
        host = each["host"].partition("/")[0]
        bundles, tasks = each["bundles"], each["tasks"]
        does = "running" if each["state"] == "running" else "waiting"
        where = f"on {host}, {each['executor']}" if does == "running" else f"for {each['executor']}, by {host}"
        yield f"{does}     {bundles} bundles of {tasks} tasks {where}"


def _held(holds: list[dict[str, Any]]) -> Iterator[str]:
    for each in holds[:HOLDS_SHOWN]:
        name = each["target"] if each["kind"] == "component" else f"{each['kind']} {each['target']}"
        reason = f" ({' '.join(each['reason'].split())})" if each["reason"] else ""
        probe = f"; next try {each['next_probe']}" if each["next_probe"] else ""
        yield f"held        {name} by {each['who']} since {each['since']}{reason}{probe}"
    if len(holds) > HOLDS_SHOWN:
        yield f"held        and {len(holds) - HOLDS_SHOWN} more: `astra holds` lists them all"


def _settings(config: Path | None) -> Settings:
    from astra.config import load

    return load(config)


def main() -> None:
    """Run the command; an error meant for people is one sentence and an exit status."""
    from astra.errors import AstraError, ConfigurationError, sentence

    try:
        astrad(prog_name="astrad")
    except ConfigurationError as error:
        click.echo(f"astrad: {error}", err=True)
        sys.exit(CONFIGURATION_STATUS)
    except AstraError as error:
        click.echo(f"astrad: {sentence(error)}", err=True)
        sys.exit(FAILED_STATUS)
    except OSError as error:
        from astra.cli import said

        click.echo(f"astrad: {said(error)}", err=True)
        sys.exit(FAILED_STATUS)
