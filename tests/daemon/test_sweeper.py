"""When roots are swept: at the start, for ever after, soon when asked; outages are said once and end by themselves."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from astra.clock import Clock
from astra.config import Watch
from astra.errors import DatabaseUnavailable
from astra.tree import Found, WalkReport, walk
from daemon.sweeper import CHANGED, Offer, Sweeper


class StillClock(Clock):
    """The wall clock stands where the test puts it; nothing a sweep does takes time unless the test says so."""

    def __init__(self, wall: float = 4e9) -> None:
        self.wall, self.ticks = wall, 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def monotonic(self) -> float:
        return self.ticks


def find(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
    return walk(watch.path, lambda name: name.endswith(".fits"), report, 2)


class Rig:
    """A sweeper over real folders, with every file new to it."""

    def __init__(
        self, tmp_path: Path, *names: str, mode: str = "auto", since: Mapping[str, float] | None = None
    ) -> None:
        self.offers: list[Offer] = []
        self.clock = StillClock()
        self.paths = {name: tmp_path / name for name in names}
        for path in self.paths.values():
            path.mkdir(exist_ok=True)
        watches = [Watch(name=name, path=path) for name, path in self.paths.items()]
        self.backfilled: list[str] = []
        self.sweeper = Sweeper(watches, find, self.take, self.clock, dict(since or {}), self.backfilled.append)
        for name in names:
            self.sweeper.poll(name, mode == "poll")

    def sweeps(self, now: float, changed: bool = False) -> list[tuple[str, str]]:
        """Turn until nothing is due, and return each sweep that ended with its reason: whole ones, or all."""
        ended = []
        while report := self.sweeper.turn(now):
            if (report.finished or report.outage) and (changed or report.whole):
                ended.append((report.root, report.reason))
        return ended

    def take(self, offers: list[Offer]) -> int:
        """Take offers as one who knows of nothing; return how many an event should have told of."""
        self.offers += offers
        return sum(each.late for each in offers)

    def found(self) -> list[str]:
        found = [each.arrival.path for each in self.offers]
        self.offers.clear()
        return sorted(found)


def test_every_root_is_swept_at_the_start_and_again_after_its_interval(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", "b")
    (rig.paths["a"] / "x.fits").touch()
    assert not rig.sweeper.tried
    assert not rig.sweeper.idle
    assert rig.sweeps(0) == [("a", "start"), ("b", "start")]
    assert rig.sweeper.tried
    assert rig.sweeper.idle
    assert rig.found() == ["x.fits"]
    assert rig.sweeps(299) == []
    assert rig.sweeps(300) == [("a", "interval"), ("b", "interval")]
    assert rig.sweeper.roots["a"].sweeps == 2
    assert rig.sweeper.roots["a"].last.files == 1


def test_a_turn_walks_one_slice(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for number in range(5):
        (rig.paths["a"] / f"{number}.fits").touch()
    reports = []
    while report := rig.sweeper.turn(0):
        reports.append(report.offered)
    assert reports == [2, 2, 1, 0]


def test_nothing_is_walked_while_the_takers_are_full(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    assert rig.sweeper.turn(0, load=1.0) is None
    assert rig.sweeper.turn(0) is not None


def test_a_request_brings_a_sweep_soon_and_requests_do_not_pile_up(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.sweeps(0)
    rig.sweeper.request("a", "events were lost")
    rig.sweeper.request("a", "events were lost")
    assert not rig.sweeper.idle
    assert rig.sweeps(0.4) == []
    assert rig.sweeps(0.5) == [("a", "events were lost")]
    assert rig.sweeps(200) == []
    assert rig.sweeper.idle


def test_forced_sweeps_are_spaced_by_what_the_last_one_cost(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")

    def slow(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        rig.clock.ticks += 10
        return (yield from find(watch, report))

    rig.sweeper.find = slow
    rig.sweeps(0)
    rig.sweeper.request("a", "lost")
    assert rig.sweeps(39) == []
    assert rig.sweeps(40) == [("a", "lost")]


def test_a_request_during_a_sweep_brings_another(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for number in range(3):
        (rig.paths["a"] / f"{number}.fits").touch()
    rig.sweeper.turn(0)
    rig.sweeper.request("a", "lost")
    assert rig.sweeps(0) == [("a", "start")]
    assert rig.sweeps(1) == [("a", "lost")]


def test_a_polled_root_is_swept_often(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", mode="poll")
    rig.sweeps(0)
    assert rig.sweeps(30) == [("a", "interval")]
    rig.sweeper.poll("a", False)
    rig.sweeps(60)
    assert rig.sweeps(90) == []


def test_an_outage_is_said_once_tried_again_and_never_taken_for_emptiness(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, "a")
    rig.paths["a"].rmdir()
    with caplog.at_level(logging.INFO, "daemon"):
        tries = [now for now in range(100) if rig.sweeps(now)]
        assert tries == [0, 1, 3, 7, 15, 31, 63]
        assert rig.sweeper.tried
        assert rig.sweeper.idle, "an outage must not keep the service from ending when it drains"
        rig.paths["a"].mkdir()
        assert rig.sweeps(200) == [("a", "start")]
        assert rig.sweeper.roots["a"].outage is None
    lines = [str(record.msg).split()[0] for record in caplog.records]
    assert lines == ["root_out", "root_back", "swept"]


def test_one_roots_outage_does_not_hold_up_another(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", "b")
    rig.paths["a"].rmdir()
    assert rig.sweeps(0) == [("a", "start"), ("b", "start")]
    assert rig.sweeper.roots["b"].sweeps == 1


def test_a_sweep_that_loses_the_database_is_begun_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "x.fits").touch()

    def broken(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        yield []
        raise DatabaseUnavailable("the database cannot be reached; it is tried again")

    rig.sweeper.find = broken
    rig.sweeper.turn(0)
    with pytest.raises(DatabaseUnavailable):
        rig.sweeper.turn(0)
    assert not rig.sweeper.tried
    assert not rig.sweeper.idle
    rig.sweeper.find = find
    assert rig.sweeps(0.9) == []
    assert rig.sweeps(1) == [("a", "start")]
    assert rig.found() == ["x.fits"]


def test_a_taker_that_fails_loses_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "x.fits").touch()

    def refuse(offers: list[Offer]) -> int:
        raise DatabaseUnavailable("no")

    rig.sweeper.hand_over = refuse
    with pytest.raises(DatabaseUnavailable):
        rig.sweeps(0)
    rig.sweeper.hand_over = rig.take
    rig.sweeps(1)
    assert rig.found() == ["x.fits"]


def test_what_changed_before_its_root_was_first_watched_is_back_fill_until_a_whole_sweep_finds_no_more_of_it(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, "new", "known", since={"new": 4e9, "known": 1e9})
    for path in rig.paths.values():
        (path / "x.fits").touch()
    for now in (0, 300):
        rig.sweeps(now)
        assert {each.arrival.root: each.backfill for each in rig.offers} == {"new": True, "known": False}
        assert rig.backfilled == ["known"]
        rig.offers.clear()
    (rig.paths["new"] / "x.fits").unlink()
    rig.sweeps(600)
    assert rig.backfilled == ["known", "new"]
    (rig.paths["new"] / "moved_in.fits").touch()
    rig.sweeps(900)
    offers = {(each.arrival.path, each.backfill) for each in rig.offers if each.arrival.root == "new"}
    assert offers == {("moved_in.fits", False)}


def test_a_copy_with_an_old_modification_time_is_news_where_it_came_after_the_watch_began(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", since={"a": 1e9})
    path = rig.paths["a"] / "x.fits"
    path.touch()
    os.utime(path, (1e8, 1e8))
    rig.sweeps(0)
    assert [each.backfill for each in rig.offers] == [False]


def test_problems_are_logged_when_they_change_and_not_with_every_sweep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "dangling.fits").symlink_to("nowhere")
    with caplog.at_level(logging.WARNING, "daemon"):
        rig.sweeps(0)
        rig.sweeps(300)
        rig.sweeps(600)
    assert len(caplog.records) == 1
    assert "sweep_problems root=a count=1 first=dangling.fits" in str(caplog.records[0].msg)


# ---------------------------------------------------------------------------------------------------- changed folders


def test_between_two_sweeps_only_folders_that_have_changed_are_listed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for night in ("one", "two", "two/deep"):
        (rig.paths["a"] / night).mkdir()
        (rig.paths["a"] / night / "x.fits").touch()
    rig.sweeps(0)
    assert rig.found() == ["one/x.fits", "two/deep/x.fits", "two/x.fits"]
    assert rig.sweeps(30, changed=True) == [("a", CHANGED)]
    assert rig.found() == [], "all is as it was"
    (rig.paths["a"] / "two" / "deep" / "y.fits").touch()
    (rig.paths["a"] / "three").mkdir()
    (rig.paths["a"] / "three" / "z.fits").touch()
    assert rig.sweeps(59, changed=True) == []
    assert rig.sweeps(60, changed=True) == [("a", CHANGED)]
    assert rig.found() == ["three/z.fits", "two/deep/x.fits", "two/deep/y.fits"]
    assert rig.sweeps(90, changed=True) == [("a", CHANGED)]
    assert rig.found() == []
    assert rig.sweeper.roots["a"].sweeps == 1, "one of changed folders is no whole one"


def test_a_folder_that_changed_just_before_it_was_listed_is_listed_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.clock.wall = os.stat(rig.paths["a"]).st_mtime + 1.0
    (rig.paths["a"] / "x.fits").touch()
    rig.sweeps(0)
    assert rig.found() == ["x.fits"]
    rig.clock.wall += 100
    assert rig.sweeps(30, changed=True) == [("a", CHANGED)]
    assert rig.found() == ["x.fits"], "another file may have come in the same instant"
    rig.sweeps(60, changed=True)
    assert rig.found() == []


def test_a_folder_that_was_removed_is_not_looked_for_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "old").mkdir()
    rig.sweeps(0)
    (rig.paths["a"] / "old").rmdir()
    for now in (30, 60):
        assert rig.sweeps(now, changed=True) == [("a", CHANGED)]
    assert rig.sweeper.roots["a"].listed.keys() == {""}


def test_where_events_do_not_tell_changed_folders_are_looked_for_more_often(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", mode="poll")
    rig.sweeps(0)
    assert [now for now in range(1, 30) if rig.sweeps(now, changed=True)] == [5, 10, 15, 20, 25]


def test_a_request_brings_a_look_at_once_and_the_whole_sweep_when_it_may_be(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "x.fits").touch()
    rig.sweeps(0)
    rig.sweeper.roots["a"].seconds = 100
    rig.found()
    (rig.paths["a"] / "y.fits").touch()
    rig.sweeper.request("a", "lost")
    assert not rig.sweeper.idle
    assert rig.sweeps(0.2, changed=True) == [("a", f"{CHANGED}: lost")]
    assert "y.fits" in rig.found()
    assert rig.sweeps(299, changed=True)[:1] == [("a", CHANGED)]
    assert rig.sweeps(300) == [("a", "lost")]


def test_a_look_goes_before_a_sweep_that_is_under_way_and_the_sweep_goes_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    old = rig.paths["a"] / "old"
    old.mkdir()
    for number in range(10):
        (old / f"{number}.fits").touch()
    rig.sweeps(0)
    assert len(rig.found()) == 10
    rig.sweeps(290, changed=True)
    assert rig.sweeper.turn(300) is not None
    (rig.paths["a"] / "new").mkdir()
    (rig.paths["a"] / "new" / "x.fits").touch()
    rig.sweeper.look("a", "late")
    reports = [rig.sweeper.turn(301) for _ in range(4)]
    assert [(each.whole, each.finished) for each in reports if each][-1] == (False, True)
    assert "new/x.fits" in rig.found()
    assert rig.sweeps(301) == [("a", "interval")]
    assert rig.sweeper.roots["a"].last.files == 10, "it had been in the root before the new folder was"


def test_nobody_looks_before_a_first_sweep_has_listed_the_root(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for number in range(5):
        (rig.paths["a"] / f"{number}.fits").touch()
    rig.sweeper.look("a", "late")
    begun = [rig.sweeper.turn(0) for _ in range(2)]
    assert [each.reason for each in begun if each] == ["start", "start"]
    assert sorted(rig.sweeps(0, changed=True)) == [("a", f"{CHANGED}: late"), ("a", "start")]


def test_a_look_builds_on_what_a_first_sweep_has_listed_and_leaves_the_rest_to_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for night in ("one", "two", "three"):
        (rig.paths["a"] / night).mkdir()
        (rig.paths["a"] / night / "x.fits").touch()
    while not rig.offers:
        rig.sweeper.turn(0)
    assert rig.found() == ["two/x.fits"], "the root and its last folder are listed"
    for night in ("one", "two", "four"):
        (rig.paths["a"] / night).mkdir(exist_ok=True)
        (rig.paths["a"] / night / "y.fits").touch()
    for now, new in (1, ["four/y.fits"]), (2, []):
        rig.sweeper.look("a", "late")
        while (report := rig.sweeper.turn(now)) and not report.finished:
            assert not report.whole
        assert rig.found() == new, "what a look has listed the next one need not list"
    assert rig.sweeper.roots["a"].sweeps == 0
    assert rig.sweeps(3) == [("a", "start")]
    assert rig.found() == ["one/x.fits", "one/y.fits", "three/x.fits"]


def test_looks_go_on_while_whole_sweeps_pause_until_the_takers_have_four_times_too_much(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.sweeps(0)
    rig.sweeper.request("a", "lost")
    assert rig.sweeper.turn(10, load=4.0) is None
    while report := rig.sweeper.turn(10, load=3.9):
        assert not report.whole
    assert rig.sweeper.roots["a"].looked == 10
    assert rig.sweeps(10) == [("a", "lost")]


@pytest.mark.parametrize("cost", [0.01, 1.0, 20.0])
def test_a_night_of_lost_events_is_no_night_of_sweeps(tmp_path: Path, cost: float) -> None:
    rig = Rig(tmp_path, "a")

    def slow(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        rig.clock.ticks += cost
        spent[bool(report.before)] += cost
        return (yield from find(watch, report))

    spent = {False: 0.0, True: 0.0}
    rig.sweeper.find = slow
    rig.sweeps(0)
    began = rig.clock.ticks
    while rig.clock.ticks < began + 3600:
        rig.sweeper.request("a", "lost")
        if rig.sweeper.turn(rig.clock.ticks) is None:
            rig.clock.ticks += 0.05
    looks, sweeps = spent[True], spent[False]
    assert looks <= 3600 / 5 + 30 / 5 + cost
    assert sweeps <= 3600 / 5 + 2 * cost
    assert looks >= min(0.8 * 3600 / 5, 0.8 * cost * 3600 / 0.25), "and they are not spared needlessly"


@pytest.mark.parametrize(("cost", "least", "most"), [(0.0, 45, 51), (1.0, 7, 9)])
def test_a_burst_of_requests_is_looked_at_at_once_but_not_without_a_pause(
    tmp_path: Path, cost: float, least: int, most: int
) -> None:
    rig = Rig(tmp_path, "a")
    rig.sweeps(0)
    looked = 0

    def slow(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        nonlocal looked
        looked += 1
        rig.clock.ticks += cost
        yield from find(watch, report)

    rig.sweeper.find = slow
    for _ in range(5_000):
        rig.sweeper.look("a", "late")
        if rig.clock.ticks < 10 and rig.sweeper.turn(rig.clock.ticks) is None:
            rig.clock.ticks += 0.01
    assert least <= looked <= most


def test_a_look_that_meets_an_outage_ends_the_sweep_that_it_interrupted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    for number in range(5):
        (rig.paths["a"] / f"{number}.fits").touch()
    rig.sweeps(0)
    rig.sweeps(290, changed=True)
    rig.sweeper.turn(300)
    rig.sweeper.look("a", "late")
    rig.paths["a"].rename(tmp_path / "away")
    outage = rig.sweeper.turn(301)
    assert outage is not None
    assert outage.outage is not None
    assert rig.sweeper.turn(301) is None
    (tmp_path / "away").rename(rig.paths["a"])
    assert rig.sweeps(302, changed=True) == [("a", "interval")]


def test_after_an_outage_a_whole_sweep_comes_first(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.sweeps(0)
    rig.paths["a"].rename(tmp_path / "away")
    [(_, why)] = rig.sweeps(30, changed=True)
    assert why == CHANGED
    assert rig.sweeper.roots["a"].outage is not None
    (tmp_path / "away").rename(rig.paths["a"])
    assert rig.sweeps(31, changed=True) == [("a", "interval")]


def test_a_look_that_dies_of_the_database_leaves_nothing_for_later_looks_to_build_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    (rig.paths["a"] / "night").mkdir()
    rig.sweeps(0)

    def away(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        for found in find(watch, report):
            if found:
                raise DatabaseUnavailable("the database cannot be used now")
            yield found

    rig.sweeper.find = away
    (rig.paths["a"] / "night" / "x.fits").touch()
    with pytest.raises(DatabaseUnavailable):
        rig.sweeps(30, changed=True)
    rig.sweeper.find = find
    assert rig.sweeper.turn(30) is None, "a whole sweep comes first, after a while"
    assert rig.sweeps(31, changed=True) == [("a", "interval")]
    assert rig.found() == ["night/x.fits"]


def test_a_folder_whose_time_was_set_back_when_files_had_come_into_it_is_looked_at(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    night = rig.paths["a"] / "night"
    night.mkdir()
    rig.sweeps(0)
    stat = night.stat()
    (night / "x.fits").touch()
    os.utime(night, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as rsync -a and tar do
    rig.sweeps(30, changed=True)
    assert rig.found() == ["night/x.fits"]


@pytest.mark.parametrize("polled", [True, False])
@pytest.mark.parametrize(("number", "cost"), [(1, 5.0), (5, 1.3), (5, 5.0), (10, 1.0)])
def test_however_many_roots_there_are_each_is_swept_again_and_again(
    tmp_path: Path, number: int, cost: float, polled: bool
) -> None:
    rig = Rig(tmp_path, *(f"r{each}" for each in range(number)), mode="poll" if polled else "auto")

    def slow(watch: Watch, report: WalkReport) -> Iterator[list[Found]]:
        for _ in range(1 if report.before else 4):
            rig.clock.ticks += cost
            yield []
        spent[bool(report.before)] += cost * (1 if report.before else 4)
        yield from find(watch, report)

    spent = {False: 0.0, True: 0.0}
    rig.sweeper.find = slow
    hours = 2
    while rig.clock.ticks < hours * 3600:
        if not polled:
            for name in rig.paths:
                rig.sweeper.request(name, "lost")
        if rig.sweeper.turn(rig.clock.ticks) is None:
            rig.clock.ticks += 0.05
    counts = {name: state.sweeps for name, state in rig.sweeper.roots.items()}
    fair = hours * 3600 / 5 / (4 * cost * number)
    assert min(counts.values()) >= 0.5 * min(fair, hours * 3600 / 300), counts
    assert spent[True] <= hours * 3600 * 0.3, "looks rest as well"
    assert spent[False] <= hours * 3600 * 0.3


def test_a_look_nobody_asked_for_goes_on_while_whole_sweeps_that_are_due_pause(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", mode="poll")
    rig.sweeps(0)
    looked = set()
    for now in range(1, 60):
        while rig.sweeper.turn(now, load=1.5):
            pass
        looked.add(rig.sweeper.roots["a"].looked)
    assert {35, 40, 55} <= looked
    assert rig.sweeper.roots["a"].sweeps == 1


def test_one_root_is_looked_at_while_another_is_swept_for_the_first_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a", "b")
    for number in range(50):
        (rig.paths["a"] / f"{number}.fits").touch()
    until_b = iter(lambda: rig.sweeper.turn(0), None)
    assert any(report.finished and report.root == "b" for report in until_b)
    (rig.paths["b"] / "x.fits").touch()
    rig.found()
    rig.sweeper.look("b", "late")
    assert any(report.finished and not report.whole for report in iter(lambda: rig.sweeper.turn(1), None))
    assert "x.fits" in rig.found()
    assert rig.sweeper.roots["a"].sweeps == 0


# ---------------------------------------------------------------------------------------------------- unannounced files


def test_a_file_written_since_the_last_sweep_and_long_still_should_have_been_told_of(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.clock.wall = 5e8
    unannounced = []
    (rig.paths["a"] / "before.fits").touch()
    os.utime(rig.paths["a"] / "before.fits", (4e8, 4e8))
    for now, written in ((0, None), (300, 5e8 + 100), (600, 5e8 + 395), (900, 5e8 - 100)):
        if written is not None:
            path = rig.paths["a"] / f"{now}.fits"
            path.touch()
            os.utime(path, (written, written))
        while report := rig.sweeper.turn(now):
            if report.finished and report.whole:
                unannounced.append(report.unannounced)
        rig.clock.wall += 200
    assert unannounced == [0, 1, 0, 0], "in the second sweep alone: the others are too fresh, or older than the last"


def test_after_events_were_lost_nothing_is_held_against_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.clock.wall = 5e8
    rig.sweeps(0)
    (rig.paths["a"] / "x.fits").touch()
    os.utime(rig.paths["a"] / "x.fits", (5e8 + 100, 5e8 + 100))
    rig.clock.wall += 200
    rig.sweeper.request("a", "events were lost")
    reports = []
    while report := rig.sweeper.turn(10):
        reports.append(report)
    assert [(each.reason, each.unannounced) for each in reports if each.finished] == [
        ("changed folders: events were lost", 0),
        ("events were lost", 0),
    ]


def test_a_look_beside_a_sweep_does_not_hide_what_was_rewritten_and_no_event_told_of(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "a")
    rig.clock.wall = 5e8
    night = rig.paths["a"] / "night"
    night.mkdir()
    for number in range(6):
        (night / f"{number}.fits").touch()
    rig.sweeps(0)
    for path in night.iterdir():
        os.utime(path, (5e8 + 100, 5e8 + 100))  # rewritten in its place: the folder is as it was
    rig.clock.wall += 200
    rig.sweeps(290, changed=True)
    assert rig.sweeper.turn(300) is not None
    rig.sweeper.look("a", "late")
    unannounced = [each.unannounced for each in iter(lambda: rig.sweeper.turn(301), None) if each.finished]
    assert unannounced == [0, 6], "the look finds none of them, the sweep all"
