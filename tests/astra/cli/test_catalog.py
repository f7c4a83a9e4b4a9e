"""`astra catalog`: what a person sees of a catalogue that is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astra.cli import main
from astra.database.astradb import Catalogue, Source
from tests.support.processes import run_json, write_config

FIRST = """sdss_id,gaia_dr3_source_id,tmass_id,ra,dec
9007199254740993,5,00005143+5615568,0.2,56.2
7,many,,999,56.2
0,0,,1,2
"""


@pytest.fixture(autouse=True)
def folder(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings, a table of three rows, and one that is no catalogue."""
    write_config(tmp_path / "config.toml", {"database": {"url": database_url}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASTRA_DATABASE_URL", raising=False)
    (tmp_path / "first.csv").write_text(FIRST)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    return tmp_path


def test_a_load_says_what_was_read_and_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "load", "first.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "first.csv: CSV, 3 rows; read are sdss_id, gaia_dr3_source_id as gaia_dr3, tmass_id as tmass, ra, dec",
        "loaded as version first: 2 rows, 2 new sources, 0 that were known; left out, for they name no object: 1",
        "not used: no number above 0 that fits 64 bits (1), rows without a position (1), "
        "positions that are not on the sky (1)",
        "0 products looked for again, 0 linked anew",
    ]


def test_a_second_load_of_the_same_file_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["catalog", "load", "first.csv"])
    capsys.readouterr()
    assert main(["catalog", "load", "first.csv", "--no-relink"]) == 0
    assert "loaded already, as version first with 2 rows: nothing changed" in capsys.readouterr().out


def test_json_tells_all_of_it(folder: Path) -> None:
    found = run_json("astra", "catalog", "load", "first.csv", config=folder / "config.toml")
    [edition] = found["editions"]
    assert (edition["version"], edition["rows"], edition["left_out"], edition["sources_made"]) == ("first", 2, 1, 2)
    assert edition["columns"]["gaia_dr3_source_id"] == "gaia_dr3"
    [listed] = run_json("astra", "catalog", "list", config=folder / "config.toml")
    assert (listed["version"], listed["rows"]) == ("first", 2)
    shown = run_json("astra", "show", "source", "9007199254740993", config=folder / "config.toml")
    assert shown["sdss_id"] == "9007199254740993"


def test_no_file_is_loaded_where_one_of_them_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "load", "first.csv", "wrong.csv"]) == 1
    assert "wrong.csv" in capsys.readouterr().err
    assert Catalogue.select().count() == 0
    assert Source.select().count() == 0


@pytest.mark.parametrize(
    "arguments",
    [["load"], ["load", "none.csv"], ["load", "."], ["load", "first.csv", "wrong.csv", "--as", "x"],
     ["load", "first.csv", "--gaia", "dr9"], ["load", "first.csv", "--epoch", "soon"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert main(["catalog", *arguments]) == 2


def test_relink_without_any_catalogue_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "relink"]) == 0
    assert "astra catalog load FILE" in capsys.readouterr().out
    assert main(["catalog", "list"]) == 0
    assert "no catalogue is loaded" in capsys.readouterr().out


def test_relink_says_that_the_survey_is_away(
    folder: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"database": {"url": database_url}, "catalog": {"url": "postgresql://nobody@/none?host=/nonexistent"}}
    write_config(folder / "config.toml", sections)
    assert main(["catalog", "relink", "--json"]) == 0, "nothing had to be asked"
    assert json.loads(capsys.readouterr().out)["looked"] == 0
