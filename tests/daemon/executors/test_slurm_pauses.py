"""When a component that went wrong in Slurm is tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from daemon.executors.slurm_pauses import Pauses


@pytest.fixture
def pauses() -> Pauses:
    pauses = Pauses()
    assert pauses.begin("a.B", "no such partition", 100.0) == 15.0
    return pauses


def test_the_others_of_an_array_do_not_make_a_pause_longer(pauses: Pauses) -> None:
    assert pauses.begin("a.B", "no such account", 101.0) is None
    assert pauses.reasons() == {"a.B": "no such partition"}
    assert pauses.over(114.9, {}) == {"a.B"}
    assert pauses.over(115.0, {}) == set()


def test_each_pause_is_twice_as_long_up_to_half_an_hour_for_weeks_on_end(pauses: Pauses) -> None:
    now, found = 115.0, []
    for _ in range(1500):  # a month of them
        pause = pauses.begin("a.B", "no such partition", now)
        assert pause is not None
        found.append(pause)
        now += pause
    assert found[:7] == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1800.0]
    assert all(before <= after <= 1800.0 for before, after in pairwise(found))


def test_while_a_job_from_after_the_pause_began_is_on_its_way_no_other_follows(pauses: Pauses) -> None:
    assert pauses.over(200.0, {"a.B": 100.0}) == {"a.B"}
    assert pauses.over(200.0, {"a.B": 99.9, "c.D": 150.0}) == set()


def test_what_began_in_an_older_job_ends_no_pause_and_a_newer_one_makes_the_next_short_again(pauses: Pauses) -> None:
    pauses.end("a.B", 99.9)
    pauses.end("c.D", 100.0)
    assert pauses.reasons() == {"a.B": "no such partition"}
    pauses.end("a.B", 100.0)
    assert pauses.reasons() == {}
    assert pauses.begin("a.B", "no such partition", 101.0) == 15.0


def test_a_refusal_is_over_when_slurm_takes_a_job_again_and_no_other_pause_is(pauses: Pauses) -> None:
    pauses.accept("a.B")
    assert pauses.reasons() == {"a.B": "no such partition"}, "a job that was taken before ended before it began"
    assert pauses.refuse("c.D", "no such account", 100.0) == 15.0
    pauses.accept("c.D")
    assert pauses.reasons() == {"a.B": "no such partition"}
