"""Taking in files, from the disk to the rows, on both databases."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peewee
import pytest

from astra import ingest, taking_in
from astra.base import Plan
from astra.database.astradb import DataProduct, Ingestion, Source, SourceDataProduct, Task
from astra.database.connection import execute
from astra.ingest import OUTSIDE, Examined, NotOurs, Recorded, Refused, Root
from astra.products import might_be_product
from astra.roots import open_root
from astra.rules import Rule
from astra.states import IngestionOutcome, TaskState
from astra.taking_in import Terms
from astra.tree import WalkReport, differing, walk
from tests.support import fits
from tests.support.clock import START, FakeClock
from tests.support.realdata import RealFile

RULE = Rule("every visit", "apVisit", Plan("tests.Component", "1", "{}", "tests.Component {}"), 100, ())
STAR_RULE = Rule("every star", "apStar", Plan("tests.Component", "1", "{}", "tests.Component {}"), 100, ())
OLD = 1_600_000_000


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "watched"
    folder.mkdir()
    return Root("watched", folder, None)


def put(root: Root, path: str, content: bytes, mtime: int = OLD) -> str:
    place = fits.write(root.folder / path, content)
    os.utime(place, (mtime, mtime))
    return path


def take(root: Root, *paths: str, clock: FakeClock, rules: tuple[Rule, ...] = (RULE,), replay: int | None = None):  # type: ignore[no-untyped-def]
    found = [ingest.examine(root, path, clock) for path in paths]
    assert not any(isinstance(each, NotOurs) for each in found)
    return ingest.record([each for each in found if not isinstance(each, NotOurs)], rules, clock, replay)


def rewrite(root: Root, path: str, content: bytes, mtime: int = OLD + 100) -> None:
    (root.folder / path).unlink()
    put(root, path, content, mtime)


def counts() -> dict[str, int]:
    return {
        table.__name__: table.select().count() for table in (DataProduct, Ingestion, Source, SourceDataProduct, Task)
    }


VISIT = fits.visit_name()
STAR_V = "1.3/stars/apo25m/10/10105/apStar-1.3-apo25m-2M13593121+6335074-{}.fits"


def star(**cards: fits.CardValue) -> bytes:
    return fits.apstar(10, **{"OBJID": "2M13593121+6335074", "RA": 209.88, "DEC": 63.5854, "FIELD": None, **cards})


def test_a_new_file_becomes_a_product_linked_to_a_source_with_its_task(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    recorded = take(root, VISIT, clock=clock)[0]
    product = DataProduct.get()
    assert recorded.outcome is IngestionOutcome.INGESTED
    assert recorded.new
    assert recorded.tasks == 1
    assert (recorded.data_product, recorded.source) == (product.id, product.source.id)
    assert product.path == str(root.folder / VISIT)
    assert product.current_ingestion_id == recorded.ingestion == Ingestion.get().id
    assert product.metadata["snr"] == 101.25
    assert dict(product.source.identifiers) == {"apogee": "2M00005143+5615568", "tmass": "00005143+5615568"}
    assert product.source.provisional
    assert product.source.healpix is not None
    row = Ingestion.get()
    assert (row.root, row.path, row.size) == ("watched", VISIT, (root.folder / VISIT).stat().st_size)
    assert row.inode == (root.folder / VISIT).stat().st_ino
    assert row.header_sha256
    assert row.recheck_after is None
    assert row.lag == pytest.approx(clock.now().timestamp() - row.ctime_ns / 1e9), "since it came to its place"
    task = Task.get()
    assert (task.rule, task.state, task.input_data_products) == ("every visit", TaskState.PENDING, [product])


def test_the_same_file_version_twice_changes_nothing(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    put(root, VISIT, fits.apvisit())
    first = take(root, VISIT, clock=clock)[0]
    before = counts()
    clock.advance(10)
    again = take(root, VISIT, VISIT, clock=clock)
    assert counts() == before
    assert [each.new for each in again] == [False, False]
    assert {(each.outcome, each.ingestion, each.tasks) for each in again} == {(first.outcome, first.ingestion, 0)}


def test_a_rewritten_file_is_a_new_version_and_its_pending_task_is_superseded(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    old = take(root, VISIT, clock=clock)[0]
    rewrite(root, VISIT, fits.apvisit(SNR=55.5))
    new = take(root, VISIT, clock=clock)[0]
    product = DataProduct.get()
    assert new.data_product == old.data_product
    assert new.new
    assert product.current_ingestion_id == new.ingestion
    assert product.metadata["snr"] == 55.5
    assert Ingestion.get_by_id(new.ingestion).supersedes_id == old.ingestion
    assert [task.state for task in Task.select().order_by(Task.id)] == [TaskState.CANCELLED, TaskState.PENDING]
    assert SourceDataProduct.select().count() == 1


def test_a_file_written_again_with_the_same_header_is_a_new_version(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    take(root, VISIT, clock=clock)
    content = bytearray(fits.apvisit())
    content[-1] ^= 1
    rewrite(root, VISIT, bytes(content))
    again = take(root, VISIT, clock=clock)[0]
    assert again.new
    assert again.tasks == 1


def test_a_second_copy_is_a_duplicate_that_calls_no_rule(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    put(root, f"b/{VISIT}", fits.apvisit(SNR=12.0), OLD + 50)
    first, second = take(root, f"a/{VISIT}", f"b/{VISIT}", clock=clock)
    assert (first.outcome, second.outcome) == (IngestionOutcome.INGESTED, IngestionOutcome.DUPLICATE)
    assert second.data_product == first.data_product
    assert second.tasks == 0
    assert second.reason is not None
    assert str(root.folder / "a" / VISIT) in second.reason
    assert DataProduct.get().current_ingestion_id == first.ingestion
    assert Task.select().count() == 1


def test_a_moved_file_becomes_current_in_its_new_place_without_repeating_finished_work(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    first = take(root, f"a/{VISIT}", clock=clock)[0]
    execute("UPDATE task SET state = 'completed'")
    (root.folder / "b").mkdir()
    shutil.move(root.folder / "a" / VISIT, root.folder / "b" / VISIT)
    moved = take(root, f"b/{VISIT}", clock=clock)[0]
    assert moved.outcome is IngestionOutcome.INGESTED
    assert moved.data_product == first.data_product
    assert DataProduct.get().path == str(root.folder / "b" / VISIT)
    assert Ingestion.get_by_id(moved.ingestion).supersedes_id == first.ingestion
    assert moved.reason is not None
    assert "moved here from" in moved.reason
    assert (moved.tasks, Task.select().count()) == (0, 1)


def test_a_moved_file_whose_work_is_not_finished_gets_a_task_in_its_new_place(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    take(root, f"a/{VISIT}", clock=clock)
    (root.folder / "b").mkdir()
    shutil.move(root.folder / "a" / VISIT, root.folder / "b" / VISIT)
    take(root, f"b/{VISIT}", clock=clock)
    assert [task.state for task in Task.select().order_by(Task.id)] == [TaskState.CANCELLED, TaskState.PENDING]


def test_an_older_version_that_arrives_late_is_ingested_but_not_current(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    new, old = STAR_V.format(59830), STAR_V.format(59800)
    put(root, new, star(), OLD)
    put(root, old, star(), OLD + 500)
    rules = (STAR_RULE,)
    current = take(root, new, clock=clock, rules=rules)[0]
    late = take(root, old, clock=clock, rules=rules)[0]
    assert late.outcome is IngestionOutcome.INGESTED
    assert late.data_product == current.data_product
    assert late.tasks == 0
    assert late.reason is not None
    assert "older version" in late.reason
    assert DataProduct.get().current_ingestion_id == current.ingestion
    assert Task.select().count() == 1


def test_two_versions_in_one_batch_are_taken_in_order_and_only_the_newest_calls_rules(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    new, old = STAR_V.format(59830), STAR_V.format(59800)
    put(root, new, star(SNR=90.0), OLD)
    put(root, old, star(SNR=10.0), OLD + 500)
    first, second = take(root, new, old, clock=clock, rules=(STAR_RULE,))
    assert first.data_product == second.data_product
    assert (first.tasks, second.tasks) == (1, 0)
    product = DataProduct.get()
    assert product.current_ingestion_id == first.ingestion
    assert product.metadata["snr"] == 90.0
    assert Ingestion.get_by_id(first.ingestion).supersedes_id == second.ingestion


def test_a_file_that_is_not_whole_is_waited_for_then_quarantined_then_ingested(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    whole = fits.apvisit()
    put(root, VISIT, whole[: fits.hdu_ends(whole)[4]])
    found = ingest.examine(root, VISIT, clock)
    assert isinstance(found, Refused)
    assert found.wait
    quarantined = ingest.record([found], (RULE,), clock)[0]
    assert quarantined.outcome is IngestionOutcome.QUARANTINED
    assert quarantined.reason == found.reason
    assert counts() == {"DataProduct": 0, "Ingestion": 1, "Source": 0, "SourceDataProduct": 0, "Task": 0}
    assert not take(root, VISIT, clock=clock)[0].new
    rewrite(root, VISIT, whole)
    ingested = take(root, VISIT, clock=clock)[0]
    assert ingested.outcome is IngestionOutcome.INGESTED
    assert ingested.tasks == 1
    assert Ingestion.get_by_id(ingested.ingestion).supersedes_id == quarantined.ingestion


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a FITS file" * 300, "FITS"), (fits.apvisit(MJD5=55999), "55999"), (b"SIMPLE  =" + bytes(2871), "")],
)
def test_what_cannot_be_taken_in_is_refused_with_its_signature_and_a_reason(
    root: Root, clock: FakeClock, content: bytes, words: str
) -> None:
    put(root, VISIT, content)
    found = ingest.examine(root, VISIT, clock)
    assert isinstance(found, Refused)
    assert words in found.reason
    assert found.signature is not None
    assert found.signature.size == len(content)


def test_nothing_is_recorded_of_a_file_that_is_gone(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    found = ingest.examine(root, VISIT, clock)
    assert isinstance(found, Refused)
    assert found.signature is None
    assert not found.wait
    assert ingest.record([found], (), clock)[0].outcome is None
    assert counts()["Ingestion"] == 0


def test_a_folder_with_the_name_of_a_file_is_refused(root: Root, clock: FakeClock) -> None:
    (root.folder / VISIT).mkdir()
    found = ingest.examine(root, VISIT, clock)
    assert isinstance(found, Refused)
    assert not found.wait


def test_other_files_are_not_ours(root: Root, clock: FakeClock) -> None:
    assert isinstance(ingest.examine(root, "aspcapStar-r6-2M00005143+5615568.fits", clock), NotOurs)


def test_a_name_that_no_database_holds_is_refused_without_a_signature(root: Root, clock: FakeClock) -> None:
    place = os.fsencode(root.folder) + b"/\xff\xfe"
    os.mkdir(place)
    Path(os.fsdecode(place + b"/" + VISIT.encode())).write_bytes(fits.apvisit())
    found = ingest.examine(root, os.fsdecode(b"\xff\xfe/" + VISIT.encode()), clock)
    assert isinstance(found, Refused)
    assert found.signature is None


def test_a_touched_file_is_no_new_version(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    put(root, VISIT, fits.apvisit())
    first = take(root, VISIT, clock=clock)[0]
    copy = root.folder / "copy"
    shutil.copy2(root.folder / VISIT, copy)
    os.replace(copy, root.folder / VISIT)
    before = counts()
    again = take(root, VISIT, clock=clock)[0]
    assert counts() == before
    assert not again.new
    assert again.ingestion == first.ingestion
    stat = (root.folder / VISIT).stat()
    assert (Ingestion.get().inode, Ingestion.get().ctime_ns) == (stat.st_ino, stat.st_ctime_ns)
    assert not take(root, VISIT, clock=clock)[0].new


def test_a_touched_file_is_a_new_version_where_its_recorded_checksum_tells_so(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    take(root, VISIT, clock=clock)
    execute("UPDATE ingestion SET sha256 = ?", ("0" * 64,))
    copy = root.folder / "copy"
    shutil.copy2(root.folder / VISIT, copy)
    os.replace(copy, root.folder / VISIT)
    assert take(root, VISIT, clock=clock)[0].new
    assert Ingestion.select().count() == 2


def examined(root: Root, path: str, clock: FakeClock) -> Examined:
    found = ingest.examine(root, path, clock)
    assert isinstance(found, Examined)
    return found


def test_a_file_rewritten_within_the_tick_of_its_stamps_is_a_new_version_all_the_same(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    first = examined(root, VISIT, clock)
    old = ingest.record([first], (RULE,), clock)[0]
    rewrite(root, VISIT, fits.apvisit(SNR=55.5), OLD)
    second = replace(examined(root, VISIT, clock), signature=first.signature)
    new = ingest.record([second], (RULE,), clock)[0]
    assert new.new
    assert DataProduct.get().current_ingestion_id == new.ingestion
    assert Ingestion.get_by_id(old.ingestion).inode == -old.ingestion
    assert not ingest.record([second], (RULE,), clock)[0].new


def test_an_examination_that_was_overtaken_is_dropped(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    put(root, VISIT, fits.apvisit())
    stale = examined(root, VISIT, clock)
    clock.advance(5)
    rewrite(root, VISIT, fits.apvisit(SNR=55.5))
    fresh = take(root, VISIT, clock=clock)[0]
    late = ingest.record([stale], (RULE,), clock)[0]
    assert late.outcome is None
    assert not late.new
    assert DataProduct.get().current_ingestion_id == fresh.ingestion
    assert Ingestion.select().count() == 1


def test_a_file_recorded_before_the_wall_clock_was_set_back_is_taken_in_when_it_changes(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    take(root, VISIT, clock=clock)
    clock.step_wall(-3600)
    rewrite(root, VISIT, fits.apvisit(SNR=55.5))
    assert take(root, VISIT, clock=clock)[0].new


def test_a_file_set_back_to_an_old_state_with_its_stamps_becomes_current_again(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    first = examined(root, VISIT, clock)
    ingest.record([first], (RULE,), clock)
    rewrite(root, VISIT, fits.apvisit(SNR=55.5))
    take(root, VISIT, clock=clock)
    back = ingest.record([first], (RULE,), clock)[0]
    assert back.new
    assert DataProduct.get().current_ingestion_id == back.ingestion
    assert DataProduct.get().metadata["snr"] == 101.25


def test_fresh_stamps_are_looked_at_again_and_then_trusted(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    path = put(root, VISIT, fits.apvisit(), int(clock.now().timestamp()))
    take(root, path, clock=clock)
    assert Ingestion.get().recheck_after == clock.now() + timedelta(seconds=2)
    clock.advance(3)
    assert not take(root, path, clock=clock)[0].new
    assert Ingestion.get().recheck_after is None
    assert Ingestion.select().count() == 1


def test_tasks_and_rows_come_in_one_transaction_or_not_at_all(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())

    class Unrecordable(Plan):
        @property
        def name(self) -> str:
            raise peewee.OperationalError("the server went away")

    broken = Rule("broken", "apVisit", Unrecordable("never read", "1", "{}", "never read {}"), 100, ())
    with pytest.raises(peewee.OperationalError):
        take(root, VISIT, clock=clock, rules=(RULE, broken))
    assert not any(counts().values())
    assert take(root, VISIT, clock=clock)[0].tasks == 1


def test_a_replay_takes_in_again_and_leaves_the_old_records_standing(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    first = take(root, VISIT, clock=clock)[0]
    execute("UPDATE task SET state = 'completed'")
    execute(
        "INSERT INTO replay (who, created, verb, selection, planned, done, state) "
        "VALUES ('me', '2026-01-01 00:00:00.000000+00:00', 'ingest', '{}', 1, 0, 'running')"
    )
    replayed = take(root, VISIT, clock=clock, replay=1)[0]
    assert replayed.new
    assert replayed.tasks == 1
    row = Ingestion.get_by_id(replayed.ingestion)
    assert (row.supersedes_id, row.replay_id) == (first.ingestion, 1)
    assert sorted(task.state for task in Task.select()) == [TaskState.COMPLETED, TaskState.PENDING]
    assert not take(root, VISIT, clock=clock, replay=1)[0].new
    assert not take(root, VISIT, clock=clock)[0].new


def test_without_rules_everything_is_ingested_and_nothing_enqueued(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    assert take(root, VISIT, clock=clock, rules=())[0].tasks == 0
    assert counts()["Ingestion"] == 1
    assert counts()["Task"] == 0


def test_visits_and_stars_of_one_object_share_one_source(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    paths = [put(root, VISIT, fits.apvisit()), put(root, fits.star_name(), fits.apstar())]
    paths.append(put(root, fits.visit_name("r5"), fits.apvisit(V_APRED="v3_04")))
    recorded = take(root, *paths, clock=clock)
    assert len({each.source for each in recorded}) == 1
    assert recorded[0].source is not None
    assert len(Source.get().data_products) == 3


def test_a_header_without_a_valid_identifier_gives_a_link_without_a_source(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit(OBJID="2MNone"))
    recorded = take(root, VISIT, clock=clock)[0]
    link = SourceDataProduct.get()
    assert recorded.outcome is IngestionOutcome.INGESTED
    assert recorded.source is None
    assert (link.source_id, link.method) == (None, "none")
    assert "no identifier" in link.reason


def test_a_visit_of_another_object_after_a_rewrite_gets_a_new_link(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    take(root, VISIT, clock=clock)
    rewrite(root, VISIT, fits.apvisit(OBJID="2M00005243+5615568"))
    second = take(root, VISIT, clock=clock)[0]
    old, new = SourceDataProduct.select().order_by(SourceDataProduct.id)
    assert (old.superseded_by_id, new.superseded_by_id, new.source_id) == (new.id, None, second.source)
    assert old.source_id != new.source_id
    assert DataProduct.get().source.id == second.source


def test_two_writers_at_once_record_one_version_once(
    database_url: str, database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    paths = [put(root, fits.visit_name(fiber=fiber), fits.apvisit(FIBERID=fiber)) for fiber in range(1, 9)]
    batch = [examined(root, path, clock) for path in paths]
    done: list[list[Recorded]] = []

    def write() -> None:
        done.append(ingest.record(batch, (RULE,), clock))
        database.close()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(done) == 3
    assert sum(each.new for one in done for each in one) == 8
    assert counts()["Ingestion"] == counts()["DataProduct"] == counts()["Task"] == 8


def test_taking_in_a_folder_gives_every_file_its_outcome(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    put(root, "a/" + fits.visit_name(fiber=9), b"rubbish" * 1000)
    put(root, "a/" + fits.visit_name(fiber=10), fits.apvisit(FIBERID=10)[:-1])
    clock.step_wall(os.stat(root.folder).st_ctime - clock.now().timestamp())
    terms = Terms((root,), (RULE,), patience=600)
    found = {
        each.file.path: each for each in taking_in.take_in([root.folder / "a", root.folder / "gone"], terms, clock)
    }
    assert found[f"a/{VISIT}"].outcome is IngestionOutcome.INGESTED
    assert found[f"a/{VISIT}"].tasks == 1
    assert found["a/" + fits.visit_name(fiber=9)].outcome is IngestionOutcome.QUARANTINED
    waited = found["a/" + fits.visit_name(fiber=10)]
    assert waited.outcome is None
    assert "nothing was recorded: give it again when it is whole" in (waited.reason or "")
    assert found["gone"].outcome is None
    assert "no file" in (found["gone"].reason or "")
    clock.step_wall(1000)
    later = {each.file.path: each for each in taking_in.take_in([root.folder], terms, clock)}
    assert later["a/" + fits.visit_name(fiber=10)].outcome is IngestionOutcome.QUARANTINED


def test_a_file_below_no_watched_folder_is_kept_under_its_absolute_path(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, VISIT, fits.apvisit())
    found = list(taking_in.take_in([root.folder / VISIT], Terms(), clock))
    assert found[0].outcome is IngestionOutcome.INGESTED
    assert (Ingestion.get().root, Ingestion.get().path) == (OUTSIDE.name, str(root.folder / VISIT))


def test_a_link_to_the_newest_version_is_that_version(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    path = put(root, STAR_V.format(59830), star())
    link = root.folder / path.replace("-59830", "")
    link.symlink_to(Path(path).name)
    found = list(taking_in.take_in([link, root.folder], Terms((root,)), clock))
    assert [each.file.path for each in found] == [path, path]
    assert counts()["Ingestion"] == 1


def test_all_real_files_are_taken_in_once_with_one_source_per_star(
    database: peewee.Database, sas_tree: dict[Path, RealFile], tmp_path: Path, clock: FakeClock
) -> None:
    root = Root("sas", tmp_path / "sas", None)
    ours = {str(path.relative_to(root.folder)) for path in sas_tree if path.name.startswith(("apStar", "apVisit"))}
    found = list(taking_in.take_in([root.folder], Terms((root,), (RULE, STAR_RULE)), clock))
    taken = {each.file.path for each in found if each.outcome is IngestionOutcome.INGESTED}
    assert taken == ours
    assert all(each.outcome is not IngestionOutcome.QUARANTINED for each in found)
    assert sum(each.tasks for each in found) == len(ours) == counts()["Task"]
    objects = {product.metadata["object"] for product in DataProduct.select()}
    assert counts()["Source"] == len(objects)
    before = counts()
    assert not any(each.new for each in taking_in.take_in([root.folder], Terms((root,), (RULE, STAR_RULE)), clock))
    assert counts() == before


def test_one_file_under_two_names_is_no_copy_of_itself(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    put(root, f"real/{VISIT}", fits.apvisit())
    (root.folder / "today").symlink_to("real")
    [by_hand] = take(root, f"today/{VISIT}", clock=clock)
    [swept] = take(root, f"real/{VISIT}", clock=clock)
    assert (by_hand.outcome, swept.outcome) == (IngestionOutcome.INGESTED, IngestionOutcome.INGESTED)
    assert DataProduct.get().path == str(root.folder / "real" / VISIT)
    rewrite(root, f"real/{VISIT}", fits.apvisit(SNR=5.0))
    [rewritten] = take(root, f"real/{VISIT}", clock=clock)
    assert (rewritten.outcome, rewritten.tasks) == (IngestionOutcome.INGESTED, 1)
    assert DataProduct.get().metadata["snr"] == 5.0


def test_a_place_that_another_product_has_taken_holds_the_first_one_no_more(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    name = fits.star_name()
    put(root, f"a/{name}", fits.apstar(LOCID=4264))
    first = take(root, f"a/{name}", clock=clock, rules=(STAR_RULE,))[0].data_product
    rewrite(root, f"a/{name}", fits.apstar(LOCID=4265))
    second = take(root, f"a/{name}", clock=clock, rules=(STAR_RULE,))[0].data_product
    assert first != second
    put(root, f"b/{name}", fits.apstar(LOCID=4264, SNR=7.0))
    [found] = take(root, f"b/{name}", clock=clock, rules=(STAR_RULE,))
    assert (found.outcome, found.data_product, found.tasks) == (IngestionOutcome.INGESTED, first, 1)
    assert DataProduct.get_by_id(first).path == str(root.folder / "b" / name)


def test_what_identifies_a_product_is_no_longer_than_an_index_holds(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    field = "".join(f"{number:x}" for number in range(1500))
    pieces = [field[at : at + 60] for at in range(0, len(field), 60)]
    cards = [fits.card("FIELD", f"{pieces[0]}&")]
    cards += [f"CONTINUE  '{each}&'".ljust(80).encode() for each in pieces[1:-1]]
    cards += [f"CONTINUE  '{pieces[-1]}'".ljust(80).encode()]
    shown = {**fits.STAR, "LOCID": None, "FIELD": None}
    content = fits.primary(shown, *cards) + fits.image() * 9 + fits.table()
    path = put(root, "dr17/stars/apo25m/x/" + fits.star_name("dr17"), content)
    put(root, VISIT, fits.apvisit())
    refused, good = take(root, path, VISIT, clock=clock)
    assert (refused.outcome, good.outcome) == (IngestionOutcome.QUARANTINED, IngestionOutcome.INGESTED)
    assert "what tells it from others has more than 2000 bytes" in str(refused.reason)


def test_a_path_longer_than_an_index_holds_is_refused_and_nothing_recorded(root: Root, clock: FakeClock) -> None:
    deep = "/".join(["d" * 250] * 8)
    found = ingest.examine(root, put(root, f"{deep}/{VISIT}", fits.apvisit()), clock)
    assert isinstance(found, Refused)
    assert (found.signature, found.wait) == (None, False)
    assert found.reason == f"cannot take in {VISIT}: its path has more than 2000 bytes"
    report = WalkReport()
    assert [each for found in walk(root.folder, might_be_product, report) for each in found] == []
    assert [each.reason for each in report.problems] == ["its path has more than 2000 bytes: it cannot be recorded"]


def test_what_was_odd_about_a_file_is_kept_with_its_facts(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    take(root, put(root, VISIT, fits.apvisit(RA=None, DEC=None)), clock=clock)
    assert DataProduct.get().metadata["notes"] == ["its header gives no position"]


def offered(root: Root) -> list[str]:
    slices = differing(root.name, root.folder, might_be_product, START, WalkReport())
    return [each.path for found in slices for each in found]


def test_a_file_that_moved_away_and_back_is_current_where_it_is(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    (root.folder / "b").mkdir()
    take(root, f"a/{VISIT}", clock=clock)
    for source, target in (("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")):
        os.rename(root.folder / source / VISIT, root.folder / target / VISIT)
        take(root, f"{target}/{VISIT}", clock=clock)
        assert DataProduct.get().path == str(root.folder / target / VISIT)
        assert offered(root) == []
    assert Task.select().where(Task.state == TaskState.PENDING).count() == 1


def test_a_copy_takes_the_place_of_a_file_that_is_gone(database: peewee.Database, root: Root, clock: FakeClock) -> None:
    for folder in "ab":
        put(root, f"{folder}/{VISIT}", fits.apvisit())
        take(root, f"{folder}/{VISIT}", clock=clock)
    assert offered(root) == []
    (root.folder / "a" / VISIT).unlink()
    assert offered(root) == [f"b/{VISIT}"]
    [found] = take(root, f"b/{VISIT}", clock=clock)
    assert (found.outcome, found.tasks) == (IngestionOutcome.INGESTED, 1)
    assert DataProduct.get().path == str(root.folder / "b" / VISIT)
    assert offered(root) == []


def test_a_file_of_a_root_that_is_away_is_not_taken_for_gone(
    database: peewee.Database, root: Root, clock: FakeClock, tmp_path: Path
) -> None:
    other = Root("other", tmp_path / "other", None)
    open_root("other", other.folder, START)
    put(other, VISIT, fits.apvisit())
    take(other, VISIT, clock=clock)
    other.folder.rename(tmp_path / "unmounted")
    other.folder.mkdir()
    put(root, VISIT, fits.apvisit())
    [copy] = take(root, VISIT, clock=clock)
    assert copy.outcome is IngestionOutcome.DUPLICATE
    assert offered(root) == []
    put(other, "something.else", b"")
    assert offered(root) == [VISIT]


def test_a_file_that_was_current_and_is_a_copy_now_is_recorded_as_one(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    put(root, f"a/{VISIT}", fits.apvisit())
    take(root, f"a/{VISIT}", clock=clock)
    (root.folder / "b").mkdir()
    os.rename(root.folder / "a" / VISIT, root.folder / "b" / VISIT)
    take(root, f"b/{VISIT}", clock=clock)
    put(root, f"a/{VISIT}", fits.apvisit())
    [again] = take(root, f"a/{VISIT}", clock=clock)
    assert again.outcome is IngestionOutcome.DUPLICATE
    [same] = take(root, f"a/{VISIT}", clock=clock)
    assert (same.new, offered(root)) == (False, [])
    (root.folder / "b" / VISIT).unlink()
    assert offered(root) == [f"a/{VISIT}"]


def test_a_file_and_its_copy_that_change_places_are_known_where_they_are(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    one, other, beside = root.folder / "a", root.folder / "b", root.folder / "beside"
    put(root, f"a/{VISIT}", fits.apvisit())
    take(root, f"a/{VISIT}", clock=clock)
    one.rename(other)
    take(root, f"b/{VISIT}", clock=clock)
    shutil.copytree(other, one)  # with its times
    take(root, f"a/{VISIT}", clock=clock)
    for source, target in ((one, beside), (other, one), (beside, other)):
        source.rename(target)
    both = [f"a/{VISIT}", f"b/{VISIT}"]
    assert sorted(offered(root)) == both
    before = counts()
    again = take(root, *both, clock=clock)
    assert offered(root) == []
    assert (counts(), [each.new for each in again]) == (before, [False, False])
    was = Ingestion.get_by_id(1)
    assert (was.path, was.inode) == (f"a/{VISIT}", -1)  # its stamps are those of the newest row there by now


def test_where_it_is_asked_for_the_whole_file_has_its_checksum(
    database: peewee.Database, root: Root, clock: FakeClock
) -> None:
    path = root.folder / put(root, VISIT, fits.apvisit())
    take(root._replace(sha256=True), VISIT, clock=clock)
    assert Ingestion.get().sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
