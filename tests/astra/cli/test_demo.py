"""The demo, with its real service: it ends well, and it notices what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from astra.cli import main
from astra.cli.demo.comparison import compare, percentile
from astra.cli.demo.night import Demo, play, prepare
from astra.cli.demo.service import started
from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.database import connection
from astra.database.astradb import DataProduct, SourceDataProduct, Task
from astra.errors import AstraError
from astra.states import TaskState


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A small demo that was played to its end."""
    demo = prepare(tmp_path_factory.mktemp("demo") / "here", fresh=False, stars=1)
    with started(demo.config, demo.log) as service:
        *_, last = play(demo, service)
        assert service.stop() == 0
    assert (last.written, last.products, last.linked, last.sources, last.tasks) == (12, 12, 12, 4, {"completed": 12})
    yield demo
    connection.close_database()


def test_a_demo_ends_with_everything_as_it_was_written(played: Demo) -> None:
    found = compare(played)
    assert found.problems == []
    assert found.counts["results"] == found.counts["tasks completed"] == found.counts["files written"] == 12
    assert 1.0 < found.lag["median"] <= found.lag["slowest"]
    assert found.stages["execute"] > 0


def wrong(demo: Demo) -> list[str]:
    """Return what a changed record is noticed by, and take the change back."""
    found = compare(demo).problems
    connection.database.rollback()
    connection.database.begin()
    return found


def test_a_demo_notices_what_is_wrong(played: Demo) -> None:
    name = played.truth[0].star.name
    product = DataProduct.get(DataProduct.path == str(played.truth[0].star))
    connection.database.begin()
    try:
        SpectrumQualityResult.delete().where(SpectrumQualityResult.data_product == product).execute()
        assert wrong(played) == [f"{name} has no result"]
        SpectrumQualityResult.update(snr=SpectrumQualityResult.snr * 1.1).execute()
        assert len(wrong(played)) == 12
        SpectrumQualityResult.update(snr=3.0, snr_header=3.0).where(
            SpectrumQualityResult.data_product == product
        ).execute()
        assert "was written with S/N" in wrong(played)[0]
        SourceDataProduct.update(source=None).where(SourceDataProduct.data_product == product).execute()
        assert wrong(played) == [f"{name} is not linked to its star {played.truth[0].object}"]
        Task.update(state=TaskState.FAILED).execute()
        assert len(wrong(played)) == 12
        connection.execute("UPDATE ingestion SET outcome = 'duplicate' WHERE data_product_id = ?", (product.id,))
        assert wrong(played) == [
            f"{name} was ingested 0 times, not once",
            "1 files were quarantined or taken for copies",
        ]
    finally:
        connection.database.rollback()


def test_a_second_demo_adds_a_night_and_says_what_to_try_next(played: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(played.folder), "--stars", "1"]) == 0
    said = capsys.readouterr().out
    assert "written 12/12" in said
    assert "Each file was taken in once" in said
    commands = [line.strip() for line in said.partition("Try next:")[2].splitlines() if line.strip()]
    assert len(commands) == 3
    for line in commands:
        words = line.replace("'", "").split()
        assert main(words[1:]) == 0
    assert main(["--config", str(played.config), "products", "--json", "--limit", "100"]) == 0
    assert len(json.loads(capsys.readouterr().out.rpartition("\n[\n")[2].join(("[", "")))) == 24


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("work of years")
    for fresh in (False, True):
        with pytest.raises(AstraError, match="is not empty and was not made by a demo"):
            prepare(tmp_path, fresh=fresh, stars=1)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_fresh_demo_forgets_the_nights_before(tmp_path: Path) -> None:
    prepare(tmp_path / "demo", fresh=False, stars=1)
    (tmp_path / "demo" / "sas" / "old.fits").touch()
    connection.close_database()
    demo = prepare(tmp_path / "demo", fresh=True, stars=1)
    connection.close_database()
    assert demo.simulation.plan.seed == 1
    assert list(demo.watched.iterdir()) == []


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    demo = prepare(tmp_path / "demo", fresh=False, stars=1)
    connection.close_database()
    demo.config.write_text("[databas]\n")
    with pytest.raises(AstraError, match="did you mean database"), started(demo.config, demo.log):
        pass


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.9, 1.0)] == [2.0, 4.0, 4.0]
