"""What is known of each release: which reduction it holds, where its files lie, how many HDUs they have.

All of it is data; a new release is a new line. A reduction ("apred") is the name the pipeline's operators gave one run
over all observations, and the only word for a release that stands in a file's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from astra.sky import Epochs

INTERNAL: Final = "sdsswork"

# 2MASS, after whose positions targets are named, was observed from 1997 to 2001. The positions in SDSS-V headers are
# those of the cross-match (Gaia, 2015.5 or 2016.0) or, for targets that came from 2MASS, still of that time.
_TMASS_EPOCHS, _ALL_EPOCHS = Epochs(1997.4, 2001.2), Epochs(1997.4, 2016.0)


@dataclass(frozen=True, slots=True)
class Release:
    """One release: the root of its reductions under the archive's root, and the layout of its folders and names.

    `epochs` are those at which the positions in its headers may have been true.
    """

    root: str
    layout: str
    sdss5: bool = False

    @property
    def epochs(self) -> Epochs:
        """The epochs, in Julian years, at which a header's RA and DEC may have been true."""
        return _ALL_EPOCHS if self.sdss5 else _TMASS_EPOCHS


# The cards that name the object, or say where it is, by what they tell. The first of a row that has a usable value
# counts, so a release that renames a card is one more entry.
IDENTITY_KEYS: Final = {
    "object": ("OBJID",),
    "objtype": ("OBJTYPE",),  # of visits
    "ra": ("RA",),
    "dec": ("DEC",),
    "sdss_id": ("SDSSID", "SDSS_ID"),  # SDSS-V, the pipeline from 2024 on; the products made of its files
    "catalogid": ("CATID", "CAT_ID"),  # SDSS-V; the products made of its files
    "gaia": ("GSRCID",),  # SDSS-V, the pipeline from 2024 on
    "gaia_release": ("GRELEASE",),  # SDSS-V, visits
}
# What GRELEASE says, and the kind of identifier that the number then is. EDR3 and DR3 number their sources alike.
GAIA_RELEASES: Final = {"dr2": "gaia_dr2", "edr3": "gaia_dr3", "dr3": "gaia_dr3"}

_OLD, _NEW = "{}/apogee/spectro/redux", "{}/spectro/apogee/redux"

RELEASES: Final = {
    "dr10": Release(_OLD.format("dr10"), "plates"),
    "dr11": Release(_OLD.format("dr11"), "plates"),
    "dr12": Release(_OLD.format("dr12"), "location"),
    "dr13": Release(_OLD.format("dr13"), "location"),
    "dr14": Release(_OLD.format("dr14"), "location"),
    "dr15": Release(_OLD.format("dr15"), "location"),
    "dr16": Release(_OLD.format("dr16"), "field"),
    "dr17": Release(_OLD.format("dr17"), "field"),
    "ipl-1": Release(_NEW.format("ipl-1"), "healpix without stars", sdss5=True),
    "ipl-2": Release(_NEW.format("ipl-2"), "healpix without stars", sdss5=True),
    "ipl-3": Release(_NEW.format("ipl-3"), "healpix", sdss5=True),
    "ipl-4": Release(_NEW.format("ipl-4"), "healpix", sdss5=True),
    "dr19": Release(_NEW.format("dr19"), "healpix", sdss5=True),
    "dr20": Release(_NEW.format("dr20"), "healpix", sdss5=True),
    INTERNAL: Release("sdsswork/mwm/apogee/spectro/redux", "healpix", sdss5=True),
}

# Releases that hold a reduction; the first is meant unless a setting names another of them. The SDSS-V reductions not
# listed here exist in the working tree and in one internal release or another, so there a setting decides.
REDUCTIONS: Final = {
    "r3": ("dr10",),
    "r4": ("dr11",),
    "r5": ("dr12",),
    "r6": ("dr13",),
    "r8": ("dr14", "dr15"),
    "r12": ("dr16",),
    "dr17": ("dr17",),
    "1.3": ("dr19", "dr20", "ipl-4", INTERNAL),
    "daily": (INTERNAL,),
}

# DR10 and DR11 name their stars after the version of the combination instead of the reduction.
COMBINATIONS: Final = {"s3": "r3", "s4": "r4"}

# The code version that a visit's V_APRED card gives, for visits saved under a name that says nothing. Stars of the same
# reduction were combined by later code (v3_09 for r5, v3_31 for r6), so this holds for visits only.
VISIT_CODE: Final = {"v3_04": "r5", "v3_15": "r6", "0.12.7": "r13"}

_HDUS: Final = {"apVisit": 12, "apStar": 10}
_HDUS_OF_RELEASE: Final = {("apStar", "dr17"): 11}


def known_release(name: str) -> Release:
    """Return what is known of the release `name`; raise `ValueError` where it is nothing."""
    known = RELEASES.get(name)
    if known is None:
        raise ValueError(f"no release {name!r} is known; the known ones are {', '.join(RELEASES)}")
    return known


def epochs_of(release: str) -> Epochs:
    """Return the epochs at which the positions in a release's headers may have been true; the widest for any other."""
    return RELEASES[release].epochs if release in RELEASES else _ALL_EPOCHS


def release_of(apred: str, setting: str | None, names_telescope: bool) -> str:
    """Return the release of a file of reduction `apred`.

    `setting` is the release that the watch says its files have; `names_telescope` whether the file's name has the
    telescope in it, as only SDSS-V names do. Without either, a reduction that is in no release is internal work.

    Raises
    ------
    ValueError
        The setting contradicts the name; the message says how.
    """
    wanted = setting.strip().lower() if setting else ""
    known = REDUCTIONS.get(apred, ())
    if not wanted:
        return known[0] if known else INTERNAL
    if known and wanted not in known:
        raise ValueError(f"its name says reduction {apred}, of {known[0]}, and the setting says release {wanted}")
    if names_telescope and wanted in RELEASES and not RELEASES[wanted].sdss5:
        raise ValueError(f"its name is of the SDSS-V kind, and the setting says release {wanted}")
    return wanted


def reduction_of(release: str | None) -> str | None:
    """Return the reduction that `release` holds, where it holds a known one."""
    wanted = release.strip().lower() if release else ""
    return next((apred for apred, releases in REDUCTIONS.items() if wanted in releases[:1]), None)


def expected_hdus(filetype: str, release: str) -> int:
    """Return how many HDUs a whole file of this type has in this release; for an unknown release, the usual number."""
    return _HDUS_OF_RELEASE.get((filetype, release), _HDUS[filetype])
