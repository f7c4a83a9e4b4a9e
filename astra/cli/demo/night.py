"""The demo's folder, its simulated night, and how far the service has come with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from astra import config
from astra.cli.demo.service import Service, environment
from astra.clock import SYSTEM, Clock
from astra.database import connection, migrate
from astra.database.connection import run
from astra.errors import AstraError
from astra.simulate import Night, Simulation, Truth, simulate

MARK = ".made-by-astra-demo"
WORK_SECONDS = 45.0
GLANCE_SECONDS = 0.25
PAUSE = 0.01  # between two steps of the simulation: some 12 seconds in all

SETTINGS = """\
# The demo's settings: every one is explained in the sample config.toml of the sources.
[database]
url = "sqlite:///astra.sqlite"

[[watch]]
path = "sas"
name = "demo"
backfill = true

[settle]
quiet = 1
patience = 120

[[rules]]
name = "quality-of-visits"
filetype = "apVisit"
task = "astra.contrib.spectrum_quality.base.SpectrumQuality"

[[rules]]
name = "quality-of-stars"
filetype = "apStar"
task = "astra.contrib.spectrum_quality.base.SpectrumQuality"

[scheduler]
tick = 0.2

[executor]
workers = 2

[output]
root = "output"
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo: its folder, the night to write, and the newest ledger row, task and bundle before it."""

    folder: Path
    simulation: Simulation
    files: int
    before: tuple[int, int, int]
    clock: Clock = SYSTEM

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "config.toml"

    @property
    def watched(self) -> Path:
        """The folder that is watched."""
        return self.folder / "sas"

    @property
    def log(self) -> Path:
        """What the service says."""
        return self.folder / "astrad.log"

    @property
    def truth(self) -> list[Truth]:
        """What was put into each star."""
        return self.simulation.truth


@dataclass(slots=True)
class Glance:
    """How far it has come."""

    seconds: float
    written: int
    of: int
    products: int = 0
    linked: int = 0
    sources: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    last: bool = False


def prepare(folder: Path, fresh: bool, stars: int) -> Demo:
    """Make the folder with its settings and database, and plan a night that was not written there before.

    Raises
    ------
    AstraError
        If there are files in the folder that no demo has put there.
    """
    folder = folder.absolute()
    try:
        night = _make_folder(folder, fresh)
    except OSError as error:
        raise AstraError(f"cannot make the demo's folder {folder}: {error.strerror or error}") from error
    settings = config.load(folder / "config.toml", environ=environment())
    connection.open_database(settings.database.url, settings.database.synchronous)
    migrate.migrate()
    tables = ("ingestion", "task", "bundle")
    newest = [run(f"SELECT coalesce(max(id), 0) FROM {table}")[0][0] for table in tables]
    plan = Night(release="dr19", configurations=2, stars=stars, visits=2, seed=night, pause=PAUSE)
    files = sum(plan.stars * (plan.visits + 1) for _ in plan.fields())
    return Demo(folder, simulate(plan, folder / "sas"), files, (newest[0], newest[1], newest[2]))


def _make_folder(folder: Path, fresh: bool) -> int:
    """Make the folder and its settings, and return the number of the night, counted from 1."""
    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise AstraError(f"{folder} is not empty and was not made by a demo: name another folder; nothing was changed")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    (folder / "sas").mkdir(parents=True, exist_ok=True)
    night = int(mark.read_text()) + 1 if mark.exists() else 1
    mark.write_text(f"{night}\n")
    (folder / "config.toml").write_text(SETTINGS)
    return night


def play(demo: Demo, service: Service) -> Iterator[Glance]:
    """Write the night, then wait for all of it to be done, at most a while; yield a glance a few times a second."""
    begun, shown, written = demo.clock.monotonic(), -1.0, 0
    for step in demo.simulation:
        written += step.last and step.of > 0
        now = demo.clock.monotonic() - begun
        if now - shown >= GLANCE_SECONDS:
            service.refuse_dead()
            shown = now
            yield glance(demo, now, written)
    deadline = demo.clock.monotonic() + WORK_SECONDS
    while True:
        seen = glance(demo, demo.clock.monotonic() - begun, written)
        ended = seen.tasks.get("completed", 0) + seen.tasks.get("failed", 0)
        seen.last = (seen.products >= demo.files and ended >= demo.files) or demo.clock.monotonic() > deadline
        yield seen
        if seen.last:
            return
        service.refuse_dead()
        demo.clock.pause(GLANCE_SECONDS)


def glance(demo: Demo, seconds: float, written: int) -> Glance:
    """Return what the database says of this demo's night now."""
    ledger, task, _ = demo.before
    products, linked, sources = run(
        "SELECT count(*), count(l.source_id), count(DISTINCT l.source_id) FROM data_product p "
        "LEFT JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL "
        "WHERE p.current_ingestion_id > ?",
        (ledger,),
    )[0]
    states = dict(run("SELECT state, count(*) FROM task WHERE id > ? GROUP BY state", (task,)))
    return Glance(seconds, written, demo.files, products, linked, sources, states)
