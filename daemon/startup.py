"""What must hold before the service starts: usable components, a database of this code, every root watched by one."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astra import products, provenance, rules
from astra.components import component_class
from astra.config import Settings, Watch
from astra.database import connection, migrate
from astra.errors import AstraError, ConfigurationError
from astra.filesystem import filesystem_kind, is_network
from astra.products import releases
from astra.rules import Rule


def compile_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules, ready for use; each component that a rule or the calendar names is made once, as a trial.

    Raises
    ------
    ConfigurationError
        Naming each rule, or the calendar's entry, that cannot be used as it is written.
    """
    compiled = rules.compile_rules(settings.rules, component_class, products.product_types())
    for each in settings.schedule:
        try:
            component_class(each.task)(**each.parameters)
        except (AstraError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"[[schedule]] {each.name!r}: {each.task} cannot be made with its parameters: {error}"
            ) from error
    return compiled


def refuse_unknown_releases(settings: Settings) -> None:
    """Raise `ConfigurationError` for a watched folder whose release is none: every file in it would be refused."""
    for watch in settings.watch:
        try:
            if watch.release:
                releases.known_release(watch.release.strip().lower())
        except ValueError as error:
            raise ConfigurationError(f"[[watch]] {watch.name}: release = {watch.release!r}: {error}") from error


def prepare_database() -> None:
    """Make the tables of a new database; refuse one that is not of this code."""
    if not connection.database.table_exists("schema_migration"):
        migrate.migrate()
    migrate.require_current()


def refuse_network_sqlite(settings: Settings) -> None:
    """Raise `ConfigurationError` for SQLite on a file system where its locks cannot be trusted."""
    url = settings.database.url
    if url.startswith("sqlite:///") and is_network(kind := filesystem_kind(Path(url.removeprefix("sqlite:///")))):
        raise ConfigurationError(
            f"[database] url = {url!r} lies on {kind}, where SQLite's locks do not hold: "
            "put it on a local disk, or use PostgreSQL"
        )


@contextmanager
def lock_root(settings: Settings, watch: Watch) -> Iterator[None]:
    """Hold the lock of one root in the state folder, or raise naming who does: two starts by mistake end here.

    On SQLite there is but one such folder for each database. Services on PostgreSQL that have folders of their own, on
    one machine or several, settle among themselves who watches (`listener`).
    """
    url, folder = settings.database.url, settings.service.state
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"[service] state = {str(folder)!r} cannot be written: {error.strerror}") from error
    on_sqlite = url.startswith("sqlite:///")
    if on_sqlite and not url.endswith(":memory:"):
        folder = Path(url.removeprefix("sqlite:///")).parent  # whoever has another state folder shares the database
    machine = "" if on_sqlite else provenance.host()  # whose home, and so its state folder, may be that of others too
    try:
        digest = hashlib.sha256(f"{url}\n{watch.name}\n{machine}".encode()).hexdigest()[:16]
        held = open(folder / f"root-{digest}.lock", "a+")  # noqa: SIM115 -- held below
    except OSError as error:
        raise ConfigurationError(
            f"{folder}, for the lock of {watch.path}, cannot be written: {error.strerror}"
        ) from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            who = (
                f"{watch.path} is watched already, by astrad process {held.read().strip() or '?'}: stop that one first"
            )
            beside = f", or give this one a [service] state (or $STATE_DIRECTORY) of its own: that one has {folder}"
            raise AstraError(who if on_sqlite else f"{who}{beside}") from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield
