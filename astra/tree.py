"""Walk a folder tree in bounded slices, and tell which of its files differ from the ledger.

The walk is the truth that file events only hint at, so what it cannot see it says: a folder that cannot be read is a
problem in the report, a root that cannot be read or is exchanged during the walk is an outage and raises. Neither is
ever mistaken for "no files". Memory grows with the depth of the tree and the breadth of single folders, not its size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from astra import gathering, ledger, roots
from astra.database.connection import database
from astra.errors import UnreadableFile
from astra.filesystem import holds_something, is_gone
from astra.rules import Rule
from astra.signature import Signature

Wanted = Callable[[str], bool]

_PROBLEMS_KEPT = 100
_PLACES = 2_000  # of the ledger, looked for at a time
# PostgreSQL's indexes hold no more of one entry than 2,700 bytes, compressed or not.
LONGEST_PATH = 2_000


class Found(NamedTuple):
    """A file below a root: its path relative to the root, with ``/`` between the parts, and its signature.

    `known` tells that the ledger has this very version, and wants it looked at again.
    """

    path: str
    signature: Signature
    known: bool = False


class Problem(NamedTuple):
    """A path that the walk could not offer, and why."""

    path: str
    reason: str


class Listed(NamedTuple):
    """A folder as a walk found it: its identity and change time, and the folders in it.

    The time is None where it was too fresh to tell a folder listed now from one that has changed since. It is not the
    modification time: rsync and tar set that back when they have put new files into a folder.
    """

    inode: int
    ctime_ns: int | None
    below: tuple[str, ...]


@dataclass
class WalkReport:
    """What one walk saw; filled while it runs. Only the first hundred problems are kept, all are counted.

    `before` is what an earlier walk `listed`: a folder that is as it was then is not listed again, only those below it
    are looked at. That finds every file made, removed or renamed since, and none that was rewritten in its place.
    Folders in `elsewhere` are left to another walk.
    `back` gathers the ledger's rows of files that were missed and are there again, for whoever may write; `held` counts
    the files that the ledger had in some version and did not miss.
    `began` is the walk's beginning, in seconds since the epoch: what has changed since shortly before is not relied on.
    `rules` are those that are told of files that have gone or come back, where they gather.
    """

    began: float = 0.0
    before: Mapping[str, Listed] = field(default_factory=dict, repr=False)
    elsewhere: Container[str] = frozenset()
    listed: dict[str, Listed] = field(default_factory=dict, repr=False)
    folders: int = 0
    unchanged: int = 0
    files: int = 0
    missing: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    finished: bool = False
    back: list[int] = field(default_factory=list, repr=False)
    held: int = 0
    rules: Sequence[Rule] = ()

    @property
    def complete(self) -> bool:
        """Whether the walk ended and saw everything, so that what it did not find is not there."""
        return self.finished and not (self.problem_count or self.unchanged or self.elsewhere)

    def problem(self, path: str, reason: str) -> None:
        """Note a path that could not be offered."""
        self.problem_count += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(Problem(_printable(path), reason))


def walk(root: Path, wanted: Wanted, report: WalkReport, slice_size: int = 2000) -> Iterator[list[Found]]:
    """Yield the files below `root`, a slice at a time; folders with the highest names, the newest nights, come first.

    Parameters
    ----------
    root
        The folder to walk. Folders behind symbolic links are not entered.
    wanted
        Whether any product type might claim a file of this base name.
    report
        Where counts and problems are noted.
    slice_size
        A slice ends after this many directory entries, so that it takes bounded time; it may hold no file at all.

    Raises
    ------
    UnreadableFile
        If the root cannot be read, or is no longer the same folder when the walk ends.
    """
    return _Walk(root, wanted, report).slices(slice_size)


def differing(root_name: str, root: Path, wanted: Wanted, now: datetime, report: WalkReport) -> Iterator[list[Found]]:
    """Walk `root` and yield, slice by slice, the files whose version the ledger lacks or wants looked at again.

    A copy is wanted again when the file is gone that it is a copy of.
    """
    for found in walk(root, wanted, report):
        new, again, copies, back, held = ledger.differing(root_name, found, now)
        report.back += back
        report.held += held
        folders = {name: roots.folder_of(name) for name in {each.root for each in copies}}
        again += [each.found for each in copies if is_gone(each.original, folders[each.root])]
        yield new + [each._replace(known=True) for each in again]


def sweep(root_name: str, root: Path, wanted: Wanted, now: datetime, report: WalkReport) -> Iterator[list[Found]]:
    """Yield what `differing` does, and keep account of which files are missing: after a walk that saw everything.

    Raises
    ------
    UnreadableFile
        If the root cannot be read; or holds nothing, where there were files: that is what a file system leaves behind
        that is not mounted, and no file is missing for it.
    """
    for found in differing(root_name, root, wanted, now, report):
        if report.back:
            with database.atomic():
                ledger.find_again(report.back)
                gathering.mark_files(report.rules, report.back, now)
            report.back.clear()
        yield found
    if not report.complete:
        return
    if not report.files and not holds_something(root) and ledger.places(root_name, "", 1):
        raise UnreadableFile(
            f"the watched folder {root} is empty, and held files before: it is tried again; if they are gone for good, "
            "put any file there"
        )
    if ledger.count_places(root_name) == report.held:
        return  # every path that the ledger has was found: nobody has to look for one
    for rows in gone(root_name, root):
        if rows:
            with database.atomic():
                ledger.miss(rows, now)
                gathering.mark_files(report.rules, rows, now)
            report.missing += len(rows)
        yield []


def gone(root_name: str, root: Path) -> Iterator[list[int]]:
    """Yield, slice by slice, the ledger's rows of files below a root that are not there any more and not missed yet."""
    after = ""
    while found := ledger.places(root_name, after, _PLACES):
        after = found[-1].path
        yield [each.id for each in found if not each.missed and is_gone(os.path.join(root, each.path), str(root))]


def resolve(path: Path, root: Path) -> Path | None:
    """Return the path under which the file at `path` is to be offered, or None if it is not to be.

    A symbolic link whose target lies below the root is an alias of a file that is offered itself; one that leads out
    of the root is offered under its own name. Folders and what is not a regular file are never offered.
    """
    try:
        inside = os.path.realpath(root)
        target = os.path.realpath(path, strict=True)
        if not S_ISREG(os.stat(target).st_mode):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableFile(f"cannot look at {path}: {error.strerror}") from error
    own = os.path.join(inside, os.path.relpath(path, root))
    return path if target == own or not _lies_in(target, inside) else None


def look(root: Path, path: str) -> Signature | None:
    """Return the signature of the file at `path` below `root` now, by the same rules as the walk.

    None means that there is nothing to offer: it is gone, an alias, or not a regular file.

    Raises
    ------
    UnreadableFile
        If the operating system refuses to tell.
    """
    full = os.path.join(root, path)
    try:
        stat = os.lstat(full)
        if not S_ISREG(stat.st_mode):
            if resolve(Path(full), root) is None:
                return None
            stat = os.stat(full)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFile(f"cannot look at {full}: {error.strerror}") from error
    return Signature.of(stat)


class _Walk:
    def __init__(self, root: Path, wanted: Wanted, report: WalkReport) -> None:
        self.root, self.wanted, self.report = root, wanted, report
        self.place = os.fspath(root).rstrip("/")
        self.real_root = os.path.realpath(root)
        self.entries = 0

    def slices(self, size: int) -> Iterator[list[Found]]:
        identity = self._identity()
        waiting = [""]
        found: list[Found] = []
        while waiting:
            below: list[str] = []
            for each in self._folder(waiting.pop(), below):
                if each is not None:
                    found.append(each)
                self.entries += 1
                if self.entries >= size:
                    yield found
                    found, self.entries = [], 0
            if below:
                waiting += sorted(each for each in below if each not in self.report.elsewhere)
        if self._identity() != identity:
            raise UnreadableFile(
                f"the watched folder {self.root} was exchanged while it was walked; it is walked again"
            )
        self.report.finished = True
        yield found

    def _identity(self) -> tuple[int, int]:
        try:
            stat = os.stat(self.root)
        except OSError as error:
            raise self._outage(error) from error
        return stat.st_dev, stat.st_ino

    def _outage(self, error: OSError) -> UnreadableFile:
        return UnreadableFile(f"cannot read the watched folder {self.root}: {error.strerror}; it is tried again")

    def _folder(self, folder: str, below: list[str]) -> Iterator[Found | None]:
        """Yield one value for every entry of a folder, None for what is not offered, and gather its folders."""
        self.report.folders += 1
        place = f"{self.place}/{folder}"
        try:
            stat = os.stat(place)  # before it is listed: what comes into it meanwhile changes it once more
            before = self.report.before.get(folder)
            if before is not None and before[:2] == (stat.st_ino, stat.st_ctime_ns):
                self.report.unchanged += 1
                self.report.listed[folder] = before
                below += before.below
                yield None
                return
            with os.scandir(place) as entries:
                for entry in entries:
                    yield self._entry(f"{folder}/{entry.name}" if folder else entry.name, entry, below)
        except OSError as error:
            if not folder:
                raise self._outage(error) from error
            self.report.problem(folder, f"cannot read the folder: {error.strerror}")
            return
        fresh = stat.st_ctime > self.report.began - ledger.RACY_SECONDS
        self.report.listed[folder] = Listed(stat.st_ino, None if fresh else stat.st_ctime_ns, tuple(below))

    def _entry(self, path: str, entry: os.DirEntry[str], below: list[str]) -> Found | None:
        wanted = self.wanted(entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                if not _is_unicode(entry.name):
                    self.report.problem(path, "the folder's name is not UTF-8")
                    return None
                if wanted:
                    self.report.problem(path, "a folder has the name of a data product")
                below.append(path)
                return None
            if not wanted:
                return None
            if not _is_unicode(entry.name):
                self.report.problem(path, "the name is not UTF-8")
                return None
            if len(entry.path) > LONGEST_PATH // 4 and len(os.fsencode(entry.path)) > LONGEST_PATH:
                self.report.problem(path[:200], f"its path has more than {LONGEST_PATH} bytes: it cannot be recorded")
                return None
            stat = self._stat(path, entry)
        except OSError as error:
            self.report.problem(path, f"cannot look at it: {error.strerror}")
            return None
        if stat is None:
            return None
        self.report.files += 1
        return Found(path, Signature.of(stat))

    def _stat(self, path: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        if entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False)
        if not entry.is_symlink():
            self.report.problem(path, "not a regular file")
            return None
        target = os.path.realpath(entry.path, strict=True)
        stat = os.stat(target)
        if S_ISREG(stat.st_mode) and not _lies_in(target, self.real_root):
            return stat
        return None


def _lies_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _is_unicode(name: str) -> bool:
    # names that are not UTF-8 reach us with lone surrogates, which no database takes
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
