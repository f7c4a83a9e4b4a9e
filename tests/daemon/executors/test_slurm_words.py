"""What Slurm says, as it was seen to say it (22.05), read from text; and what it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from astra.settings import Slurm
from astra.states import ErrorKind
from daemon.executors.slurm_words import (
    Listed,
    Stage,
    has_no_accounts,
    is_away,
    job_number,
    latest,
    parse_sacct,
    parse_squeue,
    sbatch_options,
    script,
)

SQUEUE = """\
1|0|astra-b1-2147f176|PENDING|None
1|1|astra-b1-2147f176|PENDING|JobHeldUser
1|2|astra-b1-2147f176|RUNNING|None
1|3|astra-b1-2147f176|COMPLETING|None
1|4|astra-b1-2147f176|CANCELLED|None
1|5|astra-b1-2147f176|NODE_FAIL|None
1|6|astra-b1-2147f176|FAILED|NonZeroExitCode
1|7|astra-b1-2147f176|PENDING|launch failed requeued held
5|N/A|somebody's|PENDING|Priority
"""
SACCT = """\
1_4|astra-b1-2147f176|CANCELLED by 0|0:0|None
1_6|astra-b1-2147f176|FAILED|3:0|None
1_8|astra-b1-2147f176|OUT_OF_MEMORY|0:125|None
1_9|astra-b1-2147f176|TIMEOUT|0:0|None
1_10|astra-b1-2147f176|FAILED|0:9|None
2_[0-3]|astra-b2-5d0c1f7a|PENDING|0:0|None
"""


def of(text: str, index: int) -> Listed:
    parse = parse_squeue if text is SQUEUE else parse_sacct
    return next(each for each in parse(text) if each.name == f"astra-b1-2147f176_{index}")


def test_each_element_is_told_by_its_name_and_its_place() -> None:
    listed = parse_squeue(SQUEUE)
    assert [each.name for each in listed] == [f"astra-b1-2147f176_{index}" for index in range(8)]
    assert [each.job for each in listed] == [f"1_{index}" for index in range(8)]


def test_waiting_for_its_turn_is_no_reason_to_be_told() -> None:
    assert (of(SQUEUE, 0).stage, of(SQUEUE, 0).reason) == (Stage.WAITING, None)
    assert (of(SQUEUE, 1).stage, of(SQUEUE, 1).reason) == (Stage.WAITING, "JobHeldUser")
    assert of(SQUEUE, 7).reason == "launch failed requeued held"


def test_a_job_that_is_being_ended_is_not_over() -> None:
    assert of(SQUEUE, 2).stage is of(SQUEUE, 3).stage is Stage.GOING


@pytest.mark.parametrize(
    ("text", "index", "words", "kind"),
    [
        (SQUEUE, 4, "was cancelled", ErrorKind.INTERRUPTED),
        (SQUEUE, 5, "was lost with its node", ErrorKind.INTERRUPTED),
        (SQUEUE, 6, "failed (NonZeroExitCode)", ErrorKind.INTERRUPTED),
        (SACCT, 4, "was cancelled by 0", ErrorKind.INTERRUPTED),
        (SACCT, 6, "failed (status 3)", ErrorKind.INTERRUPTED),
        (SACCT, 8, "ran out of memory (signal 125)", ErrorKind.RESOURCE),
        (SACCT, 9, "ran into its walltime", ErrorKind.TIMEOUT),
        (SACCT, 10, "failed (signal 9)", ErrorKind.INTERRUPTED),
    ],
)
def test_how_a_job_ended_is_kept_apart(text: str, index: int, words: str, kind: ErrorKind) -> None:
    found = of(text, index)
    assert (found.stage, found.kind, found.words) == (Stage.OVER, kind, f"its Slurm job 1_{index} {words}")
    assert found.cancelled is (index == 4)


def test_what_the_accounts_have_not_split_yet_is_left_out() -> None:
    assert {each.job for each in parse_sacct(SACCT)} == {"1_4", "1_6", "1_8", "1_9", "1_10"}


def test_a_state_that_is_new_to_us_is_not_the_end_of_a_job() -> None:
    [listed] = parse_squeue("1|0|astra-b1-2147f176|DREAMING|Soundly\n")
    assert (listed.stage, listed.reason) == (Stage.WAITING, "DREAMING Soundly")


def test_of_two_jobs_of_one_name_the_one_that_goes_on_counts() -> None:
    rows = "2|0|n|RUNNING|None\n1|0|n|COMPLETED|None\n3|0|n|PENDING|None\n"
    assert latest(parse_squeue(rows))["n_0"].job == "2_0"


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "squeue: error: slurm_receive_msg: Zero Bytes were transmitted or received",
        "sacct: error: slurm_persist_conn_open: failed to send persistent connection init message to localhost:17002",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    ],
)
def test_a_controller_that_is_away_refuses_nothing(words: str) -> None:
    assert is_away(words)


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    ],
)
def test_what_slurm_refuses_is_no_outage(words: str) -> None:
    assert not is_away(words)


def test_a_cluster_without_accounts_says_so() -> None:
    assert has_no_accounts("Slurm accounting storage is disabled")


@pytest.mark.parametrize(("words", "number"), [("17\n", "17"), ("17;cluster\n", "17"), ("", None), ("ok\n", None)])
def test_the_number_of_a_job_is_read(words: str, number: str | None) -> None:
    assert job_number(words) == number


def test_an_array_asks_for_what_the_settings_say() -> None:
    asked = Slurm(partition="p", account="a", time=30, memory=500, cpus=2, options=("--qos=low",), folder=None)
    options = sbatch_options("astra-b1-x", 3, asked, Path("/f"))
    for each in ("--array=0-2", "--partition=p", "--account=a", "--time=30", "--mem=500", "--cpus-per-task=2"):
        assert each in options
    assert {"--no-requeue", "--signal=B:USR1@120", "--parsable"} <= set(options)
    assert options[-1] == "--qos=low", "what the site wants goes before ours"
    assert not [
        each for each in sbatch_options("n", 1, Slurm(folder=None), Path("/f")) if each.startswith(("--mem", "--part"))
    ]


def test_each_element_runs_its_own_command(tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text(script("export WORD='a b'", [["echo", "first"], ["sh", "-c", 'echo "$WORD" "$0"', "it's"]]))

    def run(index: int) -> subprocess.CompletedProcess[str]:
        environ = {"SLURM_ARRAY_TASK_ID": str(index), "PATH": "/usr/bin:/bin"}
        return subprocess.run(["bash", path], env=environ, capture_output=True, text=True, check=False)

    assert [run(0).stdout, run(1).stdout] == ["first\n", "a b it's\n"]
    assert run(2).returncode == 1


def test_a_prologue_that_fails_ends_the_job(tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text(script("false\necho on", [["echo", "ran"]]))
    done = subprocess.run(["bash", path], env={"SLURM_ARRAY_TASK_ID": "0"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
