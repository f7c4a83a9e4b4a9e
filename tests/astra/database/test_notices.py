"""Notices and folders' locks on a real PostgreSQL: what is heard, when, and who is told to hold what."""

from __future__ import annotations

import os
from collections.abc import Iterator

import peewee
import pytest

from astra import queue
from astra.database import notices
from astra.database.connection import database as proxy
from astra.database.connection import run
from astra.database.notices import Line, announce, watchers
from astra.errors import DatabaseUnavailable
from astra.states import HoldKind
from astra.work import NewTask
from tests.support.clock import START
from tests.support.processes import until

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
NEVER, SOON = os.pipe()[0], 10.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every notice: the tests do not wait for the next one's time."""
    monkeypatch.setattr(notices, "APART", 0.0)


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
    assert line.wait(NEVER, SOON)
    enqueue("one")  # which lives
    let_arrive(line)
    assert not line.wait(NEVER, 0)


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
