"""The thread that talks to Slurm: what it makes of each answer, and that nothing ends it but its stop.

In Slurm's place stand shell scripts, for what the real one cannot be made to say in a moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from astra.config import Settings
from astra.work import Claimed, Load
from daemon.executors.slurm_client import Array, Seen, SlurmClient, Submitted
from tests.support.processes import until
from tests.support.site import Site

LOAD = Load((Claimed(4, 2, "secret", "a.B {}"),), 60.0)
ARRAY = Array("astra-b4-0a1b2c3d", (LOAD,))
ELEMENT = f"{ARRAY.name}_0"
CONTROLLER = "echo 'BOOT_TIME               = 2026-01-02T03:04:05'"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the commands are, first on the path and, but for the shell's own, alone there."""
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def says(programs: Path, name: str, lines: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
    (programs / name).chmod(0o755)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Site(tmp_path, f"sqlite:///{tmp_path}/astra.sqlite").settings()


@pytest.fixture
def client(settings: Settings) -> Iterator[SlurmClient]:
    client = SlurmClient(settings, lambda: None)
    client.start()
    yield client
    client.stop(10.0)


def heard(client: SlurmClient, count: int = 1) -> list[Submitted | Seen]:
    answers: list[Submitted | Seen] = []

    def all_are_heard() -> bool:
        answers.extend(client.heard())
        return len(answers) == count

    until(all_are_heard, 5.0, 0.01)
    return answers


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("echo 17", Submitted(ARRAY.name, job="17")),
        ("echo '17;cluster'", Submitted(ARRAY.name, job="17")),
        (
            "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1",
            Submitted(ARRAY.name, refusal="sbatch: error: Batch job submission failed: Invalid account"),
        ),
        (
            "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1",
            Submitted(ARRAY.name, away="Unable to contact slurm controller (connect failure)", told=False),
        ),
        (
            "echo 'Socket timed out on send/recv operation' >&2; exit 1",
            Submitted(ARRAY.name, away="Socket timed out on send/recv operation"),
        ),
        ("exit 0", Submitted(ARRAY.name, away="sbatch ended with status 0")),
        ("exit 1", Submitted(ARRAY.name, refusal="sbatch ended with status 1")),
    ],
)
def test_what_sbatch_answers_is_a_number_a_refusal_or_no_answer(
    client: SlurmClient, programs: Path, lines: str, expected: Submitted
) -> None:
    says(programs, "sbatch", lines)
    client.submit(ARRAY)
    assert heard(client) == [expected]


def test_where_there_is_no_sbatch_it_is_refused_in_words(client: SlurmClient, programs: Path) -> None:
    client.submit(ARRAY)
    assert heard(client) == [Submitted(ARRAY.name, refusal="sbatch cannot be run: No such file or directory")]


def test_where_the_folder_cannot_be_written_it_is_refused_in_words(settings: Settings, programs: Path) -> None:
    settings.service.state.mkdir(exist_ok=True)
    settings.slurm_folder.write_text("a file")
    says(programs, "sbatch", "echo 17")
    client = SlurmClient(settings, lambda: None)
    client.start()
    client.submit(ARRAY)
    assert heard(client) == [
        Submitted(ARRAY.name, refusal=f"cannot write into {settings.slurm_folder}: Not a directory")
    ]
    assert client.stop(10.0) == []


def test_what_nobody_thought_of_ends_that_one_thing_and_not_the_thread(client: SlurmClient, programs: Path) -> None:
    says(programs, "sbatch", "echo 17")
    says(programs, "squeue", f"echo '17|0|{ARRAY.name}|RUNNING|None'")
    says(programs, "scontrol", CONTROLLER)
    nothing = "no\0name"
    client.cancel(nothing, "17_0")
    client.remove(nothing)
    client.submit(replace(ARRAY, name=nothing))
    client.look(frozenset({ELEMENT}))
    submitted, seen = heard(client, 2)
    assert isinstance(submitted, Submitted)
    assert isinstance(seen, Seen)
    assert submitted.away == "ValueError: embedded null byte"
    assert submitted.told, "who knows"
    assert (seen.listed[ELEMENT].job, seen.controller) == ("17_0", "2026-01-02T03:04:05")


def test_accounts_are_asked_for_what_squeue_has_forgotten_unless_there_are_none(
    client: SlurmClient, programs: Path
) -> None:
    says(programs, "squeue", "")
    says(programs, "scontrol", CONTROLLER)
    says(programs, "sacct", f"echo '17_0|{ARRAY.name}|TIMEOUT|0:0|None'")
    client.look(frozenset({ELEMENT}))
    [seen] = heard(client)
    assert isinstance(seen, Seen)
    assert seen.listed[ELEMENT].words == "its Slurm job 17_0 ran into its walltime"
    says(programs, "sacct", "echo x >> $0.asked; echo 'Slurm accounting storage is disabled' >&2; exit 1")
    for _ in range(2):
        client.look(frozenset({ELEMENT}))
        [seen] = heard(client)
        assert seen == Seen({}, "2026-01-02T03:04:05")
    assert (programs / "sacct.asked").read_text() == "x\n", "asked once"


def test_what_was_cancelled_before_it_was_ever_listed_is_known_by_its_array_unless_accounts_know_better(
    client: SlurmClient, programs: Path
) -> None:
    says(programs, "squeue", f"echo '17|N/A|{ARRAY.name}|CANCELLED|None'; echo '17|1|{ARRAY.name}|RUNNING|None'")
    says(programs, "scontrol", CONTROLLER)
    says(programs, "sacct", f"echo '17_2|{ARRAY.name}|COMPLETED|0:0|None'")
    client.look(frozenset({*(f"{ARRAY.name}_{index}" for index in range(3)), "astra-b5-00000000_0"}))
    [seen] = heard(client)
    assert isinstance(seen, Seen)
    assert {name: each.cancelled for name, each in seen.listed.items()} == {
        f"{ARRAY.name}_0": True,
        f"{ARRAY.name}_1": False,
        f"{ARRAY.name}_2": False,
    }
    assert seen.listed[ELEMENT].words == "its Slurm job 17_0 was cancelled"


@pytest.mark.parametrize("silent", ["squeue", "sacct", "scontrol"])
def test_where_one_command_gets_no_answer_nothing_is_told_of_any_job(
    client: SlurmClient, programs: Path, silent: str
) -> None:
    for name in ("squeue", "sacct"):
        says(programs, name, "")
    says(programs, "scontrol", CONTROLLER)
    says(programs, silent, f"echo '{silent}: error: Unable to contact slurm controller' >&2; exit 1")
    client.look(frozenset({ELEMENT}))
    assert heard(client) == [Seen({}, away=f"{silent}: error: Unable to contact slurm controller")]


def test_a_job_listed_before_the_controller_began_anew_is_not_taken_for_one_of_the_new(
    client: SlurmClient, programs: Path
) -> None:
    says(programs, "scontrol", "test -e $0.anew && echo 'BOOT_TIME = tuesday' || echo 'BOOT_TIME = monday'")
    says(programs, "squeue", f"echo '17|0|{ARRAY.name}|PENDING|None'; : > ${{0%/*}}/scontrol.anew")
    client.look(frozenset({ELEMENT}))
    [seen] = heard(client)
    assert isinstance(seen, Seen)
    assert (seen.listed.keys(), seen.controller) == ({ELEMENT}, "monday")


def test_slurm_is_not_told_what_was_meant_for_the_service(
    client: SlurmClient, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "JobID"}
    for name, value in {**kept, "SLURM_CONF": "/etc/slurm.conf", "INVOCATION_ID": "5"}.items():
        monkeypatch.setenv(name, value)
    says(programs, "squeue", "export -p > $0.said")
    says(programs, "scontrol", CONTROLLER)
    client.look(frozenset())
    assert heard(client) == [Seen({}, "2026-01-02T03:04:05")]
    said = (programs / "squeue.said").read_text()
    assert "SLURM_CONF" in said
    assert not [name for name in (*kept, "INVOCATION_ID") if name in said]


def test_at_its_stop_it_names_what_it_has_not_begun(client: SlurmClient, programs: Path) -> None:
    os.mkfifo(programs / "pipe")
    says(programs, "sbatch", "echo > $0.begun; read answer < ${0%/*}/pipe; echo $answer")
    client.submit(ARRAY)
    client.submit(replace(ARRAY, name="astra-b5-00000000"))
    until((programs / "sbatch.begun").exists, every=0.01)
    client.look(frozenset())
    assert client.stop(0.01) == ["astra-b5-00000000"]
    (programs / "pipe").write_text("17\n")
    assert heard(client) == [Submitted(ARRAY.name, job="17")]


def test_what_it_ends_with_at_its_stop_is_the_last_thing_it_does(client: SlurmClient, programs: Path) -> None:
    os.mkfifo(programs / "pipe")
    says(programs, "sbatch", "echo >> $0.begun; read answer < ${0%/*}/pipe; echo $answer")
    client.submit(ARRAY)
    client.submit(replace(ARRAY, name="astra-b5-00000000"))
    until((programs / "sbatch.begun").exists, every=0.01)

    def answer() -> None:
        until(client._stopped.is_set, every=0.01)
        (programs / "pipe").write_text("17\n")

    (answering := threading.Thread(target=answer)).start()
    assert client.stop(10.0) == ["astra-b5-00000000"]
    answering.join()
    assert (programs / "sbatch.begun").read_text() == "\n"
    assert heard(client) == [Submitted(ARRAY.name, job="17")]
