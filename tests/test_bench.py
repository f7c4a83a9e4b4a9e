"""The bench runs, all of it, at sizes too small to time anything by."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest

from astra.catalogue import tables
from astra.healpix import ang2pix
from bench import command, measure, reading, sky
from bench.catalogue import Extent
from bench.command import Plan
from bench.files import make_samples, make_tree
from bench.measure import Table, Turn
from tests.support.missing import lacking
from tests.support.postgres import quickest_home

TINY = Plan(
    rounds=1,
    repeats=1,
    sizes=(4, 9),
    plain=3,
    tasks=12,
    finished=200,
    claimers=2,
    waits=1,
    kills=1,
    folders=7,
    growth=(4, 9),
    tree=4,
    extent=Extent(sizes=(20, 1_100), products=12, plain_rows=3, plain_products=4),
    skies=(4, 9),
    home=quickest_home(),
)


def test_every_part_of_the_bench_runs_on_both_databases(tmp_path: Path) -> None:
    gc.freeze()  # the bench collects before each turn, and what the tests before have left need not be gone through
    try:
        texts = list(command.report(TINY, tmp_path))
    finally:
        gc.unfreeze()
    if any("PostgreSQL was not measured" in text for text in texts):
        lacking("there is no PostgreSQL to measure")
    titles = [line.removeprefix("## ") for text in texts for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# Benchmarks",
        "15 header values of a file",
        "Is a file whole?",
        "Idle pass",
        "From disk to committed and linked: SQLite",
        "From disk to committed and linked: PostgreSQL",
        "Restart with nothing to do",
        "The class, by hand: SQLite",
        "The class, by hand: PostgreSQL",
        "The queue: SQLite",
        "The queue: PostgreSQL",
        "A service that waits, and one that is killed",
        "Memory: SQLite",
        "Loading a catalogue: SQLite",
        "Linking 12 products to 1,100 sources: SQLite",
        "Loading a catalogue: PostgreSQL",
        "Linking 12 products to 1,100 sources: PostgreSQL",
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


@pytest.mark.system
def test_growth_is_measured_on_both_databases_when_it_is_asked_for_and_leaves_no_tree(tmp_path: Path) -> None:
    preface, *texts = command.report(replace(TINY, parts=(command.GROWTH,)), tmp_path)
    if "PostgreSQL was not measured" in preface:
        lacking("there is no PostgreSQL to measure")
    assert preface.startswith("# Growth\n")
    ledgers = [f"{database}, {size} files" for database in ("SQLite", "PostgreSQL") for size in (4, 9)]
    assert [text.splitlines()[0] for text in texts] == [
        "## Taking in, as the ledger grows",
        "## A restart with nothing to do, as the tree grows",
        "## A catalogue, as it grows",
    ]
    named = [[line.split("|")[1].strip() for line in text.splitlines()[4:8]] for text in texts]
    assert named == [ledgers, ledgers, [each.replace("files", "rows") for each in ledgers]]
    assert [line.split("|")[2].strip() for line in texts[0].splitlines()[4:8]] == ["4", "1", "4", "1"]
    assert not list(tmp_path.rglob("*.fits"))


def test_growth_ends_at_the_largest_size_asked_for() -> None:
    assert Plan().up_to(20_000).growth == (1_000, 10_000, 20_000)
    assert Plan().up_to(10_000).growth == (1_000, 10_000)
    assert Plan().up_to(10).growth == (10,)
    assert Plan().up_to(100_000).skies == (10_000, 100_000)
    assert Plan().up_to(10).skies == (10,)


def test_some_parts_alone_or_a_smoke_run_never_replace_a_page_of_the_documentation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for asked in (["--part", "headers"], ["--part", "headers", "--part", command.GROWTH], ["--quick"]):
        with pytest.raises(SystemExit):
            command.main([*asked, "--write"])
        assert "does not measure a whole page" in capsys.readouterr().err
    assert [Plan(parts=parts).page for parts in (command.PARTS, (command.GROWTH,))] == list(command.PAGES)


def test_trees_of_other_numbers_have_no_file_in_common(tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one", 10), make_tree(tmp_path / "other", 10, 10)
    assert not {each.name for each in one.rglob("*.fits")} & {each.name for each in other.rglob("*.fits")}


def test_a_tree_has_as_many_files_as_were_asked_for_each_in_its_own_folder(tmp_path: Path) -> None:
    files = sorted(make_tree(tmp_path, 10).rglob("*.fits"))
    assert len(files) == len({each.parent for each in files}) == 10


def test_every_object_of_the_sky_has_names_of_its_own_and_gaias_number_says_where_it_is(tmp_path: Path) -> None:
    read = tables.read(sky.write(tmp_path / "sky.fits", 0, 2_500))
    rows = [row for chunk in read.chunks() for row in chunk]
    names = [name for row in rows for name in row.names]
    assert len(rows) == 2_500
    assert len(set(names)) == len(names) == 6 * 2_500
    pixels: dict[int, set[int]] = {}
    for row in rows:
        gaia = next(int(name.value) for name in row.names if name.kind == "gaia_dr3")
        assert row.star is not None
        pixels.setdefault(gaia >> 35 + 2 * (12 - 3), set()).add(ang2pix(8, row.star.ra, row.star.dec))
    assert all(len(each) == 1 for each in pixels.values())
    assert len({pixel for each in pixels.values() for pixel in each}) == len(pixels) == 768


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
