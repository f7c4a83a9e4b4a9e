"""The survey's database on a server that is stopped, killed and started again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from astra.clock import SYSTEM
from astra.database import survey
from astra.database.survey import CONNECTIONS, FIRST_PAUSE, LONGEST_PAUSE, SurveyDatabase
from astra.errors import CatalogueUnavailable
from tests.support.clock import FakeClock
from tests.support.postgres import PrivateServer


@pytest.fixture
def running(own_server: PrivateServer) -> Iterator[PrivateServer]:
    """The server, running before the test and after it."""
    yield own_server
    if not (own_server.directory / ".s.PGSQL.5432").exists():
        own_server.start()


@pytest.fixture
def database(running: PrivateServer, clock: FakeClock) -> Iterator[SurveyDatabase]:
    """The server's own first database, as the survey's."""
    opened = SurveyDatabase(running.base, clock)
    yield opened
    opened.close()


def one(database: SurveyDatabase) -> int:
    with database.session() as run:
        return int(run("SELECT %s + 1", (0,))[0][0])


def test_the_server_itself_refuses_every_write(database: SurveyDatabase) -> None:
    for statement in (
        "CREATE TABLE catalogue (id int)",
        "INSERT INTO pg_description VALUES (1, 1, 1, 'ours')",
        "UPDATE pg_description SET description = 'ours'",
        "DELETE FROM pg_description",
        "TRUNCATE pg_description",
    ):
        with pytest.raises(CatalogueUnavailable, match="read-only transaction"), database.session() as run:
            run(statement, ())


def test_a_session_is_set_up_to_be_a_guest(database: SurveyDatabase) -> None:
    names = ("default_transaction_read_only", "application_name", "jit", "statement_timeout", "enable_seqscan")
    with database.session() as run:
        found = {name: run("SELECT current_setting(%s)", (name,))[0][0] for name in names}
    assert found == dict(zip(names, ("on", "astra", "off", "5min", "off"), strict=True))


def test_making_one_looks_for_no_server(tmp_path: Path) -> None:
    SurveyDatabase(f"postgresql://nobody@/nothing?host={tmp_path}", SYSTEM).close()


def test_an_absent_server_is_said_to_be_away_and_that_trying_again_may_help(tmp_path: Path, clock: FakeClock) -> None:
    absent = SurveyDatabase(f"postgresql://nobody@/nothing?host={tmp_path}", clock)
    with pytest.raises(
        CatalogueUnavailable, match=r"cannot be used now: .*No such file.*; tried again in 5 s"
    ) as caught:
        one(absent)
    assert caught.value.retry


def test_while_a_pause_lasts_a_call_fails_at_once_and_after_it_the_server_is_asked(
    running: PrivateServer, database: SurveyDatabase, clock: FakeClock
) -> None:
    running.stop("immediate")
    with pytest.raises(CatalogueUnavailable):
        one(database)
    running.start()  # whoever asked it now would be answered
    clock.advance(FIRST_PAUSE - 1)
    with pytest.raises(CatalogueUnavailable, match="tried again in 1 s"):
        one(database)
    clock.step_wall(3600)
    with pytest.raises(CatalogueUnavailable):
        one(database)
    clock.advance(1)
    assert one(database) == 1
    assert one(database) == 1


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success(
    running: PrivateServer, database: SurveyDatabase, clock: FakeClock
) -> None:
    def pause() -> float:
        before = clock.monotonic()
        while True:
            clock.advance(1)
            with pytest.raises(CatalogueUnavailable) as caught:
                one(database)
            if caught.value.__cause__ is not None:  # it was really tried
                return clock.monotonic() - before

    running.stop("immediate")
    with pytest.raises(CatalogueUnavailable):
        one(database)
    assert [pause() for _ in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300] == [
        min(FIRST_PAUSE * 2**at, LONGEST_PAUSE) for at in range(8)
    ]  # fmt: skip
    running.start()
    clock.advance(LONGEST_PAUSE)
    assert one(database) == 1
    running.stop("immediate")
    with pytest.raises(CatalogueUnavailable, match="tried again in 5 s"):
        one(database)


def test_after_a_pause_one_caller_tries_and_the_others_do_not_wait_for_it(
    running: PrivateServer, database: SurveyDatabase, clock: FakeClock
) -> None:
    running.stop("immediate")
    with pytest.raises(CatalogueUnavailable):
        one(database)
    running.start()
    clock.advance(FIRST_PAUSE)
    with database.session() as run:
        with pytest.raises(CatalogueUnavailable), ThreadPoolExecutor(1) as other:
            other.submit(one, database).result()
        assert run("SELECT 1", ()) == [(1,)]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(one, database).result() == 1


def test_a_server_that_is_killed_in_the_middle_of_a_session_is_away(
    running: PrivateServer, database: SurveyDatabase, clock: FakeClock
) -> None:
    def killed() -> None:
        with database.session() as run:
            run("SELECT 1", ())
            running.stop("immediate")
            run("SELECT 1", ())

    with pytest.raises(CatalogueUnavailable):
        killed()
    running.start()
    clock.advance(FIRST_PAUSE)
    assert one(database) == 1


def test_a_server_that_was_restarted_between_two_calls_is_not_noticed(
    running: PrivateServer, database: SurveyDatabase
) -> None:
    assert one(database) == 1
    running.stop("immediate")
    running.start()
    assert one(database) == 1


def test_a_statement_that_takes_too_long_is_ended_and_counts_as_a_failure(database: SurveyDatabase) -> None:
    def slow() -> None:
        with database.session() as run:
            run("SELECT set_config('statement_timeout', '1', false)", ())
            run("SELECT count(*) FROM generate_series(1, 1000000000)", ())

    with pytest.raises(CatalogueUnavailable, match="statement timeout"):
        slow()
    with pytest.raises(CatalogueUnavailable, match="statement timeout"):
        one(database)


def test_after_a_failure_no_old_connection_is_used(database: SurveyDatabase, clock: FakeClock) -> None:
    processes = []

    def fail() -> None:
        with database.session() as run:
            processes.append(run("SELECT pg_backend_pid()", ()))
            run("SELECT * FROM catalogdb.catalog", ())

    for _ in range(2):
        with pytest.raises(CatalogueUnavailable):
            fail()
        clock.advance(LONGEST_PAUSE)
    assert processes[0] != processes[1]


def test_whatever_the_server_refuses_it_is_the_catalogue_that_cannot_be_used(database: SurveyDatabase) -> None:
    with pytest.raises(CatalogueUnavailable, match=r"catalogdb\.catalog"), database.session() as run:
        run("SELECT * FROM catalogdb.catalog", ())


def test_many_threads_share_a_few_connections(database: SurveyDatabase) -> None:
    together = threading.Barrier(CONNECTIONS)

    def ask(number: int) -> tuple[int, int]:
        with database.session() as run:
            if number < CONNECTIONS:
                together.wait(30)
            ((same, process),) = run("SELECT %s, pg_backend_pid()", (number,))
            return same, process

    with ThreadPoolExecutor(4 * CONNECTIONS) as threads:
        answers = list(threads.map(ask, range(20 * CONNECTIONS)))
    assert [number for number, _ in answers] == list(range(20 * CONNECTIONS))
    assert len({process for _, process in answers}) == CONNECTIONS


def test_who_finds_every_connection_busy_is_told_without_a_pause_for_the_others(
    running: PrivateServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "CONNECTIONS", 1)
    monkeypatch.setattr(survey, "_WAIT_SECONDS", 0.01)
    database = SurveyDatabase(running.base, clock)
    with database.session() as run, ThreadPoolExecutor(1) as other:
        with pytest.raises(CatalogueUnavailable, match="connections are busy"):
            other.submit(one, database).result()
        assert run("SELECT 1", ()) == [(1,)]
    assert one(database) == 1
    database.close()
