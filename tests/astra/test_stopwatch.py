"""Who owns the time: the task in hand, the innermost where loops are nested, and nobody between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.stopwatch import Stopwatch
from tests.support.clock import FakeClock


def test_each_task_owns_the_time_from_its_turn_to_the_next(clock: FakeClock) -> None:
    watch = Stopwatch(3, clock)
    with watch.stage("execute"):
        clock.advance(10)
        for position in range(3):
            watch.enter(position)
            clock.advance(1 + position)
            watch.leave(position)
            clock.advance(0.5)
    stage = watch.stages["execute"]
    assert (stage.total, list(stage.own), stage.overhead, stage.iterated) == (17.5, [1, 2, 3], 11.5, True)
    assert [watch.own(position)[1] for position in range(3)] == [1, 2, 3]
    assert watch.own(0)[2] is None


def test_a_nested_loop_takes_the_time_and_gives_it_back(clock: FakeClock) -> None:
    watch = Stopwatch(2, clock)
    with watch.stage("execute"):
        watch.enter(0)
        clock.advance(1)
        watch.enter(1)
        assert watch.owner == 1
        assert watch.owns(0)
        clock.advance(2)
        watch.leave(1)
        clock.advance(4)
        watch.leave(0)
        clock.advance(8)
        assert watch.owner is None
    assert list(watch.stages["execute"].own) == [5, 2]
    assert watch.stages["execute"].overhead == 8


def test_a_task_inside_itself_owns_its_time_once(clock: FakeClock) -> None:
    watch = Stopwatch(1, clock)
    with watch.stage("execute"):
        for _ in range(2):
            watch.enter(0)
            clock.advance(1)
        watch.leave(0)
        clock.advance(1)
        watch.leave(0)
    assert list(watch.stages["execute"].own) == [3]


def test_a_bundle_of_one_that_never_iterates_owns_the_whole_stage(clock: FakeClock) -> None:
    for size, own, overhead in ((1, 3.0, 0.0), (2, 0.0, 3.0)):
        watch = Stopwatch(size, clock)
        with watch.stage("execute"):
            clock.advance(3)
        assert (watch.own(0)[1], watch.stages["execute"].overhead) == (own, overhead)


def test_times_are_kept_when_a_stage_raises(clock: FakeClock) -> None:
    watch = Stopwatch(2, clock)

    def stage() -> None:
        with watch.stage("execute"):
            clock.advance(1)
            watch.enter(1)
            clock.advance(2)
            raise ValueError

    with pytest.raises(ValueError):
        stage()
    stage = watch.stages["execute"]
    assert (stage.total, list(stage.own), stage.overhead) == (3, [0, 2], 1)
    assert watch.owner is None


def test_a_loop_left_open_owns_its_stage_but_not_the_next(clock: FakeClock) -> None:
    watch = Stopwatch(2, clock)
    with watch.stage("pre_execute"):
        watch.enter(0)
        clock.advance(2)
    with watch.stage("execute"):
        clock.advance(4)
        watch.leave(0)  # the generator is closed at last
        clock.advance(8)
    assert watch.own(0) == (2, 0, None)
    assert watch.stages["execute"].overhead == 12


def test_outside_of_a_stage_nothing_is_timed(clock: FakeClock) -> None:
    watch = Stopwatch(1, clock)
    watch.enter(0)
    clock.advance(1)
    watch.leave(0)
    assert watch.stages == {}
    assert watch.owner is None


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "pass"]), st.integers(0, 3)), max_size=30))
def test_own_times_and_overhead_add_up_to_the_stage_whatever_the_loops_do(turns: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    watch = Stopwatch(4, clock)
    with watch.stage("execute"):
        for what, position in turns:
            if what == "enter":
                watch.enter(position)
            elif what == "leave":
                watch.leave(position)
            clock.advance(1)
    stage = watch.stages["execute"]
    assert stage.total == len(turns)
    assert sum(stage.own) + stage.overhead == stage.total
    assert min(stage.own) >= 0
