"""A star's page, and the sources near a place, from the command line, on both databases."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.cli import main
from astra.cli.choosing import TakingAngles
from astra.database.astradb import Catalogue, Source, SourceIdentifier
from tests.support import stars
from tests.support.processes import environment, write_config

NAME = "2M00034394-0014494"
CATALOGID = (3 << 53) + 12345  # one that a double would lose digits of
GAIA = (1 << 62) + 1
Say = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]


@pytest.fixture
def config(database: peewee.Database, database_url: str, tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.toml", {"database": {"url": database_url}})


@pytest.fixture
def say(config: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; return exit status, output and errors."""

    def said(*words: str) -> tuple[int, str, str]:
        status = main(["--config", str(config), *words])
        output = capsys.readouterr()
        return status, output.out, output.err

    return said


@pytest.fixture
def ask(say: Say) -> Ask:
    """Run a command with --json, expect it to end well, and return its answer."""

    def answer(*words: str) -> Any:
        status, output, errors = say(*words, "--json")
        assert (status, errors) == (0, "")
        return json.loads(output)

    return answer


@pytest.fixture
def star(config: Path) -> Source:
    """A star that a catalogue knows, with two visits, a combined spectrum, results, a conflict, and an old id."""
    edition = Catalogue.create(version="allstar-dr19", origin="x", rows=1, left_out=0, created=stars.NOW)
    star = stars.source(
        sdss_id=54345, catalogid25=(CATALOGID, 1), gaia_dr3=GAIA, tmass=NAME[2:], apogee=NAME, designation=NAME[2:],
        ra=0.933083, dec=-0.247056, epoch=2016.0, pmra=12.3, pmdec=-4.5, provisional=False, catalogue=edition,
    )  # fmt: skip
    SourceIdentifier.update(catalogue_version="allstar-dr19").where(SourceIdentifier.kind == "gaia_dr3").execute()
    stars.source(merged_into=star)
    visit = {"telescope": "apo25m", "plate": 5094, "field": "M67", "release": "dr17"}
    late = stars.product(
        star, path="/sas/dr17/apVisit-dr17-5094-55874-088.fits", fiber=88, snr=101.25, mjd=55874, **visit
    )
    early = stars.product(
        star, path="/sas/dr17/apVisit-dr17-5094-55870-007.fits", fiber=7, snr=33.3, mjd=55870, candidates=2,
        separation=0.5, conflict="gaia_dr2 4 names source 9", **visit,
    )  # fmt: skip
    stars.product(star, "apStar", "dr19", nvisits=2, telescope="lco25m")
    stars.product(star, "spec", "dr17")
    stars.result(stars.task(late), "hello", star, pid=CATALOGID)
    stars.task(early, name="lost.module.Component")
    return star


def test_a_star_is_shown_by_any_name_or_place(ask: Ask, star: Source) -> None:
    shown = ask("show", "source", NAME)
    assert shown["id"] == star.id
    for words in (
        [f"id={star.id}"], ["sdss_id=54345"], [str(CATALOGID)], [f"gaia={GAIA}"], ["2MASS", f"J{NAME[2:]}"], [NAME[2:]],
        ["0.933083 -0.247056"], ["0.933083", "-0.247056"], ["00:03:43.94", "-00:14:49.4"], [str(star.id + 1)],
        [f"id={star.id + 1}"], ["00h03m43.94s -00d14m49.4s"], ["Gaia", "DR3", str(GAIA)],
    ):  # fmt: skip
        assert ask("show", "source", *words) == shown, words


def test_a_stars_page_has_all_that_is_known_of_it(ask: Ask, star: Source) -> None:
    shown = ask("show", "source", NAME)
    assert [each["kind"] for each in shown["identifiers"]] == ["sdss_id", "catalogid25", "gaia_dr3", "tmass", "apogee"]
    assert (shown["sdss_id"], shown["catalogid"], shown["catalogue"]) == ("54345", str(CATALOGID), "allstar-dr19")
    assert shown["merged"] == [star.id + 1]
    names = {each["kind"]: (each["value"], each["catalogue_version"], each["rank"]) for each in shown["identifiers"]}
    assert names["gaia_dr3"] == (str(GAIA), "allstar-dr19", None)
    assert names["catalogid25"] == (str(CATALOGID), "", 1)
    visit = shown["visits"][0]
    assert [each["mjd"] for each in shown["visits"]] == [55870, 55874]
    assert {key: visit[key] for key in ("telescope", "plate", "field", "fiber", "snr", "release")} == {
        "telescope": "apo25m", "plate": 5094, "field": "M67", "fiber": 7, "snr": 33.3, "release": "dr17",
    }  # fmt: skip
    assert visit["path"].startswith("/sas/dr17/apVisit")
    how = ("method", "catalogue_version", "candidates", "separation", "reason", "conflict")
    assert [visit[name] for name in how] == ["header", "", 2, 0.5, None, "gaia_dr2 4 names source 9"]
    assert {*how} <= shown["stars"][0].keys() & shown["products"][0].keys()
    assert [(each["release"], each["nvisits"]) for each in shown["stars"]] == [("dr19", 2)]
    assert [each["filetype"] for each in shown["products"]] == ["spec"]
    assert [(each["product"], each["conflict"]) for each in shown["conflicts"]] == [
        (visit["product"], "gaia_dr2 4 names source 9")
    ]
    assert shown["data_products"] == 4


def test_results_are_told_by_component_and_so_is_one_that_is_lost(ask: Ask, star: Source) -> None:
    lost, traced = ask("show", "source", NAME)["results"]
    assert (traced["component"], traced["reason"]) == (stars.TRACED, None)
    [row] = traced["rows"]
    assert (row["note"], row["pid"], row["source"]) == ("hello", str(CATALOGID), star.id)
    assert (lost["component"], lost["rows"]) == ("lost.module.Component", [])
    assert "finds no module lost" in lost["reason"]


@pytest.mark.parametrize("number", [(1 << 53) + 1, (7 << 53) + 1234567, (1 << 63) - 1])
def test_the_ids_of_catalogues_come_whole_through_json(ask: Ask, config: Path, number: int) -> None:
    stars.source(sdss_id=number, catalogid31=number, gaia_dr3=number, ra=1.0, dec=2.0)
    shown = ask("show", "source", f"sdss_id={number}")
    assert (shown["sdss_id"], shown["catalogid"]) == (str(number), str(number))
    assert {each["value"] for each in shown["identifiers"]} == {str(number)}
    [listed] = ask("source", "near", "1.0", "2.0", "3")
    assert (listed["sdss_id"], listed["catalogid"]) == (str(number), str(number))


def test_a_star_without_anything_is_shown_too(say: Say, ask: Ask, config: Path) -> None:
    bare = stars.source(apogee="VESTA")
    shown = ask("show", "source", "VESTA")
    assert (shown["visits"], shown["stars"], shown["results"], shown["conflicts"]) == ([], [], [], [])
    status, output, _ = say("show", "source", "VESTA")
    assert status == 0
    assert output.startswith(f"source {bare.id}\n")
    assert "visits: none" in output
    assert "headers alone, provisional" in output


def test_the_page_in_print_says_the_same(say: Say, star: Source) -> None:
    status, output, errors = say("show", "source", NAME)
    assert (status, errors) == (0, "")
    for words in (
        f"source {star.id}, {NAME[2:]}\n",
        "0.933083 -0.247056, epoch 2016.00\n",
        "+12.30 -4.50 mas/yr\n",
        "catalogue allstar-dr19\n",
        f"source {star.id + 1}, since found to be the same\n",
        f"{GAIA}  allstar-dr19  -\n",
        "\nvisits (2):\nmjd    telescope  plate  field  fiber  snr     release",
        "55870  apo25m     5094   M67    7      33.3 ",
        "\nstars (1):\n",
        "\nother data products (1):\n",
        f"\nresults of {stars.TRACED} (1):\ntask  ",
        "\nresults of lost.module.Component: cannot be told, for there is no component",
        "\n  gaia_dr2 4 names source 9\n",
    ):
        assert words in output, words


@pytest.mark.parametrize(
    ("columns", "first", "last"),
    [
        (80, r"mjd +field +snr +release +product +file", r"59804 +M67 +88.25 +sdsswork +\d+"),
        (
            100,
            r"mjd +telescope +plate +field +snr +release +product +file",
            r"59804 +apo25m +6340 +M67 +88.25 +sdsswork +\d+",
        ),
        (
            120,
            r"mjd +telescope +plate +field +fiber +snr +release +product +method +file",
            r"59804 +apo25m +6340 +M67 +145 +88.25 +sdsswork +\d+ +catalogid31",
        ),
    ],
)
def test_on_a_terminal_a_visit_is_one_line(config: Path, star: Source, columns: int, first: str, last: str) -> None:
    name, folder = "apVisit-1.3-apo25m-6340-59804-145.fits", "/sas/" + "x" * 80
    facts = {"telescope": "apo25m", "plate": 6340, "field": "M67", "fiber": 145, "snr": 88.25, "mjd": 59804}
    stars.product(
        star,
        "apVisit",
        "sdsswork",
        path=f"{folder}/{name}",
        method="catalogid31",
        separation=0.123,
        candidates=1,
        **facts,
    )
    shown = on_terminal(config, columns, "show", "source", NAME)
    assert re.search(rf"^{first} *$", shown, re.MULTILINE), shown
    assert re.search(rf"^{last} +{name} *$", shown, re.MULTILINE), shown
    tables = shown.partition("\nvisits (")[2].partition("\nwhole paths")[0]
    assert len(tables.splitlines()) == 13, "five rows in three lists"
    assert max(map(len, tables.splitlines())) <= columns
    assert f"whole paths: astra products --source id={star.id}; all columns: --json" in shown
    assert folder not in shown


def test_on_a_terminal_a_name_too_long_for_a_line_gives_way(config: Path, star: Source) -> None:
    stars.product(star, path="/sas/" + "x" * 90 + ".fits", mjd=59804)
    shown = on_terminal(config, 80, "show", "source", NAME)
    visits = shown.partition("\nvisits (3):")[2].partition("\n\n")[0].split("\n")[1:]
    kept = ("mjd", "telescope", "plate", "field", "fiber", "snr", "release", "product", "method")
    assert visits[0].split() == [*kept]
    assert len(visits) == 4


def on_terminal(config: Path, columns: int, *words: str) -> str:
    """Return what a command prints on a terminal of so many columns."""
    program = "import sys; from astra.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--config", str(config), *words]
    ours, theirs = pty.openpty()
    said: list[bytes] = []
    with subprocess.Popen(
        command, stdout=theirs, stdin=theirs, env=environment(COLUMNS=str(columns), TERM="xterm")
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:
            while part := terminal.read(65536):  # ends with an error when the other side is closed
                said.append(part)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", b"".join(said).decode()).replace("\r", "")


# -------------------------------------------------------------------------------------------------------------- several


def test_several_sources_are_listed_with_how_to_name_one(say: Say, config: Path) -> None:
    pair = [stars.source(tmass=NAME[2:], ra=10.0 + n / 3600, dec=0.0, sdss_id=n + 1) for n in (0, 1)]
    stars.product(pair[1])
    for words, where in (
        ((NAME,), ""),
        (("10.0002", "0"), " within 3 arcseconds of 10.000200 +0.000000 (00:40:00.05 +00:00:00.0)"),
    ):
        status, output, _ = say("show", "source", *words)
        assert status == 1
        assert output.startswith(f"{' '.join(words)} may be any of 2 sources{where}:\n")
        for command in (("products",), ("replay", "tasks", "--plan")):
            status, _, errors = say(*command, "--source", " ".join(words))
            assert (status, f"{' '.join(words)!r} may be any of 2 sources: id=" in errors) == (1, True)

    def ask(*words: str) -> Any:
        status, output, errors = say(*words, "--json")
        assert (status, errors) == (1, "")
        return json.loads(output)

    listed = ask("show", "source", "10.0002", "0")["candidates"]
    assert [each["id"] for each in listed] == [pair[1].id, pair[0].id]
    assert [each["data_products"] for each in listed] == [1, 0]
    assert listed[0]["separation"] == pytest.approx(0.28, abs=1e-6)
    assert "separation" not in ask("show", "source", NAME)["candidates"][0]
    assert output.endswith(f"\nall of one: astra show source id={pair[1].id}\n")


# ----------------------------------------------------------------------------------------------------------------- near


def test_sources_near_a_place_are_listed_nearest_first(say: Say, ask: Ask, config: Path) -> None:
    far, nearest = stars.source(ra=10.5, dec=-56.2 - 50 / 3600), stars.source(ra=10.5, dec=-56.2 + 2 / 3600)
    for words in (
        ["10.5", "-56.2", "60"], ["10.5", "-56.2", '60"'], ["10.5", "-56.2", "1'"], ["10.5", "-56.2", "0.02deg"],
        ["00:42:00", "-56:12:00", "60"], ["0h42m0s", "-56d12m0s", "60"], ["10.5 -56.2", "60"], ["10.5,", "-56.2", "60"],
        ["0", "42", "0", "-56", "12", "0", "60"],
    ):  # fmt: skip
        assert [each["id"] for each in ask("source", "near", *words)] == [nearest.id, far.id], words
    [found] = ask("source", "near", "10.5", "-56.2", "3")
    assert found["separation"] == pytest.approx(2.0, abs=1e-6)
    status, output, _ = say("source", "near", "--limit", "1", "10.5", "-56.2", "60")
    assert status == 0
    assert output.startswith("within 60 arcseconds of 10.500000 -56.200000 (00:42:00.00 -56:12:00.0):\n\nseparation ")
    assert output.splitlines()[3].startswith('2.00"')
    assert output.endswith("these are the nearest 1 of 2: --limit shows more\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_a_source_near_is_one_line(config: Path, star: Source, columns: int) -> None:
    shown = on_terminal(config, columns, "source", "near", "0.933083", "-0.247056", "3")
    assert re.search(rf'^0.00" +{star.id} +{NAME[2:]} +54345 ', shown, re.MULTILINE), shown
    assert max(map(len, shown.splitlines())) <= columns


def test_a_declination_of_minus_a_half_is_no_option(ask: Ask, config: Path) -> None:
    star = stars.source(ra=10.5, dec=-0.5)
    assert [each["id"] for each in ask("source", "near", "10.5", "-.5", "3")] == [star.id]
    assert ask("show", "source", "10.5", "-.5")["id"] == star.id


def test_none_near_is_status_1(say: Say, config: Path) -> None:
    assert say("source", "near", "10.5", "-56.2", "2'") == (
        1,
        "no source is within 120 arcseconds of 10.500000 -56.200000 (00:42:00.00 -56:12:00.0)\n",
        "",
    )
    assert say("source", "near", "10.5", "-56.2", "2'", "--json")[:2] == (1, "[]\n")


def test_a_source_that_is_not_there_is_status_1(say: Say, config: Path) -> None:
    status, output, errors = say("show", "source", "2M99")
    assert (status, output) == (1, "")
    assert errors == (
        "astra: no source is known by '2M99': give an id, a name such as 2M00034394-0014494, KIND=VALUE "
        '(sdss_id=54345), or "RA DEC"\n'
    )
    status, _, errors = say("show", "source", "10.5", "-56.2")
    assert status == 1
    assert "no source is within 3 arcseconds of 10.5 -56.2; `astra source near` looks farther" in errors


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["source", "near", "10.5", "-56.2"], "'10.5' is no position: write RA DEC RADIUS"),
        (["source", "near", "3"], "there is no position: write RA DEC RADIUS"),
        (["source", "near", "10.5", "-96.2", "3"], "-96.2 is no declination"),
        (["source", "near", "10.5", "-56.2", "3 miles"], "'3 miles' is no radius"),
        (["source", "near", "10.5", "-56.2", "2deg"], "cannot be searched: give 0 to 3600"),
        (["source", "near", "-x", "10.5", "-56.2", "3"], "No such option"),
        (
            ["source", "near", "19", "39", "05.32", "+40", "27", "34.7"],
            "19 39 05.32 is in 3 parts and +40 27 in 2: write both alike",
        ),
        (["source", "far"], "No such command"),
        (["show", "source", "hip=3"], "hip is no kind of identifier"),
        (["show", "source", "10.5", "-96.2"], "-96.2 is no declination"),
        (["show", "source"], "Missing argument"),
        (["show", "task", "1", "2"], "'1 2' is no id"),
        (["products", "--source", "gaia_dr4=3"], "did you mean gaia_dr3?"),
        (["replay", "tasks", "--source", "hip=3"], "hip is no kind of identifier"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_to_write(say: Say, config: Path, words: list[str], error: str) -> None:
    status, output, errors = say(*words)
    assert (status, output) == (2, "")
    assert error in " ".join(errors.split())


@given(
    st.floats(-90, 90).filter(lambda dec: dec != 0), st.sampled_from(["{:.6f}", "{:.3e}", "{:.0f}:30:00", "{:.0f}d"])
)
def test_no_declination_is_taken_for_an_option(dec: float, form: str) -> None:
    command = TakingAngles("x", params=[click.Argument(["words"], nargs=-1), click.Option(["--json"], is_flag=True)])
    written = form.format(dec)
    context = command.make_context("x", ["1", written, "--json"])
    assert [word.strip() for word in context.params["words"]] == ["1", written]
    assert context.params["json"] is True
