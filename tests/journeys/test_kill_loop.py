"""Killed again and again, at every named point and at random instants, while files are written, appended to, renamed,
overwritten and deleted: nothing is lost, nothing is stale, nothing happens twice. The oracle is astropy on the files
that are there in the end.

`make test-system` kills some hundred times on each database; `make torture` a thousand times, or as often as
$ASTRA_TORTURE_KILLS says, and compares after every fifty.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

import peewee
import pytest

from astra.clock import SYSTEM
from astra.database.astradb import Source
from astra.database.connection import run as query
from tests.support import oracle, processes
from tests.support.components import COMPONENTS
from tests.support.crashes import BACK, FRONT, At, Plan
from tests.support.front import Ahead, Front
from tests.support.mutator import STARS, Mutator
from tests.support.nursery import KILLED_FROM_OUTSIDE, Nursery, log_of
from tests.support.processes import Daemon, descendants, lives, until
from tests.support.records import bundles, count, states, traces
from tests.support.site import Site

RULE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Computes"}
ONCE = frozenset({"watching", "swept"})  # reached once in a process
HITS = (1, 2, 5)
RANDOM_KILLS = 10
ALWAYS = frozenset({"claimed", "submitted", "ticked"})  # the others are reached where a bundle was running
TORTURE_HITS = (1, 2, 5, 20, 70)
BETWEEN_LOOKS = 50
LONGEST = 5.0  # a point that is not reached by then: the kill comes all the same
RACES = 12
AHEAD = 3.0


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    made = Site(tmp_path, database_url, [RULE])
    made.sections = {
        "settle": {"quiet": 0.05},
        "scheduler": {"retries": 1000, "max_bundle_size": 5},
        "executor": {"workers": 2},
    }
    return made


@pytest.mark.system
def test_killed_anywhere_it_ends_where_an_undisturbed_run_ends(site: Site, nursery: Nursery) -> None:
    rng, mutator = random.Random(1), Mutator(site.tree, 1, pause=0.003)
    at = [At(point, hit) for point in FRONT for hit in HITS if hit == 1 or point not in ONCE]
    rng.shuffle(at)
    with mutator:
        reached = {each.point for each in at if front_dies(site, nursery, each)}
        for _ in range(RANDOM_KILLS):
            front_is_killed(site, nursery, rng)
    assert reached == set(FRONT), "every point was died at"
    look(site, mutator)

    with mutator:
        for point in BACK:
            daemon_is_killed(site, rng)
            if daemon_dies(site, At(point)):
                reached.add(point)
    assert reached >= ALWAYS
    assert mutator.deeds > 3 * len(at)
    assert bundles()["expired"] + bundles()["running"] > 0, "some were killed in mid-bundle"
    finish(site, mutator)


@pytest.mark.torture
def test_killed_a_thousand_times_it_ends_where_an_undisturbed_run_ends(site: Site, nursery: Nursery) -> None:
    kills = int(os.environ.get("ASTRA_TORTURE_KILLS", "1000"))
    rng = random.Random(kills)
    mutator = Mutator(site.tree, kills)
    for done in range(0, kills, BETWEEN_LOOKS):
        with mutator:
            for _ in range(min(BETWEEN_LOOKS, kills - done)):
                die_somewhere(site, nursery, rng)
        look(site, mutator)
    finish(site, mutator)


def die_somewhere(site: Site, nursery: Nursery, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.7:
        front_dies(site, nursery, At(rng.choice(sorted(FRONT)), rng.choice(TORTURE_HITS)), longest=1.0)
    elif choice < 0.9:
        front_is_killed(site, nursery, rng)
    elif choice < 0.95:
        daemon_dies(site, At(rng.choice(sorted(BACK)), rng.choice(TORTURE_HITS)))
    else:
        daemon_is_killed(site, rng)


def front_dies(site: Site, nursery: Nursery, at: At, longest: float = LONGEST) -> bool:
    """Let the front of the service die at a point; return whether it came there before a kill came from outside."""
    config = site.write()
    ended = nursery.front(Plan([at]), config, longest=longest)
    assert ended in (-signal.SIGKILL, KILLED_FROM_OUTSIDE), log_of(config).read_text()
    return ended == -signal.SIGKILL


def front_is_killed(site: Site, nursery: Nursery, rng: random.Random) -> None:
    """The same at a random instant."""
    config = site.write()
    ended = nursery.front(Plan(), config, longest=rng.uniform(0.02, 0.8))
    assert ended == KILLED_FROM_OUTSIDE, log_of(config).read_text()


def daemon_dies(site: Site, at: At) -> bool:
    """The same with the whole service, whose workers must follow it."""
    with Daemon(site.write(), started=Plan([at]).command()) as daemon:
        try:
            assert daemon.process.wait(LONGEST) == -signal.SIGKILL, daemon.output()
        except TimeoutExpired:
            daemon.kill()
            return False
    return True


def daemon_is_killed(site: Site, rng: random.Random) -> None:
    """SIGKILL the service at a random instant, or one of its workers and then the service."""
    with site.daemon() as daemon:
        SYSTEM.wait(threading.Event(), rng.uniform(0.5, 2.5))
        below = descendants(daemon.pid)
        if below and rng.random() < 0.3:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(below), signal.SIGKILL)
        daemon.kill()
    until(lambda: not any(map(lives, below)))


def look(site: Site, mutator: Mutator) -> None:
    """Make one clean pass, and compare."""
    with Front(site.settings(), Ahead(AHEAD)) as front:
        front.run_until_done()
    compare(site.tree, mutator)


def compare(tree: Path, mutator: Mutator) -> None:
    found = oracle.violations(tree, mutator.written)
    assert not found, "\n".join(f"{each.kind}: {each.what}" for each in found)
    assert Source.select().count() <= STARS


def finish(site: Site, mutator: Mutator) -> None:
    """Let the service do all that is left, and compare once more."""
    done = processes.run("astrad", "run", "--drain", config=site.write(), timeout=120)
    assert done.returncode in (0, 1), done.stderr  # 1: tasks whose input had been rewritten before they ran
    assert "Traceback" not in done.stderr
    assert "submitted" not in site.drain(), "everything was done"
    compare(site.tree, mutator)
    work_is_done_once()


def work_is_done_once() -> None:
    assert set(bundles()) <= {"ended", "expired", "released"}
    assert set(states()) <= {"completed", "cancelled", "failed"}
    reasons = query(
        "SELECT DISTINCT m.error_class FROM task t JOIN task_bundle m "
        "ON m.task_id = t.id AND m.bundle_id = t.bundle_id WHERE t.state = 'failed'"
    )
    assert {row[0] for row in reasons} <= {"InputChanged"}
    completed = [row[0] for row in query("SELECT id FROM task WHERE state = 'completed' ORDER BY id")]
    assert completed
    assert sorted(task for task, _ in traces()) == completed, "one result for each completed task"


@pytest.mark.system
def test_files_changed_at_full_speed_are_recorded_as_they_are_in_the_end(site: Site) -> None:
    races(site, RACES)


@pytest.mark.torture
def test_many_races_end_well(site: Site) -> None:
    races(site, 10 * RACES)


def races(site: Site, rounds: int) -> None:
    """Change three files as fast as can be while the service runs, then compare after a pass beside it."""
    mutator = Mutator(site.tree, rounds, pause=0.0, fibers=3)
    with site.daemon() as daemon:
        for _ in range(rounds):
            deeds = mutator.deeds + 100
            with mutator:
                until(lambda deeds=deeds: mutator.deeds >= deeds, every=0.005)
            look(site, mutator)
        assert daemon.process.poll() is None, daemon.output()
        assert "Traceback" not in daemon.output()
    assert count("ingestion") > rounds, "most of it was not too fast to be seen"
