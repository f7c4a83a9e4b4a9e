"""What is read and taken in: the real spectra where there are any, and trees of as many synthetic ones as wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from astra.clock import SYSTEM
from astra.headers import BLOCK
from astra.ledger import RACY_SECONDS
from astra.products.apstar import PRODUCT as APSTAR
from astra.products.apvisit import PRODUCT as APVISIT
from astra.simulate import Night
from astra.simulate.files import star_file, visit_file

RELEASES = ("dr13", "dr17")
APRED = {"dr13": "r6", "dr17": "dr17"}
MJDS = (55800, 56300)


@dataclass(frozen=True, slots=True)
class Hdu:
    """Where an HDU begins and the bytes of its header; its data are left as a hole, and read back as zeros."""

    start: int
    header: bytes


@dataclass(frozen=True, slots=True)
class Template:
    """A synthetic file of one release without its data: every header, and the size of the whole."""

    hdus: tuple[Hdu, ...]
    size: int

    def write(self, path: Path, cards: Mapping[str, str]) -> None:
        """Write the file with other values of some cards of its primary header."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", buffering=0) as stream:
            stream.truncate(self.size)
            for hdu in self.hdus:
                stream.seek(hdu.start)
                stream.write(hdu.header if hdu.start else _changed(hdu.header, cards))


def _template(hdus: tuple[bytes, ...]) -> Template:
    found, start = [], 0
    for hdu in hdus:
        found.append(Hdu(start, hdu[: _header_length(hdu)]))
        start += len(hdu)
    return Template(tuple(found), start)


def _header_length(hdu: bytes) -> int:
    end = next(at for at in range(0, len(hdu), 80) if hdu[at : at + 8] == b"END     ")
    return -(-(end + 80) // BLOCK) * BLOCK


def _changed(header: bytes, cards: Mapping[str, str]) -> bytes:
    content = bytearray(header)
    for at in range(0, len(header), 80):
        key = header[at : at + 8].decode().rstrip()
        if key in cards:
            content[at : at + 80] = f"{key:<8}= {cards[key]:>20}".ljust(80).encode()
    return bytes(content)


@dataclass(frozen=True, slots=True)
class Templates:
    """A visit and a star of one release."""

    release: str
    visit: Template
    star: Template

    @classmethod
    def of(cls, release: str) -> Templates:
        """Make them from a simulated star with two visits."""
        plan = Night(release=release, telescopes=("apo25m",), configurations=1, stars=1, visits=2)
        star = next(iter(next(iter(plan.fields())).stars()))
        visit = visit_file(star.visits[0])
        primary = visit.rewritten or visit.hdus[0]
        return cls(release, _template((primary, *visit.hdus[1:])), _template(star_file(star, 2).hdus))

    def write_object(self, root: Path, number: int, most: int) -> int:
        """Write object `number`: its star and two visits, each in a folder of its own, `most` files at most."""
        name, ra, dec = _position(number)
        field, fiber = str(4000 + number), 1 + number % 300
        named = {"OBJID": f"'{name}'", "RA": f"{ra:.6f}", "DEC": f"{dec:.6f}", "LOCID": field, "FIELD": f"'{field}'"}
        place = {"apred": APRED[self.release], "telescope": "apo25m", "field": field}
        self.star.write(root / APSTAR.path(self.release, {**place, "obj": name}), named)
        for mjd in MJDS[: most - 1]:
            numbers = {"PLATE": field, "MJD5": str(mjd), "FIBERID": str(fiber)}
            fields = {**place, "plate": field, "mjd": str(mjd), "fiber": str(fiber)}
            self.visit.write(root / APVISIT.path(self.release, fields), named | numbers)
        return min(most, 1 + len(MJDS))


def _position(number: int) -> tuple[str, float, float]:
    """Return an object's name and where that says it is: each number has its own."""
    hundredths, minutes = number * 37 % 6000, number * 37 // 6000 % 1440
    name = f"2M{minutes // 60:02d}{minutes % 60:02d}{hundredths:04d}+{number % 80:02d}30000"
    return name, 15 * (minutes / 60 + hundredths / 360_000), number % 80 + 0.5


def make_tree(root: Path, size: int, first: int = 0) -> Path:
    """Write `size` files below `root`: whole, of real layout and length, their data holes. Three files an object.

    `first` is the number of the first object: trees whose numbers differ have no object in common.
    """
    templates = [Templates.of(release) for release in RELEASES]
    written, number = 0, first
    while written < size:
        written += templates[number % len(templates)].write_object(root, number, size - written)
        number += 1
    return root


def make_hollow(root: Path, numbers: range, most: int) -> Path:
    """Write stars that have their full size and no content, and so are refused; `most` of them in a folder."""
    release = RELEASES[0]
    place, size = {"apred": APRED[release], "telescope": "apo25m"}, Templates.of(release).star.size
    for number in numbers:
        fields = {**place, "field": str(4000 + number // most), "obj": _position(number)[0]}
        path = root / APSTAR.path(release, fields)
        if number == numbers.start or number % most == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", buffering=0) as stream:
            stream.truncate(size)
    return root


def settle() -> None:
    """Wait until what was written is old enough to be looked at only once."""
    SYSTEM.pause(RACY_SECONDS + 0.2)


def make_samples(root: Path) -> list[Path]:
    """Return whole files to read again and again: the real spectra, or synthetic ones where there are none."""
    real = os.environ.get("ASTRA_REAL_DATA")
    if real:
        return sorted([*Path(real).glob("apStar-*.fits"), *Path(real).glob("apVisit-*.fits")])
    return [path for release in ("dr13", "dr17", "dr19") for path in _simulated(root, release)]


def _simulated(root: Path, release: str) -> Iterator[Path]:
    plan = Night(release=release, configurations=1, stars=3, visits=2)
    for field in plan.fields():
        for star in field.stars():
            stored = [(file.path, file.hdus) for file in (visit_file(star.visits[0]), star_file(star, 2))]
            for relative, hdus in stored:
                path = root / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"".join(hdus))
                yield path
