"""Every setting, its default and its meaning: found, read, checked whole, and handed out frozen.

`load` reads the file and the environment when it is called, never before, and reports every problem at once. Names of
product types, components and rules' facts are only checked for their shape here; what knows them checks them at start.
"""

# ruff: noqa: RUF009 -- _setting only declares a dataclass field

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

from astra import settings_file
from astra import settings_values as values
from astra.errors import ConfigurationError
from astra.settings_contradictions import contradictions
from astra.settings_values import Condition, Place, Refused


def _setting(check: Callable[[Any, Place], Any], meaning: str, **given: Any) -> Any:
    """Declare one setting.

    `default=` is its value when it is not written; `computed=(function, text)` derives it from the environment when
    settings are loaded; with neither the setting must be written.
    """
    metadata = {"check": check, "meaning": meaning, "computed": given.pop("computed", None)}
    if given.get("default") == {}:
        given["default_factory"] = given.pop("default").copy
    return field(metadata=metadata, **given)


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


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """How pending tasks become bundles."""

    tick: float = _setting(values.number(above=0), "seconds between two turns of the scheduler", default=0.5)
    max_bundle_size: int = _setting(values.whole_number(least=1), "most tasks in one bundle", default=1000)
    lease: float = _setting(
        values.number(above=0), "seconds after which a bundle that nobody renews may be taken over", default=60.0
    )
    retries: int = _setting(values.whole_number(least=0), "retries of a task whose process died", default=3)
    backoff: float = _setting(
        values.number(least=0), "seconds before the first such retry; doubled for each further one", default=10.0
    )


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where bundles run."""

    name: str = _setting(values.one_of("local"), "which executor runs the bundles", default="local")
    workers: int = _setting(
        values.whole_number(least=1),
        "bundles run at the same time",
        computed=(lambda place, url: os.cpu_count() or 1, "the number of processors"),
    )
    timeout: float = _setting(values.number(above=0), "seconds a bundle may run before it is stopped", default=3600.0)
    drain: float = _setting(
        values.number(least=0), "seconds that running bundles may take to finish when the service stops", default=60.0
    )


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All sections, and the file they came from (None when every setting has its default)."""

    database: Database
    watch: tuple[Watch, ...]
    settle: Settle
    rules: tuple[Rule, ...]
    scheduler: Scheduler
    executor: Executor
    catalog: Catalog
    schedule: tuple[Schedule, ...]
    output: Output
    service: Service
    log: Log
    source: Path | None = None


_SINGLE: dict[str, type[Any]] = {
    "database": Database,
    "settle": Settle,
    "scheduler": Scheduler,
    "executor": Executor,
    "catalog": Catalog,
    "output": Output,
    "service": Service,
    "log": Log,
}
_REPEATED: dict[str, type[Any]] = {"watch": Watch, "rules": Rule, "schedule": Schedule}


class Setting(NamedTuple):
    """One line of the reference: what a setting is called, its default as text, and what it means."""

    section: str
    name: str
    default: str
    meaning: str


def _reference() -> Iterator[Setting]:
    sections = [(f"[{name}]", kind) for name, kind in _SINGLE.items()]
    sections += [(f"[[{name}]]", kind) for name, kind in _REPEATED.items()]
    for section, kind in sections:
        for each in fields(kind):
            yield Setting(section, each.name, _default_text(each), each.metadata["meaning"])


def _default_text(each: Field[Any]) -> str:
    if each.metadata["computed"]:
        return cast(str, each.metadata["computed"][1])
    default = _default(each)
    if default is MISSING:
        return "must be given"
    return "none" if default in (None, (), {}) else values.shown(default)


def _default(each: Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


SETTINGS: tuple[Setting, ...] = tuple(_reference())
"""Every setting there is."""


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Parameters
    ----------
    path
        The file to read; by default $ASTRA_CONFIG, ./config.toml, ~/.config/astra/config.toml, then
        /etc/astra/config.toml. With no file at all every setting has its default.
    environ
        The environment; by default the process's own, as it is now.

    Raises
    ------
    ConfigurationError
        Naming every unknown key and every unusable value.
    """
    environ = os.environ if environ is None else environ
    source = settings_file.named(path) if path else settings_file.find(environ)
    source = settings_file.absolute(source) if source else None
    raw = settings_file.read(source) if source else {}
    reader = _Reader(Place(source.parent if source else None, environ))
    settings = reader.settings(raw, source)
    if settings is None or reader.problems:
        where = str(source) if source else "the environment"
        raise ConfigurationError(
            f"cannot use the settings of {where}, nothing was started:\n  " + "\n  ".join(reader.problems)
        )
    return settings


class _Reader:
    """Turns tables into sections and gathers what is wrong with them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problems: list[str] = []
        self.url = ""

    def settings(self, raw: dict[str, Any], source: Path | None) -> Settings | None:
        self._unknown("section", raw, [*_SINGLE, *_REPEATED], "")
        if url := self.place.environ.get("ASTRA_DATABASE_URL"):
            self._environment_url(raw, url)
        parts: dict[str, Any] = {}
        for name, kind in _SINGLE.items():
            parts[name] = self._section(f"[{name}]", kind, raw.get(name, {}))
            if name == "database" and parts[name]:
                self.url = parts[name].url
        for name, kind in _REPEATED.items():
            parts[name] = self._sections(name, kind, raw.get(name, []))
        if any(part is None for part in parts.values()) or self.problems:
            return None
        settings = Settings(**parts, source=source)
        self.problems += contradictions(settings)
        return settings

    def _environment_url(self, raw: dict[str, Any], url: str) -> None:
        try:
            url = values.database_url(url, self.place._replace(folder=None))
        except Refused as refused:
            self.problems.append(f"$ASTRA_DATABASE_URL = {values.shown(url)}: must be {refused.allowed}")
            return
        if isinstance(raw.get("database", {}), dict):
            raw["database"] = {**raw.get("database", {}), "url": url}

    def _sections(self, name: str, kind: type[Any], raw: Any) -> tuple[Any, ...] | None:
        if not isinstance(raw, list):
            self.problems.append(f"[{name}]: there may be several of these, so write [[{name}]]")
            return None
        many = len(raw) > 1
        read = [self._section(f"[[{name}]]" + (f" {i}" if many else ""), kind, each) for i, each in enumerate(raw, 1)]
        return None if None in read else tuple(read)

    def _section(self, label: str, kind: type[Any], raw: Any) -> Any:
        if not isinstance(raw, dict):
            self.problems.append(f"{label} = {values.shown(raw)}: must be one table, written {label.split(' ')[0]}")
            return None
        before = len(self.problems)
        self._unknown("setting", raw, [each.name for each in fields(kind)], f"{label} ")
        given = {each.name: self._value(label, each, raw) for each in fields(kind)}
        if len(self.problems) > before:
            return None
        if kind is Watch and given["name"] is None:
            given["name"] = str(given["path"])
        return kind(**given)

    def _value(self, label: str, each: Field[Any], raw: dict[str, Any]) -> Any:
        if each.name in raw:
            try:
                return each.metadata["check"](raw[each.name], self.place)
            except Refused as refused:
                shown = values.shown(raw[each.name])
                self.problems.append(f"{label} {each.name} = {shown}: must be {refused.allowed}")
                return None
        if computed := each.metadata["computed"]:
            return computed[0](self.place, self.url) if computed[0] else None
        if _default(each) is MISSING:
            self.problems.append(f"{label} {each.name}: must be given: {each.metadata['meaning']}")
        return _default(each)

    def _unknown(self, what: str, raw: dict[str, Any], known: list[str], label: str) -> None:
        for key in sorted(set(raw) - set(known)):
            near = difflib.get_close_matches(key, known, n=1)
            allowed = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
            shown = f" = {values.shown(raw[key])}" if label else ""
            name = key if label else f"[{key}]"
            self.problems.append(f"{label}{name}{shown}: there is no such {what}; {allowed}")


def describe(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON can hold them, with any password of a database left out."""
    described: dict[str, Any] = {"source": str(settings.source) if settings.source else None}
    for name in _SINGLE:
        described[name] = values.jsonable(vars(getattr(settings, name)))
    for name in _REPEATED:
        described[name] = [values.jsonable(vars(each)) for each in getattr(settings, name)]
    described["database"]["url"] = values.without_password(settings.database.url)
    if settings.catalog.url:
        described["catalog"]["url"] = values.without_password(settings.catalog.url)
    return described
