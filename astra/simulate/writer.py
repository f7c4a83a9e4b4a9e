"""Writing the night: files grow by one HDU at a time, several configurations at once, and the stars come last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from astra.clock import SYSTEM, Clock
from astra.products.releases import expected_hdus
from astra.simulate.files import star_file, visit_file
from astra.simulate.night import Field, Night, Star
from astra.simulate.paths import visit_path


class Deed(StrEnum):
    """What a step did to its file."""

    APPENDED = "appended"
    REWRITTEN = "rewritten"
    LINKED = "linked"


@dataclass(frozen=True, slots=True)
class Step:
    """One change on disk: the path, the HDU written (the first is 0), how many the file will have, what was done."""

    path: Path
    hdu: int
    of: int
    deed: Deed

    @property
    def last(self) -> bool:
        """Whether the file (or link) is now as it will stay."""
        return self.deed is Deed.LINKED or (self.deed is Deed.APPENDED and self.hdu == self.of - 1)


@dataclass(frozen=True, slots=True)
class Truth:
    """What was put into one star file: the true velocity, and what its header says of velocity, scatter and S/N."""

    object: str
    telescope: str
    velocity: float
    header_velocity: float
    scatter: float
    snr: float
    catalogid: int
    star: Path
    link: Path | None
    visits: tuple[Path, ...]


class Simulation:
    """A night being written: iterate to write it, a step at a time.

    Attributes
    ----------
    total : int
        How many steps there will be.
    truth : list of Truth
        Grows with each star file written; kept in memory only, never beside the files.
    """

    def __init__(self, plan: Night, root: Path, clock: Clock) -> None:
        self.plan, self.root, self.truth = plan, root, list[Truth]()
        self._clock = clock
        self._fields = list(plan.fields())
        layout = plan.layout
        stars = len(self._fields) * plan.stars
        self._visit_hdus = expected_hdus("apVisit", plan.release)
        self.total = stars * plan.visits * (self._visit_hdus + bool(layout.rv_stage))
        self.total += stars * plan.combinations * (expected_hdus("apStar", plan.release) + layout.versioned)

    def __iter__(self) -> Iterator[Step]:
        configurations = [self._configuration(field, n) for n in range(self.plan.visits) for field in self._fields]
        yield from self._paced(_interleaved(configurations, self.plan.writers))
        first = self.plan.visits - self.plan.combinations + 1
        for used in range(first, self.plan.visits + 1):
            for field in self._fields:
                for star in field.stars():
                    yield from self._paced(self._star(star, used))

    def _paced(self, steps: Iterator[Step]) -> Iterator[Step]:
        for step in steps:
            yield step
            if self.plan.pause:
                self._clock.pause(self.plan.pause)

    def _configuration(self, field: Field, visit: int) -> Iterator[Step]:
        """Write all spectra of one configuration, then let the last stage go over them: it appends the table.

        Until then each file is valid FITS with 11 of its 12 HDUs.
        """
        # Of a file only what the last stage needs is kept: a real configuration has 300 of half a megabyte each.
        kept: list[tuple[Path, int, bytes | None, bytes]] = []
        for star in field.stars():
            file = visit_file(star.visits[visit])
            kept.append((self.root / file.path, len(file.hdus[0]), file.rewritten, file.hdus[-1]))
            yield from self._append(file.path, file.hdus[:-1], self._visit_hdus)
        for path, length, rewritten, table in kept:
            if rewritten is not None:
                _replace_header(path, length, rewritten)
                yield Step(path, 0, self._visit_hdus, Deed.REWRITTEN)
            with path.open("ab") as stream:
                stream.write(table)
            yield Step(path, self._visit_hdus - 1, self._visit_hdus, Deed.APPENDED)

    def _append(self, relative: str, hdus: tuple[bytes, ...], of: int) -> Iterator[Step]:
        """Open, write one HDU, close, as often as there are HDUs; an older file of this name is truncated first."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        for n, hdu in enumerate(hdus):
            with path.open("ab" if n else "wb") as stream:
                stream.write(hdu)
            yield Step(path, n, of, Deed.APPENDED)

    def _through_one_stream(self, relative: str, hdus: tuple[bytes, ...]) -> Iterator[Step]:
        """Write a file that stays open until its last HDU is on disk: nothing closes while it grows."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as stream:
            for n, hdu in enumerate(hdus[:-1]):
                stream.write(hdu)
                yield Step(path, n, len(hdus), Deed.APPENDED)
            stream.write(hdus[-1])
        yield Step(path, len(hdus) - 1, len(hdus), Deed.APPENDED)

    def _star(self, star: Star, used: int) -> Iterator[Step]:
        file = star_file(star, used)
        if self.plan.layout.stepwise:
            yield from self._append(file.path, file.hdus, len(file.hdus))
        else:
            yield from self._through_one_stream(file.path, file.hdus)
        path, link = self.root / file.path, self.root / file.link if file.link else None
        if link:
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            yield Step(link, 0, 0, Deed.LINKED)
        visits = tuple(self.root / visit_path(visit) for visit in star.visits[:used])
        self.truth.append(
            Truth(
                object=star.name,
                telescope=star.field.site.name,
                velocity=star.velocity,
                header_velocity=file.velocity,
                scatter=file.scatter,
                snr=file.snr,
                catalogid=star.catalogid,
                star=path,
                link=link,
                visits=visits,
            )
        )


def _replace_header(path: Path, old: int, new: bytes) -> None:
    """Put a longer primary header into a file in place, as the old pipeline did: first the data move back."""
    with path.open("r+b") as stream:
        stream.seek(old)
        rest = stream.read()
        stream.seek(len(new))
        stream.write(rest)
        stream.seek(0)
        stream.write(new)


def _interleaved(writers: list[Iterator[Step]], at_once: int) -> Iterator[Step]:
    """Take a step of each of `at_once` writers in turn; as one ends, the next begins."""
    waiting, active = iter(writers), list[Iterator[Step]]()
    while True:
        while len(active) < at_once and (writer := next(waiting, None)) is not None:
            active.append(writer)
        if not active:
            return
        for writer in tuple(active):
            step = next(writer, None)
            if step is None:
                active.remove(writer)
            else:
                yield step


def simulate(plan: Night, root: Path, clock: Clock = SYSTEM) -> Simulation:
    """Plan to write a synthetic night under `root` (the SAS tree of the release begins there); iterating writes it.

    Examples
    --------
    >>> simulation = simulate(Night(release="dr17"), Path("/data/sas"))  # doctest: +SKIP
    >>> for step in simulation:  # doctest: +SKIP
    ...     print(step.path, step.hdu + 1, "of", step.of)
    """
    return Simulation(plan, root, clock)
