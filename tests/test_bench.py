"""The bench runs, all of it, at sizes too small to time anything by."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import command, measure, reading
from bench.command import Plan
from bench.files import make_samples, make_tree
from bench.measure import Table, Turn
from tests.support.missing import lacking

TINY = Plan(rounds=1, repeats=1, sizes=(4, 9), plain=3, tasks=12)


def test_every_part_of_the_bench_runs_on_both_databases(tmp_path: Path) -> None:
    texts = list(command.report(TINY, tmp_path))
    if any("PostgreSQL was not measured" in text for text in texts):
        lacking("there is no PostgreSQL to measure")
    titles = [line.removeprefix("## ") for text in texts for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# Benchmarks",
        "15 header values of a file",
        "Is a file whole?",
        "From disk to committed and linked: SQLite",
        "From disk to committed and linked: PostgreSQL",
        "Restart with nothing to do",
        "The class, by hand: SQLite",
        "The class, by hand: PostgreSQL",
        "Tasks of the service: SQLite",
        "Tasks of the service: PostgreSQL",
        "Memory: SQLite",
    ]


def test_only_the_parts_asked_for_run_and_the_report_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept" / "benchmarks.md"
    assert command.main(["--quick", "--part", "headers", "--folder", str(tmp_path), "--write", str(kept)]) == 0
    assert "15 header values" in kept.read_text()
    assert "Is a file whole" not in kept.read_text()
    assert kept.read_text().strip() == capsys.readouterr().out.strip()
    assert list(tmp_path.iterdir()) == [kept.parent]


def test_a_tree_has_as_many_files_as_were_asked_for_each_in_its_own_folder(tmp_path: Path) -> None:
    files = sorted(make_tree(tmp_path, 10).rglob("*.fits"))
    assert len(files) == len({each.parent for each in files}) == 10


def test_a_wrong_header_value_stops_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASTRA_REAL_DATA", raising=False)
    paths = make_samples(tmp_path)[:1]
    assert reading.check_equal(paths) > 0
    with pytest.raises(AssertionError, match="OBJID is 'another'"):
        reading.check_equal(paths, lambda path, wanted: {"OBJID": "another"})


def test_ratios_are_of_the_same_round() -> None:
    slow, fast = [Turn(10, 1.0), Turn(10, 4.0), Turn(10, 2.0)], [Turn(10, 0.5), Turn(10, 1.0), Turn(10, 0.1)]
    rows = measure.compare({"slow": slow, "fast": fast})
    assert rows[0] == ("slow", "10", "200,000 (100,000 to 400,000)", "5", "1")
    assert rows[1][-1] == "4 (2 to 20)"


def test_a_table_is_aligned_markdown() -> None:
    table = Table("Title", ("way", "n"), [("a way", "1"), ("b", "1,000")], ["A note."])
    assert table.text().splitlines() == [
        "## Title",
        "",
        "| way   |     n |",
        "| ----- | ----: |",
        "| a way |     1 |",
        "| b     | 1,000 |",
        "",
        "A note.",
    ]
