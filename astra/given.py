"""The file versions that tasks are given: whether each is still there as it was recorded, and its checksum.

Comes from `members`, which reads them, and `session`, which asks before and after use; the checksums go to `ledger`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from astra import headers
from astra.errors import FileError, InputChanged
from astra.ledger import Checksum
from astra.signature import Signature


@dataclass(slots=True)
class Given:
    """A file version that tasks were given: where the file is, what it was, and what checksums of it are known."""

    ingestion: int
    path: str
    signature: Signature
    header_sha256: str | None = None
    sha256: str | None = None
    touched: Signature | None = None  # stamps of its own, under which the file was found to be the same

    def check(self, task: int) -> None:
        """Raise `InputChanged` unless the file at this path is still this file version."""
        if why := self.difference():
            raise self.error(task, why)

    def error(self, task: int, why: str) -> InputChanged:
        """Return what is told of a task whose input this was."""
        return InputChanged(
            f"input changed: {self.path} is not the file version that task {task} was given: {why}; "
            "a new version's own task does the work"
        )

    def difference(self) -> str | None:
        """Return how the file at this path differs from this file version; None where it does not.

        A change time or inode of its own may come from a `chmod`, a hard link, a copy put back. Then the checksum of
        all its bytes tells, and where none is recorded, that of its header.
        """
        try:
            found = Signature.of(os.stat(self.path))
            if found[:2] != self.signature[:2]:
                return "its size or modification time is another"
            if found in (self.signature, self.touched):
                return None
            if self.sha256 is not None:
                is_same = headers.whole_digest(self.path, found) == self.sha256
            else:
                is_same = self.header_sha256 is None or headers.digest(self.path) == self.header_sha256
        except OSError as error:
            return f"it cannot be read any more ({error.strerror})"
        except FileError as error:
            return str(error)
        if is_same:
            self.touched = found
            return None
        return "it was touched, and its content is another"

    def difference_after_use(self) -> str | None:
        """Return what `difference` does, and take the checksum of all the file's bytes where none is known yet.

        It is taken under the recorded stamps alone: of a file that was touched, nobody can tell whether that was before
        a task read it, and so whether these are the bytes that were read.
        """
        if self.sha256 is None:
            try:
                self.sha256 = headers.whole_digest(self.path, self.signature)
                return None
            except FileError:
                pass  # touched, replaced or gone: which of them is found below
        return self.difference()


class Use(NamedTuple):
    """One file version that one task of a bundle was given."""

    position: int
    task: int
    given: Given


class AfterUse(NamedTuple):
    """The tasks whose inputs have changed, by position, and the checksums of files that had none."""

    changed: dict[int, InputChanged]
    checksums: list[Checksum]


def check_after_use(uses: Iterable[Use]) -> AfterUse:
    """Look at file versions that tasks have used; at each of them once, however many tasks were given it."""
    found = AfterUse({}, [])
    seen: dict[int, str | None] = {}
    for position, task, given in uses:
        if given.ingestion not in seen:
            lacked = given.sha256 is None
            seen[given.ingestion] = given.difference_after_use()
            if lacked and given.sha256 is not None:
                found.checksums.append(Checksum(given.ingestion, given.signature, given.sha256))
        if why := seen[given.ingestion]:
            found.changed.setdefault(position, given.error(task, why))
    return found
