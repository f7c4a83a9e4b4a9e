"""What `astrad check` looks at before a service is started: each finding says what is wrong and what to change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from astra import gathering
from astra.catalogue.consulting import linking_of
from astra.components import component_class
from astra.config import Settings, Watch
from astra.database import connection, migrate, notices
from astra.database.connection import available
from astra.database.sqlite import unusable
from astra.errors import AstraError, ConfigurationError, sentence
from daemon.executors.slurm_client import would_take
from daemon.executors.slurm_words import sbatch_options
from daemon.startup import compile_rules, refuse_network_sqlite, refuse_unknown_releases
from daemon.watcher import choose_mode

_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")
_COUNTED_AT_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `good`, or what to change."""

    subject: str
    good: bool
    message: str


def check(settings: Settings) -> list[Finding]:
    """Look at everything the service needs. Nothing is made, written or changed."""
    found = [Finding("settings", True, str(settings.source or "no file found: every setting has its default"))]
    found.append(_try("database", lambda: _database(settings)))
    found.append(_try("rules", lambda: _rules(settings)))
    found += [_component(each.task) for each in settings.components]
    found.append(_try("releases", lambda: _releases(settings)))
    found += _catalog(settings)
    for watch in settings.watch:
        found += _watch(watch)
    if not settings.watch:
        found.append(Finding("watch", True, "no [[watch]] folder: the service only runs tasks that others enqueue"))
    found.append(_writable("[service] state", settings.service.state))
    found.append(_writable("[output] root", settings.output.root))
    found.append(_writable("[log] folder", settings.bundle_logs))
    if settings.executor.name == "slurm":
        found.append(_writable("[executor.slurm] folder", settings.slurm_folder))
        found += [_try("slurm", partial(_slurm, settings, each)) for each in ("", *_with_own_jobs(settings))]
    return found


def _with_own_jobs(settings: Settings) -> list[str]:
    usual = settings.executor.slurm
    return [each.task for each in settings.components if settings.slurm_of(each.task) != usual]


def _slurm(settings: Settings, component: str) -> str:
    options = sbatch_options("astra-check", 1, settings.slurm_of(component), settings.slurm_folder)
    return f"it takes a job{f' of {component}' if component else ''}: {would_take(options)}"


def _try(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except AstraError as error:
        return Finding(subject, False, sentence(error))


def _database(settings: Settings) -> str:
    refuse_network_sqlite(settings)
    url = settings.database.url
    if url.startswith("sqlite:///") and (problem := unusable(url.removeprefix("sqlite:///"))):
        raise ConfigurationError(f"[database] url = {url!r}: {problem}")
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return f"{url.removeprefix('sqlite:///')} will be made at the first start"
    connection.open_database(url, settings.database.synchronous)
    try:
        with available():
            if not connection.database.table_exists("schema_migration"):
                return f"{connection.place()} has no tables yet; they are made at the first start"
            migrate.require_current()
            found = notices.watchers(each.name for each in settings.watch)
            watched = "".join(f"; {who} watches {root}: who starts here stands by" for root, who in found.items())
            return f"{connection.place()} is reached and up to date{watched}{_unknown_marks(settings)}"
    finally:
        connection.close_database()


def _unknown_marks(settings: Settings) -> str:
    """Say which rules that gather have left marks that nobody takes here."""
    found = gathering.unknown({each.name for each in settings.rules if each.gather is not None})
    return "".join(
        f"; sources that wait to be gathered by {rule!r}, which is no rule of these settings: {count}"
        for rule, count in found
    )


def _rules(settings: Settings) -> str:
    compiled = compile_rules(settings)
    return f"{len(compiled)} rules, for {', '.join(sorted({each.filetype for each in compiled})) or 'no product type'}"


def _component(task: str) -> Finding:
    """Look at one stanza whose limits would silently hold for nothing where its name is none."""
    try:
        component_class(task)
    except AstraError as error:
        return Finding("components", False, f"[[components]] task = {task!r}: {error}")
    return Finding("components", True, f"{task} can be imported")


def _releases(settings: Settings) -> str:
    refuse_unknown_releases(settings)
    return "those that are named are known"


def _catalog(settings: Settings) -> Iterator[Finding]:
    survey = linking_of(settings.catalog).survey
    if survey is None:
        return
    try:
        yield Finding("catalog", True, survey.describe())
        yield from (Finding("catalog", False, problem) for problem in survey.problems())
    except AstraError as error:
        yield Finding("catalog", False, str(error))
    finally:
        survey.close()


def _watch(watch: Watch) -> Iterator[Finding]:
    subject = f"watch {watch.name}"
    try:
        with os.scandir(watch.path):
            pass
    except OSError as error:
        mend = "let this user read it" if isinstance(error, PermissionError) else "make it, or correct its path"
        yield Finding(subject, False, f"{watch.path} cannot be read: {error.strerror}; {mend}")
        return
    mode, why = choose_mode(watch)
    yield Finding(subject, True, f"{mode}: {why}")
    if mode == "events" and _LIMIT.exists():
        folders, limit = _folders(watch.path), int(_LIMIT.read_text())
        if folders >= limit:
            advice = f"sysctl fs.inotify.max_user_watches={2 * folders}"
            yield Finding(subject, False, f"{folders} folders, of which the kernel watches {limit}: {advice}")
        else:
            yield Finding(subject, True, f"{folders} folders; the kernel watches up to {limit} for one user")


def _folders(path: Path) -> int:
    count = 0
    for _ in os.walk(path):
        count += 1
        if count > _COUNTED_AT_MOST:
            break
    return count


def _writable(subject: str, folder: Path) -> Finding:
    place = folder
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK | os.X_OK):
        return Finding(subject, True, f"{folder} can be written")
    return Finding(subject, False, f"{folder} cannot be written by this user: make it, or name another folder")
