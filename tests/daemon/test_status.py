"""The snapshot: what the running service writes, what the records say, and whether anybody is alive."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import provenance, queue
from astra.clock import SYSTEM
from astra.errors import UnreadableFile
from astra.work import NewTask, Pick
from daemon import status
from tests.support.clock import FakeClock
from tests.support.site import Site


def written(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    owner = provenance.owner()
    made = {"written": clock.now().isoformat(), "pid": owner.pid, "start": owner.start}
    return made | {"boot": owner.boot, "host": owner.host} | changes


def test_nobody_has_run_where_there_is_no_file(tmp_path: Path, clock: FakeClock) -> None:
    assert status.read(tmp_path / "status.json", clock) is None


def test_what_was_written_is_read_and_is_alive_for_a_while(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "made" / "on" / "the" / "way" / "status.json"
    status.write(path, written(clock, bundles_running=3))
    clock.advance(14)
    shown = status.read(path, clock)
    assert shown is not None
    assert (shown["alive"], shown["gone"], shown["age_seconds"], shown["bundles_running"]) == (True, False, 14.0, 3)
    clock.advance(2)
    shown = status.read(path, clock)
    assert shown is not None
    assert (shown["alive"], shown["gone"]) == (False, False), "it hangs"
    assert os.listdir(path.parent) == ["status.json"], "nothing is left beside it"


def test_a_process_that_is_gone_is_not_alive_however_fresh_its_word(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "status.json"
    status.write(path, written(clock, start=1))
    shown = status.read(path, clock)
    assert shown is not None
    assert (shown["alive"], shown["gone"]) == (False, True)


def test_a_file_that_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "status.json"
    path.write_text('{"half": ')
    with pytest.raises(UnreadableFile, match=r"cannot read the status file .*status\.json"):
        status.read(path, clock)


def test_percentiles_of_few_and_many() -> None:
    assert status.percentiles([]) is None
    assert status.percentiles([2.0]) == {"p50": 2.0, "p90": 2.0, "p99": 2.0, "max": 2.0}
    assert status.percentiles([float(n) for n in range(100, 0, -1)]) == {
        "p50": 51.0, "p90": 91.0, "p99": 100.0, "max": 100.0,
    }  # fmt: skip


def test_the_records_are_counted_by_what_became_of_them(database: peewee.Database) -> None:
    empty = status.records(SYSTEM)
    assert (empty["data_products"], empty["tasks"], empty["oldest_pending"]) == (0, {}, None)
    queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}")] * 2, SYSTEM.now())
    shown = status.records(SYSTEM)
    assert shown["tasks"] == {"pending": 2}
    assert shown["oldest_pending"] is not None
    json.dumps(shown)


def test_what_runs_is_told_by_machine(database: peewee.Database) -> None:
    queue.enqueue([NewTask("a.B", "1", "{}", "a.B {}")] * 5, SYSTEM.now())
    for host, most in (("one", 2), ("two", 1), ("one", 1)):
        owner = replace(provenance.owner(), host=host)
        queue.claim([Pick(None, 100, "a.B {}", most)], owner, "local", SYSTEM.now())
    shown = [tuple(each.values()) for each in status.records(SYSTEM)["running"]]
    assert shown == [("one", "local", "submitted", 2, 3), ("two", "local", "submitted", 1, 1)]


def test_machines_that_share_a_home_have_a_status_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Site(tmp_path, "postgresql://nobody@/nothing").settings()
    assert status.status_file(settings).name == "status.json"
    monkeypatch.setattr(status, "filesystem_kind", lambda folder: "nfs4")
    assert status.status_file(settings).name == f"status-{platform.node()}.json"
