"""What the APOGEE products share: object names, telescopes, identifiers, and the cards worth asking for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from astra import healpix
from astra.errors import BadHeader, IncompleteFile
from astra.headers import Header, named
from astra.identifiers import Identifier, catalogid_kind
from astra.products import releases
from astra.products.base import Description, Recognised, Target, identity
from astra.sky import separation

Value = TypeVar("Value")

TELESCOPES: Final = ("apo25m", "lco25m", "apo1m")
TELESCOPE: Final = "(?:" + "|".join(TELESCOPES) + ")"

# 2MASS designations, and names made in the same way from the coordinates of a target 2MASS does not have.
_DESIGNATION = re.compile(r"(2MASS ?J|2M|AP|J)(([01]\d|2[0-3])[0-5]\d[0-5]\d\d\d[+-][0-8]\d[0-5]\d[0-5]\d\d)\Z")
_NO_OBJECT = frozenset({"-", "2M", "2MNone"})
_KEYS = releases.IDENTITY_KEYS
_NAME_TOLERANCE = 10.0  # arcseconds; header and name agreed within 0.14" in all 290 files we know

_TEXTS = {
    "objtype": _KEYS["objtype"], "survey": ("SURVEY",), "date_obs": ("DATE-OBS",), "v_apred": ("V_APRED",),
    "carton": ("CARTON1",), "program": ("PROGRAM",), "category": ("CATEGORY",), "header_telescope": ("TELESCOP",),
}  # fmt: skip
_INTEGERS = {
    "nvisits": ("NVISITS",), "ncombine": ("NCOMBINE",), "starflag": ("STARFLAG",), "andflag": ("ANDFLAG",),
    "locid": ("LOCID",),
}  # fmt: skip
# VHELIO is barycentric whatever its name says. VRAD is barycentric in SDSS-V stars and the uncorrected shift before.
_NUMBERS = {
    "glon": ("GLON",), "glat": ("GLAT",), "snr": ("SNR",), "jd": ("JD-MID", "JD"), "exptime": ("EXPTIME",),
    "vhelio": ("VHELIO",), "vrad": ("VRAD",), "vscatter": ("VSCATTER",), "verr": ("VERR", "VRADERR"), "bc": ("BC",),
    "rv_teff": ("RV_TEFF", "RVTEFF"), "rv_logg": ("RV_LOGG", "RVLOGG"), "rv_feh": ("RV_FEH", "RVFEH"),
}  # fmt: skip
_MAGNITUDES = {
    "jmag": ("JMAG", "J"), "hmag": ("HMAG", "H"), "kmag": ("KMAG", "K"), "gmag": ("GMAG", "GGMAG"),
}  # fmt: skip
_MAGNITUDES_END = (-10.0, 50.0)
_IDS = frozenset({"FIELD", *(keyword for keywords in _KEYS.values() for keyword in keywords)})

# What every product may say of itself, beside its own identity fields.
FACTS: Final = frozenset(
    {"object", "release", "sdss_id", "catalogid", "gaia_dr2", "gaia_dr3", "ra", "dec", "apred", "telescope", "field"}
    | {"mjd"}
    | {name for group in (_TEXTS, _INTEGERS, _NUMBERS, _MAGNITUDES) for name in group}
)

_GROUPS: tuple[Mapping[str, tuple[str, ...]], ...] = (_TEXTS, _INTEGERS, _NUMBERS, _MAGNITUDES)
WANTED: Final = _IDS | {key for group in _GROUPS for keys in group.values() for key in keys}


@dataclass(slots=True)
class Reading:
    """What is being found out about one file: its path's fields, its header, and what was odd."""

    filetype: str
    recognised: Recognised
    header: Header
    kwargs: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def bad(self, why: str) -> BadHeader:
        return BadHeader(f"cannot take in {named(self.header.path)}: {why}; set aside until the file changes")

    def require_object(self) -> tuple[str, str]:
        """Return the card that names the object, and what it says."""
        key = next((each for each in _KEYS["object"] if each in self.header.cards), _KEYS["object"][0])
        return key, self.require(key)

    def require(self, key: str) -> str:
        """Return the text of a card without which nothing is known of the file."""
        value = self.header.text(key)
        if value is None:
            raise self.bad(f"its header has no {key}" if key not in self.header.cards else f"its {key} is empty")
        return value

    def agree(self, what: str, key: str, written: str, found: str) -> None:
        """Raise `BadHeader` where the name and the card `key` contradict each other."""
        if written != found:
            raise self.bad(f"its name says {what} {written}, its header {key} = {found}")


@lru_cache(maxsize=1024)  # asked several times of each file, and of each file of a star
def designation(name: str) -> str | None:
    """Return the 2MASS-style part of an object name ("00005143+5615568" of "2M00005143+5615568"), or None."""
    match = _DESIGNATION.match(name)
    return match[2] if match else None


def coordinates(name: str) -> tuple[float, float] | None:
    """Return right ascension and declination, in degrees, as an object name spells them, or None."""
    digits = designation(name)
    if digits is None:
        return None
    ra = 15.0 * (int(digits[0:2]) + int(digits[2:4]) / 60 + int(digits[4:8]) / 360_000)
    dec = int(digits[9:11]) + int(digits[11:13]) / 60 + int(digits[13:16]) / 36_000
    return ra, -dec if digits[8] == "-" else dec


def pixel(name: str) -> str | None:
    """Return the number of the SDSS-V folder of an object, from the coordinates its name spells, or None."""
    position = coordinates(name)
    return None if position is None else str(healpix.ang2pix(healpix.NSIDE, *position))


def is_number(text: str) -> bool:
    """Return whether a text is a whole number in the digits 0 to 9 alone."""
    return text.isascii() and text.isdigit()


def unpadded(number: str) -> str:
    """Return a whole number's text without leading zeros; any other text as it is, without blanks around it."""
    stripped = number.strip()
    return str(int(stripped)) if is_number(stripped) else stripped


def folders(patterns: Iterable[re.Pattern[str]], path: str) -> dict[str, str]:
    """Return the fields that the last folders of `path` give under the first layout that fits, or none."""
    parent = path.rpartition("/")[0]
    for pattern in patterns:
        match = pattern.search(parent)
        if match:
            return {key: value.strip() for key, value in match.groupdict().items() if value is not None}
    return {}


def telescope(reading: Reading) -> str:
    """Return the telescope: the name's, else the folder's, else what "as" means, else the header's, else apo25m.

    The header comes late because the pipeline writes apo25m into it for every telescope but the 1 m; the stars of
    DR17 and SDSS-V have no such card at all.
    """
    fields, folder = reading.recognised.fields, reading.recognised.folders.get("telescope")
    southern = fields["prefix"] == "as"
    name = fields.get("telescope")
    if name and folder and name != folder:
        raise reading.bad(f"its name says telescope {name}, its folder {folder}")
    if southern and (name or folder or "lco25m") != "lco25m":
        raise reading.bad(f'its name begins with "as", for lco25m, and its telescope is {name or folder}')
    if name or folder or southern:
        return name or folder or "lco25m"
    if "reduction" in fields:
        return "apo1m"
    card = (reading.header.text("TELESCOP") or "").lower()
    return card if card in TELESCOPES else "apo25m"


def release(reading: Reading, apred: str, setting: str | None) -> str:
    """Return the release of reduction `apred`, or raise `BadHeader` where the setting contradicts the name."""
    try:
        return releases.release_of(apred, setting, "telescope" in reading.recognised.fields)
    except ValueError as error:
        what = f"cannot take in {named(reading.header.path)}: {error}"
        raise BadHeader(f"{what}; set aside: correct the setting, then replay the quarantined") from None


def check_object(reading: Reading, name: str) -> None:
    """Raise `BadHeader` where the header's object is not the one in the file's name.

    At the 1 m a file carries the name its operator typed, and the header may hold the catalogue's: that is only noted.
    """
    key, found = reading.require_object()
    if found == name or (designation(found) or found) == designation(name):
        return
    if found in _NO_OBJECT or reading.kwargs.get("telescope") == "apo1m":
        reading.notes.append(f"its name says object {name}, its header {key} = {found}")
        return
    reading.agree("object", key, name, found)


def describe(reading: Reading, release: str, version: int | None) -> Description:
    """Return the description, with the object and the cards that all APOGEE products have in common."""
    said = _metadata(reading.header) | _catalogue_ids(reading.header)
    ra, dec = _position(reading)
    reading.metadata.update({key: value for key, value in said.items() if value is not None}, ra=ra, dec=dec)
    for key in ("apred", "plate", "mjd", "healpix"):
        given, expected = reading.recognised.folders.get(key), reading.metadata.get(key)
        if not given or expected is None or given == str(expected):
            continue
        if unpadded(given) not in (str(expected), reading.kwargs.get(key)):
            reading.notes.append(f"its folder says {key} {given}, and it should be {expected}")
    found = target(release, reading.metadata)
    _note_oddities(reading, found)
    return Description(
        release=release,
        filetype=reading.filetype,
        kwargs=reading.kwargs,
        identity=identity(release, reading.filetype, reading.kwargs),
        version=version,
        target=found,
        metadata=reading.metadata,
        notes=tuple(reading.notes),
    )


def target(release: str, metadata: Mapping[str, Any]) -> Target:
    """Return what a header said of its object, from the facts kept of it: identifiers, the surest first, and place.

    Sky has no identifiers, and nothing is made from a position alone.
    """
    ra, dec, epochs = metadata.get("ra"), metadata.get("dec"), releases.epochs_of(release)
    if _is_sky(metadata):
        return Target((), None, None, epochs)
    found = [Identifier("sdss_id", metadata["sdss_id"])] if "sdss_id" in metadata else []
    if "catalogid" in metadata and (kind := catalogid_kind(int(metadata["catalogid"]))):
        found.append(Identifier(kind, metadata["catalogid"]))
    found += [Identifier(kind, metadata[kind]) for kind in ("gaia_dr3", "gaia_dr2") if kind in metadata]
    name = metadata.get("object") or ""
    digits, spelt = designation(name), coordinates(name)
    if digits is not None:
        found += [Identifier("tmass", digits), Identifier("apogee", name)]
    away = None if spelt is None or ra is None or dec is None else separation(ra, dec, *spelt)
    if away is None or away <= _NAME_TOLERANCE:
        return Target(tuple(found), ra, dec, epochs)
    return Target(tuple(found), ra, dec, epochs, f"its RA and DEC are {away:.1f} arcseconds from where its name says")


def _is_sky(metadata: Mapping[str, Any]) -> bool:
    return str(metadata.get("objtype") or "").upper() == "SKY"


def _note_oddities(reading: Reading, found: Target) -> None:
    if found.ra is None and reading.metadata["ra"] is None:
        reading.notes.append("its header gives no position")
    if found.doubt:
        reading.notes.append(found.doubt)
    catalogid = reading.metadata.get("catalogid")
    if _is_sky(reading.metadata):
        reading.notes.append("it is of a sky fibre, so it has no source")
    elif catalogid is not None and catalogid_kind(int(catalogid)) is None:
        reading.notes.append(f"its catalogid {catalogid} is of no cross-match we know, so it is not used")


def check_hdus(description: Description, header: Header, expected: int) -> None:
    """Raise `IncompleteFile` where HDUs are still to come: a file cut at the end of one is valid FITS."""
    if header.hdus < expected:
        have = f"it has {header.hdus} of the {expected} HDUs of an {description.filetype} of {description.release}"
        raise IncompleteFile(f"cannot take in {named(header.path)}: {have}")


def _position(reading: Reading) -> tuple[float | None, float | None]:
    ra, dec = _first(reading.header.number, "ra"), _first(reading.header.number, "dec")
    if ra is None or dec is None or not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        return None, None
    return ra, dec


def _catalogue_ids(header: Header) -> dict[str, str]:
    """Return the numbers by which catalogues know the object, as text, which no reader of JSON rounds."""
    found = {fact: _first_id(header, _KEYS[fact]) for fact in ("sdss_id", "catalogid", "gaia")}
    gaia = found.pop("gaia")
    release = (_first(header.text, "gaia_release") or "").lower().removeprefix("gaia_") if gaia else ""
    if kind := releases.GAIA_RELEASES.get(release):
        found[kind] = gaia
    return {kind: str(number) for kind, number in found.items() if number is not None}


def object_name(header: Header) -> str | None:
    """Return the name of the object that a header is of."""
    return _first(header.text, "object")


def _first(read: Callable[[str], Value | None], fact: str) -> Value | None:
    """Return what the first card of a fact says that says anything."""
    return next((value for key in _KEYS[fact] if (value := read(key)) is not None), None)


def _first_id(header: Header, keywords: Iterable[str]) -> int | None:
    for key in keywords:
        if key in header.cards and (value := header.integer(key)) is not None and value > 0:
            return value
    return None


class _There(NamedTuple):
    """The facts that a header of given keywords may tell, each with the card that tells it."""

    texts: tuple[tuple[str, str], ...]
    integers: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str], ...]
    magnitudes: tuple[tuple[str, str], ...]


@lru_cache(maxsize=256)
def _there(keywords: tuple[str, ...]) -> _There:
    """Return what cards of these keywords tell: files of one product type mostly have the same."""
    firsts = ({name: next((k for k in keys if k in keywords), None) for name, keys in each.items()} for each in _GROUPS)
    return _There(*(tuple((name, key) for name, key in each.items() if key is not None) for each in firsts))


def _metadata(header: Header) -> dict[str, Any]:
    """Return the cards worth asking for; `nulled` keeps what a sentinel said."""
    cards, there, nulled = header.cards, _there(tuple(header.cards)), dict[str, str]()
    found: dict[str, Any] = {"object": object_name(header)}
    for name, key in there.texts:
        found[name] = header.text(key)
    for name, key in there.integers:
        found[name] = header.integer(key)
    for numbers, smallest, largest in (there.numbers, -math.inf, math.inf), (there.magnitudes, *_MAGNITUDES_END):
        for name, key in numbers:
            value = cards[key]
            # no sentinel is as near to zero as this, and most values are
            number = value if type(value) is float and -90.0 < value < 9000.0 else header.number(key)
            if number is None or not smallest < number < largest:
                nulled[key] = str(cards[key] if cards[key] is not None else header.raw(key))
            else:
                found[name] = number
    if nulled:
        found["nulled"] = nulled
    return found


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Return a path template filled with `fields`; raise `ValueError` with the name of one that is missing."""
    try:
        return template.format_map(fields)
    except KeyError as error:
        raise ValueError(f"a path of this layout needs the field {error}") from None
