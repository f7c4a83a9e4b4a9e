"""Migrations: from nothing to the tables that the models describe, whoever else is at it, and never backwards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import peewee
import pytest
from playhouse.schema_diff import diff_models

from astra import queue
from astra.database import migrate as migrations
from astra.database.astradb import STAGES, TABLES, TIME_COLUMNS, AstraModel, ResultModel, Source, Task
from astra.database.connection import close_database, execute, open_database, run
from astra.database.migrate import create_result_tables, migrate, require_current, script_numbers
from astra.errors import SchemaError
from tests.support.clock import START
from tests.support.processes import environment
from tests.support.tasks import fill, new_task

MIGRATE = """
import sys
from astra.database.connection import open_database
from astra.database.migrate import migrate
open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len(migrate()))
"""

MAKE_RESULTS = """
import sys
import peewee
from astra.database.astradb import ResultModel
from astra.database.connection import open_database
from astra.database.migrate import create_result_tables
class Measured(ResultModel):
    snr = peewee.DoubleField(null=True, index=True)
open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
create_result_tables([Measured])
print(Measured.select().count())
"""


def together(text: str, url: str, count: int) -> list[str]:
    """Run a script in so many processes, let go at the same moment, and return what each said last."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", text, url]
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment())
        for _ in range(count)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = []
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        said.append(out.strip())
    return said


def test_an_empty_database_gets_every_table_and_a_second_run_does_nothing(empty_database_url: str) -> None:
    open_database(empty_database_url)
    assert [int(name[:4]) for name in migrate()] == script_numbers()
    assert migrate() == []
    require_current()


def test_runners_started_together_all_end_well(empty_database_url: str) -> None:
    said = together(MIGRATE, empty_database_url, 3)
    assert sorted(map(int, said)) == [0, 0, len(script_numbers())]
    open_database(empty_database_url)
    require_current()
    assert fill(1)


def test_result_tables_made_by_two_processes_at_once_are_made_once(database_url: str) -> None:
    assert together(MAKE_RESULTS, database_url, 2) == ["0", "0"]


def test_a_database_made_by_a_newer_astra_is_refused_and_left_alone(database: peewee.Database) -> None:
    execute("INSERT INTO schema_migration (name, applied) VALUES ('9001_from_the_future', '2026-01-01')")
    sentence = r"was made by a newer astra \(it has 9001_from_the_future\): update astra on this machine; nothing was"
    for action in (migrate, require_current):
        with pytest.raises(SchemaError, match=sentence):
            action()
    execute("DELETE FROM schema_migration WHERE name = '9001_from_the_future'")
    assert migrate() == []


def test_a_database_without_tables_is_told_what_to_do(empty_database_url: str) -> None:
    open_database(empty_database_url)
    with pytest.raises(SchemaError, match=r"lacks 0001_first_tables.*: run `astra init`"):
        require_current()


def test_a_migration_that_fails_leaves_no_part_of_itself(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    script = "def up(migrator, db):\n    db.execute_sql('CREATE TABLE half (a INTEGER)')\n"
    (scripts / "0001_half.py").write_text(script + "    db.execute_sql('CREATE NONSENSE')\n")
    monkeypatch.setattr(migrations, "SCRIPTS", scripts)
    open_database(empty_database_url)
    with pytest.raises(peewee.DatabaseError):
        migrate()
    assert not open_database(empty_database_url).table_exists("half")
    (scripts / "0001_half.py").write_text(script)
    assert migrate() == ["0001_half"]


# ---------------------------------------------------------------------------------- the models and the tables agree

SQLITE_KINDS = {
    peewee.BigAutoField: "INTEGER", peewee.ForeignKeyField: "BIGINT", peewee.BigIntegerField: "BIGINT",
    peewee.IntegerField: "INTEGER", peewee.SmallIntegerField: "SMALLINT", peewee.BooleanField: "BOOLEAN",
    peewee.DoubleField: "REAL", peewee.TextField: "TEXT", peewee.Field: "TEXT",
}  # fmt: skip
POSTGRESQL_KINDS = {
    peewee.BigAutoField: "bigint", peewee.ForeignKeyField: "bigint", peewee.BigIntegerField: "bigint",
    peewee.IntegerField: "integer", peewee.SmallIntegerField: "smallint", peewee.BooleanField: "boolean",
    peewee.DoubleField: "double precision", peewee.TextField: "text", peewee.Field: "timestamp with time zone",
}  # fmt: skip


def kind(field: peewee.Field, kinds: dict[type[peewee.Field], str]) -> str:
    if isinstance(field, peewee.ForeignKeyField) and not isinstance(field.rel_field, peewee.BigAutoField):
        return kind(field.rel_field, kinds)
    return next(kinds[each] for each in type(field).__mro__ if each in kinds)


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model._meta.table_name))
def test_a_model_is_the_table_that_the_migrations_make(database: peewee.Database, model: type[AstraModel]) -> None:
    kinds = POSTGRESQL_KINDS if isinstance(database, peewee.PostgresqlDatabase) else SQLITE_KINDS
    table = model._meta.table_name
    found = {each.name: (each.data_type, bool(each.null)) for each in database.get_columns(table)}
    fields = model._meta.sorted_fields
    assert found == {each.column_name: (kind(each, kinds), each.null) for each in fields}
    keys = database.get_primary_keys(table)
    primary = model._meta.primary_key
    names = primary.field_names if isinstance(primary, peewee.CompositeKey) else [primary.name]
    assert set(keys) == {model._meta.fields[name].column_name for name in names}


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model._meta.table_name))
def test_a_reference_of_a_model_is_one_that_the_database_keeps(
    database: peewee.Database, model: type[AstraModel]
) -> None:
    kept = {
        (each.column, each.dest_table, each.dest_column) for each in database.get_foreign_keys(model._meta.table_name)
    }
    assert kept == {(each.column_name, each.rel_model._meta.table_name, "id") for each in model._meta.refs}


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model._meta.table_name))
def test_an_index_leads_to_the_rows_that_refer_to_a_row(database: peewee.Database, model: type[AstraModel]) -> None:
    """Otherwise removing a referred row would read whole tables; a bundle's environment is referred to by all."""
    indexed = {each.columns[0] for each in database.get_indexes(model._meta.table_name) if each.columns}
    keys = database.get_primary_keys(model._meta.table_name)
    missing = {each.column_name for each in model._meta.refs} - indexed - set(keys[:1])
    assert missing <= {"bundle_id", "superseded_by_id", "catalogue_id"}, (
        "a task in its bundle has an index of its own; links and editions are not removed"
    )


def test_every_unique_field_of_the_models_is_unique_in_the_database(database: peewee.Database) -> None:
    difference = diff_models(database, list(TABLES))
    assert difference.create_tables == []
    assert difference.add_columns == []
    assert difference.drop_columns == []
    assert [each for each in difference.add_indexes if each.unique] == []


EXPECTED_INDEXES = {
    "task_identity", "task_pick", "bundle_asked", "bundle_name", "hold_standing", "task_due", "task_failed",
    "bundle_open",
    "task_bundle_task_id", "ingestion_file_version", "data_product_identity", "source_identifier_one",
}  # fmt: skip


def test_both_databases_have_the_same_indexes(database: peewee.Database) -> None:
    found = {index.name for table in TABLES for index in database.get_indexes(table._meta.table_name)}
    assert found >= EXPECTED_INDEXES
    declared: set[str] = set()
    for script in sorted(migrations.SCRIPTS.glob("[0-9]*.py")):
        text = script.read_text().replace("UNIQUE INDEX", "INDEX")
        declared -= set(re.findall(r"DROP INDEX (\w+)", text))
        declared |= set(re.findall(r"CREATE INDEX (\w+)", text))
    assert declared <= found
    assert not {"task_running", "task_live", "task_done", "task_claim"} & found


def test_the_times_that_a_task_answers_are_those_of_the_view(database: peewee.Database) -> None:
    columns = execute("SELECT * FROM task_time").description
    assert [each[0] for each in columns][2:] == list(TIME_COLUMNS)
    assert len(TIME_COLUMNS) == 1 + 3 * len(STAGES) == 10
    task = Task.get_by_id(fill(1)[0])
    assert [getattr(task, name) for name in TIME_COLUMNS] == [None] * 10


# ------------------------------------------------------------------------------------------------------ result tables


class Result(ResultModel):
    snr = peewee.DoubleField(null=True)


def test_a_result_table_has_64_bit_references_that_the_database_keeps(database: peewee.Database) -> None:
    create_result_tables([Result])
    create_result_tables([Result])
    kinds = {each.name: each.data_type.lower() for each in database.get_columns("result")}
    wanted = "bigint" if isinstance(database, peewee.PostgresqlDatabase) else "integer"
    assert (kinds["id"], kinds["task_id"], kinds["source_id"]) == (wanted, wanted, wanted)
    with pytest.raises(peewee.IntegrityError):
        Result.create(task=12345, snr=1.0)


def test_rows_that_refer_to_nothing_are_found_after_a_migration(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'astra.sqlite'}")
    migrate()
    execute("PRAGMA foreign_keys = OFF")
    execute("INSERT INTO source_identifier (source_id, kind, value, catalogue_version) VALUES (5, 'a', 'b', '')")
    execute("DELETE FROM schema_migration")
    for name in [name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
        execute(f"DROP TRIGGER {name}")
    for name, sort in run("SELECT name, type FROM sqlite_master WHERE type IN ('view', 'table')"):
        if name not in ("source_identifier", "schema_migration") and not name.startswith("sqlite_"):
            execute(f"DROP {sort.upper()} {name}")
    execute("ALTER TABLE source_identifier RENAME TO lonely")
    for name in [name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")]:
        execute(f"DROP INDEX {name}")
    with pytest.raises(SchemaError, match="1 rows that refer to nothing, the first in lonely"):
        migrate()
    close_database()


def test_records_of_the_first_tables_are_taken_along(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "0001_first_tables.py").write_text((migrations.SCRIPTS / "0001_first_tables.py").read_text())
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "SCRIPTS", old)
        opened = open_database(empty_database_url)
        migrate()
    created = "'2026-01-01 00:00:00.000000+00:00'"
    for key, state in enumerate(("pending", "completed"), start=1):
        execute(
            "INSERT INTO task "
            "(id, name, parameters, version, component_version, state, priority, bundle_key, identity, created) "
            f"VALUES ({key}, 'a.B', '{{}}', '0', '0', '{state}', 100, 'a.B {{}}', 'same', {created})"
        )
    for statement in (
        "INSERT INTO source (id, sdss_id, healpix, ra, dec, provisional, created) "
        f"VALUES (7, 5, 9, 1, 2, ?, {created})",
        "INSERT INTO source_identifier (source_id, kind, value, catalogue_version) VALUES (7, 'sdss_id', '5', '')",
        "INSERT INTO data_product (id, release, filetype, kwargs, identity, path, metadata, created) "
        f"VALUES (3, 'dr17', 'apVisit', '{{}}', 'x', '/x', '{{}}', {created})",
        "INSERT INTO source_data_product (source_id, data_product_id, method, catalogue_version, created) "
        f"VALUES (7, 3, 'header', '', {created})",
    ):
        execute(statement, (True,) if "?" in statement else ())
    if not isinstance(opened, peewee.SqliteDatabase):
        execute("CREATE VIEW somebodys AS SELECT task_id FROM task_time")
    assert [name[:4] for name in migrate()] == ["0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009"]
    assert [tuple(row) for row in run("SELECT id, identity FROM task ORDER BY id")] == [(1, "same"), (2, "same")]
    source = Source.get_by(sdss_id=5)
    assert (source.ra, source.epoch, source.catalogue, source.identifiers) == (1.0, None, None, (("sdss_id", "5"),))
    assert [(each.id, each.source) for each in source.data_products] == [(3, source)]
    if not isinstance(opened, peewee.SqliteDatabase):
        execute("SELECT setval('task_id_seq', 2)")
    assert queue.enqueue([new_task(identity="same")], START) == [1], "one of it is alive"
    execute("UPDATE task SET state = 'completed' WHERE id = 1")
    [new] = queue.enqueue([new_task(identity="same")], START)
    assert new > 2
    columns = "name, parameters, version, component_version, state, priority, bundle_key, identity, created"
    with pytest.raises(peewee.IntegrityError):
        execute(f"INSERT INTO task ({columns}, generation) SELECT {columns}, generation FROM task WHERE id = {new}")
