"""What the tests of Slurm's executor share."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest

from tests.support.clock import FakeClock
from tests.support.cluster import Desk
from tests.support.site import Site


@pytest.fixture
def desk(tmp_path: Path, database_url: str, database: peewee.Database, clock: FakeClock) -> Desk:
    slurm = {"poll": 10, "jobs": 6}
    sections = {"executor": {"name": "slurm", "slurm": slurm}, "scheduler": {"tick": 1, "backoff": 10, "lease": 60}}
    return Desk(Site(tmp_path, database_url, sections=sections).settings(), clock)
