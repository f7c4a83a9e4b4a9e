"""A file that changes its place, or its content, while a task works on it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import peewee
import pytest

from astra.database.connection import run
from tests.support import fits
from tests.support.components import COMPONENTS, make_gate, open_gate, waiting
from tests.support.processes import until
from tests.support.records import ingestions, states, traces
from tests.support.site import Site


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    rule = {"name": "wait", "filetype": "apVisit", "task": f"{COMPONENTS}.ReadsLate"}
    site = Site(tmp_path, database_url, [{**rule, "parameters": {"gate": str(tmp_path / "gate")}}])
    make_gate(site.gate)
    return site


def test_a_file_that_moves_while_its_task_runs_has_its_work_done_in_its_new_place(site: Site) -> None:
    path = site.tree / "a" / fits.visit_name()
    target = site.tree / "b" / fits.visit_name()
    target.parent.mkdir(parents=True)
    with site.daemon() as daemon:
        daemon.says(" started ")
        fits.write(path, fits.apvisit())
        until(lambda: waiting(site.gate))
        os.rename(path, target)
        until(lambda: len(ingestions(target)) == 2)
        open_gate(site.gate)
        until(lambda: states() == Counter(failed=1, completed=1))
        assert daemon.terminate() == 0
    assert len(traces()) == 1
    told = run("SELECT error_class, error_message, traceback FROM task_bundle WHERE outcome = 'failed'")
    assert [(name, message.startswith(f"input changed: {path}")) for name, message, _ in told] == [
        ("InputChanged", True)
    ]
    assert "FileNotFoundError" in told[0][2], "what the component raised is there too"
    site.drain()
    assert states() == Counter(failed=1, completed=1), "and it is done once"
