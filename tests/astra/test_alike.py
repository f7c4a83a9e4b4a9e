"""Errors that are alike: what is evened out, and what is counted together, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import alike, queue
from astra.selection import Selection
from astra.states import ErrorKind, TaskOutcome
from astra.work import Finish
from tests.support.clock import START
from tests.support.tasks import TOTALS, by_hand, claim, ended, fill, new_task, start


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("ValueError: chip 2 has no pixel", "ValueError: chip 17 has no pixel", "ValueError: chip # has no pixel"),
        ("cannot read /data/a/b-1.fits: gone", "cannot read /c.fits: gone", "cannot read /...: gone"),
        ("got -1.5e-3, not [1, 2, 3]", "got 7, not [4, 5]", "got #, not [#, ...]"),
        ("object at 0x7f00ab12", "object at 0xdeadbeef", "object at #"),
        ("apVisit-dr17-5094-55874-124.fits", "apVisit-dr16-1-2-3.fits", "apVisit-dr#-#-#-#.fits"),
        ("one\n  1", "one\n  2", "one"),
    ],
)
def test_what_differs_from_task_to_task_is_evened_out(one: str, other: str, common: str) -> None:
    assert alike.evened(one) == alike.evened(other) == common


def test_what_is_another_error_stays_another() -> None:
    assert alike.evened("ValueError: no flux") != alike.evened("ValueError: no wave")
    assert alike.evened("KeyError: 'a'") != alike.evened("TypeError: 'a'")


@given(st.text(max_size=2000))
def test_any_text_is_evened_to_a_short_line(text: str) -> None:
    assert len(alike.evened(text)) <= alike.LONGEST
    assert "\n" not in alike.evened(text)


def fail(errors: list[str], after: int = 0, **values: Any) -> list[int]:
    """Return tasks that failed in one bundle with these errors, so many minutes later."""
    keys = fill(len(errors), **values)
    held = start(claim(len(errors)))
    ends = [
        each._replace(error_class="ValueError", error_message=error, error_kind=ErrorKind.BUG)
        for each, error in zip(ended(held.bundle, *[TaskOutcome.FAILED] * len(errors)), errors, strict=True)
    ]
    queue.finish([Finish(held.bundle, held.token, ends, (), TOTALS)], START + timedelta(minutes=after))
    return keys


@pytest.mark.usefixtures("database")
def test_failed_tasks_are_grouped_by_what_their_errors_have_in_common() -> None:
    first = fail(["chip 1 is bad", "no flux", "chip 2 is bad"], rule="visits")
    later = fail(["chip 3 is bad"], after=5)
    found = alike.groups(Selection())
    assert [(each.error, each.count, each.sample) for each in found] == [
        ("ValueError: chip # is bad", 3, later[0]),
        ("ValueError: no flux", 1, first[1]),
    ]
    assert (found[0].component, found[0].first, found[0].last) == ("tests.Thing", START, START + timedelta(minutes=5))
    assert [each.count for each in alike.groups(Selection(rules=("visits",)))] == [2, 1]
    assert [each.count for each in alike.groups(Selection(components=("Thing",)))] == [3, 1]
    assert alike.groups(Selection(components=("Other",))) == []
    assert [each.count for each in alike.groups(Selection(), since=START + timedelta(minutes=1))] == [1]
    assert [each.count for each in alike.groups(Selection(), until=START + timedelta(minutes=1))] == [2, 1]
    queue.retry([*first, *later])
    assert alike.groups(Selection()) == []


@pytest.mark.usefixtures("database")
def test_tasks_are_found_by_a_part_of_their_error_as_it_is_or_evened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "CHUNK", 2)
    keys = fail(["chip 1 is bad", "no flux", "chip 2 is bad"])
    assert list(alike.with_error(keys, "chip # is")) == [keys[0], keys[2]]
    assert list(alike.with_error(keys, "ValueError: chip 2")) == [keys[2]]
    assert list(alike.with_error(keys, "TypeError")) == []


@pytest.mark.usefixtures("database")
def test_there_are_no_more_groups_than_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MOST", 2)
    fail(["a", "b", "c", "d"])
    assert [(each.error, each.count) for each in alike.groups(Selection())] == [
        (alike.OTHERS, 2),
        ("ValueError: a", 1),
        ("ValueError: b", 1),
    ]


@pytest.mark.usefixtures("database")
def test_a_task_without_an_error_of_its_own_has_that_of_its_bundle() -> None:
    held, keys = queue.open_by_hand(by_hand(new_task(identity=None)), START)
    queue.fail_gone(held.bundle, held.token, "process gone", START)
    (group,) = alike.groups(Selection())
    assert (group.error, group.sample, group.by_hand) == ("ProcessDied: process gone", keys[0], 1)
