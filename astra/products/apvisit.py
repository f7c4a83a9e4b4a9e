"""apVisit: one star in one visit, as the reduction pipeline writes it, from DR10 to SDSS-V.

A visit is known by telescope, plate (in SDSS-V the configuration), MJD and fibre; at the 1 m, which has neither plate
nor fibre, by MJD and the name of the observation. Files saved under a name of the user's own are known by the cards
PLATE, MJD5, FIBERID and TELESCOP, and by the code version in V_APRED, which tells the reduction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from astra.headers import Header
from astra.products import apogee, releases
from astra.products.base import Description, Recognised, Target

_START = r"(?P<prefix>ap|as)Visit-(?P<apred>[^-/]+)-"
_PLATE = r"(?P<plate>\d+)-(?P<mjd>\d{5})-(?P<fiber>\d{1,3})\.fits"
_TEL = f"(?P<telescope>{apogee.TELESCOPE})"
_NAMES = (
    re.compile(rf"{_START}{_TEL}-{_PLATE}"),
    re.compile(_START + _PLATE),
    re.compile(_START + r"(?P<mjd>\d{5}(?:\.\d+)?)-(?P<reduction>[^/]+)\.fits"),
    re.compile(r"(?P<prefix>ap|as)Visit-(?P<given>[^/]+)\.fits"),
)
_FOLDERS = (
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/visit/{_TEL}/(?P<field>[^/]+)/(?P<plate>\d+)/(?P<mjd>\d{{5}})\Z"),
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/visit/{_TEL}/(?P<field>[^/]+)/(?P<mjd>\d{{5}}(?:\.\d+)?)\Z"),
    re.compile(rf"(?:^|/)(?P<apred>[^/]+)/{_TEL}/(?P<plate>\d+)/(?P<mjd>\d{{5}})\Z"),
    re.compile(r"(?:^|/)(?P<apred>[^/]+)/plates/(?P<plate>\d+)/(?P<mjd>\d{5})\Z"),
)
_NIGHT = "{root}/{apred}/visit/{telescope}/{field}"
_SDSS5 = _NIGHT + "/{plate}/{mjd}/apVisit-{apred}-{telescope}-{plate}-{mjd}-{fiber:0>3}.fits"
_ONE_METRE = _NIGHT + "/{mjd}/apVisit-{apred}-{mjd}-{reduction}.fits"
_PATHS = {
    "plates": "{root}/{apred}/plates/{plate}/{mjd}/apVisit-{apred}-{plate}-{mjd}-{fiber:0>3}.fits",
    "location": "{root}/{apred}/{telescope}/{plate}/{mjd}/apVisit-{apred}-{plate}-{mjd}-{fiber:0>3}.fits",
    "field": _NIGHT + "/{plate}/{mjd}/{prefix}Visit-{apred}-{plate}-{mjd}-{fiber:0>3}.fits",
    "healpix without stars": _SDSS5,
    "healpix": _SDSS5,
}
_EMBEDDED = re.compile(r"(?:2M|AP|J)\d{8}[+-]\d{7}")


class ApVisit:
    """The apVisit product type."""

    name = "apVisit"
    prefixes = ("apVisit-", "asVisit-")
    wanted = apogee.WANTED | {"PLATE", "MJD5", "FIBERID", "APRED"}
    facts = apogee.FACTS | {"plate", "fiber", "reduction", "given_name"}
    examples: tuple[str, ...] = (
        "dr10/apogee/spectro/redux/r3/plates/5094/55874/apVisit-r3-5094-55874-088.fits",
        "dr13/apogee/spectro/redux/r6/apo25m/5094/55874/apVisit-r6-5094-55874-088.fits",
        "dr16/apogee/spectro/redux/r12/visit/lco25m/LMC8/9570/57815/asVisit-r12-9570-57815-045.fits",
        "dr17/apogee/spectro/redux/dr17/visit/apo25m/000+02/5815/56396/apVisit-dr17-5815-56396-212.fits",
        "dr17/apogee/spectro/redux/dr17/visit/apo1m/calibration/57690/apVisit-dr17-57690-2M06154934-0100415.fits",
        "dr19/spectro/apogee/redux/1.3/visit/apo25m/20549/6340/59804/apVisit-1.3-apo25m-6340-59804-145.fits",
        "saved/apVisit-2M00452143+1634446-0.fits",
    )

    def recognise(self, path: str) -> Recognised | None:
        """Return what `path` says of a visit, or None."""
        base = path[path.rfind("/") + 1 :]
        if not base.startswith(self.prefixes):
            return None
        for pattern in _NAMES:
            match = pattern.fullmatch(base)
            if match is not None:
                fields = {key: value for key, value in match.groupdict().items() if value is not None}
                fields |= {key: apogee.unpadded(fields[key]) for key in ("plate", "fiber") if key in fields}
                return Recognised(self.name, fields, apogee.folders(_FOLDERS, path))
        return None

    def describe(self, recognised: Recognised, header: Header, release: str | None) -> Description:
        """Return the facts of a visit; see `ProductType`."""
        reading = apogee.Reading(self.name, recognised, header)
        telescope = apogee.telescope(reading)
        reading.require_object()
        if "given" in recognised.fields:
            apred, kwargs = self._from_header(reading, release)
        else:
            apred, kwargs = recognised.fields["apred"], self._from_name(reading)
        found = apogee.release(reading, apred, release)
        reading.kwargs = {"apred": apred, "telescope": telescope, **kwargs}
        if "reduction" in kwargs:
            apogee.check_object(reading, kwargs["reduction"])
        numbers = {key: int(value) for key, value in kwargs.items() if apogee.is_number(value)}
        known = {**reading.kwargs, **numbers, "field": recognised.folders.get("field") or header.text("FIELD")}
        known["mjd"] = int(float(kwargs["mjd"]))
        known["given_name"] = recognised.fields.get("given")
        reading.metadata = {key: value for key, value in known.items() if value is not None}
        return apogee.describe(reading, found, None)

    def target(self, release: str, metadata: Mapping[str, Any]) -> Target:
        """Return what the header said of the object; see `ProductType`."""
        return apogee.target(release, metadata)

    def check_whole(self, description: Description, header: Header) -> None:
        """Raise `IncompleteFile` where HDUs are missing."""
        apogee.check_hdus(description, header, releases.expected_hdus(self.name, description.release))

    def path(self, release: str, fields: Mapping[str, str]) -> str:
        """Return the path of a visit: apred, telescope, plate, mjd, fiber (1 m: mjd, reduction); field from DR16 on."""
        known = releases.known_release(release)
        template = _ONE_METRE if "reduction" in fields else _PATHS[known.layout]
        prefix = "as" if fields.get("telescope") == "lco25m" else "ap"
        return apogee.fill(template, {"root": known.root, "prefix": prefix, **fields})

    @staticmethod
    def _from_name(reading: apogee.Reading) -> dict[str, str]:
        """Return plate, MJD and fibre of the name, or MJD and observation, which the header must not contradict."""
        fields = reading.recognised.fields
        if "reduction" in fields:
            mjd = reading.header.text("MJD5")
            if mjd is not None:
                reading.agree("MJD", "MJD5", fields["mjd"].partition(".")[0], apogee.unpadded(mjd))
            return {"mjd": fields["mjd"], "reduction": fields["reduction"]}
        for what, key in ("plate", "PLATE"), ("mjd", "MJD5"), ("fiber", "FIBERID"):
            reading.agree(what, key, fields[what], apogee.unpadded(reading.require(key)))
        return {what: fields[what] for what in ("plate", "mjd", "fiber")}

    @staticmethod
    def _from_header(reading: apogee.Reading, setting: str | None) -> tuple[str, dict[str, str]]:
        """Return reduction, plate, MJD and fibre of a visit whose name fits no template."""
        kwargs = {}
        for what, key in ("plate", "PLATE"), ("mjd", "MJD5"), ("fiber", "FIBERID"):
            kwargs[what] = apogee.unpadded(reading.require(key))
            if not apogee.is_number(kwargs[what]):
                raise reading.bad(f"its name fits no template, and its header {key} = {kwargs[what]} is no number")
        given = _EMBEDDED.search(reading.recognised.fields["given"])
        if given is not None:
            key, found = reading.require_object()
            reading.agree("object", key, given[0], found)
        apred = releases.VISIT_CODE.get(reading.header.text("V_APRED") or "") or reading.header.text("APRED")
        apred = apred or releases.reduction_of(setting)
        if apred is None:
            code = reading.header.text("V_APRED")
            raise reading.bad(f"neither its name nor its header V_APRED = {code} says which reduction it is of")
        reading.notes.append("its name fits no template, so its header says which visit it is")
        return apred, kwargs


PRODUCT = ApVisit()
