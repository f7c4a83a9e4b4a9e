"""What Slurm says, and what it is told: text in, values out. No process, no database, no clock.

Its plain text is asked for, column by column: that has been the same over many versions, which its JSON has not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from astra.settings import Slurm
from astra.states import ErrorKind

SQUEUE_COLUMNS = "%F|%K|%j|%T|%r"  # job, index in its array, name, state, reason
SACCT_COLUMNS = "JobID,JobName,State,ExitCode,Reason"


class Stage(StrEnum):
    """How far a job has come."""

    WAITING = "waiting"
    GOING = "going"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Listed:
    """One element of a job array, as Slurm lists it.

    `name` and `job` both end in its index. `reason` is why it waits, where that is more than its turn. Of what is over,
    `words` say how it ended, `kind` what that means for tasks that were running in it, and `cancelled` that somebody
    wanted it so.
    """

    name: str
    job: str
    stage: Stage
    reason: str | None = None
    words: str = ""
    kind: ErrorKind | None = None
    cancelled: bool = False


_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_GOING = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
)
# How a job ended, and what kind of error that is for a task that was running in it.
_OVER = {
    "COMPLETED": ("ended without a word of this bundle", ErrorKind.INTERRUPTED),
    "FAILED": ("failed", ErrorKind.INTERRUPTED),
    "TIMEOUT": ("ran into its walltime", ErrorKind.TIMEOUT),
    "DEADLINE": ("ran into its deadline", ErrorKind.TIMEOUT),
    "OUT_OF_MEMORY": ("ran out of memory", ErrorKind.RESOURCE),
    "NODE_FAIL": ("was lost with its node", ErrorKind.INTERRUPTED),
    "BOOT_FAIL": ("was lost: its node could not be booted", ErrorKind.INTERRUPTED),
    "LAUNCH_FAILED": ("could not be launched", ErrorKind.INTERRUPTED),
    "RECONFIG_FAIL": ("was lost: its node could not be prepared", ErrorKind.INTERRUPTED),
    "PREEMPTED": ("was preempted", ErrorKind.INTERRUPTED),
    "REVOKED": ("was revoked", ErrorKind.INTERRUPTED),
    "CANCELLED": ("was cancelled", ErrorKind.INTERRUPTED),
}
# Why a job waits whose turn will come. Whatever else Slurm says, somebody may have to do something.
_ITS_TURN = frozenset({"", "None", "Resources", "Priority", "BeginTime", "Cleaning", "JobArrayTaskLimit", "Prolog"})


def parse_squeue(text: str) -> list[Listed]:
    """Return what `squeue` lists, asked for `SQUEUE_COLUMNS` with each element of an array on a line."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", 4)
        if len(parts) == 5 and parts[1].isdigit():
            job, index, name, state, reason = parts
            found.append(_listed(f"{name}_{index}", f"{job}_{index}", state, reason, ""))
    return found


def parse_cancelled(text: str, elements: Iterable[str]) -> dict[str, Listed]:
    """Return which of these elements `squeue` tells of without naming them.

    Of an array, all that was left of it waiting, and was cancelled, is on one line that has no index.
    """
    rows = [line.split("|", 4) for line in text.splitlines()]
    jobs = {row[2]: row[0] for row in rows if len(row) == 5 and not row[1].isdigit() and row[3] == "CANCELLED"}
    found = {}
    for each in elements:
        array, _, index = each.rpartition("_")
        if array in jobs:
            found[each] = _listed(each, f"{jobs[array]}_{index}", "CANCELLED", "", "")
    return found


def parse_sacct(text: str) -> list[Listed]:
    """Return what `sacct` lists, asked for `SACCT_COLUMNS`; what it has not split into elements yet is left out."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", 4)
        if len(parts) == 5 and (element := re.fullmatch(r"(\d+)_(\d+)", parts[0])):
            job, name, state, exit_code, reason = parts
            found.append(_listed(f"{name}_{element[2]}", job, state, reason, exit_code))
    return found


def _listed(name: str, job: str, state: str, reason: str, exit_code: str) -> Listed:
    word, _, by = state.partition(" ")
    if word in _OVER:
        words, kind = _OVER[word]
        ended = reason if exit_code in ("", "0:0") else _exit(exit_code)
        more = f" {by}" if by else "" if ended in _ITS_TURN else f" ({ended})"
        told = f"its Slurm job {job} {words}{more}"
        return Listed(name, job, Stage.OVER, words=told, kind=kind, cancelled=word == "CANCELLED")
    if word in _GOING:
        return Listed(name, job, Stage.GOING)
    # a state that is new to us is taken for one that needs looking at
    why = None if word == "PENDING" and reason in _ITS_TURN else reason if word in _WAITING else f"{word} {reason}"
    return Listed(name, job, Stage.WAITING, reason=why)


def _exit(code: str) -> str:
    status, _, number = code.partition(":")
    return f"signal {number}" if number not in ("", "0") else f"status {status}"


def latest(listed: Iterable[Listed]) -> dict[str, Listed]:
    """Return, by name, the one that tells most: of several of a name, one that goes on before one that is over."""
    order = (Stage.OVER, Stage.WAITING, Stage.GOING)
    found: dict[str, Listed] = {}
    for each in sorted(listed, key=lambda each: order.index(each.stage)):
        found[each.name] = each
    return found


def is_away(words: str) -> bool:
    """Return whether a command's complaint means that the controller, or the accounts, cannot be reached now."""
    return bool(_AWAY.search(words))


_AWAY = re.compile(
    r"unable to contact|persistent connection|connection (refused|timed out|reset)|socket timed out"
    r"|communications? connection failure|not responding|temporarily unable|backup controller|zero bytes"
    r"|protocol authentication|munge|slurmdbd|no route to host|name or service not known|unable to establish",
    re.IGNORECASE,
)


def was_not_told(words: str) -> bool:
    """Return whether a complaint means that the controller never heard what it was asked for."""
    return "connect failure" in words.lower()


def has_no_accounts(words: str) -> bool:
    """Return whether a complaint of `sacct` means that this cluster keeps none."""
    return "accounting storage is disabled" in words.lower()


def began(words: str) -> str:
    """Return since when the controller runs, as `scontrol show config` says it; nothing where it does not."""
    found = re.search(r"^BOOT_TIME\s*=\s*(\S+)", words, re.MULTILINE)
    return found[1] if found else ""


def job_number(words: str) -> str | None:
    """Return the number that `sbatch --parsable` says; None where it says none."""
    found = re.search(r"^(\d+)(;\S*)?$", words, re.MULTILINE)
    return found[1] if found else None


def sbatch_options(name: str, count: int, asked: Slurm, folder: Path) -> list[str]:
    """Return the options that an array of `count` jobs is submitted with; the site's own ones come last.

    What the jobs print of themselves goes into `folder`.
    """
    options = [
        "--parsable",
        f"--job-name={name}",
        f"--array=0-{count - 1}",
        f"--output={str(folder).replace('%', '%%')}/%a.out",
        "--open-mode=append",
        "--no-requeue",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={asked.cpus}",
        f"--time={asked.time}",
        f"--signal=B:USR1@{asked.notice}",
    ]
    options += [f"--mem={asked.memory}"] if asked.memory else []
    options += [f"--partition={asked.partition}"] if asked.partition else []
    options += [f"--account={asked.account}"] if asked.account else []
    return [*options, *asked.options]


def script(prologue: str | None, commands: Sequence[Sequence[str]]) -> str:
    """Return the script of an array, whose element of each index runs the command at that place."""
    cases = "\n".join(f"{index}) exec {shlex.join(command)} ;;" for index, command in enumerate(commands))
    return f"""#!/bin/bash
set -e
trap '' USR1  # the walltime's notice: whoever comes to listen reckons it by the clock as well
{prologue or ""}
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
echo "there is no bundle for the element $SLURM_ARRAY_TASK_ID of this array" >&2
exit 1
"""
