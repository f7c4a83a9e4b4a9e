"""From real files on disk to recorded results, through the real service, on both databases."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import peewee
import pytest
from astropy.io import fits

from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.database.astradb import Bundle, DataProduct, Ingestion, Task, TaskBundle, TaskInputDataProduct
from astra.states import IngestionOutcome, TaskState
from tests.support.realdata import RealFile
from tests.support.records import linked
from tests.support.site import QUALITY, QUALITY_RULES, Site


@pytest.fixture
def site(sas_tree: dict[Path, RealFile], tmp_path: Path, database_url: str) -> Site:
    return Site(tmp_path, database_url, QUALITY_RULES, sections={"executor": {"workers": 2}})


def test_every_real_spectrum_is_taken_in_once_linked_and_measured(
    site: Site, sas_tree: dict[Path, RealFile], database: peewee.Database
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sas_tree}
    site.drain()
    ours = {str(path): file for path, file in sas_tree.items() if file.filetype in ("apStar", "apVisit")}

    assert len(ours) == 70
    assert sorted(each.path for each in DataProduct.select()) == sorted(ours)
    ledger = list(Ingestion.select())
    assert {str(site.tree / each.path) for each in ledger} == set(ours), "aspcapStar and spec are left alone"
    assert len(ledger) == 70
    assert {each.outcome for each in ledger} == {IngestionOutcome.INGESTED}
    assert {(each.filetype, each.release) for each in DataProduct.select()} >= {("apStar", "dr17"), ("apVisit", "dr13")}

    _linked_by_star(ours)
    _measured(ours)
    assert {path: path.stat().st_mtime_ns for path in sas_tree} == before

    again = site.drain()
    assert "submitted" not in again, "nothing is done twice"
    assert (Task.select().count(), Ingestion.select().count()) == (70, 70)


def _linked_by_star(ours: dict[str, RealFile]) -> None:
    by_star, by_source = defaultdict(set), defaultdict(set)
    for _, path, source in linked():
        assert source is not None, path
        by_star[ours[path].obj].add(source)
        by_source[source].add(ours[path].obj)
    assert all(len(sources) == 1 for sources in by_star.values())
    assert all(len(stars) == 1 for stars in by_source.values())
    assert len(by_star) == len({file.obj for file in ours.values()})


def _measured(ours: dict[str, RealFile]) -> None:
    tasks = list(Task.select())
    assert len(tasks) == 70
    assert {(task.name, task.state) for task in tasks} == {(QUALITY, TaskState.COMPLETED)}
    given = {row.task_id: row for row in TaskInputDataProduct.select()}
    assert len({row.data_product_id for row in given.values()}) == 70
    results = list(SpectrumQualityResult.select())
    assert len({row.task_id for row in results}) == len(results) == 70
    sources = {product: source for product, _, source in linked()}
    for row in results:
        path = row.data_product.path
        snr = fits.getheader(path)["SNR"]
        # measured over 75 visits and 8 stars: visits within 1.9e-4, stars equal in the printed digits
        assert row.snr == pytest.approx(snr, rel=1.9e-4 if ours[path].filetype == "apVisit" else 5e-6), path
        assert row.snr_header == pytest.approx(snr, rel=1e-6)
        assert row.source_id == sources[row.data_product_id]
        assert given[row.task_id].data_product_id == row.data_product_id
    bundles = list(Bundle.select())
    assert sum(each.size for each in bundles) == TaskBundle.select().count() == 70
    assert all(each.time_execute > 0 and each.version and each.environment_id for each in bundles)
    assert all(row.time_execute > 0 for row in TaskBundle.select())
