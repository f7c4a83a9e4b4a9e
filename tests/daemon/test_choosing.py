"""What is chosen to be claimed next, on real databases."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import backlog, queue
from astra.database.astradb import Replay
from astra.states import HoldKind, TaskOutcome
from astra.work import Finish, Pick, Totals
from daemon.choosing import Choice, Cost
from daemon.executors import Span
from daemon.executors.local import SPAN
from tests.support.clock import START
from tests.support.site import Site
from tests.support.tasks import OWNER, ended, new_task, start

LATER = START + timedelta(minutes=1)


@pytest.fixture
def sections() -> dict[str, Any]:
    return {"scheduler": {"max_bundle_size": 10, "target": 100}}


@pytest.fixture
def choice(tmp_path: Path, database: peewee.Database, database_url: str, sections: dict[str, Any]) -> Choice:
    return Choice(Site(tmp_path, database_url, sections=sections).settings(), lambda own: SPAN)


def fill(count: int, key: str, **values: Any) -> None:
    """Enqueue so many tasks of the component that a key begins with."""
    component = key.partition(" ")[0]
    queue.enqueue([new_task(key, **values)._replace(name=component) for _ in range(count)], START)


def serve(choice: Choice, turns: int, *held: tuple[HoldKind, str], slots: int = 1) -> list[list[tuple[str, int]]]:
    """Choose and claim as a scheduler does; return the bundles of each turn, as keys and sizes."""
    served = []
    for _ in range(turns):
        picks = choice.next(held, slots, LATER)
        served.append([(each.key, each.size) for each in queue.claim(picks, OWNER, "local", LATER)] if picks else [])
    return served


def first_keys(choice: Choice, turns: int, *held: tuple[HoldKind, str]) -> list[str]:
    return [bundles[0][0] if bundles else "" for bundles in serve(choice, turns, *held)]


def record(key: str, count: int, setup: float, each: float) -> None:
    """Record a bundle that has ended, with its times."""
    fill(count, key=key)
    [claimed] = queue.claim([Pick(None, 100, key, count)], OWNER, "local", START)
    held = start(claimed)
    total = setup + count * each
    totals = Totals(((setup, setup), (total - setup, 0.0), (0.0, 0.0)))
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * count)
    queue.finish([Finish(held.bundle, held.token, rows, (), totals)], START)


def replay(database: peewee.Database) -> int:
    made = Replay.create(who="me", created=START, verb="tasks", selection={}, planned=0, state="running")
    return int(made.id)


def test_components_take_turns_however_many_keys_one_of_them_has(choice: Choice) -> None:
    for number in range(30):
        fill(1, key=f"many.Keys {{{number:02}}}")
    fill(25, key="one.Key {}")
    fill(25, key="another.One {}")
    served = Counter(key.partition(" ")[0] for key in first_keys(choice, 9))
    assert served == {"many.Keys": 3, "one.Key": 3, "another.One": 3}


def test_keys_of_a_component_take_turns_and_a_large_one_starves_nobody(choice: Choice) -> None:
    fill(50, key="a.B {2}")
    fill(2, key="a.B {3}")
    fill(2, key="a.B {1}")
    assert first_keys(choice, 6) == ["a.B {1}", "a.B {2}", "a.B {3}", "a.B {2}", "a.B {2}", "a.B {2}"]
    assert serve(choice, 2) == [[("a.B {2}", 10)], []]


def test_urgent_work_goes_first_and_live_work_before_replays_of_any_priority(
    choice: Choice, database: peewee.Database
) -> None:
    first, second = replay(database), replay(database)
    fill(10, key="replay.A {}", priority=1, replay=first)
    fill(20, key="replay.B {}", replay=second)
    fill(10, key="live.Late {}", priority=500)
    fill(10, key="live.Soon {}", priority=5)
    assert first_keys(choice, 6) == ["live.Soon {}", "live.Late {}", "replay.A {}", "replay.B {}", "replay.B {}", ""]


def test_replays_take_turns(choice: Choice, database: peewee.Database) -> None:
    for number in (replay(database), replay(database)):
        fill(30, key=f"replay.X {{{number}}}", replay=number)
    assert len(set(first_keys(choice, 2))) == 2


def test_what_is_held_back_is_passed_over(choice: Choice, database: peewee.Database) -> None:
    paused = replay(database)
    fill(1, key="a.B {}")
    fill(1, key="a.B2 {}")
    fill(1, key="c.D {}", replay=paused)
    held = ((HoldKind.COMPONENT, "a.B"), (HoldKind.REPLAY, str(paused)))
    assert first_keys(choice, 2, *held) == ["a.B2 {}", ""]
    assert first_keys(choice, 3) == ["a.B {}", "c.D {}", ""]


def test_what_waits_under_one_key_is_shared_out_among_the_places(choice: Choice) -> None:
    fill(7, key="a.B {}")
    assert serve(choice, 3, slots=3) == [[("a.B {}", 3)], [("a.B {}", 2)], [("a.B {}", 1)]]


@pytest.mark.parametrize("sections", [{"scheduler": {"max_bundle_size": 10, "max_wait": 90}}])
def test_a_bundle_that_may_yet_fill_is_waited_for_and_a_full_one_is_not(choice: Choice) -> None:
    fill(3, key="a.B {}")
    fill(10, key="a.C {}")
    assert serve(choice, 2) == [[("a.C {}", 10)], []]
    picks = choice.next((), 1, START + timedelta(seconds=91))
    assert [(each.key, each.limit) for each in picks] == [("a.B {}", 3)]


@pytest.mark.parametrize(
    "sections", [{"scheduler": {"max_bundle_size": 10}, "components": [{"task": "a.B", "max_bundle_size": 2}]}]
)
def test_a_component_may_have_bundles_of_its_own_size(choice: Choice) -> None:
    fill(5, key="a.B {}")
    fill(5, key="a.C {}")
    assert serve(choice, 2) == [[("a.B {}", 2)], [("a.C {}", 5)]]


def test_the_size_of_a_bundle_follows_from_recorded_times(choice: Choice) -> None:
    record("slow.One {}", 4, setup=40.0, each=30.0)
    record("quick.One {}", 4, setup=40.0, each=1.0)
    fill(20, key="slow.One {}")
    fill(20, key="quick.One {}")
    assert serve(choice, 2) == [[("quick.One {}", 10)], [("slow.One {}", 2)]]


def test_short_bundles_are_taken_together_as_far_as_half_a_second_goes(choice: Choice) -> None:
    record("a.B {}", 10, setup=0.0, each=0.05)
    for number in range(30):
        fill(1, key=f"a.B {{{number:02}}}")
    assert [len(bundles) for bundles in serve(choice, 4)] == [10, 10, 10, 0]


def test_many_bundles_of_one_key_are_taken_together_too(choice: Choice, sections: dict[str, Any]) -> None:
    record("a.B {}", 10, setup=0.0, each=0.001)
    fill(45, key="a.B {}")
    assert serve(choice, 2) == [[*[("a.B {}", 10)] * 4, ("a.B {}", 5)], []]


def test_a_job_is_filled_to_the_target_with_bundles_of_many_keys(
    tmp_path: Path, database: peewee.Database, database_url: str, sections: dict[str, Any]
) -> None:
    jobs = Choice(Site(tmp_path, database_url, sections=sections).settings(), lambda own: Span(own.target, 20_000))
    record("a.B {}", 2, setup=1.0, each=4.0)
    for number in range(30):
        fill(2, key=f"a.B {{{number:02}}}")
    [first, second] = serve(jobs, 2)
    assert (len(first), len(second)) == (11, 11), "bundles of 9 s, in jobs of 100"


def test_of_a_component_that_nobody_knows_one_bundle_is_tried_first(choice: Choice) -> None:
    for number in range(3):
        fill(1, key=f"a.B {{{number}}}")
    assert [len(bundles) for bundles in serve(choice, 1)] == [1]


def test_a_component_that_never_says_which_task_it_has_in_hand_costs_what_its_bundles_take(
    database: peewee.Database,
) -> None:
    fill(4, key="a.B {}")
    [claimed] = queue.claim([Pick(None, 100, "a.B {}", 4)], OWNER, "local", START)
    held = start(claimed)
    totals = Totals(((0.0, 0.0), (8.0, 8.0), (0.0, 0.0)))
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * 4)
    queue.finish([Finish(held.bundle, held.token, rows, (), totals)], START)
    assert Cost.of("a.B") == Cost(0.0, 2.0)
    assert Cost.of("a.B2") is None
    assert [each.completed for each in backlog.latest("a.B", 5)] == [4]


@pytest.mark.parametrize("sections", [{"scheduler": {"max_bundle_size": 10, "max_wait": 90}}])
def test_a_bundle_that_was_waited_for_is_not_shared_out(choice: Choice) -> None:
    fill(20, key="a.B {}")
    assert serve(choice, 3, slots=4) == [[("a.B {}", 10)], [("a.B {}", 10)], []]


@pytest.mark.parametrize("sections", [{"scheduler": {"max_bundle_size": 3, "max_wait": 90}}])
def test_keys_that_may_yet_fill_hide_no_key_that_is_full(choice: Choice) -> None:
    for number in range(150):
        fill(1, key=f"a.B {{{number:03}}}")
    fill(3, key="a.B {999}")
    assert serve(choice, 2) == [[("a.B {999}", 3)], []]
    fill(2, key="a.B {000}")
    assert serve(choice, 1) == [[("a.B {000}", 3)]]


def test_what_a_bundle_gave_back_does_not_make_its_tasks_seem_quick(choice: Choice) -> None:
    fill(10, key="a.B {}")
    [claimed] = queue.claim([Pick(None, 100, "a.B {}", 10)], OWNER, "local", START)
    held = start(claimed)
    rows = ended(held.bundle, *[TaskOutcome.COMPLETED] * 2, *[TaskOutcome.RELEASED] * 8)
    totals = Totals(((0.0, 0.0), (60.0, 0.0), (0.0, 0.0)))
    queue.finish([Finish(held.bundle, held.token, rows, (), totals)], START)
    assert Cost.of("a.B") == Cost(0.0, 30.0)


def test_a_model_that_takes_longer_to_load_than_the_target_is_not_loaded_for_each_task() -> None:
    assert Cost(700.0, 7.0).most(600) == 100
    assert Cost(0.0, 7.0).most(600) == 85


def test_a_probe_leaves_a_paused_replay_alone(choice: Choice, database: peewee.Database) -> None:
    paused = replay(database)
    fill(1, key="a.B {}", replay=paused)
    held = {(HoldKind.REPLAY, str(paused)), (HoldKind.COMPONENT, "a.B")}
    assert choice.probe("a.B", held, LATER) == []
    assert choice.probe("a.B", (), LATER) != []


def test_a_key_that_somebody_else_has_emptied_meanwhile_is_passed_over(
    choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(10, key="a.B {1}")
    fill(2, key="a.B {2}")
    counted = backlog.count

    def late(place: tuple[int | None, int, str], key: str, most: int) -> int:
        queue.claim([Pick(None, 100, "a.B {1}", 10)], OWNER, "local", LATER)
        return counted(place, key, most)

    monkeypatch.setattr(backlog, "count", late)
    assert [(each.key, each.limit) for each in choice.next((), 2, LATER)] == [("a.B {2}", 1)]
