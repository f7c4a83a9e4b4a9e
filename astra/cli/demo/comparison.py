"""Was the simulated night taken in as it was written? What was recorded, beside the truth, and how long it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from astra.cli.demo.night import Demo
from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.database.astradb import STAGES
from astra.database.connection import run
from astra.database.fields import read_instant

SNR_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was counted and measured, and what is not as it should be."""

    counts: dict[str, int]
    lag: dict[str, float]
    stages: dict[str, float]
    seconds: float
    rate: float
    problems: list[str]

    @property
    def tables(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The tables that a person is shown: title and rows."""
        lag = [(name, f"{value:.2f} s") for name, value in self.lag.items()]
        stages = [(name, f"{1000 * value:.1f} ms") for name, value in self.stages.items()]
        run_for = [("from first bundle to last", f"{self.seconds:.1f} s"), ("tasks a second", f"{self.rate:.1f}")]
        return [
            ("Recorded", [(name, str(value)) for name, value in self.counts.items()]),
            ("From a file's last byte to its data product and task (1 s of it: waiting until it is still)", lag),
            ("Time of a task, on average", stages),
            ("Running", run_for),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "counts": self.counts,
            "lag_seconds": self.lag,
            "seconds_per_task": self.stages,
            "running_seconds": self.seconds,
            "tasks_per_second": self.rate,
            "problems": self.problems,
        }


def compare(demo: Demo) -> Comparison:
    """Compare the records of a demo with the truth of its simulation."""
    seconds, bundles = _running(demo)
    completed = _count("task WHERE state = 'completed' AND id > ?", demo.before[1])
    counts = {
        "files written": demo.files,
        "data products": _count("data_product WHERE current_ingestion_id > ?", demo.before[0]),
        "stars they are linked to": len({each.object for each in demo.truth}),
        "tasks completed": completed,
        "bundles they ran in": bundles,
        "results": _count("spectrum_quality WHERE task_id > ?", demo.before[1]),
    }
    rate = completed / seconds if seconds else 0.0
    return Comparison(counts, _lag(demo), _stages(demo), seconds, rate, problems(demo))


def _count(what: str, after: int) -> int:
    count: int = run(f"SELECT count(*) FROM {what}", (after,))[0][0]
    return count


def _running(demo: Demo) -> tuple[float, int]:
    first, last, count = run("SELECT min(started), max(ended), count(*) FROM bundle WHERE id > ?", (demo.before[2],))[0]
    begun, ended = read_instant(first), read_instant(last)
    return ((ended - begun).total_seconds() if begun and ended else 0.0), count


def _lag(demo: Demo) -> dict[str, float]:
    rows = run("SELECT lag FROM ingestion WHERE id > ? AND lag IS NOT NULL ORDER BY lag", (demo.before[0],))
    lags = [row[0] for row in rows]
    return {name: percentile(lags, share) for name, share in (("median", 0.5), ("90 %", 0.9), ("slowest", 1.0)) if lags}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that the share `share` of the ordered values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _stages(demo: Demo) -> dict[str, float]:
    sums = ", ".join(f"coalesce(sum(time_{stage}), 0), coalesce(sum(time_{stage}_overhead), 0)" for stage in STAGES)
    row = run(f"SELECT coalesce(sum(size), 0), {sums} FROM bundle WHERE id > ?", (demo.before[2],))[0]
    tasks = row[0] or 1
    found = {stage: row[1 + 2 * at] / tasks for at, stage in enumerate(STAGES)}
    return {**found, "of it overhead of bundles": sum(row[2::2]) / tasks}


# ------------------------------------------------------------------------------------------------------- the truth


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is recorded of one file."""

    ingested: int
    names: frozenset[str]
    states: tuple[str, ...]
    snr: float | None
    snr_header: float | None


def problems(demo: Demo) -> list[str]:
    """Return a sentence for each file that is not ingested once, linked to its star, and measured as it was written."""
    found: list[str] = []
    expected = 0
    for star in demo.truth:
        for path in (star.star, *star.visits):
            expected += 1
            snr = star.snr if path == star.star else None
            found += [f"{path.name} {problem}" for problem in _wrong(_seen(str(path)), star.object, snr)]
    if expected != demo.files:
        found.append(f"{expected} files were written, {demo.files} were planned")
    strange = _count("ingestion WHERE outcome <> 'ingested' AND id > ?", demo.before[0])
    if strange:
        found.append(f"{strange} files were quarantined or taken for copies")
    return found


def _wrong(seen: _Seen, name: str, snr: float | None) -> list[str]:
    found = []
    if seen.ingested != 1:
        found.append(f"was ingested {seen.ingested} times, not once")
    if name not in seen.names:
        found.append(f"is not linked to its star {name}")
    if seen.states != ("completed",):
        found.append(f"should have one completed task, and has: {', '.join(seen.states) or 'none'}")
    elif seen.snr is None or seen.snr_header is None:
        found.append("has no result")
    elif not math.isclose(seen.snr, seen.snr_header, rel_tol=SNR_TOLERANCE):
        found.append(f"has S/N {seen.snr:.3f}, its header says {seen.snr_header:.3f}")
    elif snr is not None and not math.isclose(seen.snr_header, snr, rel_tol=SNR_TOLERANCE):
        found.append(f"was written with S/N {snr:.3f}, and {seen.snr_header:.3f} was read")
    return found


def _seen(path: str) -> _Seen:
    products = run("SELECT id FROM data_product WHERE path = ?", (path,))
    key = products[0][0] if products else 0
    names = run(
        "SELECT n.value FROM source_data_product l JOIN source_identifier n ON n.source_id = l.source_id "
        "WHERE l.data_product_id = ? AND l.superseded_by_id IS NULL",
        (key,),
    )
    states = run(
        "SELECT t.state FROM task_input_data_product i JOIN task t ON t.id = i.task_id WHERE i.data_product_id = ?",
        (key,),
    )
    result = SpectrumQualityResult.select().where(SpectrumQualityResult.data_product == key).first()
    return _Seen(
        ingested=_count("ingestion WHERE outcome = 'ingested' AND data_product_id = ?", key),
        names=frozenset(row[0] for row in names),
        states=tuple(row[0] for row in states),
        snr=result.snr if result else None,
        snr_header=result.snr_header if result else None,
    )
