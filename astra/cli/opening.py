"""What every command begins with: the settings, the database they name, and its tables as this code needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from astra import config
from astra.errors import SchemaError
from astra.settings_values import Place, default_database_url

if TYPE_CHECKING:
    from astra.catalogue.consulting import Linking
    from astra.ingest import Root
    from astra.rules import Rule


def open_records(path: Path | None) -> config.Settings:
    """Load the settings, open the database and check that its tables are those of this code.

    The user's own SQLite file, used where no settings name another database, is made on first use.

    Raises
    ------
    ConfigurationError
        If the settings cannot be used.
    SchemaError
        If the database is not there, or older or newer than this code.
    """
    settings = config.load(path)
    open_records_of(settings)
    return settings


def open_records_of(settings: config.Settings) -> None:
    """Open the database that settings name, as `open_records` does."""
    from astra.database import connection, migrate

    url = settings.database.url
    own = url == default_database_url(Place(None, os.environ), "")
    if url.startswith("sqlite:///") and not own and ":memory:" not in url:
        file = Path(url.removeprefix("sqlite:///")).expanduser()
        if not file.exists():  # opening would leave an empty file behind
            raise SchemaError(f"there is no database at {file}: run `astra init` to make it")
    connection.open_database(url, settings.database.synchronous)
    if own:
        migrate.migrate()
    else:
        migrate.require_current()


def rules_of(settings: config.Settings) -> tuple[Rule, ...]:
    """Return the settings' rules, ready for use."""
    from astra.components import component_class
    from astra.products import product_types
    from astra.rules import compile_rules

    return compile_rules(settings.rules, component_class, product_types())


def make_result_tables(rules: tuple[Rule, ...]) -> list[str]:
    """Make the result tables of the rules' components where they are not there yet, and return their names."""
    from astra.components import component_class
    from astra.database.migrate import create_result_tables

    models = list(dict.fromkeys(model for rule in rules for model in component_class(rule.plan.name).result_models))
    create_result_tables(models)
    return [model._meta.table_name for model in models]


def roots_of(settings: config.Settings) -> tuple[Root, ...]:
    """Return the watched folders as `ingest` knows them."""
    from astra.ingest import Root

    return tuple(Root(watch.name, watch.path, watch.release, settings.settle.sha256) for watch in settings.watch)


def linking_of(settings: config.Settings) -> Linking:
    """Return how sources are looked for."""
    from astra.catalogue import consulting

    return consulting.linking_of(settings.catalog)
