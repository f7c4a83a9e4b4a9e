"""What can be wrong between settings that are each right: times out of order, names twice, folders in one another."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from astra import settings_values as values

if TYPE_CHECKING:
    from astra.settings import Rule, Settings


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
    yield from _waits(settings.rules)
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
        if settings.executor.name == "slurm" and Path(os.path.realpath(settings.slurm_folder)).is_relative_to(folder):
            yield f"{_where_jobs_lie(settings)}: lies in the watched folder {each.path}; {_WHY_NO_JOBS}"


def _waits(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield what is wrong with the rules that come after others."""
    named = {each.name: each for each in rules}
    for rule in rules:
        if rule.after is None:
            continue
        here = f"[[rules]] {values.shown(rule.name)}: after = {values.shown(rule.after)}"
        if rule.gather is not None:
            yield f"{here}: cannot stand beside gather, which waits for a source; leave out one of them"
        elif rule.after not in named:
            others = [each.name for each in rules if each.filetype == rule.filetype and each is not rule]
            near = difflib.get_close_matches(rule.after, others, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(others)) or 'no others'}"
            yield f"{here}: there is no such rule; {hint}"
        elif named[rule.after].gather is not None:
            yield f"{here}: is a rule that gathers, so it has no task on one data product that could be waited for"
        elif named[rule.after].filetype != rule.filetype:
            other = f"a rule for {named[rule.after].filetype}, and this one is for {rule.filetype}"
            yield f"{here}: is {other}; both must be for the same product type"
        elif circle := _circle(rule, named):
            yield f"{here}: so they wait for each other, {' -> '.join(circle)}, and none would ever run"


def _circle(rule: Rule, named: Mapping[str, Rule]) -> list[str]:
    """Return the names on the way from a rule back to itself; empty where the way ends."""
    way = [rule.name]
    while (after := named[way[-1]].after) in named and after is not None:
        if after in way:
            return [*way, after] if after == rule.name else []
        way.append(after)
    return []


_WHY_NO_LOGS = "and what components print must be kept outside it: every line of it would be an event"


_WHY_NO_JOBS = "the scripts of jobs, and what they print, must be kept outside it: each would be an event"


def _where_jobs_lie(settings: Settings) -> str:
    if settings.executor.slurm.folder:
        return f"[executor.slurm] folder = {settings.executor.slurm.folder}"
    return f"[service] state = {settings.service.state}, where [executor.slurm] folder is by default"


def _where_logs_lie(settings: Settings) -> str:
    if settings.log.folder:
        return f"[log] folder = {settings.log.folder}"
    return f"[service] state = {settings.service.state}, where [log] folder is by default"


_EARLY = 60  # seconds by which Slurm may signal sooner than it is asked to


def _of_slurm(settings: Settings) -> Iterator[str]:
    if settings.executor.name != "slurm":
        return
    if settings.database.url.startswith("sqlite"):
        yield (
            '[executor] name = "slurm": needs PostgreSQL in [database] url: a job on another machine cannot share '
            "the locks of a SQLite file"
        )
    labels = {"": "[executor.slurm]"}
    for each in settings.components:
        if each.slurm.time is not None or each.target is not None:
            labels[each.task] = f"[components.slurm] of {each.task}:"
    for component, label in labels.items():
        asked, target = settings.slurm_of(component), settings.of(component).target
        if 60 * asked.time <= asked.notice:
            yield f"{label} time = {asked.time}: must be more than notice, which is {asked.notice} s"
        elif 60 * asked.time < target + asked.notice + _EARLY:
            yield (
                f"{label} time = {asked.time}: is too short for bundles of target = {target:g} s and notice = "
                f"{asked.notice} s, which Slurm may give {_EARLY} s early; "
                f"{math.ceil((target + asked.notice + _EARLY) / 60)} would do"
            )


def _repeated(label: str, names: list[str], key: str = "name") -> Iterator[str]:
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield f"{label} {key} = {values.shown(name)}: used {names.count(name)} times, must be unique"
