"""What the ledger knows of files, and how it tells one version from the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import ledger
from astra.database.astradb import Ingestion
from astra.database.connection import alone
from astra.ledger import Change, Checksum, Entry
from astra.signature import Signature
from astra.states import IngestionOutcome
from astra.tree import Found

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HUGE = (1 << 63) - 1


def entry(key: int, path: str, stamp: int = 1, **fields: object) -> Entry:
    made = Entry(key, "root", path, Signature(10, stamp, stamp, stamp), IngestionOutcome.INGESTED, NOW)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def write(*entries: Entry) -> None:
    with alone(1):
        ledger.insert(entries, ())


def differing(*arguments: Any) -> list[Found]:
    """Return what is to be looked at: what the ledger lacks, and what it wants looked at again."""
    found = ledger.differing(*arguments)
    return found.new + found.again


def test_only_files_without_a_row_or_with_another_signature_differ(database: peewee.Database) -> None:
    write(entry(1, "known"), entry(2, "changed"), entry(3, "changed", 2), entry(4, "back"), entry(5, "back", 2))
    signature = Signature(10, 1, 1, 1)
    found = [Found(name, signature) for name in ("known", "changed", "back", "new")]
    assert [each.path for each in differing("root", found, NOW)] == ["changed", "back", "new"]
    assert differing("another root", found, NOW) == found
    assert differing("root", [], NOW) == []


@pytest.mark.parametrize("field", [0, 1, 2, 3])
def test_each_part_of_the_signature_counts(database: peewee.Database, field: int) -> None:
    write(entry(1, "file"))
    stamps = [10, 1, 1, 1]
    stamps[field] += 1
    assert differing("root", [Found("file", Signature(*stamps))], NOW)


def test_a_noted_file_is_not_known_to_the_sweep(database: peewee.Database) -> None:
    write(entry(1, "file"), entry(2, "file", 5, outcome=IngestionOutcome.NOTED))
    assert differing("root", [Found("file", Signature(10, 1, 1, 1))], NOW) == []
    assert len(differing("root", [Found("file", Signature(10, 5, 5, 5))], NOW)) == 1
    assert ledger.latest([("root", "file")])["root", "file"].id == 1
    assert ledger.latest([("root", "file")], noted=True)["root", "file"].id == 2


def test_a_file_to_be_rechecked_differs_once_its_time_has_come(database: peewee.Database) -> None:
    write(entry(1, "file", recheck_after=NOW))
    found = [Found("file", Signature(10, 1, 1, 1))]
    assert differing("root", found, NOW - timedelta(seconds=1)) == []
    assert differing("root", found, NOW) == found


def test_a_row_is_read_as_it_was_written(database: peewee.Database) -> None:
    row = entry(
        7, "a/b\tc\\d.fits", header_sha256="ab", sha256="cd", reason="a 'reason'", version=59000, duration=0.5,
        lag=1.25, recheck_after=NOW, signature=Signature(HUGE, HUGE, -HUGE, -HUGE - 1),
        outcome=IngestionOutcome.QUARANTINED,
    )  # fmt: skip
    write(row)
    assert ledger.latest([("root", row.path)]) == {("root", row.path): row}
    assert Ingestion.get().reason == "a 'reason'"


def test_stamps_are_corrected_only_while_they_are_what_they_were_thought_to_be(database: peewee.Database) -> None:
    write(entry(1, "one"), entry(2, "two"))
    old, other = Signature(10, 1, 1, 1), Signature(10, 1, 9, 9)
    with alone(1):
        ledger.change({1: Change(1, old, 5, 6, NOW), 2: Change(2, other, 5, 6, None)})
    one, two = Ingestion.select().order_by(Ingestion.id)
    assert (one.ctime_ns, one.inode, one.recheck_after) == (5, 6, NOW)
    assert (two.ctime_ns, two.inode) == (1, 1)


def test_a_checksum_is_recorded_once_and_only_of_the_version_it_was_taken_of(
    database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(entry(1, "new"), entry(2, "known", sha256="known"), entry(3, "touched", 2), entry(4, "new too"))
    was = Signature(10, 1, 1, 1)
    monkeypatch.setattr(ledger, "_CHECKSUMS", 3)
    ledger.set_checksums([Checksum(row, was, f"of {row}") for row in (4, 3, 2, 1)])
    ledger.set_checksums([Checksum(1, was, "another")])
    ledger.set_checksums([])
    assert [row.sha256 for row in Ingestion.select().order_by(Ingestion.id)] == ["of 1", "known", None, "of 4"]


def test_an_older_row_of_the_same_signature_gives_its_inode_up(database: peewee.Database) -> None:
    write(entry(1, "file"))
    second = entry(2, "file")
    with alone(1):
        ledger.insert([second], [second])
    assert [row.inode for row in Ingestion.select().order_by(Ingestion.id)] == [-1, 1]


def test_one_file_version_has_one_row(database: peewee.Database) -> None:
    write(entry(1, "file"))
    with pytest.raises(peewee.IntegrityError):
        write(entry(2, "file"))


@given(age=st.floats(-10, 10), changed=st.floats(-10, 10))
def test_stamps_within_two_seconds_of_the_look_are_too_fresh_to_trust(age: float, changed: float) -> None:
    look = NOW.timestamp()
    signature = Signature(1, int((look - age) * 1e9), int((look - changed) * 1e9), 1)
    until = ledger.racy_until(signature, NOW)
    if min(abs(age), abs(changed)) < 1.99:
        assert until == NOW + timedelta(seconds=2)
    elif min(abs(age), abs(changed)) > 2.01:
        assert until is None


def test_statements_do_not_grow_with_files(database: peewee.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    plain = database.execute_sql
    monkeypatch.setattr(database, "execute_sql", lambda sql, *rest: counted.append(sql) or plain(sql, *rest))
    sizes = []
    for count in (1, 3000):
        counted.clear()
        differing("root", [Found(f"{n}.fits", Signature(1, 1, 1, 1)) for n in range(count)], NOW)
        sizes.append(len(counted))
    assert sizes[0] == sizes[1] <= 4


def test_the_places_of_a_root_come_in_order_with_their_newest_row(database: peewee.Database) -> None:
    write(entry(1, "b"), entry(2, "a"), entry(3, "b", 2), entry(4, "c", outcome=IngestionOutcome.NOTED))
    write(Entry(5, "another", "d", Signature(1, 1, 1, 1), IngestionOutcome.INGESTED, NOW))
    assert [each[:2] for each in ledger.places("root", "", 10)] == [("a", 2), ("b", 3)]
    assert [each.path for each in ledger.places("root", "", 1)] == ["a"]
    assert [each.path for each in ledger.places("root", "a", 1)] == ["b"]
    assert ledger.places("root", "b", 1) == []


def test_a_file_is_missed_from_the_first_time_on_until_it_is_found_again(database: peewee.Database) -> None:
    write(entry(1, "file"))
    ledger.miss([1], NOW)
    ledger.miss([1], NOW + timedelta(days=1))
    assert Ingestion.get_by_id(1).missing_since == NOW
    assert [each.missed for each in ledger.places("root", "", 1)] == [True]
    found = ledger.differing("root", [Found("file", Signature(10, 1, 1, 1))], NOW)
    assert (found.new, found.again, found.back) == ([], [], [1])
    ledger.find_again(found.back)
    assert Ingestion.get_by_id(1).missing_since is None
    assert ledger.differing("root", [Found("file", Signature(10, 1, 1, 1))], NOW).back == []
