"""The walk: every file once, in bounded slices, and trouble is never taken for emptiness."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import peewee
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from astra import ingest, ledger, products, roots, tree
from astra.clock import SYSTEM
from astra.database.astradb import DataProduct, Ingestion
from astra.database.connection import alone
from astra.errors import UnreadableFile
from astra.ledger import Entry
from astra.signature import Signature
from astra.states import IngestionOutcome
from astra.tree import Found, WalkReport, differing, look, resolve, walk
from tests.support import fits
from tests.support.clock import FakeClock


def is_fits(name: str) -> bool:
    return name.endswith(".fits")


def walked(root: Path) -> tuple[dict[str, Signature], WalkReport]:
    report = WalkReport()
    return {each.path: each.signature for part in walk(root, is_fits, report) for each in part}, report


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_wanted_file_is_found_with_its_signature(tmp_path: Path) -> None:
    one = write(tmp_path / "60000" / "a.fits")
    write(tmp_path / "60000" / "a.txt")
    write(tmp_path / "b.fits")
    found, report = walked(tmp_path)
    assert set(found) == {"60000/a.fits", "b.fits"}
    assert found["60000/a.fits"] == Signature.of(one.stat())
    assert (report.files, report.folders, report.problem_count) == (2, 2, 0)
    assert report.complete


@given(
    tree=st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=12),
    size=st.integers(1, 5),
)
def test_slices_are_bounded_and_together_give_each_file_once(tree: set[str], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for each in tree:
            write(Path(folder) / f"{each}.fits")
        slices = list(walk(Path(folder), is_fits, WalkReport(), size))
    assert all(len(each) <= size for each in slices)
    assert sorted(found.path for each in slices for found in each) == sorted(f"{each}.fits" for each in tree)


def test_a_slice_is_bounded_in_work_even_where_there_is_nothing_to_find(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"{number}.txt")
    assert [len(each) for each in walk(tmp_path, is_fits, WalkReport(), 5)] == [0, 0, 0, 0, 0]


def test_the_newest_night_comes_first(tmp_path: Path) -> None:
    for night in ("59000", "60001", "60000"):
        write(tmp_path / night / "a.fits")
    found, _ = walked(tmp_path)
    assert list(found) == ["60001/a.fits", "60000/a.fits", "59000/a.fits"]


def test_a_link_inside_the_root_is_an_alias_and_one_that_leads_out_is_a_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    real = write(root / "v1.fits")
    outside = write(tmp_path / "elsewhere" / "o.fits")
    (root / "newest.fits").symlink_to("v1.fits")
    (root / "out.fits").symlink_to(outside)
    (root / "round.fits").symlink_to(tmp_path / "hop.fits")
    (tmp_path / "hop.fits").symlink_to(real)
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    found, report = walked(root)
    assert set(found) == {"v1.fits", "out.fits"}
    assert found["out.fits"] == Signature.of(outside.stat())
    assert report.complete
    for name in ("v1.fits", "newest.fits", "out.fits", "round.fits"):
        assert (look(root, name) is not None) == (name in found), name
        assert (resolve(root / name, root) is not None) == (name in found), name


def test_a_root_that_is_itself_a_link_is_walked(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.fits")
    (tmp_path / "real" / "alias.fits").symlink_to("a.fits")
    (tmp_path / "link").symlink_to("real")
    assert set(walked(tmp_path / "link")[0]) == {"a.fits"}
    assert look(tmp_path / "link", "a.fits") is not None
    assert look(tmp_path / "link", "alias.fits") is None


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Path]:
    write(tmp_path / "good.fits")
    write(tmp_path / "folder.fits" / "inner.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    (tmp_path / "dangling.fits").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.fits")).write_text("x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xe9")).mkdir()
    listening = socket.socket(socket.AF_UNIX)
    cwd = os.getcwd()
    os.chdir(tmp_path)
    listening.bind("socket.fits")
    os.chdir(cwd)
    yield tmp_path
    listening.close()


def test_odd_entries_are_problems_and_the_walk_goes_on(odd: Path) -> None:
    found, report = walked(odd)
    assert set(found) == {"good.fits", "folder.fits/inner.fits"}
    reasons = {each.path: each.reason for each in report.problems}
    assert reasons["folder.fits"] == "a folder has the name of a data product"
    assert "symbolic links" in reasons["loop.fits"]
    assert "No such file" in reasons["dangling.fits"]
    assert reasons["caf\\udce9.fits"] == "the name is not UTF-8"
    assert reasons["n\\udce9"] == "the folder's name is not UTF-8"
    assert reasons["socket.fits"] == "not a regular file"
    assert report.finished
    assert not report.complete
    for name in ("folder.fits", "socket.fits", "dangling.fits", "gone.fits", "good.fits/under.fits"):
        assert look(odd, name) is None, name
    with pytest.raises(UnreadableFile, match="symbolic links"):
        look(odd, "loop.fits")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    found, report = walked(tmp_path)
    closed.chmod(0o700)
    assert set(found) == {"a.fits"}
    assert report.problems[0].reason == "cannot read the folder: Permission denied"


def test_a_folder_that_vanishes_during_the_walk_is_a_problem_and_not_an_outage(tmp_path: Path) -> None:
    write(tmp_path / "b" / "b.fits")
    write(tmp_path / "a" / "a.fits")
    report = WalkReport()
    slices = walk(tmp_path, is_fits, report, 3)
    first = next(slices)
    (tmp_path / "a" / "a.fits").unlink()
    (tmp_path / "a").rmdir()
    found: list[Found] = [*first, *(each for part in slices for each in part)]
    assert [each.path for each in found] == ["b/b.fits"]
    assert report.problems[0].path == "a"


def test_problems_are_all_counted_and_some_kept(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number}.fits").symlink_to("nowhere")
    _, report = walked(tmp_path)
    assert (report.problem_count, len(report.problems)) == (150, 100)


def test_a_root_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    for root in (tmp_path / "gone", write(tmp_path / "file")):
        with pytest.raises(UnreadableFile, match=f"cannot read the watched folder {root}"):
            walked(root)


def test_a_root_that_is_exchanged_during_the_walk_is_an_outage(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in "abc":
        write(root / f"{name}.fits")
    report = WalkReport()
    slices = walk(root, is_fits, report, 1)
    next(slices)
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(UnreadableFile, match="was exchanged"):
        list(slices)
    assert not report.finished


NOW = datetime(2026, 11, 22, tzinfo=UTC)


def differing_names(root: Path, now: datetime) -> list[str]:
    slices = differing("root", root, is_fits, now, WalkReport())
    return sorted(each.path for part in slices for each in part)


@pytest.mark.usefixtures("database")
def test_only_the_files_that_the_ledger_lacks_or_wants_again_differ(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("changed", "done", "fresh", "new", "noted"):
        write(root / f"{name}.fits")
    assert differing_names(root, NOW) == ["changed.fits", "done.fits", "fresh.fits", "new.fits", "noted.fits"]
    for name in ("changed", "done", "fresh", "noted"):
        Ingestion.insert(
            root="root",
            path=f"{name}.fits",
            **Signature.of((root / f"{name}.fits").stat())._asdict(),
            outcome=IngestionOutcome.NOTED if name == "noted" else IngestionOutcome.QUARANTINED,
            recheck_after=NOW + timedelta(seconds=2) if name == "fresh" else None,
            started=NOW,
            duration=0.0,
        ).execute()
    write(root / "changed.fits", "longer")
    assert differing_names(root, NOW) == ["changed.fits", "new.fits", "noted.fits"]
    assert differing_names(root, NOW + timedelta(seconds=3)) == ["changed.fits", "fresh.fits", "new.fits", "noted.fits"]


def test_a_walk_that_leaves_a_folder_to_another_walk_has_not_seen_everything(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "a.fits")
    write(tmp_path / "another" / "b.fits")
    report = WalkReport(elsewhere=frozenset({"another"}))
    found = [each.path for part in walk(tmp_path, is_fits, report) for each in part]
    assert (found, report.finished, report.complete) == (["mine/a.fits"], True, False)


# ------------------------------------------------------------------------------------------------------ missing files


NIGHT = datetime(2026, 1, 2, tzinfo=UTC)


def swept(root: Path, late: bool = False) -> WalkReport:
    """Sweep a root, recording each of its files as taken in: at once, or `late`, when the sweep has ended."""
    report, waiting = WalkReport(), list[Found]()
    for found in tree.sweep("root", root, is_fits, NIGHT, report):
        waiting += found
        if not late:
            record(waiting)
    record(waiting)
    return report


def record(found: list[Found]) -> None:
    keys = range(Ingestion.select().count() + 1, sys.maxsize)
    entries = [
        Entry(key, "root", each.path, each.signature, IngestionOutcome.INGESTED, NIGHT)
        for key, each in zip(keys, found, strict=False)
    ]
    with alone(1):
        ledger.insert(entries, ())
    found.clear()


def missing() -> list[str]:
    return [
        each.path for each in Ingestion.select().where(Ingestion.missing_since.is_null(False)).order_by(Ingestion.id)
    ]


def test_a_file_that_is_gone_is_missed_and_stays_in_the_ledger(database: peewee.Database, tmp_path: Path) -> None:
    for name in ("a.fits", "deep/b.fits", "deep/c.fits"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert swept(tmp_path).missing == 0
    (tmp_path / "deep" / "b.fits").unlink()
    (tmp_path / "deep" / "c.fits").unlink()
    (tmp_path / "deep").rmdir()
    assert (swept(tmp_path).missing, missing()) == (2, ["deep/b.fits", "deep/c.fits"])
    assert swept(tmp_path).missing == 0, "they are missed already"
    assert Ingestion.select().count() == 3


def test_a_file_that_is_back_as_it_was_is_not_missed_any_more(database: peewee.Database, tmp_path: Path) -> None:
    (tmp_path / "a.fits").touch()
    swept(tmp_path)
    ledger.miss([1], NIGHT)
    swept(tmp_path)
    assert missing() == []
    assert Ingestion.select().count() == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x", None])), max_size=4), max_size=6),
    st.sampled_from([1, 2, 2000]),
    st.booleans(),
)
@example([[("a", ""), ("b", "")], [("a", None)], [("a", "x"), ("b", None)]], 2000, True)
def test_what_is_missed_is_what_is_gone_however_files_come_and_go(
    database: peewee.Database, nights: list[list[tuple[str, str | None]]], places: int, late: bool
) -> None:
    Ingestion.delete().execute()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_PLACES", places)
        root = Path(folder)
        (root / "README").touch()  # so that it is never empty
        for changes in nights:
            for name, content in changes:
                if content is None:
                    (root / f"{name}.fits").unlink(missing_ok=True)
                else:
                    (root / f"{name}.fits").write_text(content)
            swept(root, late)
            newest = {each.path: each for each in Ingestion.select().order_by(Ingestion.id)}
            gone = {path for path, each in newest.items() if each.missing_since is not None}
            assert gone == {path for path in newest if not (root / path).exists()}


def test_an_empty_root_is_an_outage_and_nothing_is_missed_for_it(database: peewee.Database, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    swept(root)
    (root / "a.fits").touch()
    swept(root)
    (root / "a.fits").unlink()
    with pytest.raises(UnreadableFile, match="is empty, and held files before: it is tried again"):
        swept(root)
    assert missing() == []
    (root / "README").touch()
    assert swept(root).missing == 1


def test_nothing_is_missed_after_a_walk_that_did_not_see_everything(database: peewee.Database, tmp_path: Path) -> None:
    (tmp_path / "a.fits").touch()
    swept(tmp_path)
    (tmp_path / "a.fits").unlink()
    (tmp_path / "b.fits").mkdir()  # a problem: nobody knows what lies behind such a name
    assert (swept(tmp_path).missing, missing()) == (0, [])


def test_a_folder_that_moved_away_and_back_is_where_its_products_are(tmp_path: Path, database: peewee.Database) -> None:
    """A folder's move leaves the stamps of its files as they are, so only what the product says tells of it."""
    root = ingest.Root("redux", tmp_path / "tree", None)
    path = fits.write(root.folder / "a" / fits.visit_name(), fits.apvisit())
    fits.write(root.folder / "other", b"")
    clock = FakeClock(SYSTEM.now() + timedelta(hours=1))  # long after the files were written
    roots.open_root(root.name, root.folder, clock.now())
    for names in (("a", "a"), ("a", "b"), ("b", "a")):
        (root.folder / names[0]).rename(root.folder / names[1])
        for part in differing(root.name, root.folder, products.might_be_product, clock.now(), WalkReport()):
            found = [ingest.examine(root, each.path, clock) for each in part]
            ingest.record([each for each in found if not isinstance(each, ingest.NotOurs)], (), clock)
    assert path.exists()
    assert DataProduct.get().path == str(path)
