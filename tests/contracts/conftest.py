"""What the tests of the local executor share: the executor with real processes, ended after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra.database import migrate
from tests.support.components import Trace, make_gate
from tests.support.rig import Rig, settings


@pytest.fixture
def sections() -> dict[str, dict[str, Any]]:
    """The settings that a test wants to be different."""
    return {}


@pytest.fixture(params=["local"])
def rig(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: peewee.Database,
    database_url: str,
    sections: dict[str, dict[str, Any]],
) -> Iterator[Rig]:
    rig = Rig(settings(tmp_path, database_url, sections), request.param)
    migrate.create_result_tables([Trace])
    yield rig
    rig.executor.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return make_gate(tmp_path / "gate")
