"""Where a night's files go, relative to the SAS root: the product types know, given the names' parts."""

from __future__ import annotations

from astra.products.apstar import PRODUCT as APSTAR
from astra.products.apvisit import PRODUCT as APVISIT
from astra.simulate.night import Star, Visit


def visit_path(visit: Visit) -> str:
    """Return the path of a visit file."""
    night, field = visit.field.night, visit.field
    return APVISIT.path(
        night.release,
        {
            "apred": night.layout.apred,
            "telescope": field.site.name,
            "field": field.name,
            "plate": str(visit.plate),
            "mjd": str(visit.mjd),
            "fiber": str(visit.fiber),
        },
    )


def star_path(star: Star, mjd: int) -> tuple[str, str | None]:
    """Return the path of a star file whose last visit was on `mjd`, and of the link to it where there are versions."""
    layout, field = star.field.night.layout, star.field
    parts = {"apred": layout.apred, "telescope": field.site.name, "obj": star.name}
    if layout.versioned:
        return APSTAR.path(layout.release, {**parts, "version": str(mjd)}), APSTAR.path(layout.release, parts)
    # Up to DR15 the folder is named after the location's number.
    parts["field"] = str(field.location) if layout.rv_stage else field.name
    return APSTAR.path(layout.release, parts), None
