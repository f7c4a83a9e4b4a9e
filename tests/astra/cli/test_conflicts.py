"""The links that somebody should look at, from the command line, on both databases."""

from __future__ import annotations

import json
from pathlib import Path

import peewee
import pytest

from astra.cli import main
from astra.database.astradb import SourceDataProduct
from tests.support import stars
from tests.support.processes import write_config


@pytest.fixture
def config(database: peewee.Database, database_url: str, tmp_path: Path) -> str:
    return str(write_config(tmp_path / "config.toml", {"database": {"url": database_url}}))


def test_that_there_is_no_conflict_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    stars.product(stars.source(), mjd=1)
    assert main(["--config", config, "conflicts"]) == 0
    assert capsys.readouterr().out == "no link is in conflict with anything\n"
    assert main(["--config", config, "conflicts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_conflicts_that_stand_are_listed_newest_first(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    star = stars.source(designation="00034394-0014494", sdss_id=(1 << 62) + 1)
    far = stars.product(star, mjd=1, method="tmass", candidates=2, separation=12.345, conflict='12.3" from the star')
    two = stars.product(star, mjd=2, method="sdss_id", conflict="gaia_dr3 4 names source 9")
    nobody = stars.product(None, mjd=3, conflict="two sources, neither of them surely")
    settled = stars.product(star, mjd=4, conflict="it was looked at")
    better = SourceDataProduct.create(
        source=star, data_product=two, method="sdss_id", superseded_by=1, created=stars.NOW
    )
    SourceDataProduct.update(superseded_by=better).where(SourceDataProduct.data_product == settled).execute()

    assert main(["--config", config, "conflicts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["product"] for each in found] == [nobody.id, two.id, far.id]
    assert found[2] == {
        "product": far.id, "path": far.path, "source": star.id, "designation": "00034394-0014494", "method": "tmass",
        "catalogue_version": "", "candidates": 2, "separation": 12.345, "conflict": '12.3" from the star',
        "since": "2026-01-02T03:04:05.000678Z",
    }  # fmt: skip

    assert main(["--config", config, "conflicts", "--limit", "1"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"product {nobody.id} -> no source  by none, ")
    assert len(output.splitlines()) == 5
    assert output.endswith("\nthese are the newest 1 of 3: --limit shows more\n")
    assert main(["--config", config, "conflicts"]) == 0
    linked = f'source {star.id} (00034394-0014494)  by tmass, 2 candidates, 12.35", 2026-01-02 03:04:05Z'
    output = capsys.readouterr().out
    assert f'product {far.id} -> {linked}\n  {far.path}\n  12.3" from the star\n' in output
    assert "--limit" not in output


def test_a_product_shows_of_every_link_how_it_was_found_and_what_speaks_against_it(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    star = stars.source(designation="00034394-0014494")
    given = stars.product(None, mjd=1, reason="it names no object", conflict="two sources, neither of them surely")
    made = SourceDataProduct.create(
        source=star, data_product=given, method="tmass", catalogue_version="allstar-dr19", candidates=2,
        separation=12.345, conflict='12.3" from the star', created=stars.NOW,
        superseded_by=SourceDataProduct.get(),
    )  # fmt: skip
    SourceDataProduct.update(superseded_by=made).where(SourceDataProduct.id != made.id).execute()
    SourceDataProduct.update(superseded_by=None).where(SourceDataProduct.id == made.id).execute()

    assert main(["--config", config, "show", "product", str(given.id), "--json"]) == 0
    new, old = json.loads(capsys.readouterr().out)["links"]
    assert new == {
        "link": made.id, "source": star.id, "designation": "00034394-0014494", "current": True, "method": "tmass",
        "catalogue_version": "allstar-dr19", "candidates": 2, "separation": 12.345, "reason": None,
        "conflict": '12.3" from the star',
    }  # fmt: skip
    assert (old["current"], old["reason"], old["conflict"]) == (
        False, "it names no object", "two sources, neither of them surely",
    )  # fmt: skip

    assert main(["--config", config, "show", "product", str(given.id)]) == 0
    output = capsys.readouterr().out
    table, *told = output.partition("\nlinks:\n")[2].split("\n\n")[:4]
    assert [line.split() for line in table.splitlines()] == [
        ["link", "source", "designation", "current", "method", "catalogue_version", "candidates", "separation"],
        [str(made.id), str(star.id), "00034394-0014494", "yes", "tmass", "allstar-dr19", "2", "12.345"],
        [str(old["link"]), "-", "-", "no", "none", "-", "-", "-"],
    ]
    assert told == [
        f'conflict of link {made.id}:\n  12.3" from the star',
        f"reason of link {old['link']}:\n  it names no object",
        f"conflict of link {old['link']}:\n  two sources, neither of them surely",
    ]
