"""Loads handed to jobs on other machines: files in a folder of the array's own, which only its user can read.

Comes from `slurm`; goes to `job`, which reads the load of its element there, token and all. When an array is over its
files are removed, but for what its jobs printed of themselves.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from astra.errors import AstraError
from astra.settings import Settings
from astra.work import Claimed, Load, Retry
from daemon.executors.slurm_words import script

_SCRIPT = "script.sh"
_OWN = 0o700


def write_array(settings: Settings, name: str, loads: Sequence[Load]) -> Path:
    """Write what the jobs of an array read, whatever a service before this one left there; return its script."""
    folder = settings.slurm_folder / name
    folder.mkdir(mode=_OWN, parents=True, exist_ok=True)
    folder.chmod(_OWN)
    commands = []
    for index, load in enumerate(loads):
        path = folder / f"{index}.load"
        _write(path, json.dumps(asdict(load)))
        command = [sys.executable, "-m", "daemon", "bundle", "--config", str(settings.source), "--handed", str(path)]
        commands.append([*command, *(str(each.bundle) for each in load.bundles)])
    asked = settings.slurm_of(loads[0].bundles[0].component)
    path = folder / _SCRIPT
    _write(path, script(asked.prologue, commands))
    return path


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def read_load(path: Path, bundles: Sequence[int]) -> Load:
    """Return the load that a job was handed.

    Raises
    ------
    AstraError
        If the file cannot be read, or holds other bundles than these.
    """
    try:
        told = json.loads(path.read_text())
        load = Load(tuple(Claimed(**each) for each in told["bundles"]), told["lease"], Retry(*told["retry"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not what a service hands over"
        raise AstraError(
            f"cannot read {path}, the file that a service hands to its job: {why}; nothing was run"
        ) from error
    if [each.bundle for each in load.bundles] != list(bundles):
        raise AstraError(f"{path} was handed with other bundles than {', '.join(map(str, bundles))}; nothing was run")
    return load


def left_arrays(settings: Settings) -> list[str]:
    """Return the names of arrays whose scripts are still there."""
    try:
        return [path.parent.name for path in settings.slurm_folder.glob(f"astra-b*/{_SCRIPT}")]
    except OSError:
        return []


def remove_array(settings: Settings, name: str) -> None:
    """Remove the files of an array that is over; what its jobs printed of themselves stays where there is any."""
    folder = settings.slurm_folder / name
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix != ".out" or path.stat().st_size == 0:
                path.unlink()
        folder.rmdir()  # refused where something is left


def prune_printed(settings: Settings, now: datetime) -> int:
    """Delete what jobs printed of themselves longer ago than logs are kept; return how many files that was."""
    oldest, deleted = (now - timedelta(days=settings.log.keep)).timestamp(), 0
    for folder in settings.slurm_folder.glob("astra-b*"):
        left = list(folder.iterdir())
        with suppress(OSError):
            # an array that is not over has its script there
            if all(path.suffix == ".out" and path.stat().st_mtime < oldest for path in left):
                for path in left:
                    path.unlink()
                    deleted += 1
                folder.rmdir()
    return deleted
