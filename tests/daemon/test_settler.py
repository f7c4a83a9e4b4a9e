"""Settling: nothing is handed out before it is still, everything still is handed out, and the new goes first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from astra.signature import Signature
from daemon.settler import Arrival, Instant, Settled, Settler

WALL = 1_800_000_000.0


def at(seconds: float) -> Instant:
    return Instant(seconds, WALL + seconds)


def signed(changed: float, size: int = 2880, modified: float | None = None) -> Signature:
    """Return the signature of a file last changed at this second of the test."""
    change = int((WALL + changed) * 1e9)
    return Signature(size, change if modified is None else int((WALL + modified) * 1e9), change, 7)


def arrival(path: str) -> Arrival:
    return Arrival("root", path)


def paths(settled: list[Settled]) -> list[str]:
    return [each.arrival.path for each in settled]


A = arrival("a.fits")


def test_an_announced_file_is_looked_at_after_the_quiet_wait_and_then_settled() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0))
    assert settler.due(4.9) == []
    assert settler.next_due == 5
    assert settler.due(5.0) == [A]
    settler.observe(A, signed(-1), at(5))
    assert paths(settler.take(10)) == ["a.fits"]
    assert len(settler) == 0


def test_every_further_event_begins_the_quiet_wait_anew() -> None:
    settler = Settler(5, 600)
    for second in range(0, 20, 4):
        settler.offer(A, at(second))
        assert settler.due(second + 3.9) == []
    assert settler.due(20.9) == []
    assert settler.due(21) == [A]


def test_a_file_that_changed_a_moment_ago_is_looked_at_again_when_its_quiet_wait_ends() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0))
    assert settler.due(5) == [A]
    settler.observe(A, signed(3), at(5))
    assert settler.take(10) == []
    assert settler.due(7.9) == []
    assert settler.due(8.1) == [A]
    settler.observe(A, signed(3), at(8.1))
    assert paths(settler.take(10)) == ["a.fits"]


def test_a_file_that_grows_without_events_is_not_settled() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(0, size=1))
    for second in range(5, 50, 5):
        assert settler.due(second) == [A]
        settler.observe(A, signed(second, size=second), at(second))
        assert settler.take(10) == []
    assert settler.due(50) == [A]
    settler.observe(A, signed(45, size=45), at(50))
    assert paths(settler.take(10)) == ["a.fits"]


def test_an_old_file_that_a_sweep_finds_is_settled_at_once() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-60), backfill=True)
    assert settler.take(10) == [Settled(A, signed(-60), backfill=True)]


def test_a_copy_that_keeps_its_old_modification_time_waits_all_the_same() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-1, modified=-1e6))
    assert settler.take(10) == []


def test_a_file_from_the_future_settles_by_our_own_count() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(1e6))
    assert settler.due(4.9) == []
    assert settler.due(5) == [A]
    settler.observe(A, signed(1e6), at(5))
    assert paths(settler.take(10)) == ["a.fits"]


def test_a_file_that_is_gone_is_forgotten() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0))
    settler.due(5)
    settler.observe(A, None, at(5))
    assert (len(settler), settler.take(10), settler.due(100)) == (0, [], [])


def test_an_event_for_a_settled_file_makes_it_wait_again() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-60))
    assert settler.settled_count == 1
    settler.offer(A, at(1))
    assert (settler.settled_count, settler.take(10)) == (0, [])
    assert settler.due(6) == [A]
    settler.observe(A, signed(-60), at(6))
    assert paths(settler.take(10)) == ["a.fits"]
    assert settler.take(10) == []


def test_new_files_go_before_those_of_the_past() -> None:
    settler = Settler(5, 600)
    for number in range(50):
        settler.offer(arrival(f"old{number}"), at(0), signed(-10 * 86_400))
    settler.offer(arrival("tonight"), at(0), signed(-60))
    assert paths(settler.take(2)) == ["tonight", "old0"]


def test_only_what_nothing_but_a_sweep_of_the_past_has_seen_is_back_fill() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-60), backfill=True)
    settler.offer(A, at(0), signed(-60))
    settler.offer(arrival("b"), at(0))
    settler.offer(arrival("b"), at(0), signed(-60), backfill=True)
    assert [each.backfill for each in settler.take(10)] == [False, False]


def test_new_files_are_taken_before_those_that_lay_there_before_and_these_before_the_old() -> None:
    settler = Settler(5, 600)
    old, lay_there, new = arrival("old"), arrival("lay there"), arrival("new")
    settler.offer(old, at(0), signed(-100_000), backfill=True)
    settler.offer(lay_there, at(0), signed(-60), backfill=True)
    settler.offer(new, at(0), signed(-60))
    assert [each.arrival for each in settler.take(10)] == [new, lay_there, old]


def test_sweeps_are_told_to_pause_before_events_are_turned_away() -> None:
    settler = Settler(5, 600, bound=10)
    for number in range(50):
        assert (settler.load >= 1.0) is (number >= 10)
        assert settler.offer(arrival(str(number)), at(0))
    assert not settler.offer(arrival("one more"), at(0))
    assert settler.offer(arrival("3"), at(0)), "what is known needs no room"


def test_a_file_that_is_not_whole_is_looked_at_after_growing_delays_until_its_patience_ends() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-10))
    (settled,) = settler.take(1)
    looks, now = [], 0.0
    while settler.not_whole(settled, at(now)):
        assert settler.next_due is not None
        now = settler.next_due
        assert settler.due(now) == [A]
        settler.observe(A, signed(-10), at(now))
        (settled,) = settler.take(1)
        looks.append(now)
    assert looks[:3] == [5, 15, 35]
    assert looks[-1] == 590, "the last look is at the end of its patience"
    assert max(b - a for a, b in pairwise(looks)) <= 60
    assert len(settler) == 0


def test_an_old_file_that_is_not_whole_has_no_patience_left() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-601))
    assert not settler.not_whole(settler.take(1)[0], at(0))


def test_a_file_from_the_future_that_is_not_whole_is_not_waited_for_for_ever() -> None:
    settler = Settler(5, 600)
    refused = Settled(A, signed(1e9), refusals=3, refused_at=0.0)
    assert settler.not_whole(refused, at(599))
    assert not Settler(5, 600).not_whole(refused, at(600))


def test_a_change_ends_the_growing_delay() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0), signed(-10))
    settled = Settled(settler.take(1)[0].arrival, signed(-10), refusals=4, refused_at=0.0)
    settler.not_whole(settled, at(0))
    settler.offer(A, at(10))
    assert settler.due(15) == [A]
    settler.observe(A, signed(9), at(15))
    assert settler.take(1)[0].refusals == 0


def test_a_sweep_that_offers_an_unchanged_file_again_does_not_shorten_its_delay() -> None:
    settler = Settler(5, 600)
    settler.not_whole(Settled(A, signed(-10), refusals=3, refused_at=0.0), at(0))
    settler.offer(A, at(1), signed(-10))
    assert (settler.take(1), settler.due(39)) == ([], [])
    assert settler.due(41) == [A]


def test_what_nobody_observes_comes_up_again() -> None:
    settler = Settler(5, 600)
    settler.offer(A, at(0))
    assert settler.due(5) == [A]
    assert settler.due(5) == []
    assert settler.due(10) == [A]


def test_many_events_for_one_file_cost_one_place() -> None:
    settler = Settler(5, 600)
    for number in range(10_000):
        settler.offer(A, at(number / 1000))
    assert len(settler) == 1
    assert len(settler._heap) == 1


@dataclass
class Disk:
    changed: float
    size: int


class Settling(RuleBasedStateMachine):
    """A disk that changes and hints that get lost and repeat: what is taken was still, and nothing is kept back."""

    def __init__(self) -> None:
        super().__init__()
        self.settler = Settler(5, 600, bound=100)
        self.now = 0.0
        self.disk: dict[str, Disk] = {}
        self.offered: set[str] = set()

    def signature(self, path: str) -> Signature | None:
        file = self.disk.get(path)
        return signed(file.changed, file.size) if file else None

    @rule(path=st.sampled_from("abc"), hint=st.booleans())
    def write(self, path: str, hint: bool) -> None:
        self.disk[path] = Disk(self.now, self.disk.get(path, Disk(0, 0)).size + 1)
        if hint:
            self.offered.add(path)
            self.settler.offer(arrival(path), at(self.now))

    @rule(path=st.sampled_from("abc"))
    def delete(self, path: str) -> None:
        self.disk.pop(path, None)

    @rule()
    def sweep(self) -> None:
        for path in self.disk:
            self.offered.add(path)
            self.settler.offer(arrival(path), at(self.now), self.signature(path))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.9, 5.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(whole=st.booleans())
    def turn(self, whole: bool) -> None:
        for each in self.settler.due(self.now):
            self.settler.observe(each, self.signature(each.path), at(self.now))
        for settled in self.settler.take(100):
            if self.signature(settled.arrival.path) == settled.signature:
                assert self.now - self.disk[settled.arrival.path].changed >= 5 - 1e-6
            if whole or not self.settler.not_whole(settled, at(self.now)):
                self.offered.discard(settled.arrival.path)

    @invariant()
    def what_was_offered_is_kept(self) -> None:
        held = {each.path for each in self.settler._entries}
        assert held <= self.offered
        assert {path for path in self.offered if path in self.disk} <= held
        self.offered &= held

    def teardown(self) -> None:
        for _ in range(3):
            self.now += 100
            for each in self.settler.due(self.now):
                self.settler.observe(each, self.signature(each.path), at(self.now))
            self.settler.take(100)
        assert len(self.settler) == 0


TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
