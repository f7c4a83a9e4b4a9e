"""What is noted of bundles handed to a system outside: guarded by what was known of them, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import peewee

from astra import queue
from astra.database.connection import run
from astra.work import Claimed, Pick
from tests.support.clock import START
from tests.support.tasks import OTHER, OWNER, fill, start

THIRD = replace(OWNER, pid=4444)


def claimed(count: int) -> list[Claimed]:
    """Return bundles of one claim, of a task each."""
    keys = [f"thing {{{each}}}" for each in range(count)]
    for key in keys:
        fill(1, START, key)
    return queue.claim([Pick(None, 100, key, 1) for key in keys], OWNER, "slurm", START)


def noted(column: str) -> list[Any]:
    return [value for (value,) in run(f"SELECT {column} FROM bundle ORDER BY id")]


def test_a_name_is_noted_with_those_that_are_still_to_be_handed_over(database: peewee.Database) -> None:
    begun, given_back, waiting = bundles = claimed(3)
    start(begun)
    queue.release(given_back.bundle, given_back.token, "not now", START)
    assert queue.note_name(bundles, "astra-b1_0", OTHER) == [waiting]
    assert noted("external_name") == [None, None, "astra-b1_0"]
    assert noted("keeper") == [None, None, OTHER.text]


def test_a_name_is_not_noted_with_what_was_claimed_anew(database: peewee.Database) -> None:
    [mine] = claimed(1)
    assert queue.note_name([replace(mine, token="of an earlier claim")], "astra-b1_0", OWNER) == []
    assert noted("external_name") == [None]


def test_the_first_word_of_the_outside_system_counts_for_all_of_its_name_and_for_no_other(
    database: peewee.Database,
) -> None:
    first, second, other = claimed(3)
    queue.note_name([first, second], "astra-b1_0", OWNER)
    queue.note_name([other], "astra-b1_1", OWNER)
    queue.note_external({"astra-b1_0": "17_0"})
    queue.note_external({"astra-b1_0": "18_0", "astra-b9_0": "19_0"})
    assert noted("external_id") == ["17_0", "17_0", None]


def test_of_two_services_that_want_to_look_after_a_bundle_one_does(database: peewee.Database) -> None:
    waiting, running, given_back = bundles = claimed(3)
    queue.note_name(bundles, "astra-b1_0", OWNER)
    start(running)
    queue.release(given_back.bundle, given_back.token, "not now", START)
    keys = [each.bundle for each in bundles]
    assert queue.adopt(keys, OWNER, OTHER) == {waiting.bundle, running.bundle}
    assert queue.adopt(keys, OWNER, THIRD) == set()
    assert noted("keeper") == [OTHER.text, OTHER.text, OWNER.text]
    assert queue.adopt([], OTHER, THIRD) == set()
