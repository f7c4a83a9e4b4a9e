"""Every setting, its default and its meaning, as frozen sections. What reads them from a file is in `config`."""

# ruff: noqa: RUF009 -- _setting only declares a dataclass field

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from astra import settings_values as values
from astra.settings_values import Condition, Place


def _setting(check: Callable[[Any, Place], Any], meaning: str, **given: Any) -> Any:
    """Declare one setting.

    `default=` is its value when it is not written; `computed=(function, text)` derives it from the environment when
    settings are loaded; with neither the setting must be written.
    """
    metadata = {"check": check, "meaning": meaning, "computed": given.pop("computed", None)}
    if given.get("default") == {}:
        given["default_factory"] = given.pop("default").copy
    return field(metadata=metadata, **given)


def _section(kind: type[Any]) -> Any:
    """Declare a section within a section."""
    return field(metadata={"section": kind})


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where records are kept."""

    url: str = _setting(
        values.database_url,
        "database to record into: sqlite:///PATH or postgresql://USER@HOST/NAME; $ASTRA_DATABASE_URL goes before it",
        computed=(values.default_database_url, "sqlite:///<user data folder>/astra/astra.sqlite"),
    )
    synchronous: str = _setting(
        values.one_of("NORMAL", "FULL"),
        "SQLite only: FULL also survives a power cut without a repairing sweep",
        default="NORMAL",
    )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One watched folder."""

    path: Path = _setting(values.path, "folder to watch, with everything below it")
    name: str = _setting(
        values.text,
        "name of this root in the ledger; keep it when the tree moves to another path, and nothing is new work",
        computed=(None, "the path"),
    )
    release: str | None = _setting(
        values.text, "data release of the files, for names that do not tell; must not contradict them", default=None
    )
    mode: str = _setting(
        values.one_of("auto", "events", "poll"), "auto: events on local disks, poll on network ones", default="auto"
    )
    sweep_every: float = _setting(values.number(above=0), "seconds between two sweeps of the folder", default=300.0)
    backfill: bool = _setting(
        values.boolean,
        "whether rules also act on what lay there before the folder was first watched",
        default=False,
    )


@dataclass(frozen=True, kw_only=True)
class Settle:
    """When a file counts as finished."""

    quiet: float = _setting(values.number(least=0), "seconds a file must be still before it is examined", default=5.0)
    patience: float = _setting(
        values.number(above=0),
        "seconds after its last change that a file that is not whole is waited for before it is quarantined",
        default=600.0,
    )
    sha256: bool = _setting(
        values.boolean,
        "whether every byte of a file is read when it is taken in, and its checksum recorded",
        default=False,
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """For this product type, enqueue this component with these parameters."""

    name: str = _setting(values.text, "name of the rule, shown with every task it enqueues")
    filetype: str = _setting(values.text, "product type the rule answers to")
    task: str = _setting(values.import_path, "component to enqueue: package.module.Class")
    parameters: dict[str, Any] = _setting(values.table, "its parameters, as a table", default={})
    priority: int = _setting(values.priority, "tasks with a lower number run first", default=100)
    where: tuple[Condition, ...] = _setting(
        values.conditions,
        'conditions on header facts, all of which must hold: snr = {ge = 10}, telescope = "apo25m", field = ["a", "b"]',
        default=(),
    )
    after: str | None = _setting(
        values.text,
        "another rule of this product type: a task waits until that rule's task on the same data product is completed",
        default=None,
    )
    gather: str | None = _setting(
        values.one_of("source"),
        "source: one task is given all current data products of one source, in place of a task for each",
        default=None,
    )
    wait: float = _setting(
        values.number(least=0),
        "seconds after the last change of a source's data products before they are gathered; at most ten times as long "
        "after the first",
        default=3600.0,
    )


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """How pending tasks become bundles."""

    tick: float = _setting(values.number(above=0), "seconds between two turns of the scheduler", default=0.5)
    max_bundle_size: int = _setting(values.whole_number(least=1), "most tasks in one bundle", default=1000)
    lease: float = _setting(
        values.number(above=0), "seconds after which a bundle that nobody renews may be taken over", default=60.0
    )
    max_wait: float = _setting(
        values.number(least=0), "seconds that a task may wait for others, so that their bundle fills", default=0.0
    )
    target: float = _setting(
        values.number(above=0),
        "seconds that a bundle should take, as far as recorded times tell; it bounds the bundle's size",
        default=600.0,
    )
    retries: int = _setting(
        values.whole_number(least=0),
        "retries of a task that raised what may pass; and as many of one whose process died or was stopped",
        default=3,
    )
    backoff: float = _setting(
        values.number(least=0),
        "seconds before the first such retry; doubled for each further one, a quarter more or less by chance",
        default=10.0,
    )
    breaker_rate: float = _setting(
        values.number(above=0, most=1),
        "share of failures among a component's latest tasks above which it is paused; 1 switches this off",
        default=0.5,
    )
    breaker_least: int = _setting(
        values.whole_number(least=1), "failures that there must be at least before a component is paused", default=20
    )
    breaker_pause: float = _setting(
        values.number(above=0),
        "seconds before one bundle of a paused component is tried; doubled each time it fails, at most an hour",
        default=300.0,
    )


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """What Slurm is asked for, for each job; and how it is looked after."""

    partition: str | None = _setting(values.text, "partition of the jobs; none: the cluster's default", default=None)
    account: str | None = _setting(values.text, "account that the jobs are charged to", default=None)
    time: int = _setting(values.whole_number(least=1), "minutes of walltime of a job", default=60)
    memory: int | None = _setting(values.whole_number(least=1), "megabytes of memory of a job", default=None)
    cpus: int = _setting(values.whole_number(least=1), "processors of a job", default=1)
    prologue: str | None = _setting(
        values.lines, "shell lines that a job runs before anything else; where one fails, the job does", default=None
    )
    options: tuple[str, ...] = _setting(
        values.long_options, 'further options of sbatch, as in ["--qos=low", "--constraint=avx2"]', default=()
    )
    jobs: int = _setting(
        values.whole_number(least=1, most=1000), "most jobs that wait or run in Slurm at the same time", default=100
    )
    notice: int = _setting(
        values.whole_number(least=10),
        "seconds before the end of its walltime at which a job begins no further task and gives back the rest",
        default=120,
    )
    poll: float = _setting(
        values.number(above=0), "seconds between two looks at what Slurm says of the jobs", default=10.0
    )
    folder: Path | None = _setting(
        values.path,
        "folder for the jobs' scripts and what they print, which every node must see",
        computed=(None, "the folder slurm in [service] state"),
    )


@dataclass(frozen=True, kw_only=True)
class OwnSlurm:
    """What is different for the jobs of one component."""

    partition: str | None = _setting(values.text, "in place of [executor.slurm] partition", default=None)
    account: str | None = _setting(values.text, "in place of [executor.slurm] account", default=None)
    time: int | None = _setting(values.whole_number(least=1), "in place of [executor.slurm] time", default=None)
    memory: int | None = _setting(values.whole_number(least=1), "in place of [executor.slurm] memory", default=None)
    cpus: int | None = _setting(values.whole_number(least=1), "in place of [executor.slurm] cpus", default=None)
    prologue: str | None = _setting(values.lines, "in place of [executor.slurm] prologue", default=None)
    options: tuple[str, ...] | None = _setting(
        values.long_options, "in place of [executor.slurm] options", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where bundles run."""

    name: str = _setting(
        values.one_of("local", "slurm"),
        "where bundles run: on this machine, or in jobs of a Slurm cluster, which needs PostgreSQL",
        default="local",
    )
    workers: int = _setting(
        values.whole_number(least=1),
        "bundles run at the same time",
        computed=(lambda place, url: os.cpu_count() or 1, "the number of processors"),
    )
    timeout: float = _setting(values.number(above=0), "seconds a bundle may run before it is stopped", default=3600.0)
    task_timeout: float | None = _setting(
        values.number(above=0), "seconds a single task may be in hand before its bundle is stopped", default=None
    )
    grace: float = _setting(
        values.number(least=0), "seconds between the request to end (SIGTERM) and the end (SIGKILL)", default=5.0
    )
    memory: int | None = _setting(
        values.whole_number(least=1),
        "megabytes that a bundle, with the programs it starts, may hold in memory before it is stopped",
        default=None,
    )
    recycle_bundles: int = _setting(
        values.whole_number(least=1), "bundles after which a process is replaced by a new one", default=10_000
    )
    recycle_memory: int | None = _setting(
        values.whole_number(least=1),
        "megabytes that a process may hold in memory between two bundles before it is replaced by a new one",
        default=None,
    )
    drain: float = _setting(
        values.number(least=0),
        "seconds that running bundles may take to finish when the service stops; after half of it they begin no "
        "further task",
        default=60.0,
    )
    slurm: Slurm = _section(Slurm)


@dataclass(frozen=True, kw_only=True)
class Component:
    """What is different for one component."""

    task: str = _setting(values.import_path, "the component: package.module.Class")
    max_bundle_size: int | None = _setting(
        values.whole_number(least=1), "in place of [scheduler] max_bundle_size", default=None
    )
    max_wait: float | None = _setting(values.number(least=0), "in place of [scheduler] max_wait", default=None)
    target: float | None = _setting(values.number(above=0), "in place of [scheduler] target", default=None)
    timeout: float | None = _setting(values.number(above=0), "in place of [executor] timeout", default=None)
    task_timeout: float | None = _setting(values.number(above=0), "in place of [executor] task_timeout", default=None)
    memory: int | None = _setting(values.whole_number(least=1), "in place of [executor] memory", default=None)
    slurm: OwnSlurm = _section(OwnSlurm)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A component enqueued by the calendar."""

    name: str = _setting(values.text, "name of the calendar entry")
    cron: str = _setting(values.cron, "when, in UTC: minute, hour, day of month, month, day of week")
    task: str = _setting(values.import_path, "component to enqueue: package.module.Class")
    parameters: dict[str, Any] = _setting(values.table, "its parameters, as a table", default={})
    priority: int = _setting(values.priority, "tasks with a lower number run first", default=100)


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The survey's own catalogue of objects."""

    url: str | None = _setting(
        values.postgresql_url,
        "PostgreSQL database whose schema catalogdb is asked which object a file is of: postgresql://USER@HOST/NAME",
        default=None,
    )
    radius: float = _setting(
        values.number(above=0, most=60),
        "arcseconds; how far from the header's position the catalogue is searched",
        default=3.0,
    )
    relink: str = _setting(
        values.cron, "when what is unmatched is looked for again, in UTC", default="20 16 * * mon-sun"
    )


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where components write files."""

    root: Path = _setting(
        values.path,
        "folder for the files that components write; never inside a watched folder",
        computed=(values.default_output_root, "<user data folder>/astra/output"),
    )


@dataclass(frozen=True, kw_only=True)
class Service:
    """The running service's own files."""

    state: Path = _setting(
        values.path,
        "folder for the status file and locks",
        computed=(values.default_state, "$STATE_DIRECTORY, else the SQLite file's folder, else the user state folder"),
    )


@dataclass(frozen=True, kw_only=True)
class Log:
    """What is logged, and how."""

    level: str = _setting(
        values.one_of("debug", "info", "warning", "error"), "least important level that is logged", default="info"
    )
    format: str = _setting(values.one_of("text", "json"), "text for people, json for machines", default="text")
    folder: Path | None = _setting(
        values.path,
        "folder for what components print and log while the service runs them",
        computed=(None, "the folder bundles in [service] state"),
    )
    keep: float = _setting(values.number(above=0), "days that it is kept", default=30.0)
    most: int = _setting(
        values.whole_number(least=1),
        "megabytes of it that are kept of one bundle: its beginning and its end",
        default=50,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All sections, and the file they came from (None when every setting has its default)."""

    database: Database
    watch: tuple[Watch, ...]
    settle: Settle
    rules: tuple[Rule, ...]
    scheduler: Scheduler
    executor: Executor
    components: tuple[Component, ...]
    catalog: Catalog
    schedule: tuple[Schedule, ...]
    output: Output
    service: Service
    log: Log
    source: Path | None = None

    def of(self, component: str) -> Own:
        """Return what holds for a component, by its import path: its own where it has one, else what holds for all."""
        own = next((each for each in self.components if each.task == component), None)
        values = {}
        for each in fields(Own):
            general = getattr(self.scheduler if hasattr(self.scheduler, each.name) else self.executor, each.name)
            special = getattr(own, each.name, None)
            values[each.name] = general if special is None else special
        return Own(**values)

    def slurm_of(self, component: str) -> Slurm:
        """Return what Slurm is asked for, for the jobs of a component."""
        own = next((each.slurm for each in self.components if each.task == component), None)
        given = {each.name: getattr(own, each.name) for each in fields(OwnSlurm)} if own else {}
        return replace(self.executor.slurm, **{name: value for name, value in given.items() if value is not None})

    @property
    def slurm_folder(self) -> Path:
        """Where the files of Slurm's jobs are kept."""
        return self.executor.slurm.folder or self.service.state / "slurm"

    @property
    def bundle_logs(self) -> Path:
        """Where what components print is kept."""
        return self.log.folder or self.service.state / "bundles"


@dataclass(frozen=True, kw_only=True)
class Own:
    """What holds for one component: the sizes of its bundles, and the limits of those that run."""

    max_bundle_size: int
    max_wait: float
    target: float
    timeout: float
    task_timeout: float | None
    memory: int | None
