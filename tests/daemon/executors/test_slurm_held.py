"""What waits in Slurm of a component or a replay that is held is taken from it; what runs goes on."""

from __future__ import annotations

import logging

import pytest

from astra import holds, queue
from astra.states import HoldKind
from tests.support.cluster import Desk

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def test_what_waits_of_a_component_that_is_held_is_given_back(desk: Desk) -> None:
    array = desk.hand_over(2)
    desk.begin(f"{array}_1")
    desk.tick(10)
    queue.hold(HoldKind.COMPONENT, "a.B", "me", "the disk", desk.clock.now())
    desk.tick(5)
    desk.tick(1)
    assert desk.bundles() == ["released", "running"]
    assert desk.errors()[0] == "given back: component a.B is held"
    assert desk.cluster.cancelled == [(array, "1_0")]
    assert desk.tasks() == ["pending", "running"]


def test_what_waits_of_another_component_is_left_alone(desk: Desk) -> None:
    desk.hand_over(1)
    desk.tick(10)
    queue.hold(HoldKind.COMPONENT, "a.C", "me", "", desk.clock.now())
    desk.ticks(20)
    assert desk.bundles() == ["submitted"]


def test_a_bundle_on_trial_is_not_held(desk: Desk) -> None:
    array = desk.hand_over(1)
    desk.tick(10)
    [claimed] = desk.load(f"{array}_0")
    queue.hold(HoldKind.COMPONENT, "a.B", "the circuit breaker", "", desk.clock.now(), desk.clock.now())
    assert set(holds.holding([claimed.bundle])) == {claimed.bundle}
    held = holds.on(HoldKind.COMPONENT, "a.B")
    assert held is not None
    assert queue.probe(held.id, claimed.bundle, desk.clock.now(), desk.clock.now())
    assert holds.holding([claimed.bundle]) == {}
    desk.ticks(20)
    assert desk.bundles() == ["submitted"]


def test_one_line_tells_of_all_jobs_that_wait_for_the_same(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    array = desk.hand_over(3)
    for index in range(3):
        desk.cluster.jobs[f"{array}_{index}"] = "PENDING|ReqNodeNotAvail"
    desk.ticks(30)
    [line] = [each.getMessage() for each in caplog.records if each.getMessage().startswith("slurm_waits")]
    assert "job=1_0 jobs=3" in line


def test_what_a_killed_service_left_in_files_is_cleared_away(desk: Desk) -> None:
    array = desk.hand_over(1)
    for name in ("astra-b9-00000000", array):
        folder = desk.settings.slurm_folder / name
        folder.mkdir(parents=True)
        (folder / "script.sh").touch()
    desk.executor.start()
    desk.ticks(20)
    assert desk.cluster.removed == ["astra-b9-00000000"]
