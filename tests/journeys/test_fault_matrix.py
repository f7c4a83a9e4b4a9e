"""Faults of the machine under a running service, and where every other fault of the matrix is tested.

Whatever happens, there is never a wrong row, the state is visible, and the next pass heals what can be healed.

====================================  ==================================================================
the kernel's queue runs over          daemon/test_watcher, journeys/test_storms
limits of watches and instances       daemon/test_watcher, in a user namespace
the observer's thread dies            daemon/test_watcher
EIO, ESTALE, ENOENT, EACCES and more  journeys/test_broken_disk, injected into real system calls by strace
root exchanged, emptied, unmounted    here; daemon/test_watcher, daemon/test_sweeper, astra/test_tree
the database's disk is full           journeys/test_full_disk; astra/database/test_connection
database is locked                    here; astra/database/test_connection
PostgreSQL ends its backends          here; astra/database/test_connection
PostgreSQL away, restarted, crashed   journeys/test_database_away
SIGTERM, SIGKILL                      journeys/test_stopped_and_killed, journeys/test_kill_loop
SIGSTOP and SIGCONT                   here
wall clock stepped                    contracts/test_intake_states, astra/test_ingest, daemon/test_service
modification time in the future       contracts/test_intake_states, daemon/test_intake
rewritten, same size, same mtime      contracts/test_intake_states, journeys/test_missed_events
same stamps altogether                contracts/test_intake_states (coarse stamps), astra/test_ingest
truncated at every kind of boundary   journeys/test_bad_input, astra/test_headers, astra/test_ingest
no FITS, empty, folder, link, name    journeys/test_bad_input, astra/test_tree, journeys/test_changing_files
unreadable file, unreadable folder    journeys/test_bad_input
events lost, late, repeated           contracts/test_intake_states
====================================  ==================================================================
"""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest

from tests.support import fits
from tests.support.components import COMPONENTS
from tests.support.disks import small_disk, unmount
from tests.support.processes import Daemon, until
from tests.support.records import ingestions, outcomes, states, traces
from tests.support.site import Site

TRACE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    return Site(tmp_path, database_url, [TRACE], {"sweep_every": 0.5})


def write(site: Site, *fibers: int) -> None:
    for fiber in fibers:
        fits.write(site.tree / fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber))


def root(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.folder / "state" / "status.json").read_text())["roots"][0]
    return found


def everything_is_done_once(number: int) -> None:
    until(lambda: states() == Counter(completed=number), timeout=60)
    assert outcomes() == Counter(ingested=number)
    assert len(traces()) == len({task for task, _ in traces()}) == number


@ON_SQLITE
def test_a_root_that_is_replaced_by_an_empty_folder_and_comes_back_is_no_new_work(site: Site) -> None:
    with site.daemon() as daemon:
        write(site, 1, 2)
        everything_is_done_once(2)
        until(lambda: root(site)["files"] == 2)
        site.tree.rename(site.folder / "away")
        site.tree.mkdir()
        daemon.says("watching_again")
        until(lambda: root(site)["outage"] is not None)
        assert outcomes() == Counter(ingested=2), "nothing was taken for gone"
        write(site, 3)
        everything_is_done_once(3)
        site.tree.rename(site.folder / "other")
        (site.folder / "away").rename(site.tree)
        write(site, 4)
        everything_is_done_once(4)
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0


@ON_SQLITE
def test_a_root_that_is_made_after_the_start_is_watched_as_soon_as_it_is_swept(site: Site) -> None:
    config = site.write()
    site.tree.rmdir()
    with Daemon(config) as daemon:
        daemon.says("root_out")
        write(site, 1)
        daemon.says("watching_again")
        everything_is_done_once(1)
        assert "watches_missing" not in daemon.output(), "it is no matter of the kernel's limits"
        assert daemon.terminate() == 0


@ON_SQLITE
@pytest.mark.system
def test_a_root_whose_disk_is_unmounted_and_mounted_again_goes_on(site: Site) -> None:
    with small_disk(site.tree, 20), site.daemon() as daemon:
        write(site, 1, 2)
        everything_is_done_once(2)
        until(lambda: root(site)["files"] == 2)
        unmount(site.tree)
        until(lambda: root(site)["outage"] is not None)
        assert outcomes() == Counter(ingested=2), "nothing was taken for gone"
        with small_disk(site.tree, 20):
            write(site, 3)
            everything_is_done_once(3)
            assert "Traceback" not in daemon.output()
            assert daemon.terminate() == 0


@ON_SQLITE
@pytest.mark.system
def test_a_database_that_another_program_has_locked_is_waited_for(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.says(" started ")
        with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # SQLite's own lock: it knows nothing of ours
            write(site, 1, 2, 3)
            assert "database is locked" in daemon.says("database_away", timeout=60)
            assert outcomes() == Counter()
            other.execute("ROLLBACK")
        everything_is_done_once(3)
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0


@pytest.mark.system  # each of its tables takes seconds
@ON_POSTGRESQL
@pytest.mark.parametrize("table", ["ingestion", "data_product", "task", "bundle"])
def test_backends_that_are_ended_in_mid_transaction_lose_nothing_and_double_nothing(site: Site, table: str) -> None:
    waiting = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with site.daemon() as daemon, closing(psycopg2.connect(site.url)) as other, other.cursor() as cursor:
        daemon.says(" started ")

        def one_is_ended() -> bool:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # else who connects after the first look is never seen
            cursor.execute(waiting)
            return bool(cursor.fetchall()[0][0])

        for fiber in (1, 2, 3):
            cursor.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")  # who reads goes on, who writes waits for us
            write(site, fiber)
            until(one_is_ended)
            other.rollback()
            everything_is_done_once(fiber)
        assert "database_away" in daemon.output()
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0


@ON_SQLITE
def test_a_service_that_was_stopped_and_continued_has_missed_nothing(site: Site) -> None:
    with site.daemon() as daemon:
        write(site, 1)
        everything_is_done_once(1)
        daemon.process.send_signal(signal.SIGSTOP)
        write(site, *range(2, 30))
        (site.tree / fits.visit_name(fiber=1)).rename(site.tree / "elsewhere.fits")
        assert ingestions(fits.visit_name(fiber=2)) == []
        daemon.process.send_signal(signal.SIGCONT)
        everything_is_done_once(29)
        assert "Traceback" not in daemon.output()
        assert daemon.terminate() == 0
