"""Files that a component makes: written aside, put in a place of their own, recorded as data products.

Comes from `TaskInstance.output_path` and `record_output`; goes to `noting`, which makes the data products, and to
`queue`, which links them in one transaction with the task's end. A file is moved to its place only when its task has
completed, so what lies there is whole. No place is used twice: a retry is a new bundle, and has places of its own.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from astra import noting
from astra.clock import Clock
from astra.errors import UnreadableFile

ASIDE = ".unfinished"
TASKS_IN_A_FOLDER = 1_000


class Made(NamedTuple):
    """One file that a task made: where it was written, and where it is to lie."""

    written: Path
    place: Path


@dataclass
class Outputs:
    """The files of one bundle, below the folder for outputs."""

    root: Path
    component: str
    bundle: int
    token: str  # tells this execution from those of any other database that has the same folder for outputs
    made: dict[int, list[Made]] = field(default_factory=dict)
    recorded: set[Path] = field(default_factory=set)

    @property
    def aside(self) -> Path:
        """Where this bundle's files are written before their tasks have completed."""
        return self.root / ASIDE / f"{self.bundle}-{self.token}"

    def path(self, task: int, name: str) -> Path:
        """Return where a task is to write its file `name`; its folder is there."""
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a file: give one without folders")
        folder = self.aside / str(task)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def record(self, position: int, task: int, path: Path) -> Path:
        """Take note of a file that a task has written, and return where it will lie once the task has completed.

        One that was written where `path` said goes to its place; one that lies anywhere else stays there.
        """
        written = Path(os.path.abspath(path))
        if not written.is_file():
            raise FileNotFoundError(f"{path} is not a file: write it before it is recorded as an output of task {task}")
        place = written
        if written.is_relative_to(self.aside / str(task)):
            group, name = f"{task // TASKS_IN_A_FOLDER * TASKS_IN_A_FOLDER:09d}", self.component.rpartition(".")[2]
            place = self.root / name / group / f"{task}-{self.bundle}-{self.token}" / written.name
        own = self.made.setdefault(position, [])
        if any(each.place == place for each in own):
            raise ValueError(f"task {task} has recorded {place} already: give each of its files a name of its own")
        own.append(Made(written, place))
        self.recorded.add(written)
        return place

    def put(self, positions: Sequence[int]) -> tuple[dict[int, list[str]], dict[int, UnreadableFile]]:
        """Put the files of completed tasks in their places; return these by position, and the tasks where it failed."""
        placed: dict[int, list[str]] = {}
        failed: dict[int, UnreadableFile] = {}
        for position in positions:
            try:
                if made := self.made.pop(position, None):
                    placed[position] = [_put(each) for each in made]
            except UnreadableFile as error:
                failed[position] = error
        return placed, failed

    def tell_forgotten(self) -> None:
        """Warn of files that were written where `path` said, and not recorded: they are about to be removed."""
        forgotten = [each for each in self.aside.rglob("*") if each.is_file() and each not in self.recorded]
        if forgotten:
            warnings.warn(
                f"{self.component} wrote {forgotten[0].name} where output_path said, and did not call record_output: "
                f"{len(forgotten)} such files are removed",
                stacklevel=2,
            )

    def discard(self) -> None:
        """Remove what was written aside and not kept."""
        shutil.rmtree(self.aside, ignore_errors=True)


def products_of(placed: Mapping[int, Sequence[str]], clock: Clock) -> dict[int, list[int]]:
    """Return the data products that files are, by their task's position, and record those that are new."""
    noted = noting.note_made([path for paths in placed.values() for path in paths], clock)
    products = {each.path: each.data_product for each in noted}
    return {position: [products[path] for path in paths] for position, paths in placed.items()}


def _put(made: Made) -> str:
    if made.written == made.place:
        return str(made.place)
    try:
        with open(made.written, "rb") as file:
            os.fsync(file.fileno())  # before its name: a power cut must not leave an empty file under it
        made.place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made.written, made.place)
        return str(made.place)
    except OSError as error:
        raise UnreadableFile(f"cannot keep the output {made.place}: {error.strerror}; its task failed") from error
