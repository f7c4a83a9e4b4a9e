"""Simulated nights of every release, written while the service runs: all of it is ingested, linked and measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import peewee
import pytest

from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.database.astradb import DataProduct
from astra.simulate import Night, Truth, simulate
from astra.simulate.night import LAYOUTS
from tests.support.processes import until
from tests.support.records import ingestions, outcomes, states
from tests.support.site import QUALITY_RULES, Site


def write_nights(tree: Path) -> list[Truth]:
    """Write a night of each release, all at the same time, a step of each in turn."""
    nights = [
        simulate(Night(release=release, configurations=1, stars=1, visits=2, combinations=2, seed=5), tree / release)
        for release in LAYOUTS
    ]
    writing = [iter(night) for night in nights]
    while writing:
        writing = [each for each in writing if next(each, None) is not None]
    return [truth for night in nights for truth in night.truth]


def test_nights_of_all_releases_written_while_the_service_runs(
    tmp_path: Path, database_url: str, database: peewee.Database
) -> None:
    site = Site(tmp_path, database_url, QUALITY_RULES, sections={"executor": {"workers": 2}})
    with site.daemon() as daemon:
        daemon.says(" started ")
        truths = write_nights(site.tree)
        stars = {truth.star for truth in truths}
        visits = {path for truth in truths for path in truth.visits}
        until(lambda: all(ingestions(path) for path in stars | visits), timeout=60)
        until(lambda: not {"pending", "running"} & set(states()), timeout=60)
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.output()
    site.drain()

    assert set(outcomes()) == {"ingested"}
    newest = {truth.object + truth.telescope + str(truth.star.parent): truth for truth in truths}
    products = {Path(each.path): each for each in DataProduct.select()}
    assert set(products) == visits | {truth.star for truth in newest.values()}
    assert {each.release for each in products.values()} == set(LAYOUTS)
    for truth in newest.values():
        source = products[truth.star].source
        assert source is not None
        assert {Path(each.path) for each in source.data_products} >= {truth.star, *truth.visits}
        row = (
            SpectrumQualityResult.select()
            .where(SpectrumQualityResult.data_product == products[truth.star])
            .order_by(SpectrumQualityResult.id.desc())
            .first()
        )
        assert row.snr == pytest.approx(truth.snr, rel=1e-3), truth.star
        assert row.v_bary == pytest.approx(truth.velocity, abs=1.0)
        assert row.synthetic
    assert set(states()) <= {"completed", "cancelled", "failed"}
    current = Counter(
        task_state
        for product in products.values()
        for task_state in states(product.path[len(str(site.tree)) + 1 :])
        if task_state == "completed"
    )
    assert current["completed"] == len(products), "every current version has its result"
