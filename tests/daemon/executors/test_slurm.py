"""What Slurm's executor makes of what Slurm says: on real records, with a Slurm that says what the test wants."""

from __future__ import annotations

import pytest

from astra import holds, queue
from tests.support.cluster import Desk

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
REFUSAL = "sbatch: error: invalid partition specified: moon"
AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


# ------------------------------------------------------------------------------------------------- handing over


def test_the_records_hold_every_name_before_slurm_is_told_and_the_numbers_when_it_has_answered(desk: Desk) -> None:
    desk.cluster.answers = False
    array = desk.hand_over(2)
    assert desk.cluster.noted == [{f"{array}_0", f"{array}_1"}]
    assert desk.numbers() == [None, None]
    desk.cluster.answers = True
    desk.tick()
    assert desk.numbers() == ["1_0", "1_1"]


def test_no_more_jobs_are_in_slurm_than_the_settings_allow(desk: Desk) -> None:
    array = desk.hand_over(8)
    assert (len(desk.cluster.jobs), desk.executor.free()) == (6, 0)
    assert desk.tasks() == ["running"] * 6 + ["pending"] * 2
    token = desk.begin(f"{array}_0")
    desk.finish(desk.load(f"{array}_0")[0].bundle, token)
    desk.cluster.jobs[f"{array}_0"] = "COMPLETED|None"
    desk.ticks(15)
    assert desk.tasks() == ["completed"] + ["running"] * 7, "those that are known to be short share one"
    assert (desk.executor.state()["jobs"], desk.executor.free()) == (6, 0)


def test_a_refusal_gives_back_what_it_met_and_stops_that_component_alone(desk: Desk) -> None:
    desk.cluster.refuses["a.B"] = REFUSAL
    desk.hand_over(2)
    assert desk.tasks() == ["pending"] * 2
    assert desk.errors() == [f"not submitted: {REFUSAL}"] * 2
    assert desk.executor.state()["refused"] == {"a.B": REFUSAL}
    assert desk.executor.state()["away"] is None
    desk.hand_over(1, "c.D")
    assert desk.tasks() == ["pending", "pending", "running"]


def test_each_refusal_is_waited_for_longer_and_one_job_shows_whether_it_is_over(desk: Desk) -> None:
    desk.cluster.refuses["a.B"] = REFUSAL
    desk.hand_over(3)
    tried = [len(desk.cluster.arrays)]
    for _ in range(12):  # tried again after 15 s, and 30 s after that
        desk.tick(5)
        desk.tick()
        desk.tick()
        tried.append(len(desk.cluster.arrays))
    assert tried == [1] * 3 + [2] * 6 + [3] * 4
    assert [len(each.loads) for each in desk.cluster.arrays] == [3, 1, 1]
    desk.cluster.refuses.clear()
    desk.ticks(70)
    assert [len(each.loads) for each in desk.cluster.arrays] == [3, 1, 1, 1, 2], "one is taken, and the others follow"
    assert desk.tasks() == ["running"] * 3
    assert desk.executor.state()["refused"] == {}


def test_a_job_from_before_a_refusal_neither_ends_the_pause_nor_is_waited_for(desk: Desk) -> None:
    older = f"{desk.hand_over(1)}_0"
    desk.tick(1)
    desk.cluster.refuses["a.B"] = REFUSAL
    desk.hand_over(1)
    desk.begin(older)
    desk.tick(5)
    assert desk.executor.state()["refused"] == {"a.B": REFUSAL}
    assert desk.tasks() == ["running", "pending"]
    desk.cluster.refuses.clear()
    desk.ticks(20)
    assert desk.tasks() == ["running"] * 2


def test_what_slurm_was_not_told_of_is_given_back_at_once(desk: Desk) -> None:
    desk.cluster.away, desk.cluster.hears = AWAY, False
    desk.hand_over(1)
    assert (desk.tasks(), desk.errors()) == (["pending"], [f"not submitted: {AWAY}"])
    assert desk.executor.free() == 0
    desk.cluster.away = None
    desk.ticks(15)  # although no job is left to be asked for
    assert desk.executor.state()["away"] is None
    assert desk.tasks() == ["running"]


@pytest.mark.parametrize("has_it", [True, False])
def test_what_slurm_may_have_been_told_of_is_asked_for_by_name(desk: Desk, has_it: bool) -> None:
    desk.cluster.away, desk.cluster.loses = AWAY, has_it
    name = f"{desk.hand_over(1)}_0"
    desk.ticks(120)
    assert desk.bundles() == ["submitted"], "nothing is concluded from silence"
    desk.cluster.away = None
    desk.ticks(60)
    assert desk.bundles() == ["submitted"]
    assert desk.numbers() == (["1_0"] if has_it else [None])
    desk.ticks(20)
    if has_it:
        assert desk.bundles() == ["submitted"]
    else:
        assert desk.errors()[0] == f"given back: Slurm knows of no job {name}"
        assert desk.tasks() == ["running"], "in another bundle"
    assert desk.cluster.cancelled == []


def test_a_client_that_never_answers_is_away_after_ten_minutes(desk: Desk) -> None:
    desk.hand_over(1)
    desk.cluster.answers = False
    desk.ticks(600, 20)
    assert desk.executor.state()["away"] is None
    desk.ticks(40, 20)
    assert "have not ended for 600 s" in desk.executor.state()["away"]
    assert (desk.executor.free(), desk.bundles()) == (0, ["submitted"])
    desk.cluster.answers = True
    desk.tick()
    assert desk.executor.state()["away"] is None


# ----------------------------------------------------------------------------------------------- how a job ends


def test_a_waiting_job_that_vanishes_was_cancelled_by_somebody(desk: Desk) -> None:
    array = desk.hand_over(2)
    desk.tick(10)
    del desk.cluster.jobs[f"{array}_0"]
    desk.ticks(25)
    assert desk.tasks() == ["running"] * 2, "one look may have come too early"
    desk.ticks(25)
    assert desk.tasks() == ["cancelled", "running"]
    assert desk.errors()[0] == "its Slurm job 1_0 was cancelled while it waited"


def test_what_a_controller_that_began_anew_does_not_know_is_given_back(desk: Desk) -> None:
    desk.hand_over(1)
    desk.tick(10)
    desk.cluster.jobs.clear()
    desk.cluster.controller = "tuesday"
    desk.ticks(55)
    assert desk.bundles() == ["submitted"]
    desk.ticks(30)
    assert desk.errors()[0] == "given back: Slurm knows of no job 1_0"
    assert desk.tasks() == ["running"], "in another bundle"
    assert desk.cluster.cancelled == [], "the number may be somebody else's by now"


def test_what_somebody_cancels_while_it_runs_stays_cancelled(desk: Desk) -> None:
    name = f"{desk.hand_over(1)}_0"
    desk.begin(name)
    desk.cluster.jobs[name] = "CANCELLED|None"
    desk.ticks(30)
    assert desk.tasks() == ["cancelled"]
    assert desk.errors() == ["its Slurm job 1_0 was cancelled"]


@pytest.mark.parametrize(
    ("state", "kind"),
    [("TIMEOUT", "timeout"), ("OUT_OF_MEMORY", "resource"), ("NODE_FAIL", "interrupted"), ("COMPLETED", "interrupted")],
)
def test_the_ways_in_which_a_running_job_ends_are_kept_apart(desk: Desk, state: str, kind: str) -> None:
    name = f"{desk.hand_over(1)}_0"
    desk.begin(name)
    desk.cluster.jobs[name] = f"{state}|None"
    desk.tick(10)
    assert (desk.bundles()[0], desk.kinds()[0]) == ("expired", kind)
    assert desk.executor.state()["refused"] == {}, "it had begun"


@pytest.mark.parametrize("printed", ["no module named astra\n", "", None])
def test_a_job_that_fails_before_it_begins_costs_no_try_and_pauses_its_component(
    desk: Desk, printed: str | None
) -> None:
    array = desk.hand_over(1)
    path = desk.settings.slurm_folder / array / "0.out"
    path.parent.mkdir(parents=True)
    if printed is not None:
        path.write_text(printed)
    desk.cluster.jobs[f"{array}_0"] = "FAILED|NonZeroExitCode"
    desk.tick(10)
    assert (desk.bundles(), desk.tasks(), desk.kinds()) == (["released"], ["pending"], [None])
    words = ", and left no word" if printed is None else ", and said nothing"
    if printed:
        words = f": no module named astra (all of it in {path})"
    assert desk.executor.state()["refused"]["a.B"] == (
        f"its Slurm job 1_0 failed (NonZeroExitCode), before it began{words}"
    )


def test_a_job_that_recorded_its_end_is_believed_and_its_files_go_with_the_last_of_its_array(desk: Desk) -> None:
    array = desk.hand_over(2)
    for index in range(2):
        token = desk.begin(name := f"{array}_{index}")
        desk.finish(desk.load(name)[0].bundle, token)
        desk.cluster.jobs[name] = "COMPLETED|None"
        assert desk.cluster.removed == []
        desk.ticks(15)
    assert desk.bundles() == ["ended"] * 2
    assert desk.tasks() == ["completed"] * 2
    assert desk.cluster.removed == [array]
    assert desk.scheduler.idle


def test_why_a_job_waits_is_told_once_and_shown_as_long_as_it_does(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{desk.hand_over(1)}_0"
    desk.cluster.jobs[name] = "PENDING|JobHeldUser"
    desk.ticks(60)
    assert desk.executor.state()["held"] == {"JobHeldUser": ["1_0"]}
    assert sum(each.getMessage().startswith("slurm_waits") for each in caplog.records) == 1
    desk.cluster.jobs[name] = "PENDING|Priority"
    desk.tick(10)
    assert desk.executor.state()["held"] == {}


# --------------------------------------------------------------------------------------------- what people want


def test_a_waiting_job_whose_bundle_was_taken_away_is_cancelled_by_number_and_name(desk: Desk) -> None:
    array = desk.hand_over(2)
    desk.tick(10)
    queue.cancel_running(desk.load(f"{array}_0")[0].bundle, "not now", desk.clock.now())
    desk.tick(5)
    assert desk.cluster.cancelled == [(array, "1_0")]
    assert desk.tasks() == ["cancelled", "running"]
    assert list(desk.cluster.jobs) == [f"{array}_1"]


def test_a_running_job_obeys_by_itself_and_is_cancelled_only_where_it_lingers(desk: Desk) -> None:
    array = desk.hand_over(1)
    desk.begin(f"{array}_0")
    desk.tick(10)
    queue.cancel_running(desk.load(f"{array}_0")[0].bundle, "not now", desk.clock.now())
    desk.ticks(60)
    assert desk.cluster.cancelled == []
    desk.ticks(10)
    assert desk.cluster.cancelled == [(array, "1_0")]
    assert desk.executor.state()["jobs"] == 0


def test_a_bundle_that_is_to_begin_no_further_task_leaves_slurm_while_its_job_waits(desk: Desk) -> None:
    array = desk.hand_over(3)
    desk.cluster.jobs[f"{array}_2"] = "RUNNING|None"  # and is about to begin it
    desk.tick(10)
    waiting, begun, beginning = (desk.load(f"{array}_{index}")[0].bundle for index in range(3))
    desk.begin(f"{array}_1")  # a moment ago: Slurm has not told us
    for each in (waiting, begun, beginning):
        assert queue.ask(each, holds.DRAIN)
    desk.scheduler.draining = True  # or it would be claimed again
    desk.tick()
    desk.tick()
    assert desk.bundles() == ["released", "running", "submitted"]
    assert "begin no further task" in str(desk.errors()[0])
    assert desk.cluster.cancelled == [(array, "1_0")]


def test_neighbours_of_what_was_freed_are_given_back_and_never_cancelled(desk: Desk) -> None:
    name = desk.hand_over_together(2)
    token = desk.begin(name)
    desk.tick(10)
    first, _ = desk.load(name)
    queue.release(first.bundle, token, "freed", desk.clock.now())
    desk.executor.drop([first.bundle])
    assert desk.cluster.jobs[name].startswith("CANCELLED")
    desk.scheduler.draining = True
    desk.tick(10)
    desk.tick()
    assert desk.bundles() == ["released"] * 2
    assert desk.tasks() == ["pending"] * 2


def test_waiting_neighbours_of_what_was_freed_are_given_back_when_their_job_has_vanished(desk: Desk) -> None:
    name = desk.hand_over_together(2)
    desk.tick(10)
    first, _ = desk.load(name)
    queue.release(first.bundle, first.token, "freed", desk.clock.now())
    desk.executor.drop([first.bundle])
    assert name not in desk.cluster.jobs
    desk.scheduler.draining = True
    desk.ticks(100)
    assert desk.tasks() == ["pending"] * 2
