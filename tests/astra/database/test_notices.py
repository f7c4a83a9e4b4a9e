"""Notices and folders' locks on a real PostgreSQL: what is heard, when, and who is told to hold what."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import peewee
import pytest

from astra import queue
from astra.clock import SYSTEM
from astra.database import notices
from astra.database.connection import database as proxy
from astra.database.connection import drop_connection, run
from astra.database.notices import APART, Line, announce, watchers
from astra.errors import DatabaseUnavailable
from astra.states import HoldKind
from astra.work import NewTask
from tests.support.clock import START
from tests.support.processes import until

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
NEVER, SOON = os.pipe()[0], 10.0


@pytest.fixture(autouse=True)
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have sent no notice yet."""
    monkeypatch.setattr(notices, "_sender", notices._Sender(SYSTEM))


def pass_by() -> None:
    """Let the time pass in which this process sends no other notice."""
    began = SYSTEM.monotonic()
    until(lambda: SYSTEM.monotonic() - began > APART)


@pytest.fixture
def line(database: peewee.Database) -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def enqueue(identity: str) -> list[int]:
    return queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}", identity=identity)], START)


def test_what_is_enqueued_is_heard_when_it_is_committed_and_not_before(line: Line) -> None:
    with proxy.atomic():
        enqueue("one")
        assert not line.wait(NEVER, 0)
    assert line.wait(NEVER, SOON)
    assert not line.wait(NEVER, 0), "each is heard once"


def test_what_is_undone_and_what_adds_no_task_is_never_heard(line: Line) -> None:
    with proxy.atomic() as transaction:
        enqueue("one")
        transaction.rollback()
    enqueue("one")
    assert line.wait(NEVER, SOON), "at once: what was undone took nobody's turn"
    pass_by()
    enqueue("one")  # which lives
    let_arrive(line)
    assert not line.wait(NEVER, 0)


def test_what_is_committed_long_after_the_last_notice_is_heard_whenever_it_was_enqueued(line: Line) -> None:
    enqueue("one")
    with proxy.atomic():
        enqueue("two")
        enqueue("three")
        assert line.wait(NEVER, SOON)
        pass_by()
    assert line.wait(NEVER, SOON)
    let_arrive(line)
    assert not line.wait(NEVER, 0), "one notice for both"


def test_what_two_threads_enqueue_is_heard_though_the_first_to_announce_commits_last(line: Line) -> None:
    connected, other = threading.Event(), threading.Event()

    def beside() -> None:
        run("SELECT 1")
        connected.set()
        other.wait(SOON)
        enqueue("two")
        drop_connection()

    thread = threading.Thread(target=beside)
    thread.start()
    connected.wait(SOON)
    with proxy.atomic():
        enqueue("one")
        other.set()
        thread.join()
        assert line.wait(NEVER, SOON)


def test_a_transaction_that_was_committed_stands_where_its_notice_cannot_be_sent(line: Line) -> None:
    def cut() -> None:
        line._ask("SELECT pg_terminate_backend(%s)", run("SELECT pg_backend_pid()")[0])

    with proxy.atomic():
        proxy.after_commit(cut)
        enqueue("one")
    assert run("SELECT count(*) FROM task") == [(1,)]


def let_arrive(line: Line) -> None:
    """Let whatever was sent before arrive: a statement's answer comes after it."""
    line.watchers([])


@pytest.mark.parametrize("what", ["task", "component", "failed"])
def test_what_a_person_lets_go_or_retries_is_heard(line: Line, what: str) -> None:
    keys = enqueue("one")
    if what == "task":
        queue.hold_tasks(keys)
    elif what == "component":
        queue.hold(HoldKind.COMPONENT, "a.B", "me", "", START)
    else:
        proxy.execute_sql("UPDATE task SET state = 'failed'")
    let_arrive(line)
    line.wait(NEVER, 0)
    pass_by()
    if what == "task":
        assert queue.lift_tasks(keys) == 1
    elif what == "component":
        assert queue.lift(HoldKind.COMPONENT, "a.B", START)
    else:
        assert list(queue.retry(keys).again) == keys
    assert line.wait(NEVER, SOON)


def test_a_process_that_enqueues_without_end_does_not_notify_without_end(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "APART", 3600.0)
    announce()  # perhaps the first for an hour, perhaps not
    let_arrive(line)
    line.wait(NEVER, 0)
    announce()
    let_arrive(line)
    assert not line.wait(NEVER, 0)


def test_a_descriptor_that_can_be_read_ends_the_wait(line: Line) -> None:
    hears, tells = os.pipe()
    os.write(tells, b"x")
    assert not line.wait(hears, 3600)


def test_a_line_looks_after_its_end_of_the_connection(line: Line) -> None:
    asked = line._connection.get_dsn_parameters()
    assert (asked["keepalives_idle"], asked["tcp_user_timeout"]) == ("30", "30000")


def test_a_folder_is_watched_by_one_whose_name_the_others_are_told(line: Line) -> None:
    other = Line()
    assert line.take("redux")
    assert line.take("redux"), "as before"
    assert not other.take("redux")
    assert other.take("another")
    [(root, who)] = other.watchers(["redux", "nobodys"]).items()
    assert (root, who.split(" on ")[0]) == ("redux", f"astrad {os.getpid()}")
    assert watchers(["redux", "another"]).keys() == {"redux", "another"}
    other.close()
    until(lambda: line.take("another"))  # the server notices in a moment that its holder has let go


def test_a_line_that_is_cut_is_a_database_that_is_away(line: Line) -> None:
    run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'astrad %'")
    line.wait(NEVER, SOON)  # the server's last word may come before the end of the connection
    with pytest.raises(DatabaseUnavailable):
        line.wait(NEVER, SOON)
    with pytest.raises(DatabaseUnavailable):
        line.take("redux")
