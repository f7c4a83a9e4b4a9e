"""Hints from real file events: what arrives is offered, what is lost becomes a sweep, nothing raises."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from astra.config import Watch
from daemon.watcher import Hints, Watcher, choose_mode
from tests.support.missing import lacking

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /data rw - nfs4 server:/data rw
31 30 8:2 / /data/local\\040disk rw - xfs /dev/sdb rw
32 22 0:41 / /lustre rw - lustre mgs:/fs rw
33 22 0:42 / /sshfs rw - fuse.sshfs ada@host: rw
"""


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/home/ada", "events"),
        ("/data/dr17", "poll"),
        ("/data/local disk/x", "events"),
        ("/database", "events"),
        ("/lustre", "poll"),
        ("/sshfs/a", "poll"),
    ],
)
def test_auto_polls_network_file_systems_and_watches_local_ones(path: str, mode: str) -> None:
    assert choose_mode(Watch(name="w", path=Path(path)), MOUNTS)[0] == mode


def test_a_mode_in_the_settings_goes_before_the_file_system() -> None:
    assert choose_mode(Watch(name="w", path=Path("/lustre"), mode="events"), MOUNTS)[0] == "events"
    assert choose_mode(Watch(name="w", path=Path("/home"), mode="poll"), MOUNTS)[0] == "poll"


class Rig:
    """A watcher over one real folder, and what it hinted at."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.offered: SimpleQueue[str] = SimpleQueue()
        self.lost: SimpleQueue[str] = SimpleQueue()
        self.late: SimpleQueue[str] = SimpleQueue()
        hints = Hints(
            lambda root, path: self.offered.put(path),
            lambda root, why: self.lost.put(why),
            lambda root, why: self.late.put(why),
            lambda name: name.endswith(".fits") and not name.startswith("."),
        )
        self.watcher = Watcher([Watch(name="root", path=self.root)], hints)

    def until(self, queue: SimpleQueue[str], wanted: str) -> list[str]:
        """Return what came up to and with `wanted`, which must come within ten seconds."""
        came: list[str] = []
        try:
            while not came or wanted not in came[-1]:
                came.append(queue.get(timeout=10))
        except Empty:
            raise AssertionError(f"{wanted} never came, but {came}") from None
        return came


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.watcher.start(0)
    yield rig
    rig.watcher.stop()


def eventually(true: Callable[[], bool]) -> bool:
    """Return whether something becomes true within ten seconds."""
    waiting = threading.Event()
    return any(true() or waiting.wait(0.02) for _ in range(500))


def test_a_written_file_is_offered_by_its_path_below_the_root(rig: Rig) -> None:
    (rig.root / "night").mkdir()
    (rig.root / "night" / "a.fits").write_text("x")
    assert set(rig.until(rig.offered, "a.fits")) == {"night/a.fits"}


def test_a_root_behind_a_link_tells_of_all_its_files(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("root")
    watcher = Watcher([Watch(name="root", path=link)], rig.watcher.hints)
    watcher.start(0)
    try:
        (rig.root / "a.fits").write_text("x")
        assert rig.until(rig.offered, "a.fits")[-1] == "a.fits"
        (rig.root / "night").mkdir()
        (rig.root / "night" / "b.fits").write_text("x")
        assert rig.until(rig.offered, "b.fits")[-1] == "night/b.fits"
    finally:
        watcher.stop()


def test_a_rename_offers_the_final_name_alone(rig: Rig) -> None:
    (rig.root / ".a.fits.tmp").write_text("x")
    (rig.root / ".a.fits.tmp").rename(rig.root / "a.fits")
    assert rig.until(rig.offered, "a.fits") == ["a.fits"]


def test_what_no_product_type_claims_is_dropped_at_the_door(rig: Rig) -> None:
    for name in ("a.txt", ".hidden.fits", "a.fits.part", "last.fits"):
        (rig.root / name).write_text("x")
    assert set(rig.until(rig.offered, "last.fits")) == {"last.fits"}


def test_files_moved_or_linked_in_are_offered_though_they_never_close(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "out.fits").write_text("x")
    (rig.root / "link.fits").symlink_to(tmp_path / "out.fits")
    rig.until(rig.offered, "link.fits")
    (tmp_path / "out.fits").rename(rig.root / "in.fits")
    rig.until(rig.offered, "in.fits")


def test_the_files_of_a_folder_moved_in_are_offered(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "night" / "deep").mkdir(parents=True)
    (tmp_path / "night" / "deep" / "a.fits").write_text("x")
    (tmp_path / "night").rename(rig.root / "night")
    assert "night/deep/a.fits" in rig.until(rig.offered, "a.fits")


def test_a_folder_renamed_inside_asks_for_one_sweep(rig: Rig) -> None:
    (rig.root / "a" / "b").mkdir(parents=True)
    (rig.root / "a" / "b" / "x.fits").write_text("x")
    rig.until(rig.offered, "x.fits")
    assert eventually(lambda: rig.watcher.held("root") == 3)
    (rig.root / "a").rename(rig.root / "c")
    rig.until(rig.offered, "c/b/x.fits")
    assert rig.until(rig.lost, "was moved") == [f"a folder was moved: {rig.root}/c"]
    assert rig.lost.empty()


def test_our_own_reads_are_no_hints(rig: Rig) -> None:
    (rig.root / "a.fits").write_text("x")
    (rig.root / "b.fits").write_text("x")
    rig.until(rig.offered, "b.fits")
    for _ in range(20):
        (rig.root / "a.fits").read_text()
    (rig.root / "last.fits").write_text("x")
    assert "a.fits" not in rig.until(rig.offered, "last.fits")


def test_a_name_that_is_not_utf8_is_no_hint(rig: Rig) -> None:
    with open(bytes(rig.root) + b"/caf\xe9.fits", "w"):
        pass
    (rig.root / "last.fits").write_text("x")
    assert set(rig.until(rig.offered, "last.fits")) == {"last.fits"}


def test_a_missing_root_is_blind_and_watched_as_soon_as_it_is_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.root.rmdir()
    rig.watcher.start(0)
    assert "No such file" in rig.watcher.blind["root"]
    assert rig.watcher.held("root") == 0
    assert "not watched" in rig.lost.get_nowait()
    rig.root.mkdir()
    rig.watcher.ensure(29)
    assert rig.watcher.blind
    rig.watcher.ensure(30)
    assert not rig.watcher.blind
    assert "watched again" in rig.lost.get_nowait()
    (rig.root / "a.fits").write_text("x")
    rig.until(rig.offered, "a.fits")
    rig.watcher.stop()


def test_a_root_that_is_exchanged_is_swept_and_watched_anew(rig: Rig, tmp_path: Path) -> None:
    rig.root.rename(tmp_path / "away")
    rig.root.mkdir()
    rig.watcher.ensure(1)
    assert rig.lost.qsize() >= 1
    assert not rig.watcher.blind
    (rig.root / "a.fits").write_text("x")
    rig.until(rig.offered, "a.fits")


def test_a_root_that_is_deleted_is_blind(rig: Rig) -> None:
    shutil.rmtree(rig.root)
    rig.watcher.ensure(1)
    assert "root" in rig.watcher.blind


def test_a_reader_that_died_is_replaced(rig: Rig) -> None:
    observer = rig.watcher._roots["root"].observer
    assert observer is not None
    for emitter in observer.emitters:
        emitter.stop()
        emitter.join()
    rig.watcher.ensure(1)
    rig.until(rig.lost, "watched again")
    (rig.root / "a.fits").write_text("x")
    rig.until(rig.offered, "a.fits")


def test_an_overflow_asks_for_a_sweep_and_twice_more_later(rig: Rig) -> None:
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")
    logging.getLogger("watchdog.observers.inotify").warning("Inotify queue overflowed")
    asked = []
    for now in (1, 2, 5.9, 6, 60):
        rig.watcher.ensure(now)
        asked.append(rig.lost.qsize())
    assert asked == [1, 2, 2, 3, 3]


def test_the_readers_repeated_warnings_do_not_flood_our_log(rig: Rig) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")
    logging.getLogger().removeHandler(handler)
    assert stream.getvalue() == ""


def test_a_storm_that_overruns_the_kernels_queue_is_noticed(rig: Rig) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 20_000:
        lacking(f"the kernel queues {limit} events here, too many to overrun in a test")
    emitter = next(iter(rig.watcher._roots["root"].observer.emitters))  # type: ignore[union-attr]
    with emitter._inotify._lock:  # type: ignore[attr-defined]
        # the reader stands still, as it does under load
        for number in range(limit // 2 + 2000):
            (rig.root / f"{number}.fits").touch()
        rig.watcher.ensure(0)
        assert rig.late.get_nowait() == "events come faster than they are read"
    assert eventually(rig.watcher._overflow.lost.is_set)
    rig.watcher.ensure(1)
    rig.until(rig.lost, "events were lost")


def test_watches_that_cannot_be_made_again_make_the_root_blind_until_they_are(rig: Rig) -> None:
    logging.getLogger("watchdog.observers.inotify").error("Unable to rebuild")
    rig.watcher.ensure(1)
    rig.until(rig.lost, "watched again")
    (rig.root / "a.fits").write_text("x")
    rig.until(rig.offered, "a.fits")


def test_fewer_watches_than_folders_are_told_with_the_limit_to_raise(rig: Rig) -> None:
    (rig.root / "a").mkdir()
    assert eventually(lambda: rig.watcher.held("root") == 2)
    assert rig.watcher.missing("root", 2) is None
    assert "max_user_watches" in str(rig.watcher.missing("root", 3))


LIMITS = """
import sys
import threading
from pathlib import Path
from astra.config import Watch
from daemon.watcher import Hints, Watcher

def limit(what, number):
    Path(f"/proc/sys/user/max_inotify_{what}").write_text(str(number))

def nothing(*_):
    pass

def watcher():
    watcher = Watcher([Watch(name="r", path=Path(sys.argv[1]))], Hints(nothing, nothing, nothing, bool))
    watcher.start(0)
    return watcher

limit("watches", 3)
some = watcher()
assert not some.blind
assert "3 of 7 folders are watched" in some.missing("r", 7)
some.stop()
limit("watches", 0)
none = watcher()
assert "watch limit reached" in none.blind["r"], none.blind
assert threading.active_count() == 1, "the reader of the observer that failed is left behind"
limit("watches", 100)
none.ensure(30)
assert not none.blind
assert none.missing("r", 7) is None
none.stop()
limit("instances", 0)
assert "instance limit reached" in watcher().blind["r"]
"""


def test_the_kernels_limits_blind_a_root_or_are_told_and_nothing_raises(tmp_path: Path) -> None:
    alone = ["unshare", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        lacking("this machine allows no user namespace, where limits could be set for the test alone")
    for number in range(6):
        (tmp_path / str(number)).mkdir()
    command = [*alone, sys.executable, "-c", LIMITS, str(tmp_path)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_stopping_leaves_no_thread_and_no_handler_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    rig = Rig(tmp_path)
    rig.watcher.start(0)
    rig.watcher.stop()
    assert eventually(lambda: threading.active_count() == before)
    reader = logging.getLogger("watchdog.observers.inotify_c")
    assert (reader.handlers, reader.propagate) == ([], True)
