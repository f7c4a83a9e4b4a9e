"""apStar: one star's visits combined, as the reduction pipeline writes them, from DR10 to SDSS-V.

An SDSS-IV star observed in two fields has two files of one name, so the field is part of its identity. It is the
location id up to DR15 and the field's name after, as the folders have it, and comes from the header, which is the same
wherever the file lies; the folder's counts where the header has none. An SDSS-V star has one file per telescope,
whose name ends with the MJD of its last visit: that is its version. A link without it shows the newest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from astra.headers import Header
from astra.products import apogee, releases
from astra.products.base import Description, Recognised, Target

_NAME = re.compile(
    rf"(?P<prefix>ap|as)Star-(?P<apred>[^-/]+)-(?:(?P<telescope>{apogee.TELESCOPE})-)?"
    r"(?P<obj>[^/]+?)(?:-(?P<version>\d{5}))?\.fits"
)
_TEL = f"(?P<telescope>{apogee.TELESCOPE})"
_FOLDERS = (
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/stars/{_TEL}/\d{{1,3}}/(?P<healpix>\d{{1,6}})\Z"),
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/stars/{_TEL}/(?P<field>[^/]+)\Z"),
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/{_TEL}/\d{{1,3}}/(?P<healpix>\d{{1,6}})\Z"),
    re.compile(r"(?:^|/)(?P<apred>r\d+)/s\d+/(?P<field>[^/]+)\Z"),
)
_IN_FIELD = "{root}/{apred}/stars/{telescope}/{field}/{prefix}Star-{apred}-{obj}{suffix}.fits"
_IN_PIXEL = "{group}/{healpix}/apStar-{apred}-{telescope}-{obj}{suffix}.fits"
_PATHS = {
    "plates": "{root}/{apred}/{apstar}/{field}/apStar-{apstar}-{obj}{suffix}.fits",
    "location": _IN_FIELD,
    "field": _IN_FIELD,
    "healpix without stars": "{root}/{apred}/{telescope}/" + _IN_PIXEL,
    "healpix": "{root}/{apred}/stars/{telescope}/" + _IN_PIXEL,
}


class ApStar:
    """The apStar product type."""

    name = "apStar"
    prefixes = ("apStar-", "asStar-")
    wanted = apogee.WANTED | {"STARVER", "HEALPIX"}
    facts = apogee.FACTS | {"obj", "healpix"}
    examples: tuple[str, ...] = (
        "dr10/apogee/spectro/redux/r3/s3/4264/apStar-s3-2M00005143+5615568.fits",
        "dr13/apogee/spectro/redux/r6/stars/apo25m/4264/apStar-r6-2M00005143+5615568.fits",
        "dr13/apogee/spectro/redux/r6/stars/apo25m/4383/apStar-r6-2M07440053+1053592-55960.fits",
        "dr16/apogee/spectro/redux/r12/stars/lco25m/LMC8/asStar-r12-2M05263377-6838079.fits",
        "dr17/apogee/spectro/redux/dr17/stars/apo25m/000+02/apStar-dr17-2M17335483-2753043.fits",
        "dr17/apogee/spectro/redux/dr17/stars/apo1m/calibration/apStar-dr17-VESTA.fits",
        "ipl-2/spectro/apogee/redux/1.1/apo25m/10/10105/apStar-1.1-apo25m-2M13593121+6335074.fits",
        "dr19/spectro/apogee/redux/1.3/stars/apo25m/10/10105/apStar-1.3-apo25m-2M13593121+6335074-59380.fits",
        "dr19/spectro/apogee/redux/1.3/stars/lco25m/10/10105/apStar-1.3-lco25m-2M13593121+6335074.fits",
    )

    def recognise(self, path: str) -> Recognised | None:
        """Return what `path` says of a star, or None."""
        base = path[path.rfind("/") + 1 :]
        if not base.startswith(self.prefixes):
            return None
        match = _NAME.fullmatch(base)
        if match is None or match["obj"] in apogee.TELESCOPES:
            return None
        fields = {key: value for key, value in match.groupdict().items() if value is not None}
        if "version" in fields and "telescope" not in fields and apogee.designation(fields["obj"]) is None:
            fields["obj"] += f"-{fields.pop('version')}"  # before SDSS-V, of HD-12345 the digits are the star's
        folders = apogee.folders(_FOLDERS, path)
        if fields["apred"] in releases.COMBINATIONS:
            fields["apstar"] = fields["apred"]
            fields["apred"] = releases.COMBINATIONS[fields["apstar"]]
        return Recognised(self.name, fields, folders)

    def describe(self, recognised: Recognised, header: Header, release: str | None) -> Description:
        """Return the facts of a star; see `ProductType`."""
        recognised = _with_whole_object(recognised, header)
        reading = apogee.Reading(self.name, recognised, header)
        apred, obj = recognised.fields["apred"], recognised.fields["obj"]
        telescope = apogee.telescope(reading)
        found = apogee.release(reading, apred, release)
        reading.kwargs = {"apred": apred, "telescope": telescope, "obj": obj}
        apogee.check_object(reading, obj)
        field = self._field(reading, found)
        in_field = "telescope" not in recognised.fields
        if in_field and field is not None:
            reading.kwargs["field"] = field
        elif in_field:
            reading.notes.append("neither its header nor its folder says which field it is of")
        version = self._version(reading)
        number = apogee.pixel(obj) or recognised.folders.get("healpix") or header.text("HEALPIX")
        known = {"apred": apred, "telescope": telescope, "field": header.text("FIELD") or field, "mjd": version}
        reading.metadata = {key: value for key, value in known.items() if value is not None}
        if number is not None and apogee.is_number(number):
            reading.metadata["healpix"] = int(number)
        return apogee.describe(reading, found, version)

    def target(self, release: str, metadata: Mapping[str, Any]) -> Target:
        """Return what the header said of the object; see `ProductType`."""
        return apogee.target(release, metadata)

    def check_whole(self, description: Description, header: Header) -> None:
        """Raise `IncompleteFile` where HDUs are missing. Ten of DR17's eleven would look like a whole star of DR14."""
        expected = releases.expected_hdus(self.name, description.release)
        # The Python pipeline of DR17 writes RV_TEFF and VHELIO; older ones no RV_TEFF, SDSS-V no VHELIO.
        if {"RV_TEFF", "VHELIO"} <= header.cards.keys():
            expected = releases.expected_hdus(self.name, "dr17")
        apogee.check_hdus(description, header, expected)

    def path(self, release: str, fields: Mapping[str, str]) -> str:
        """Return the path of a star: apred, telescope, obj, maybe version; field before SDSS-V and for the 1 m."""
        known = releases.known_release(release)
        template = _PATHS[known.layout]
        if known.sdss5 and fields.get("telescope") == "apo1m" and "field" in fields:
            template = _IN_FIELD
        combinations = releases.COMBINATIONS.items()
        number = fields.get("healpix") or apogee.pixel(fields.get("obj", ""))
        derived = {
            "root": known.root,
            "prefix": "as" if fields.get("telescope") == "lco25m" else "ap",
            "suffix": f"-{fields['version']}" if "version" in fields else "",
        }
        derived["apstar"] = next((star for star, apred in combinations if apred == fields.get("apred")), "")
        if number is not None:
            derived |= {"healpix": number, "group": str(int(number) // 1000)}
        return apogee.fill(template, {**derived, **fields})

    @staticmethod
    def _field(reading: apogee.Reading, release: str) -> str | None:
        """Return the field as the folders of this release have it: a location id up to DR15, but a name for the 1 m."""
        known = releases.RELEASES.get(release)
        by_number = known is not None and known.layout in ("plates", "location")
        if by_number and reading.kwargs["telescope"] != "apo1m":
            number = reading.header.integer("LOCID")
            card = str(number) if number is not None and number > 0 else None
        else:
            card = reading.header.text("FIELD")
        return card or reading.recognised.folders.get("field")

    @staticmethod
    def _version(reading: apogee.Reading) -> int | None:
        """Return the MJD that orders the versions of one star: the name's, else the STARVER card's."""
        name, card = reading.recognised.fields.get("version"), reading.header.integer("STARVER")
        if name is None:
            return card
        if card is not None and card != int(name):
            reading.notes.append(f"its name says version {name}, its header STARVER = {card}")
        return int(name)


def _with_whole_object(recognised: Recognised, header: Header) -> Recognised:
    """Return what the name says, its last five digits being the object's where the header's object ends with them."""
    fields = dict(recognised.fields)
    if "version" in fields and apogee.object_name(header) == (whole := f"{fields['obj']}-{fields['version']}"):
        del fields["version"]
        return replace(recognised, fields={**fields, "obj": whole})
    return recognised


PRODUCT = ApStar()
