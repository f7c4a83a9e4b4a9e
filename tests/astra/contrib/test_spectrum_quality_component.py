"""`SpectrumQuality` as people and the daemon run it: on both databases, on real files, down to the rows it leaves."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest

from astra.contrib.spectrum_quality.base import SpectrumQuality
from astra.contrib.spectrum_quality.measure import Flag, measure
from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.database.astradb import Task
from astra.errors import BadHeader, ComponentError

STAR = "apStar-r6-2M00452143+1634446.fits"
VISITS = ("apVisit-2M00452143+1634446-0.fits", "apVisit-2M00452143+1634446-1.fits")


@pytest.fixture
def paths(real_data: Path, database: peewee.Database) -> list[str]:
    return [str(real_data / name) for name in (STAR, *VISITS)]


def rows() -> list[SpectrumQualityResult]:
    return list(SpectrumQualityResult.select().order_by(SpectrumQualityResult.id))


def test_each_task_leaves_a_row_with_our_numbers_beside_the_headers(paths: list[str]) -> None:
    measurements = SpectrumQuality(input_data_products=paths).execute()
    assert measurements == [measure(path) for path in paths]
    for row, measurement, path in zip(rows(), measurements, paths, strict=True):
        assert row.data_product.path == path
        assert (row.snr, row.snr_header, row.v_bary) == (measurement.snr, measurement.snr_header, measurement.v_bary)
        assert (row.n_visits, row.n_pixels) == (measurement.n_visits, measurement.n_pixels)
        assert (row.flags, row.flag_labels, row.synthetic) == (0, [], False)
    assert len({row.task_id for row in rows()}) == 3


def test_a_stars_visits_and_the_star_leave_rows_of_one_source(paths: list[str]) -> None:
    SpectrumQuality(input_data_products=paths).execute()
    assert len({row.source_id for row in rows()}) == 1
    assert rows()[0].source is not None


def test_a_task_with_several_data_products_leaves_a_row_for_each(paths: list[str]) -> None:
    measurements = SpectrumQuality(input_data_products=[paths]).execute()
    assert len(measurements) == len(rows()) == 3
    assert len({row.task_id for row in rows()}) == 1
    assert [row.data_product.path for row in rows()] == paths


def test_each_task_has_its_own_tolerances(paths: list[str]) -> None:
    SpectrumQuality(input_data_products=paths[1:], velocity_tolerance=[1e-3, 1e-6]).execute()
    assert [row.flag_labels for row in rows()] == [[], ["velocity_differs", "visit_velocity_differs"]]


def test_a_task_rebuilt_from_its_record_measures_the_same(paths: list[str]) -> None:
    SpectrumQuality(input_data_products=paths[0], snr_tolerance=0).execute()
    Task.get_by_id(rows()[0].task_id).instance().execute()
    assert rows()[0].snr == rows()[1].snr
    assert rows()[0].flags == rows()[1].flags == Flag.SNR_DIFFERS


def test_a_file_of_another_kind_fails_its_task_and_leaves_no_row(paths: list[str], real_data: Path) -> None:
    other = next(real_data.glob("aspcapStar-*.fits"))
    with pytest.raises(BadHeader, match="nothing is measured"):
        SpectrumQuality(input_data_products=str(other)).execute()
    assert rows() == []


def test_without_a_data_product_it_says_what_is_missing(database: peewee.Database) -> None:
    with pytest.raises(ComponentError, match="needs a data product"):
        SpectrumQuality().execute()


@pytest.mark.parametrize("name", ["snr_tolerance", "velocity_tolerance", "barycentric_tolerance"])
def test_a_negative_tolerance_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SpectrumQuality(**{name: -1.0})


def test_every_column_says_what_it_holds() -> None:
    own = [field for name, field in SpectrumQualityResult._meta.fields.items() if name not in ("id", "task", "source")]
    assert [field.name for field in own if not field.help_text] == ["data_product"]
