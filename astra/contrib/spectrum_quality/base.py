"""The component: measures each apVisit or apStar it is given and records one row of `spectrum_quality` for it."""

from __future__ import annotations

import dataclasses

from astra.base import Parameter, TaskInstance
from astra.contrib.spectrum_quality.measure import Measurement, Tolerances, measure
from astra.contrib.spectrum_quality.models import SpectrumQualityResult
from astra.errors import ComponentError


class SpectrumQuality(TaskInstance):
    """Signal-to-noise, velocity bookkeeping and bad pixels of apVisit and apStar files, beside their headers' values.

    Parameters
    ----------
    snr_tolerance : float
        Relative difference in S/N from which it is flagged.
    velocity_tolerance : float
        Difference in velocity or scatter, km/s.
    barycentric_tolerance : float
        Difference in barycentric correction, m/s; catches a wrong time, place on the sky, or observatory.
    """

    version = "1"
    result_models = (SpectrumQualityResult,)

    snr_tolerance = Parameter(default=1e-3, type=float, ge=0)
    velocity_tolerance = Parameter(default=1e-3, type=float, ge=0)
    barycentric_tolerance = Parameter(default=50.0, type=float, ge=0)

    def execute(self) -> list[Measurement]:
        """Measure every data product; return the measurements in the order given."""
        measurements = []
        for task, data_products in self.iterable():
            if not data_products:
                raise ComponentError("SpectrumQuality needs a data product to measure: give input_data_products")
            tolerances = Tolerances(
                snr=task.parameters["snr_tolerance"],
                velocity=task.parameters["velocity_tolerance"],
                barycentric=task.parameters["barycentric_tolerance"],
            )
            for data_product in data_products:
                measurement = measure(data_product.path, data_product.kwargs.get("telescope"), tolerances)
                self.record_result(
                    task, SpectrumQualityResult(data_product=data_product, **dataclasses.asdict(measurement))
                )
                measurements.append(measurement)
            self.done(task)  # a file that cannot be read must not cost its neighbours their work
        return measurements
