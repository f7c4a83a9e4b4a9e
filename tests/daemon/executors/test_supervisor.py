"""The supervisor of a process, while its database is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astra.clock import SYSTEM
from astra.database import migrate
from astra.database.connection import close_database, open_database
from tests.support.components import Trace, Waits, make_gate, open_gate, waiting
from tests.support.missing import lacking
from tests.support.postgres import NoPostgres, PrivateServer
from tests.support.processes import until
from tests.support.rig import Rig, settings

LEASE = 3.0


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    """A server that nobody else uses: it is stopped here."""
    try:
        server = PrivateServer.of_wheel()
    except NoPostgres as error:
        lacking(str(error))
    yield server
    server.close()


@pytest.fixture
def rig(server: PrivateServer, tmp_path: Path) -> Iterator[Rig]:
    url = server.url(server.create())
    open_database(url)
    migrate.migrate()
    migrate.create_result_tables([Trace])
    rig = Rig(settings(tmp_path, url, {"executor": {"workers": 1}, "scheduler": {"lease": LEASE}}), "local")
    yield rig
    rig.executor.stop()
    close_database()


def test_a_lease_that_cannot_be_renewed_is_told_of_once(
    rig: Rig, server: PrivateServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = tmp_path / "gate"
    make_gate(gate)
    bundle = rig.submit(Waits(gate=str(gate)))
    until(lambda: waiting(gate) and rig.turn() == [])
    server.stop()
    started = SYSTEM.monotonic()
    for tenth in range(80):  # the supervisor counts in what it is given
        assert rig.executor.turn(started + tenth / 10) == []
    told = [each.getMessage().split()[0] for each in caplog.records]
    assert told == ["lease_not_renewed"]
    server.start()
    rig.executor.turn(started + 10)
    open_gate(gate)
    assert rig.ending(bundle).trouble is None
