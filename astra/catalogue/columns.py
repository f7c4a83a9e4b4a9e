"""Which columns of a catalogue's table mean what: the tables of names, and the reading of a table's own names by them.

Names are those of the SDSS data model (DR16 to DR20), of sdssdb's `catalogdb`, of the Gaia archive and of the 2MASS
point source catalogue, compared in lower case. `docs/catalogue.md` shows the same tables to users. A new release is an
entry here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from astra.products.releases import GAIA_RELEASES

# What a column can say of an object's identity. Beside the kinds of identifier there are:
# catalogid    of the cross-match that the number itself tells
# gaia         of the release that the table, or the row, tells
# designation  of 2MASS or of Gaia, as each value shows
# name         an APOGEE name, where it is made of coordinates: other tables have other things in such columns
IDENTIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "sdss_id": ("sdss_id",),
    "catalogid31": ("catalogid31",),
    "catalogid25": ("catalogid25",),
    "catalogid21": ("catalogid21",),
    "catalogid": ("catalogid",),
    "gaia_dr3": (
        "gaia_dr3_source_id", "gaiaedr3_source_id", "gaia_edr3_source_id", "gaia_dr3_source__source_id",
        "gaia_dr3_srcid", "gdr3_source_id",
    ),
    "gaia_dr2": ("gaia_dr2_source_id", "gaia_dr2_source__source_id"),
    "gaia": ("source_id", "gaia_source_id", "gaia_sourceid"),
    "tmass": (
        "tmass", "tmass_id", "tmass_designation", "twomass", "twomass_id", "twomass_designation", "twomass_psc",
        "2mass", "2mass_id",
    ),
    "designation": ("designation",),
    "apogee": ("apogee_id", "sdss4_apogee_id"),
    "name": ("obj", "objid"),
}  # fmt: skip
NUMBERS: Final = frozenset({*list(IDENTIFIERS)[:7], "gaia"})

CATALOGDB_EPOCH: Final = 2015.5
TMASS_EPOCH: Final = 1999.5  # the middle of its nights, of 1997 to 2001
FIRST_EPOCH, LAST_EPOCH = 1800.0, 2200.0  # anything else in a column "epoch" is a date of another reckoning
GAIA_EPOCHS: Final = {"gaia_dr2": 2015.5, "gaia_dr3": 2016.0}


class Position(NamedTuple):
    """Two columns of degrees; `epoch` is None where the kind of table knows it."""

    ra: str
    dec: str
    epoch: float | None = None


# The first of which a table has both columns is taken.
POSITIONS: Final = (
    Position("ra_sdss_id", "dec_sdss_id", CATALOGDB_EPOCH),
    Position("ra_catalogid", "dec_catalogid", CATALOGDB_EPOCH),
    Position("ra", "dec"),
    Position("ra", "decl"),
)
# In milliarcseconds a year, cos(dec) included.
MOTIONS: Final = (
    ("gaiaedr3_pmra", "gaiaedr3_pmdec"),
    ("gaia_pmra", "gaia_pmdec"),
    ("pmra", "pmdec"),
    ("pmra", "pmde"),
)
EPOCHS: Final = ("ref_epoch", "epoch")  # Julian years
JULIAN_DATE: Final = "jdate"  # of the 2MASS night
RANK: Final = "rank"
GAIA_RELEASE: Final = "gaia_release"  # a text in each row, such as "dr3"


class Unknown(ValueError):
    """No column of a table holds identifiers: it is no catalogue, though another table of the file may be one."""


class Kind(NamedTuple):
    """A known kind of table: its marks are columns that it has, and together no kind before it.

    `epoch` is of the columns ``ra`` and ``dec``; `means` decides what a name means that others use differently.
    """

    name: str
    marks: frozenset[str]
    epoch: float | None
    means: Mapping[str, str] = {}


_DR2: Final = {"gaia_source_id": "gaia_dr2"}
_TMASS: Final = {"designation": "tmass"}
# The first that fits is the table's.
KINDS: Final = (
    Kind("sdss_id_flat", frozenset({"sdss_id", "catalogid", "ra_sdss_id", "rank"}), CATALOGDB_EPOCH),
    Kind("sdss_id_stacked", frozenset({"sdss_id", "catalogid21", "ra_sdss_id"}), CATALOGDB_EPOCH),
    Kind("sdss_id_to_catalog", frozenset({"sdss_id", "catalogid", "gaia_dr3_source__source_id"}), CATALOGDB_EPOCH),
    Kind("allStar of SDSS-V's APOGEE", frozenset({"apogee_id", "gaia_release", "gaia_sourceid"}), TMASS_EPOCH),
    Kind("allStar of Astra (mwmAllStar, astraAllStar)", frozenset({"sdss_id", "sdss4_apogee_id"}), CATALOGDB_EPOCH),
    Kind("allStar of DR17", frozenset({"apogee_id", "gaiaedr3_source_id"}), TMASS_EPOCH),
    Kind("allStar of DR16", frozenset({"apogee_id", "apstar_id", "gaia_source_id"}), TMASS_EPOCH, _DR2),
    Kind("allStar before DR16", frozenset({"apogee_id", "apstar_id"}), TMASS_EPOCH),
    Kind("2MASS point sources", frozenset({"designation", "pts_key"}), TMASS_EPOCH, _TMASS),
    Kind("2MASS point sources", frozenset({"designation", "j_m", "k_m"}), TMASS_EPOCH, _TMASS),
    Kind("mos_target, mos_catalog", frozenset({"catalogid"}), CATALOGDB_EPOCH),
    Kind("gaia_source of the Gaia archive", frozenset({"source_id"}), None),  # of its release, decided below
)

# In answer to which Gaia release a table is of; "none" leaves such a column aside.
GAIA_ANSWERS: Final = ("dr2", "dr3", "none")
PAGE: Final = "the page Catalogues of the documentation"
_GAIA_NAME = re.compile(r"Gaia (E?DR\d)\b", re.IGNORECASE)


class Taken(NamedTuple):
    """A column that is read, as the table spells it, and what it is taken for."""

    column: str
    meaning: str


class Plan(NamedTuple):
    """What is read of a table: the columns of identifiers, those of the position, and the epoch where no column says.

    `gaia_release` is the column that tells, row by row, the release of the identifiers taken for "gaia".
    """

    kind: str | None
    identifiers: tuple[Taken, ...]
    epoch: float | None = None
    ra: str | None = None
    dec: str | None = None
    pmra: str | None = None
    pmdec: str | None = None
    epochs: str | None = None
    julian_date: str | None = None
    rank: str | None = None
    gaia_release: str | None = None

    @property
    def taken(self) -> tuple[Taken, ...]:
        """All columns that are read, each once, with what it is taken for."""
        others = ("ra", "dec", "pmra", "pmdec", "epochs", "julian_date", "rank", "gaia_release")
        found = ((getattr(self, each), each.removesuffix("s").replace("_", " ")) for each in others)
        return self.identifiers + tuple(Taken(column, meaning) for column, meaning in found if column is not None)


Peek = Callable[[str], Sequence[str]]


def plan(columns: Sequence[str], peek: Peek, gaia: str | None = None, epoch: float | None = None) -> Plan:
    """Return what to read of a table with these columns.

    Parameters
    ----------
    columns
        The table's columns that hold one value in each row, as it spells them.
    peek
        Gives the first values of a column, as texts: asked only where names do not decide.
    gaia, epoch
        What the user says of the table: one of `GAIA_ANSWERS`; the epoch of its positions, whatever it says itself.

    Raises
    ------
    Unknown
        Where no column holds identifiers.
    ValueError
        With the sentence for the user: two columns of one name, or a Gaia release that nothing tells.
    """
    _check_said(gaia, epoch)
    spelt = _spelt(columns)
    kind = next((each for each in KINDS if each.marks <= spelt.keys()), None)
    meanings, release = _meanings(spelt, kind, peek, gaia)
    identifiers = tuple(Taken(spelt[name], meaning) for name, meaning in meanings.items())
    if not identifiers:
        some = ", ".join(map(brief, columns[:12])) + (", ..." if len(columns) > 12 else "")
        what = f"none of its columns is known to hold identifiers of objects ({some or 'it has none'})"
        raise Unknown(f"{what}: {PAGE} has those that are")
    return _with_position(
        Plan(
            kind.name if kind else None,
            identifiers,
            rank=spelt.get(RANK),
            gaia_release=spelt.get(GAIA_RELEASE) if release == "gaia" else None,
        ),
        spelt,
        kind.epoch if kind and kind.epoch else GAIA_EPOCHS.get(release or ""),
        epoch,
    )


def _check_said(gaia: str | None, epoch: float | None) -> None:
    """Raise `ValueError` where what the user says can be true of no table."""
    if epoch is not None and not FIRST_EPOCH <= epoch <= LAST_EPOCH:
        how = "--epoch 2015.5 (epoch=2015.5 in Python)"
        raise ValueError(f"the epoch of its positions is a year, such as {how}, not {epoch:g}")
    if gaia is not None and gaia not in GAIA_ANSWERS:
        raise ValueError(f"--gaia (gaia= in Python) is one of {', '.join(GAIA_ANSWERS)}, not {brief(gaia)}")


def _meanings(
    spelt: Mapping[str, str], kind: Kind | None, peek: Peek, gaia: str | None
) -> tuple[dict[str, str], str | None]:
    """Return what the names mean that are of identifiers, and the Gaia release that was found, if it had to be."""
    meanings = {
        name: kind.means.get(name, meaning) if kind else meaning
        for meaning, names in IDENTIFIERS.items()
        for name in names
        if name in spelt
    }
    if "gaia" not in meanings.values():
        return meanings, None
    release = _release(spelt, meanings, peek, gaia)
    meanings = {name: release if meaning == "gaia" else meaning for name, meaning in meanings.items()}
    return {name: meaning for name, meaning in meanings.items() if meaning != "none"}, release


def _spelt(columns: Sequence[str]) -> dict[str, str]:
    """Return how the table spells each name; raise `ValueError` where a name that matters stands twice."""
    spelt: dict[str, str] = {}
    known = {name for names in IDENTIFIERS.values() for name in names}
    known |= {name for pair in (*(each[:2] for each in POSITIONS), *MOTIONS) for name in pair}
    known |= {*EPOCHS, JULIAN_DATE, RANK, GAIA_RELEASE}
    for column in columns:
        name = column.strip().lower()
        if name in spelt and name in known:
            two = f"{brief(spelt[name])} and {brief(column)}"
            raise ValueError(f"it has two columns {two}, and which one is meant is not known")
        spelt.setdefault(name, column)
    return spelt


def brief(name: str) -> str:
    """Return how a name begins, for a sentence, in one line."""
    name = " ".join(name[:200].split())
    return name if len(name) <= 40 else f"{name[:40]}..."


def _with_position(found: Plan, spelt: Mapping[str, str], known: float | None, said: float | None) -> Plan:
    """Return the plan with its position: the user's word on the epoch counts before columns, and those before kinds."""
    position = next((each for each in POSITIONS if each.ra in spelt and each.dec in spelt), None)
    if position is None:
        return found
    pmra, pmdec = next((each for each in MOTIONS if spelt.keys() >= {*each}), (None, None))
    found = found._replace(
        ra=spelt[position.ra],
        dec=spelt[position.dec],
        pmra=spelt[pmra] if pmra else None,
        pmdec=spelt[pmdec] if pmdec else None,
        epoch=said or position.epoch or known,
    )
    if said or position.epoch:
        return found
    epochs = next((spelt[each] for each in EPOCHS if each in spelt), None)
    return found._replace(epochs=epochs, julian_date=None if epochs else spelt.get(JULIAN_DATE))


def _release(spelt: Mapping[str, str], meanings: Mapping[str, str], peek: Peek, said: str | None) -> str:
    """Return which release a column of Gaia's numbers is of; "gaia" where each row tells, "none" to leave it aside."""
    column = next(spelt[name] for name, meaning in meanings.items() if meaning == "gaia")
    if said == "none":
        return "none"
    told, by = _told(spelt, peek)
    if said is not None and told is not None and told != "gaia" and GAIA_RELEASES[said] != told:
        what = f"its {by} says that its column {column} is of {_shown(told)}"
        raise ValueError(f'{what}, and --gaia says {said} (gaia="{said}" in Python)')
    if said is None and told is None:
        how = '--gaia dr2 or --gaia dr3 (gaia="dr2" in Python), or --gaia none to leave the column aside'
        raise ValueError(f"nothing in it tells of which Gaia release its column {column} is; say which: {how}")
    return GAIA_RELEASES[said] if said else str(told)


def _told(spelt: Mapping[str, str], peek: Peek) -> tuple[str | None, str]:
    """Return what the table itself tells of the release of its Gaia numbers, and which column does."""
    if GAIA_RELEASE in spelt:
        return "gaia", spelt[GAIA_RELEASE]
    if "designation" in spelt:
        for text in peek(spelt["designation"]):
            if match := _GAIA_NAME.match(text):
                kind = GAIA_RELEASES.get(match[1].lower())
                if kind is None:
                    raise ValueError(f"its designations are of Gaia {match[1].upper()}, whose numbers are not kept")
                return kind, spelt["designation"]
    if "ref_epoch" in spelt:
        epochs = {text for text in peek(spelt["ref_epoch"]) if text}
        for kind, epoch in GAIA_EPOCHS.items():
            if epochs and all(_is(text, epoch) for text in epochs):
                return kind, spelt["ref_epoch"]
    return None, ""


def _is(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def _shown(kind: str) -> str:
    return kind.removeprefix("gaia_")
