"""The settings found, read, checked whole, and handed out frozen. What there is to set is in `settings`.

`load` reads the file and the environment when it is called, never before, and reports every problem at once. Names of
product types, components and rules' facts are only checked for their shape here; what knows them checks them at start.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

from astra import settings_file
from astra import settings_values as values
from astra.errors import ConfigurationError
from astra.settings import Catalog as Catalog
from astra.settings import Component as Component
from astra.settings import Database as Database
from astra.settings import Executor as Executor
from astra.settings import Log as Log
from astra.settings import Output as Output
from astra.settings import Own as Own
from astra.settings import Rule as Rule
from astra.settings import Schedule as Schedule
from astra.settings import Scheduler as Scheduler
from astra.settings import Service as Service
from astra.settings import Settings as Settings
from astra.settings import Settle as Settle
from astra.settings import Slurm as Slurm
from astra.settings import Watch as Watch
from astra.settings_contradictions import contradictions
from astra.settings_values import Place, Refused

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
_REPEATED: dict[str, type[Any]] = {"watch": Watch, "rules": Rule, "components": Component, "schedule": Schedule}


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
        yield from _settings_of(section, kind)


def _settings_of(section: str, kind: type[Any]) -> Iterator[Setting]:
    for each in fields(kind):
        if inner := each.metadata.get("section"):
            yield from _settings_of(_inner(section, each.name), inner)
        else:
            yield Setting(section, each.name, _default_text(each), each.metadata["meaning"])


def _inner(label: str, name: str) -> str:
    """Return the heading of a section within another one, and of which one where there are several."""
    outer, _, which = label.partition(" ")
    return f"[{outer.strip('[]')}.{name}]" + (f" of {which}" if which else "")


def _stanza(name: str, raw: Any, number: int | None) -> str:
    """Return the heading of one stanza of several, with what it is called; or its number, where it is not."""
    given = raw.get("name", raw.get("task")) if isinstance(raw, dict) else None
    if isinstance(given, str):
        return f"[[{name}]] {values.shown(given)}:"
    return f"[[{name}]]" if number is None else f"[[{name}]] {number}"


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
        numbers = range(1, len(raw) + 1) if len(raw) > 1 else [None]
        read = [self._section(_stanza(name, each, i), kind, each) for i, each in zip(numbers, raw, strict=False)]
        return None if None in read else tuple(read)

    def _section(self, label: str, kind: type[Any], raw: Any) -> Any:
        if not isinstance(raw, dict):
            self.problems.append(f"{label} = {values.shown(raw)}: must be one table, written {label.split(' ')[0]}")
            return None
        before = len(self.problems)
        self._unknown("setting", raw, [each.name for each in fields(kind)], f"{label} ")
        if kind is Rule and "wait" in raw and "gather" not in raw:
            why = 'is for rules that gather; write gather = "source" as well, or leave it out'
            self.problems.append(f"{label} wait = {values.shown(raw['wait'])}: {why}")
        given = {each.name: self._value(label, each, raw) for each in fields(kind)}
        if len(self.problems) > before:
            return None
        if kind is Watch and given["name"] is None:
            given["name"] = str(given["path"])
        return kind(**given)

    def _value(self, label: str, each: Field[Any], raw: dict[str, Any]) -> Any:
        if inner := each.metadata.get("section"):
            return self._section(_inner(label, each.name), inner, raw.get(each.name, {}))
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
