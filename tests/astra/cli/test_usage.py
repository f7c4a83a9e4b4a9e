"""The `astra` group: help, errors as sentences, exit statuses, what is printed and how."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from astra.cli import COMMANDS, astra, main, printing
from astra.cli.choosing import Instant, MjdRange
from tests.support.processes import CHECKOUT, Daemon, environment, run, run_json, until, write_config

COMMAND = [sys.executable, "-c", "import sys; from astra.cli import main; sys.exit(main())"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.toml", {"database": {"url": f"sqlite:///{tmp_path / 'astra.sqlite'}"}})


def test_help_imports_neither_astropy_nor_the_database() -> None:
    code = "import sys; from astra.cli import main; main(['--help']); main(['replay', '--help']); " + (
        "print([n for n in ('astropy', 'numpy', 'peewee', 'rich', 'sqlite3', 'apscheduler') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(astra, [name, "--help"])
    assert done.exit_code == 0
    assert re.search(rf"astra (--config \S+ )?{name}\b", done.output.partition("Example")[2])


def test_a_wrong_command_is_answered_with_the_nearest_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tsks"]) == 2
    assert "there is no command 'tsks'; did you mean 'tasks'?" in capsys.readouterr().err
    assert main(["xyzzy"]) == 2
    assert "there are init, ingest" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "/nowhere.toml", "tasks"],
        ["tasks", "--state", "done"],
        ["show", "task", "x"],
        ["show", "star", "1"],
        ["replay"],
        ["replay", "tasks"],
        ["replay", "files", "--path", "*"],
        ["replay", "--rule", "a", "--rule", "b"],
        ["replay", "--rule", "a", "--state", "failed"],
        ["replay", "--resume", "1", "--path", "*"],
        ["replay", "tasks", "--mjd", "a:b"],
        ["replay", "tasks", "--mjd", ":"],
        ["replay", "tasks", "--since", "soon"],
        ["ingest"],
        ["ingest", "/nowhere.fits"],
        ["tasks", "--limit", "0"],
    ],
)
def test_wrong_usage_is_status_2_and_says_why(
    arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    main(["init"])
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_an_error_is_one_sentence_and_status_1(config: Path) -> None:
    for arguments, words in (
        (("tasks",), "there is no database at"),
        (("simulate", "night", "--release", "dr99"), "release 'dr99' cannot be simulated"),
    ):
        done = run("astra", *arguments, config=config)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("astra: ")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (config.parent / "astra.sqlite").exists()


def test_a_database_that_is_away_is_one_sentence_too(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    config = write_config(tmp_path / "config.toml", {"database": {"url": url}})
    done = run("astra", "tasks", config=config)
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert said.startswith("astra: the database cannot be used now: ")
    assert said.endswith("; start it, or name another in [database] url")
    assert "\t" not in said


def test_an_old_or_a_newer_database_is_refused_with_what_to_do(config: Path) -> None:
    (config.parent / "astra.sqlite").touch()
    done = run("astra", "products", config=config)
    assert done.returncode == 1
    assert "run `astra init`" in done.stderr
    assert run("astra", "init", config=config).returncode == 0
    with sqlite3.connect(config.parent / "astra.sqlite") as other:
        other.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    for arguments in (("products",), ("init",)):
        done = run("astra", *arguments, config=config)
        assert done.returncode == 1
        assert "made by a newer astra" in done.stderr


def test_without_any_settings_the_users_own_database_is_made_on_first_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "products", "--json"],
        cwd=tmp_path,
        env=environment(HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path / "data"), XDG_CONFIG_HOME=str(tmp_path / "no")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    assert list(tmp_path.rglob("astra.sqlite"))


def test_init_makes_the_database_and_the_result_tables_of_the_rules(empty_database_url: str, tmp_path: Path) -> None:
    rule = {"name": "v", "filetype": "apVisit", "task": "astra.contrib.spectrum_quality.base.SpectrumQuality"}
    config = write_config(tmp_path / "config.toml", {"database": {"url": empty_database_url}, "rules": [rule]})
    said = run_json("astra", "init", config=config)
    assert said["applied"][0].startswith("0001")
    assert said["result_tables"] == ["spectrum_quality"]
    assert run_json("astra", "init", config=config)["applied"] == []
    assert run_json("astra", "tasks", config=config) == []


def test_a_reader_that_goes_away_is_no_error(config: Path) -> None:
    run("astra", "init", config=config)
    line = f"{shlex.join(COMMAND)} tasks --help | true"
    done = subprocess.run(line, shell=True, env=environment(ASTRA_CONFIG=str(config)), capture_output=True, text=True)
    assert done.stderr == ""


def test_an_interrupt_ends_silently_with_status_130(config: Path) -> None:
    night = config.parent / "night"
    with Daemon(config, "simulate", str(night), "--pause", "0.2", program="astra") as process:
        until(lambda: any(night.rglob("*.fits")))
        process.process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.output().strip() == ""


# ------------------------------------------------------------------------------------------------------------ printing


@given(st.integers(-(1 << 70), 1 << 70))
def test_no_digit_of_an_integer_is_lost_in_json(number: int) -> None:
    read = json.loads(json.dumps(printing.plain({"id": number}), allow_nan=False), parse_int=float)["id"]
    assert int(read) == number


def test_instants_are_told_in_utc_with_z_and_what_json_lacks_is_null() -> None:
    instant = datetime.fromisoformat("2026-11-22T13:00:00+02:00")
    assert printing.plain([instant, float("nan"), True, None, Path("/a")]) == [
        "2026-11-22T11:00:00Z",
        None,
        True,
        None,
        "/a",
    ]


def test_a_table_off_a_terminal_is_aligned_text_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_table(("id", "path"), [(1, "/a"), (100, None)])
    assert capsys.readouterr().out == "id   path\n1    /a\n100  -\n"


@pytest.mark.parametrize(
    ("text", "bounds"),
    [("59000", (59000, 59000)), ("59000:", (59000, None)), (":59030", (None, 59030)), ("1:2", (1, 2))],
)
def test_a_range_of_mjds_may_be_open(text: str, bounds: tuple[int | None, int | None]) -> None:
    assert MjdRange().convert(text, None, None) == bounds


def test_a_date_without_a_zone_is_utc() -> None:
    assert Instant().convert("2026-11-22", None, None) == datetime(2026, 11, 22, tzinfo=UTC)
    with pytest.raises(click.BadParameter, match="is no date"):
        Instant().convert("22/11", None, None)


def test_what_the_system_refuses_is_told_in_a_sentence(config: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert (
        done.stderr == "astra: cannot read or write the output: No space left on device; what was asked is not done\n"
    )
    done = run("astra", "simulate", "/proc/night", config=config)
    assert done.returncode == 1
    assert "cannot read or write /proc/night" in done.stderr
    assert "Traceback" not in done.stderr
