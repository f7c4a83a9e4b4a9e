"""The result table of `SpectrumQuality`."""

from __future__ import annotations

from peewee import BigIntegerField, BooleanField, DoubleField, IntegerField

from astra.contrib.spectrum_quality.measure import Flag
from astra.database.astradb import DataProduct, Link, ResultModel


class SpectrumQualityResult(ResultModel):
    """One spectrum: our numbers beside its header's. Null where the file does not give what a number needs.

    Velocities are km/s and barycentric; columns ending in `_header` are copied from the primary header.
    """

    data_product = Link(DataProduct)
    snr = DoubleField(null=True, help_text="median of flux/error per pixel: visit, middle chip; star, combined row")
    snr_header = DoubleField(null=True, help_text="card SNR")
    v_bary = DoubleField(null=True, help_text="visit: shift plus correction; star: S/N-weighted mean of its visits")
    v_header = DoubleField(null=True, help_text="card VHELIO (barycentric in spite of its name); SDSS-V star: VRAD")
    velocity_difference = DoubleField(null=True, help_text="v_bary minus v_header, km/s")
    v_scatter = DoubleField(null=True, help_text="standard deviation (N-1) of a star's visits; null for one visit")
    v_scatter_header = DoubleField(null=True, help_text="card VSCATTER of a star")
    n_visits = IntegerField(help_text="visits that the header lists; 1 for a visit")
    n_visits_used = IntegerField(help_text="visits that have a velocity and went into v_bary")
    bc_header = DoubleField(null=True, help_text="card BC, km/s; star: that of the visit furthest from ours")
    bc_difference_m_s = DoubleField(null=True, help_text="our barycentric correction minus bc_header, m/s")
    bad_pixel_fraction = DoubleField(help_text="share of pixels with any of bits 0-7 and 14 of APOGEE_PIXMASK")
    sky_pixel_fraction = DoubleField(help_text="share of pixels with bit 12 (sky line) of APOGEE_PIXMASK")
    n_pixels = IntegerField(help_text="pixels the shares count: a visit's three chips, a star's combined row with gaps")
    flags = BigIntegerField(help_text="bits of measure.Flag: what differs, what is missing, what was left out")
    synthetic = BooleanField(help_text="whether the header says that the spectrum is synthetic")

    class Meta:
        table_name = "spectrum_quality"

    @property
    def flag_labels(self) -> list[str]:
        """The flags that are set, in words, such as ``["velocity_differs", "visit_left_out"]``."""
        return Flag(int(self.flags)).labels
