"""The connection: SQLite as it must be set up, one writer at a time, and a PostgreSQL that goes away and comes back."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest

from astra.database import connection, sqlite
from astra.database.astradb import DataProduct, WatchedRoot
from astra.database.connection import (
    LONGEST_REST,
    alone,
    available,
    by_index,
    changed,
    close_database,
    drop_connection,
    drop_lost_connection,
    execute,
    execute_many,
    json_number,
    open_database,
    place,
    rest_connection,
    run,
)
from astra.errors import ConfigurationError, DatabaseUnavailable, sentence
from tests.support.clock import START
from tests.support.processes import environment, until

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def script(text: str, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**extra),
    )


def output(process: subprocess.Popen[str], said: str = "") -> str:
    out, err = process.communicate(said, timeout=60)
    assert process.returncode == 0, err
    return out


# ------------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize(("synchronous", "number"), [("NORMAL", 1), ("FULL", 2)])
def test_sqlite_is_opened_with_the_settings_that_keep_it_safe_and_fast(
    tmp_path: Path, synchronous: str, number: int
) -> None:
    open_database(f"sqlite:///{tmp_path / 'a.sqlite'}", synchronous)
    pragmas = {name: run(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": number, "foreign_keys": 1}
    assert run("PRAGMA busy_timeout")[0][0] == 30_000
    close_database()


def test_the_folder_of_a_sqlite_file_is_made(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'new' / 'er' / 'a.sqlite'}")
    execute("CREATE TABLE x (y INTEGER)")
    assert place() == str(tmp_path / "new" / "er" / "a.sqlite")
    assert Path(place()).is_file()
    close_database()


def test_a_home_and_a_relative_path_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_database("sqlite:///~/mine.sqlite")
    assert place() == str(tmp_path / "mine.sqlite")
    open_database("sqlite:///here.sqlite")
    assert place() == str(tmp_path / "here.sqlite")
    close_database()


@pytest.mark.parametrize("url", ["mysql://localhost/astra", "astra.sqlite", "sqlite:///", "sqlite://", ""])
def test_a_url_that_names_no_database_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///PATH"):
        open_database(url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"cannot make the database's folder {tmp_path / 'file'}"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'astra.sqlite'}")


def test_a_database_in_memory_is_had_on_purpose_only_and_leaves_no_file(tmp_path: Path) -> None:
    opened = open_database("sqlite:///:memory:")
    with opened.atomic():
        execute("CREATE TABLE x (y INTEGER)")
    assert connection.is_sqlite()
    assert place() == ":memory:"
    assert list(Path.cwd().glob(":memory:*")) == []
    close_database()


def test_the_place_of_a_database_shows_no_password(database_url: str) -> None:
    url = database_url.replace("postgres@", "postgres:secret@")
    open_database(url)
    shown = place()
    assert "secret" not in shown
    assert shown.startswith("PostgreSQL astra_test_") if "postgresql" in url else shown.endswith("astra.sqlite")


def test_on_a_network_file_system_sqlite_warns_and_keeps_a_rollback_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "filesystem_kind", lambda path: "nfs4")
    with pytest.warns(UserWarning, match=r"lies on nfs4: SQLite uses its slower rollback journal"):
        open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    assert run("PRAGMA journal_mode")[0][0] == "delete"
    close_database()


# --------------------------------------------------------------------------------------- a library call, no settings

FIRST_USE = """
import sys
from astra.database.astradb import Task
from astra.database.connection import place
print(Task.select().count(), place())
"""

EXECUTE = """
from astra.base import Parameter, TaskInstance
from astra.database.connection import place, run
class Double(TaskInstance):
    n = Parameter()
    def execute(self):
        return 2 * self.n
assert Double(n=21).execute() == 42
print(run("SELECT count(*) FROM task WHERE state = 'completed'")[0][0], place())
"""

THREADS = """
import threading
from astra.database.astradb import Task
from astra.database.connection import place
barrier, said = threading.Barrier(8), []
def use():
    barrier.wait()
    said.append(Task.select().count())
threads = [threading.Thread(target=use) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
print(sum(said) if len(said) == 8 else said, place())
"""


@pytest.mark.parametrize(("text", "count"), [(FIRST_USE, "0"), (EXECUTE, "1"), (THREADS, "0")])
def test_a_library_call_without_settings_makes_and_uses_the_users_own_file(
    text: str, count: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    extra = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}
    # from a folder without settings of its own
    text = f"import os; os.chdir({str(tmp_path)!r})\n{text}"
    for _ in range(2):  # the second time it is there already
        said = output(script(text, **extra)).split()
        assert said[0] == count
        path = Path(said[1])
        assert path.is_file()
        assert path.is_relative_to(home / "data")
        count = "2" if text.endswith(EXECUTE) else count


# ----------------------------------------------------------------------------------------------- one writer at a time

HOLD = """
import sys
from astra.database.connection import execute, open_database
opened = open_database(sys.argv[1])
with opened.atomic():
    execute("INSERT INTO watched_root (name, path, watched_since) VALUES ('theirs', '/', '2026-01-01')")
    print("held", flush=True)
    sys.stdin.readline()
"""

COUNT = """
import sys
from astra.database.connection import execute, open_database, run
opened = open_database(sys.argv[1])
for _ in range(50):
    with opened.atomic():
        path = run("SELECT path FROM watched_root WHERE name = 'counter'")[0][0]
        execute("UPDATE watched_root SET path = ? WHERE name = 'counter'", (str(int(path) + 1),))
"""


@contextmanager
def held_elsewhere(url: str) -> Iterator[subprocess.Popen[str]]:
    process = script(HOLD, url)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lock_is_free(url: str) -> bool:
    with open(url.removeprefix("sqlite:///") + ".lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@on_sqlite
def test_a_writer_waits_for_another_process_and_then_sees_what_it_wrote(
    database: peewee.Database, database_url: str
) -> None:
    seen: list[int] = []

    def write() -> None:
        with database.atomic():
            seen.append(run("SELECT count(*) FROM watched_root")[0][0])
        database.close()

    with held_elsewhere(database_url) as process:
        assert not lock_is_free(database_url)
        assert run("SELECT count(*) FROM watched_root")[0][0] == 0, "readers need not wait"
        writer = threading.Thread(target=write)
        writer.start()
        process.communicate("go on\n")
        writer.join(30)
    assert seen == [1]
    assert lock_is_free(database_url)


@on_sqlite
def test_the_lock_of_a_killed_writer_is_free_and_its_writing_undone(
    database: peewee.Database, database_url: str
) -> None:
    with held_elsewhere(database_url) as process:
        process.kill()
        process.wait()
        with database.atomic():
            assert run("SELECT count(*) FROM watched_root")[0][0] == 0


@on_sqlite
def test_a_writer_that_waited_too_long_is_told_who_and_may_try_again(
    database: peewee.Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    told = pytest.raises(DatabaseUnavailable, match=r"another writer has held .*astra\.sqlite")
    with held_elsewhere(database_url), told as caught, available(), database.atomic():
        pytest.fail("nobody may write now")
    assert caught.value.retry
    with available(), database.atomic():
        execute("INSERT INTO watched_root (name, path, watched_since) VALUES ('ours', '/', '2026-01-01')")


@pytest.mark.parametrize("how", ["an error", "a failed commit"])
def test_the_lock_is_given_back_when_a_transaction_fails(tmp_path: Path, how: str) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    opened = open_database(url)
    execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
    execute("CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)")

    def fail() -> None:
        with opened.atomic():
            if how == "an error":
                raise ValueError
            execute("INSERT INTO b VALUES (7)")

    with pytest.raises((ValueError, peewee.IntegrityError)):
        fail()
    assert lock_is_free(url)
    assert run("SELECT count(*) FROM b") == [(0,)]
    close_database()


@on_sqlite
def test_processes_that_read_and_then_write_lose_nothing(database: peewee.Database, database_url: str) -> None:
    WatchedRoot.create(name="counter", path="0", watched_since=START)
    for process in [script(COUNT, database_url) for _ in range(3)]:
        output(process)
    assert WatchedRoot.get_by_id("counter").path == "150"


# ------------------------------------------------------------------------------------------------- going and coming


def end_connections(url: str) -> None:
    own = psycopg2.connect(url)
    own.autocommit = True
    with own.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    own.close()


@on_postgresql
@pytest.mark.parametrize("where", ["outside a transaction", "inside one", "inside a nested one"])
def test_a_lost_connection_is_told_and_the_next_statement_has_a_new_one(
    database: peewee.Database, database_url: str, where: str
) -> None:
    def work() -> None:
        if where == "outside a transaction":
            end_connections(database_url)
            run("SELECT 1")
            return
        with database.atomic():
            changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('lost', '/', '2026-01-01')")
            end_connections(database_url)
            if where == "inside one":
                run("SELECT 1")
            else:
                with database.atomic():
                    run("SELECT 1")

    with available():
        run("SELECT 1")
    with pytest.raises(DatabaseUnavailable), available():
        work()
    assert run("SELECT count(*) FROM watched_root") == [(0,)]
    with database.atomic():
        changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('kept', '/', '2026-01-01')")
    assert run("SELECT name FROM watched_root") == [("kept",)]


@on_postgresql
def test_a_notebook_whose_connection_was_lost_goes_on_after_the_statement_that_failed(
    database: peewee.Database, database_url: str
) -> None:
    run("SELECT 1")
    end_connections(database_url)
    with pytest.raises((peewee.OperationalError, peewee.InterfaceError, peewee.DatabaseError)):
        run("SELECT 1")
    assert WatchedRoot.select().count() == 0


@on_postgresql
def test_a_lost_connection_is_not_replaced_in_the_middle_of_a_transaction(
    database: peewee.Database, database_url: str
) -> None:
    def work() -> None:
        with database.atomic():
            changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('first', '/', '2026-01-01')")
            end_connections(database_url)
            with pytest.raises(peewee.PeeweeException):
                run("SELECT 1")
            changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('second', '/', '2026-01-01')")

    with pytest.raises(peewee.PeeweeException):
        work()
    assert run("SELECT count(*) FROM watched_root") == [(0,)]


@on_postgresql
def test_a_connection_at_rest_is_kept_as_if_it_were_new(database: peewee.Database) -> None:
    [(own,)] = run("SELECT pg_backend_pid()")
    run("SELECT set_config('enable_seqscan', 'off', false), set_config('datestyle', 'German', false)")
    rest_connection()
    shown = "SELECT pg_backend_pid(), current_setting('enable_seqscan'), current_setting('timezone'), now()"
    [(kept, scans, zone, now)] = run(shown)
    assert (kept, scans, zone, now.tzinfo is None) == (own, "on", "UTC", False)
    changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('alone', '/', '2026-01-01')")
    database.begin()
    database.push_transaction(object())
    rest_connection()
    assert run("SELECT name FROM watched_root") == [("alone",)], "outside a transaction each statement stands"
    assert run("SELECT pg_backend_pid()") != [(own,)], "one that somebody left in a transaction is not kept"


@on_postgresql
def test_a_connection_at_rest_keeps_nobody_waiting(database: peewee.Database) -> None:
    [(own,)] = run("SELECT pg_backend_pid()")
    run("SELECT pg_advisory_lock(7)")
    rest_connection()
    locks = "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
    assert run(locks) == [(own, 0)]
    database.execute_sql("BEGIN")  # as a component may, behind peewee's back
    changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('begun', '/', '2026-01-01')")
    rest_connection()
    assert database.is_closed(), "whoever was to wait for that row would wait for ever"
    assert run("SELECT name FROM watched_root") == []


@on_postgresql
def test_a_connection_is_kept_however_many_files_a_component_has_open(database: peewee.Database) -> None:
    database.close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(1024):
            stack.enter_context(open(os.devnull))
        [(own,)] = run("SELECT pg_backend_pid()")
        rest_connection()
        drop_lost_connection()
        assert run("SELECT pg_backend_pid()") == [(own,)]


@on_postgresql
def test_a_connection_that_was_cut_at_rest_is_replaced_before_it_is_used(
    database: peewee.Database, database_url: str
) -> None:
    [(own,)] = run("SELECT pg_backend_pid()")
    drop_lost_connection(rested=LONGEST_REST)
    assert run("SELECT pg_backend_pid()") == [(own,)]
    drop_lost_connection(rested=LONGEST_REST + 1)
    [(another,)] = run("SELECT pg_backend_pid()")
    assert another != own, "a firewall may have forgotten it"
    end_connections(database_url)
    until(lambda: not database.is_quiet())
    drop_lost_connection()
    assert run("SELECT pg_backend_pid()") != [(another,)]


@on_sqlite
def test_a_connection_to_a_file_is_dropped_when_it_is_put_to_rest(database: peewee.Database) -> None:
    run("SELECT 1")
    drop_lost_connection()
    assert not database.is_closed()
    rest_connection()
    assert database.is_closed()


def test_a_server_that_is_not_there_is_unavailable_and_may_be_tried_again(tmp_path: Path) -> None:
    open_database(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable) as caught, available():
        run("SELECT 1")
    close_database()
    assert re.fullmatch(r"the database cannot be used now: \S+( \S+)*[^.?\s]", str(caught.value)), "one sentence"
    assert sentence(caught.value) == f"{caught.value}; start it, or name another in [database] url"


@on_sqlite
def test_what_a_server_or_a_file_refuses_for_the_moment_is_to_be_tried_again(database: peewee.Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught, available():
        raise peewee.OperationalError("database is locked")
    assert sentence(caught.value) == "the database cannot be used now: database is locked; try again"


@on_sqlite
@pytest.mark.parametrize("nested", [False, True], ids=["outside", "nested"])
def test_a_disk_that_is_full_is_told_and_what_was_begun_is_undone(
    database: peewee.Database, database_url: str, nested: bool
) -> None:
    execute(f"PRAGMA max_page_count = {run('PRAGMA page_count')[0][0]}")
    big = "INSERT INTO watched_root (name, path, watched_since) VALUES (?, '/', '2026-01-01')"

    def write() -> None:
        with database.atomic(), database.atomic() if nested else nullcontext():
            execute(big, ("small",))
            execute(big, ("x" * 1_000_000,))

    with pytest.raises(DatabaseUnavailable, match="disk is full"), available():
        write()
    assert lock_is_free(database_url)
    assert run("SELECT count(*) FROM watched_root") == [(0,)]
    with available():  # the connection is a new one, and knows of no limit
        write()


@on_sqlite
def test_a_transaction_that_its_commit_has_undone_is_told_by_its_own_error(
    database: peewee.Database, database_url: str
) -> None:
    told = pytest.raises(peewee.OperationalError, match="the disk gave way")
    with told, database.atomic():
        execute("INSERT INTO watched_root (name, path, watched_since) VALUES ('a', '/', '2026-01-01')")
        database.connection().execute("ROLLBACK")  # as SQLite does when it cannot write
        raise peewee.OperationalError("the disk gave way")
    assert lock_is_free(database_url)


def test_a_mistake_in_sql_is_no_lost_database(database: peewee.Database) -> None:
    for mistake in ("SELECT nothing FROM nowhere", "SELEKT 1"):
        with pytest.raises(peewee.DatabaseError), available():
            run(mistake)
    assert run("SELECT 1") == [(1,)]


def test_a_broken_rule_of_the_schema_is_no_lost_database(database: peewee.Database) -> None:
    with available():
        changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('a', '/', '2026-01-01')")
    with pytest.raises(peewee.IntegrityError), available():
        changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('a', '/', '2026-01-01')")


def test_a_dropped_connection_leaves_no_transaction_behind(database: peewee.Database) -> None:
    outer = database.atomic()
    outer.__enter__()
    changed("INSERT INTO watched_root (name, path, watched_since) VALUES ('a', '/', '2026-01-01')")
    drop_connection()
    assert run("SELECT count(*) FROM watched_root") == [(0,)]
    assert database.transaction_depth() == 0


# -------------------------------------------------------------------------------------------------------- statements


def test_one_way_to_write_statements_does_for_both_databases(database: peewee.Database) -> None:
    assert run("SELECT CAST(? AS TEXT) || '%'", ("50",)) == [("50%",)]
    assert run("SELECT '100%'") == [("100%",)]
    rows: list[Any] = [(f"name {number}", "/", "2026-01-01") for number in range(2500)]
    assert execute_many("INSERT INTO watched_root (name, path, watched_since) VALUES (?, ?, ?)", rows) == 2500
    assert changed("UPDATE watched_root SET path = ? WHERE name LIKE 'name 1%'", ("50 % ?",)) == 1611 - 500
    assert run("SELECT count(*) FROM watched_root WHERE path LIKE '50 %'") == [(1111,)]


def test_a_number_in_a_json_column_is_read_and_anything_else_is_none(database: peewee.Database) -> None:
    given = ['{"snr":2.5}', '{"snr":3}', '{"snr":"high"}', '{"snr":null}', "{}"]
    for number, text in enumerate(given):
        changed("INSERT INTO watched_root (name, path, watched_since) VALUES (?, ?, '2026-01-01')", (f"{number}", text))
    found = run(f"SELECT {json_number('path', 'snr')} FROM watched_root ORDER BY name")
    assert [None if each is None else float(each) for (each,) in found] == [2.5, 3.0, None, None, None]


def test_rows_may_refer_to_rows_that_are_written_later_in_the_transaction(database: peewee.Database) -> None:
    def product() -> None:
        DataProduct.insert(
            release="", filetype="full", kwargs={}, identity="a", path="a", current_ingestion=77, metadata={},
            created=START,
        ).execute()  # fmt: skip

    with pytest.raises(peewee.IntegrityError), alone(1):
        product()
    with alone(1):
        product()
        changed(
            "INSERT INTO ingestion (id, root, path, size, mtime_ns, ctime_ns, inode, outcome, started, duration) "
            "VALUES (77, '', 'a', 1, 1, 1, 1, 'noted', '2026-01-01', 0)"
        )
    with by_index():
        assert run("SELECT current_ingestion_id FROM data_product") == [(77,)]


def test_what_runs_alone_is_not_overlapped(database: peewee.Database) -> None:
    inside, most = [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(5):
            with alone(5):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                run("SELECT 1")
                with guard:
                    inside[0] -= 1
        database.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert most[0] == 1


def test_closing_forgets_the_database(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    run("SELECT 1")
    close_database()
    assert connection.database.obj is None
    assert not os.path.exists(tmp_path / "a.sqlite-wal")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(), "it is a folder; name a file in it"),
        (lambda path: path.write_text("[database] and other settings"), "it is a file of another kind"),
    ],
)
def test_a_file_that_can_be_no_database_is_refused_with_its_path(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "here"
    make(path)
    with pytest.raises(ConfigurationError, match=f"cannot use the database {path}: {why}"):
        open_database(f"sqlite:///{path}")
    with pytest.raises(ConfigurationError, match=r"is no folder|cannot make the database's folder"):
        open_database(f"sqlite:///{path / 'in' / 'it'}" if path.is_file() else "sqlite:////dev/null/x/a.sqlite")


@on_sqlite
def test_a_database_that_was_moved_away_is_not_replaced_by_an_empty_one(
    database: peewee.Database, database_url: str, tmp_path: Path
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    assert run("SELECT count(*) FROM task") == [(0,)]
    drop_connection()
    kept = path.rename(tmp_path / "kept.sqlite")
    with pytest.raises(DatabaseUnavailable, match=f"{path} is not there any more"), available():
        run("SELECT count(*) FROM task")
    assert not path.exists()
    kept.rename(path)
    assert run("SELECT count(*) FROM task") == [(0,)]
