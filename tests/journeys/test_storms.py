"""A hundred thousand files at once, faster than events can be read: none is lost, and looks heal what events lose.

Files are empty and bear the names of visits: what is measured is the way from the disk to the settler, by the real
watcher and the real sweeps against a real ledger. How long it takes to take in what has settled is the bench's matter.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import peewee
import pytest

from astra.clock import SYSTEM
from astra.config import Watch
from astra.products import might_be_product
from astra.tree import Found, WalkReport, differing
from daemon.settler import Arrival, Instant, Settler
from daemon.sweeper import Offer, Sweeper
from daemon.watcher import Hints, Watcher
from tests.support.processes import until

pytestmark = [pytest.mark.system, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
FILES, FOLDERS = 100_000, 1000

WRITER = """
import os
import sys

root, shape, files, folders = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(files):
    folder = root
    if shape == "nested":
        folder = f"{root}/{number // (10 * folders)}/{number // (files // folders)}"
        if number % (files // folders) == 0:
            os.makedirs(folder)
    name = f"apVisit-r6-{1000 + number // 300}-55874-{number % 300 + 1:03d}.fits"
    first = f".{name}.tmp" if shape == "renamed" else name
    os.close(os.open(f"{folder}/{first}", os.O_WRONLY | os.O_CREAT))
    if first != name:
        os.rename(f"{folder}/{first}", f"{folder}/{name}")
"""


class Front:
    """What stands between the disk and intake, turned by hand as the service's loop turns it."""

    def __init__(self, root: Path) -> None:
        watch = Watch(name="root", path=root)
        self.settler = Settler(quiet=3600, patience=3600, bound=2 * FILES)
        self.hinted: SimpleQueue[Arrival] = SimpleQueue()
        self.sweeper = Sweeper([watch], self.find, self.offer, SYSTEM, {}, lambda _: None)
        hints = Hints(
            lambda name, path: self.hinted.put(Arrival(name, path)),
            self.sweeper.request,
            self.sweeper.look,
            might_be_product,
        )
        self.watcher = Watcher([watch], hints)
        self.by_event = self.by_sweep = 0
        self.costliest = 0.0  # of the sweeps and looks so far, in seconds

    def find(self, watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        return differing(watch.name, watch.path, might_be_product, SYSTEM.now(), report)

    def offer(self, offers: list[Offer]) -> int:
        unknown = sum(each.late and each.arrival not in self.settler for each in offers)
        before, now = len(self.settler), self.now()
        for each in offers:
            self.settler.offer(each.arrival, now, each.signature)
        self.by_sweep += len(self.settler) - before
        return unknown

    def now(self) -> Instant:
        return Instant(SYSTEM.monotonic(), SYSTEM.now().timestamp())

    def turn(self) -> bool:
        """Take one turn, and return whether there was something to walk."""
        self.watcher.ensure(SYSTEM.monotonic())
        swept = self.sweeper.turn(SYSTEM.monotonic())
        state = self.sweeper.roots["root"]
        self.costliest = max(self.costliest, state.seconds, state.changed_seconds)
        before, now = len(self.settler), self.now()
        for _ in range(self.hinted.qsize()):
            try:
                self.settler.offer(self.hinted.get_nowait(), now)
            except Empty:
                break
        self.by_event += len(self.settler) - before
        return swept is not None

    def turn_until(self, done: Callable[[], bool]) -> float:
        """Take turns, without a pause while there is something to walk; return the monotonic time at which it is done.

        Raises
        ------
        AssertionError
            If it is not done within a minute.
        """

        def turned_and_done() -> bool:
            while self.turn() and not done():
                pass
            return done()

        until(turned_and_done, timeout=60, every=0.01)
        return SYSTEM.monotonic()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a disk, for the fastest storm."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def front(root: Path, database: peewee.Database) -> Iterator[Front]:
    front = Front(root)
    front.watcher.start(SYSTEM.monotonic())
    front.turn_until(lambda: front.sweeper.tried)
    yield front
    front.watcher.stop()


@pytest.mark.parametrize("shape", ["plain", "nested", "renamed"])
def test_no_file_of_a_storm_is_lost_and_all_are_known_after_two_looks_at_the_latest(
    front: Front, root: Path, shape: str
) -> None:
    arguments = [str(root), shape, str(FILES), str(FOLDERS)]
    began = SYSTEM.monotonic()
    with subprocess.Popen([sys.executable, "-c", WRITER, *arguments]) as writer:
        ended = front.turn_until(lambda: writer.poll() is not None)
        assert writer.returncode == 0
        healed = front.turn_until(lambda: len(front.settler) == FILES) - ended
    by_event, by_sweep = front.by_event, front.by_sweep
    front.sweeper.request("root", "what does a sweep cost here?")
    front.turn_until(lambda: front.sweeper.idle)
    assert len(front.settler) == FILES
    print(
        f"{shape}: written in {ended - began:.1f} s, healed in {healed:.2f} s, {by_event} by event, "
        f"{by_sweep} by sweeps; the costliest took {front.costliest:.2f} s"
    )
    # the look that was under way when the storm ended, and the one that follows it
    assert healed <= 1.0 + 2 * front.costliest
