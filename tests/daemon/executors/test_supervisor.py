"""The supervisor of a process, while its database is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.connection import close_database, open_database
from daemon.executors.supervisor import Supervisor
from tests.support.clock import FakeClock
from tests.support.components import Trace, Waits, make_gate, open_gate, waiting
from tests.support.postgres import PrivateServer
from tests.support.processes import until
from tests.support.rig import Rig, settings

LEASE = 3.0


@pytest.fixture
def rig(own_server: PrivateServer, tmp_path: Path) -> Iterator[Rig]:
    url = own_server.url(own_server.create())
    open_database(url)
    migrate.migrate()
    migrate.create_result_tables([Trace])
    rig = Rig(settings(tmp_path, url, {"executor": {"workers": 1}, "scheduler": {"lease": LEASE}}), "local")
    yield rig
    rig.executor.stop()
    close_database()


def test_a_lease_that_cannot_be_renewed_is_told_of_once(
    rig: Rig, own_server: PrivateServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = tmp_path / "gate"
    make_gate(gate)
    bundle = rig.submit(Waits(gate=str(gate)))
    until(lambda: waiting(gate) and rig.turn() == [])
    own_server.stop()
    started = SYSTEM.monotonic()
    for tenth in range(80):  # the supervisor counts in what it is given
        assert rig.executor.turn(started + tenth / 10) == []
    told = [each.getMessage().split()[0] for each in caplog.records]
    assert told == ["lease_not_renewed"]
    own_server.start()
    rig.executor.turn(started + 10)
    open_gate(gate)
    assert rig.ending(bundle).trouble is None


def test_a_process_that_cannot_be_started_for_a_day_is_tried_every_half_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object) -> None:
        raise OSError("no memory left")

    monkeypatch.setattr("daemon.executors.supervisor.WorkerProcess", no_memory)
    supervisor = Supervisor(settings(tmp_path, f"sqlite:///{tmp_path}/astra.sqlite"), FakeClock(), lambda: None)
    for turn in range(3_000):
        assert supervisor.turn(30.0 * turn) == []
    assert sum("no memory left" in each.getMessage() for each in caplog.records) == 3_000
