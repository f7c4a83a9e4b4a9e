"""The listener: woken by other processes, also after a restart; which of several services watches a folder."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import peewee
import pytest

from astra import queue
from astra.clock import SYSTEM
from astra.database import notices
from astra.database.connection import close_database, open_database, run
from astra.database.migrate import migrate
from astra.work import NewTask
from daemon import listener as module
from daemon.listener import Listener
from tests.support.postgres import PrivateServer, Server
from tests.support.processes import until

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
HOLDERS = "SELECT count(*) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted GROUP BY l.pid"
CUT = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.1)
    caplog.set_level(logging.INFO, "daemon")


@dataclass
class One:
    """A service's listener, and whether it was woken."""

    roots: tuple[str, ...] = ("redux",)
    woken: threading.Event = field(default_factory=threading.Event)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.listener = Listener(self.roots, 0.5, SYSTEM, self.woken.set)
        self.stack.enter_context(self.listener.running())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.msg).split()[0] for record in caplog.records]


def enqueue() -> None:
    queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}")], SYSTEM.now())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_on_sqlite_it_says_that_it_polls_and_watches_all(
    database: peewee.Database, caplog: pytest.LogCaptureFixture
) -> None:
    one = One(("redux", "other"))
    assert (one.listener.mine, one.listener.others) == ({"redux", "other"}, {})
    assert said(caplog) == ["polling"]


@ON_POSTGRESQL
def test_of_two_one_watches_and_the_other_takes_over_when_it_ends(
    database: peewee.Database, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = One(), One()
    stack.callback(second.stack.close)
    assert (first.listener.mine, second.listener.mine) == ({"redux"}, set())
    assert second.listener.others["redux"].startswith("astrad ")
    assert said(caplog) == ["listening", "listening", "standing_by"]
    first.stack.close()
    until(lambda: second.listener.mine == {"redux"})
    assert second.listener.others == {}
    assert said(caplog)[-1] == "taken_over"


@ON_POSTGRESQL
def test_what_was_taken_while_the_connection_was_lost_is_told_loudly_once(
    database: peewee.Database, stack: ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_BACKOFF", 2.0)  # long enough for the other to be faster
    first, second = One(), One()
    stack.callback(second.stack.close)
    stack.callback(first.stack.close)
    run(CUT)
    until(lambda: second.listener.mine == {"redux"})
    until(lambda: first.listener.mine == set())
    until(lambda: said(caplog).count("standing_by") == 1 and said(caplog).count("root_lost") == 1)
    assert said(caplog).count("polling") == 1
    assert first.listener.others["redux"].startswith("astrad ")


@ON_POSTGRESQL
def test_a_connection_that_the_server_still_holds_for_alive_is_no_rival(
    database: peewee.Database, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    one = One()
    stack.callback(one.stack.close)
    assert one.listener._line is not None
    line = one.listener._line._connection.fileno()
    kept = os.dup(line)  # by which the server sees no end of it
    stack.callback(os.close, kept)
    ours, theirs = socket.socketpair()
    theirs.close()
    os.dup2(ours.fileno(), line)
    ours.close()
    until(lambda: said(caplog).count("listening") == 2)
    until(lambda: len(run(HOLDERS)) == 1)
    one.stack.close()
    assert "root_lost" not in said(caplog)


@ON_POSTGRESQL
def test_a_folder_that_its_service_cannot_look_after_goes_to_one_that_stands_by(
    database: peewee.Database, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = One(("redux", "other")), One()
    stack.callback(second.stack.close)
    stack.callback(first.stack.close)
    first.listener.unwell = lambda: {"redux": "out of reach"}
    until(lambda: (first.listener.mine, second.listener.mine) == ({"other"}, {"redux"}))
    assert said(caplog).count("root_given_up") == 1
    second.listener.unwell = lambda: {"redux": "out of reach"}
    until(lambda: run(HOLDERS) == [(1,)])
    first.listener.unwell = dict
    looked = first.listener._look_at
    until(lambda: first.listener._look_at > looked + 0.3)
    assert second.listener.mine == {"redux"}, "whom nobody relieves goes on"
    assert first.listener.mine == {"other"}, "it has just tried"
    second.listener.unwell = dict
    until(lambda: run(HOLDERS) == [(1,), (1,)])
    assert said(caplog).count("root_given_up") == 1


@ON_POSTGRESQL
def test_a_service_that_gets_no_connection_for_notices_starts_all_the_same(
    database: peewee.Database, pg_server: Server, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    name = run("SELECT current_database()")[0][0]
    pg_server._administer(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    one = One()
    stack.callback(one.stack.close)
    assert said(caplog) == ["polling"]
    assert not one.listener.has_looked
    pg_server._administer(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    until(lambda: one.listener.mine == {"redux"})
    assert one.listener.has_looked
    assert said(caplog) == ["polling", "listening"]


def test_it_listens_again_after_the_server_was_restarted(
    own_server: PrivateServer, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    name = own_server.create()
    open_database(own_server.url(name))
    stack.callback(close_database)
    migrate()
    one = One()
    stack.callback(one.stack.close)
    enqueue()
    assert one.woken.wait(20)
    own_server.stop("immediate")
    until(lambda: "polling" in said(caplog))
    one.woken.clear()
    own_server.start()
    assert one.woken.wait(20), "for what was missed"
    assert one.listener.mine == {"redux"}
    assert said(caplog) == ["listening", "polling", "listening"], "told once, however often it was tried"
    until(lambda: one.woken.clear() is None and not one.woken.wait(0.2))
    close_database()
    open_database(own_server.url(name))
    enqueue()
    assert one.woken.wait(20)


@ON_POSTGRESQL
def test_it_ends_at_once_and_leaves_no_connection(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 3600.0)
    one = One()
    began = SYSTEM.monotonic()
    one.stack.close()
    assert SYSTEM.monotonic() - began < module._STOP_SECONDS
    here = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'astrad %' AND datname = current_database()"
    )
    until(lambda: run(here) == [(0,)])


@ON_POSTGRESQL
def test_a_notice_that_came_with_an_answer_is_heard_at_once(database: peewee.Database) -> None:
    line = notices.Line()
    hears, tells = os.pipe()
    enqueue()
    assert line.watchers(["redux"]) == {}  # its answer brings the notice along
    began = SYSTEM.monotonic()
    assert line.wait(hears, 5.0)
    assert SYSTEM.monotonic() - began < 4.0
    line.close()
    os.close(hears)
    os.close(tells)
