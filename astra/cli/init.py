"""`astra init`: make the database, or bring its tables up to date."""

from __future__ import annotations

from pathlib import Path

import click

from astra.cli.printing import as_json, print_fields, print_json


@click.command(epilog="\b\nExample: astra --config config.toml init")
@as_json
@click.pass_obj
def command(path: Path | None, as_json: bool) -> None:
    """Make the database or bring it up to date.

    Also makes the result tables of the components that the rules name. A database made by a newer astra is refused,
    and nothing is changed.
    """
    from astra import config
    from astra.cli.opening import make_result_tables, rules_of
    from astra.database import connection, migrate

    settings = config.load(path)
    connection.open_database(settings.database.url, settings.database.synchronous)
    applied = migrate.migrate()
    tables = make_result_tables(rules_of(settings))
    answer = {
        "database": connection.place(),
        "applied": applied,
        "result_tables": tables,
        "settings": str(settings.source) if settings.source else None,
    }
    if as_json:
        print_json(answer)
        return
    print_fields({**answer, "applied": applied or "nothing, the tables were up to date"})
