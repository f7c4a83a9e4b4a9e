"""What can be wrong between settings that are each right: times out of order, names twice, folders in one another."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from astra import settings_values as values

if TYPE_CHECKING:
    from astra.settings import Settings


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield what is wrong between settings that are each right."""
    settle, scheduler = settings.settle, settings.scheduler
    if settle.quiet >= settle.patience:
        yield f"[settle] quiet = {settle.quiet:g}: must be less than patience, which is {settle.patience:g}"
    if scheduler.tick >= scheduler.lease:
        yield f"[scheduler] tick = {scheduler.tick:g}: must be less than lease, which is {scheduler.lease:g}"
    yield from _of_slurm(settings)
    yield from _repeated("[[watch]]", [each.name for each in settings.watch])
    yield from _repeated("[[rules]]", [each.name for each in settings.rules])
    yield from _repeated("[[schedule]]", [each.name for each in settings.schedule])
    yield from _repeated("[[components]]", [each.task for each in settings.components], "task")
    real = [Path(os.path.realpath(each.path)) for each in settings.watch]
    for i, inner in enumerate(real):
        for j, outer in enumerate(real):
            if (inner == outer and i < j) or (inner != outer and inner.is_relative_to(outer)):
                yield f"[[watch]] path = {inner}: lies in {outer}, which is watched too; every file would come twice"
    for each, folder in zip(settings.watch, real, strict=True):
        if folder.is_file():
            yield f"[[watch]] path = {each.path}: is a file; name the folder that it lies in"
    output, logs = (Path(os.path.realpath(folder)) for folder in (settings.output.root, settings.bundle_logs))
    for each, folder in zip(settings.watch, real, strict=True):
        if output.is_relative_to(folder):
            yield f"[output] root = {output}: lies in the watched folder {each.path}; outputs must be kept outside it"
        if logs.is_relative_to(folder):
            yield f"{_where_logs_lie(settings)}: lies in the watched folder {each.path}, {_WHY_NO_LOGS}"


_WHY_NO_LOGS = "and what components print must be kept outside it: every line of it would be an event"


def _where_logs_lie(settings: Settings) -> str:
    if settings.log.folder:
        return f"[log] folder = {settings.log.folder}"
    return f"[service] state = {settings.service.state}, where [log] folder is by default"


def _of_slurm(settings: Settings) -> Iterator[str]:
    if settings.executor.name != "slurm":
        return
    if settings.database.url.startswith("sqlite"):
        yield (
            '[executor] name = "slurm": needs PostgreSQL in [database] url: a job on another machine cannot share '
            "the locks of a SQLite file"
        )
    labels = {"": "[executor.slurm]"} | {each.task: "[components.slurm]" for each in settings.components}
    for component, label in labels.items():
        asked, target = settings.slurm_of(component), settings.of(component).target
        if 60 * asked.time <= asked.notice:
            yield f"{label} time = {asked.time}: must be more than notice, which is {asked.notice} s"
        elif 60 * asked.time < target + asked.notice:
            yield (
                f"{label} time = {asked.time}: is too short for bundles of target = {target:g} s and notice = "
                f"{asked.notice} s; {math.ceil((target + asked.notice) / 60)} would do"
            )


def _repeated(label: str, names: list[str], key: str = "name") -> Iterator[str]:
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield f"{label} {key} = {values.shown(name)}: used {names.count(name)} times, must be unique"
