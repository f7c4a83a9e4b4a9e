"""File versions that tasks are given: told from what lies there now by stamps, by header, by all their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from astra import headers
from astra.errors import InputChanged
from astra.given import Given, Use, check_after_use
from astra.ledger import Checksum
from astra.signature import Signature
from tests.support import fits

SAME_SIZE = fits.apstar(SNR=151.5)
OTHER_DATA = fits.apstar().replace(b"\1", b"\2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fits.write(tmp_path / "star.fits", fits.apstar())


def given(path: Path) -> Given:
    """Return the file as the ledger has it before anyone has read it whole."""
    return Given(5, str(path), Signature.of(path.stat()), headers.digest(path))


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Put another file of the same size in this one's place, with its modification time."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Signature.of(path.stat())[:2] == Signature.of(before)[:2]
    assert path.stat().st_ctime_ns != before.st_ctime_ns


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "longer": (lambda path: path.write_bytes(fits.apstar() + b"more"), "its size or modification time is another"),
    "later": (lambda path: os.utime(path, ns=(1, 1)), "its size or modification time is another"),
    "replaced": (lambda path: replace(path, SAME_SIZE), "it was touched, and its content is another"),
    "gone": (Path.unlink, "it cannot be read any more (No such file or directory)"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "its size or modification time is another"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_changed_says_which_file_which_task_how_and_what_comes_next(path: Path, how: str) -> None:
    change, why = CHANGES[how]
    each = given(path)
    each.check(7)
    change(path)
    with pytest.raises(InputChanged) as raised:
        each.check(7)
    assert str(raised.value) == (
        f"input changed: {path} is not the file version that task 7 was given: {why}; "
        "a new version's own task does the work"
    )
    [(position, error)] = check_after_use([Use(3, 7, each)]).changed.items()
    assert (position, str(error)) == (3, str(raised.value))


def test_a_file_that_was_only_touched_is_told_by_its_header(path: Path) -> None:
    each = given(path)
    path.chmod(0o600)
    each.check(7)
    replace(path, SAME_SIZE)
    with pytest.raises(InputChanged, match="its content is another"):
        each.check(7)


def test_a_file_that_was_only_touched_is_told_by_all_its_bytes_where_their_checksum_is_known(path: Path) -> None:
    each = given(path)
    each.sha256 = checksum(path)
    path.chmod(0o600)
    each.check(7)
    each.check(7)
    replace(path, OTHER_DATA)
    assert headers.digest(path) == each.header_sha256
    with pytest.raises(InputChanged, match="its content is another"):
        each.check(7)


def test_a_touched_file_that_cannot_be_read_is_no_longer_what_was_given(path: Path) -> None:
    each = given(path)
    path.unlink()
    os.mkfifo(path)
    each.signature = Signature.of(path.stat())._replace(ctime_ns=1)
    with pytest.raises(InputChanged, match=r"cannot read star\.fits: it is not a regular file"):
        each.check(7)


def test_the_checksum_of_what_was_read_is_taken_once(path: Path) -> None:
    each = given(path)
    found = check_after_use([Use(0, 7, each), Use(1, 8, each)])
    assert found == ({}, [Checksum(5, each.signature, checksum(path))])
    assert each.sha256 == checksum(path)
    assert check_after_use([Use(2, 9, each)]) == ({}, [])


def test_a_file_of_many_tasks_is_looked_at_once_and_fails_them_all(path: Path) -> None:
    nowhere = Given(5, "/nowhere", Signature(1, 1, 1, 1))
    assert check_after_use([Use(0, 7, given(path)), Use(1, 8, nowhere)]).changed == {}
    found = check_after_use([Use(0, 7, nowhere), Use(1, 8, given(path))])
    assert {position: "task 8" in str(error) for position, error in found.changed.items()} == {0: False, 1: True}
    assert found.checksums == []


def test_nobody_can_tell_whether_a_touched_file_has_the_bytes_that_were_read(path: Path) -> None:
    each = given(path)
    replace(path, OTHER_DATA)
    assert check_after_use([Use(0, 7, each)]) == ({}, []), "its header is the same, and more is not known"
    assert each.sha256 is None


def test_the_inputs_of_a_task_that_are_as_they_were_have_their_checksums_taken(path: Path, tmp_path: Path) -> None:
    other = fits.write(tmp_path / "other.fits", fits.apvisit())
    one, two = given(path), given(other)
    two.ingestion = 6
    other.unlink()
    found = check_after_use([Use(0, 7, one), Use(0, 7, two)])
    assert list(found.changed) == [0]
    assert [each.row for each in found.checksums] == [5]
