"""What is handed to jobs in files: read back whole, by its user alone, and removed in the end."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from astra.config import Settings
from astra.errors import AstraError
from astra.work import Claimed, Load, Retry
from daemon.executors.handed import left_arrays, prune_printed, read_load, remove_array, write_array
from tests.support.site import Site

NAME = "astra-b4-0a1b2c3d"
NOW = datetime(2026, 3, 4, tzinfo=UTC)
LOADS = [
    Load((Claimed(4, 2, "secret", "a.B {}"), Claimed(5, 1, "secret", "a.B {1}")), 60.0, Retry(3, 10.0)),
    Load((Claimed(6, 1, "other", "a.B {2}"),), 60.0),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Site(tmp_path / "a site", f"sqlite:///{tmp_path}/astra.sqlite").settings()
    return replace(made, service=replace(made.service, state=tmp_path / "a state"))


def test_each_job_reads_its_own_load(settings: Settings) -> None:
    script = write_array(settings, NAME, LOADS)
    assert read_load(script.parent / "0.load", [4, 5]) == LOADS[0]
    assert read_load(script.parent / "1.load", [6]) == LOADS[1]
    text = script.read_text()
    assert f"--handed '{script.parent}/1.load' 6 ;;" in text
    assert "secret" not in text


def test_what_holds_a_token_is_its_users_alone(settings: Settings) -> None:
    folder = write_array(settings, NAME, LOADS).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {NAME: 0o700, "0.load": 0o600, "1.load": 0o600, "script.sh": 0o600}


def test_a_load_of_other_bundles_is_refused(settings: Settings) -> None:
    folder = write_array(settings, NAME, LOADS).parent
    with pytest.raises(AstraError, match="was handed with other bundles than 4; nothing was run"):
        read_load(folder / "0.load", [4])
    (folder / "0.load").write_text('{"bundles": [')
    with pytest.raises(AstraError, match=r"cannot read .* it is not what a service hands over"):
        read_load(folder / "0.load", [4, 5])
    with pytest.raises(AstraError, match=r"cannot read .* No such file"):
        read_load(folder / "9.load", [4])


def test_of_an_array_that_is_over_only_what_was_printed_is_left(settings: Settings) -> None:
    folder = write_array(settings, NAME, LOADS).parent
    (folder / "0.out").touch()
    (folder / "1.out").write_text("a word")
    assert left_arrays(settings) == [NAME]
    remove_array(settings, NAME)
    assert left_arrays(settings) == []
    assert [path.name for path in folder.iterdir()] == ["1.out"]
    (folder / "1.out").unlink()
    remove_array(settings, NAME)
    assert not folder.exists()
    remove_array(settings, NAME)


def test_what_was_printed_long_ago_is_deleted(settings: Settings) -> None:
    old, young, current = (settings.slurm_folder / f"astra-b{number}-0a1b2c3d" for number in (1, 2, 3))
    for folder, days in ((old, 31), (young, 29), (current, 31)):
        folder.mkdir(parents=True)
        (folder / "0.out").write_text("a word")
        moment = NOW.timestamp() - days * 86_400
        os.utime(folder / "0.out", (moment, moment))
    (current / "script.sh").touch()
    assert prune_printed(settings, NOW) == 1
    assert [folder.exists() for folder in (old, young, current)] == [False, True, True]
