"""Killed again and again at random instants, while files are written, renamed and overwritten: nothing is lost, nothing
is stale, nothing happens twice. The oracle is astropy on the files that are there in the end."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database.astradb import DataProduct, Ingestion, Source
from astra.database.connection import run as query
from astra.signature import Signature
from astra.states import IngestionOutcome
from tests.support import processes
from tests.support.components import COMPONENTS
from tests.support.mutator import STARS, Mutator, true_facts
from tests.support.processes import Daemon, descendants, lives, until
from tests.support.records import bundles, count, states, traces
from tests.support.site import Site

pytestmark = pytest.mark.system
KILLS = 24


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_instants_it_ends_where_an_undisturbed_run_ends(
    tmp_path: Path, database_url: str, database: peewee.Database, seed: int
) -> None:
    rule = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Computes"}
    site = Site(tmp_path, database_url, [rule])
    site.sections = {"scheduler": {"retries": 1000, "max_bundle_size": 5}, "executor": {"workers": 2}}
    rng = random.Random(seed)
    with Mutator(site.tree, seed) as mutator:
        for _ in range(KILLS):
            with site.daemon() as daemon:
                SYSTEM.wait(threading.Event(), rng.uniform(0.5, 3.0))
                left = kill(daemon, rng)
            until(lambda left=left: not any(map(lives, left)))
    assert mutator.deeds > 20 * KILLS
    assert count("ingestion") > KILLS
    assert bundles()["expired"] + bundles()["running"] > 0, "some were killed in mid-bundle"

    done = processes.run("astrad", "run", "--drain", config=site.write(), timeout=120)
    assert done.returncode in (0, 1), done.stderr  # 1: tasks whose input had been rewritten before they ran
    assert "Traceback" not in done.stderr
    assert "submitted" not in site.drain(), "everything was done"
    compare(site)


def kill(daemon: Daemon, rng: random.Random) -> list[int]:
    """SIGKILL the service, or one of its workers and then the service; return those that must be gone."""
    below = descendants(daemon.pid)
    if below and rng.random() < 0.3:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(below), signal.SIGKILL)
    daemon.kill()
    return below


def compare(site: Site) -> None:
    """Compare the records with the files that are there."""
    facts = true_facts(site.tree)
    ledger_is_complete(site, facts.keys())
    by_fiber = defaultdict(list)
    for path, each in facts.items():
        by_fiber[each["FIBERID"]].append(path)
    assert all(len(paths) == 1 for paths in by_fiber.values()), "the pipeline itself left one file for each visit"

    products = {Path(each.path): each for each in DataProduct.select()}
    assert set(products) == set(facts), "nothing missing, nothing doubled"
    sources = defaultdict(set)
    for path, product in products.items():
        assert product.metadata["snr"] == facts[path]["SNR"], f"{path} is stale"
        assert (
            product.kwargs["fiber"] == str(facts[path]["FIBERID"])
            or int(product.kwargs["fiber"]) == facts[path]["FIBERID"]
        )
        assert product.source is not None
        sources[facts[path]["OBJID"]].add(product.source.id)
    assert all(len(each) == 1 for each in sources.values())
    assert Source.select().count() == len(sources) <= STARS
    work_is_done_once()


def ledger_is_complete(site: Site, paths: object) -> None:
    for path in paths:  # type: ignore[attr-defined]
        newest = (
            Ingestion.select().where(Ingestion.path == str(path.relative_to(site.tree))).order_by(Ingestion.id.desc())
        ).first()
        assert newest.outcome is IngestionOutcome.INGESTED, (path, newest.reason)
        signature = Signature.of(path.stat())
        assert (newest.size, newest.mtime_ns, newest.ctime_ns, newest.inode) == signature
    versions = "SELECT count(*) FROM (SELECT DISTINCT root, path, size, mtime_ns, ctime_ns, inode FROM ingestion) AS v"
    assert query(versions)[0][0] == count("ingestion"), "no file version was recorded twice"


def work_is_done_once() -> None:
    assert set(bundles()) <= {"ended", "expired", "released"}
    assert set(states()) <= {"completed", "cancelled", "failed"}
    reasons = query(
        "SELECT DISTINCT m.error_class FROM task t JOIN task_bundle m "
        "ON m.task_id = t.id AND m.bundle_id = t.bundle_id WHERE t.state = 'failed'"
    )
    assert {row[0] for row in reasons} <= {"InputChanged"}
    completed = [row[0] for row in query("SELECT id FROM task WHERE state = 'completed' ORDER BY id")]
    assert sorted(task for task, _ in traces()) == completed, "one result for each completed task"
    identities = query("SELECT identity FROM task WHERE state = 'completed'")
    assert len(identities) == len(set(identities)), "no work was done twice"
    undone = query(
        """
        SELECT p.path FROM data_product p JOIN ingestion c ON c.id = p.current_ingestion_id WHERE NOT EXISTS (
            SELECT 1 FROM task t JOIN task_input_data_product i ON i.task_id = t.id
            JOIN ingestion g ON g.id = i.ingestion_id
            WHERE i.data_product_id = p.id AND t.state = 'completed'
            AND g.size = c.size AND g.mtime_ns = c.mtime_ns AND g.header_sha256 = c.header_sha256)
        """
    )
    assert undone == [], "every current version has its result"
