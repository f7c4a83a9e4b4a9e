"""Files as they come and change under a running service: cut short, rewritten, refused, copied, linked, moved in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from astra.database.astradb import DataProduct, Ingestion, Task, TaskInputDataProduct
from astra.database.connection import run
from astra.simulate import Night, simulate
from tests.support import fits
from tests.support.processes import Daemon, until
from tests.support.records import ingestions, states, traces
from tests.support.site import Site


def daemon_of(site: Site) -> Daemon:
    assert site.running is not None
    return site.running


def visit(plate: int, fiber: int = 88, **cards: fits.CardValue) -> bytes:
    """Return a visit whose header agrees with its name."""
    return fits.apvisit(PLATE=str(plate), FIBERID=fiber, **cards)


def settles(site: Site, path: Path, versions: int = 1) -> list[tuple[str, str | None]]:
    """Wait until the records hold so many versions of a file, and all its tasks have ended; return the versions."""

    def done() -> bool:
        return len(ingestions(path)) == versions and not {"pending", "running"} & set(states(path.name))

    until(done)
    return ingestions(path)


def product(path: Path) -> DataProduct:
    return DataProduct.get(DataProduct.path == str(path))


def test_a_file_that_grows_is_taken_in_once_when_it_is_whole(live: Site) -> None:
    path, content = live.tree / fits.visit_name(plate=1001), visit(1001)
    ends = fits.hdu_ends(content)
    fits.write(path, content[: ends[-2]])  # valid FITS, one HDU short
    daemon_of(live).says(f"waiting path={path}")
    assert ingestions(path) == []
    with path.open("ab") as file:
        file.write(content[ends[-2] :])
    assert settles(live, path) == [("ingested", None)]
    assert states(path.name) == Counter(completed=1)


def test_a_rewritten_file_is_a_new_version_and_the_old_one_stands(live: Site) -> None:
    path = fits.write(live.tree / fits.visit_name(plate=1002), visit(1002, SNR=10.0))
    settles(live, path)
    first = product(path).current_ingestion_id
    beside = fits.write(path.with_suffix(".part"), visit(1002, SNR=20.0))
    beside.replace(path)
    assert [outcome for outcome, _ in settles(live, path, versions=2)] == ["ingested", "ingested"]
    until(lambda: states(path.name) == Counter(completed=2))
    now = product(path)
    assert now.metadata["snr"] == 20.0
    assert Ingestion.get_by_id(now.current_ingestion_id).supersedes_id == first
    given = [row.ingestion_id for row in TaskInputDataProduct.select().where(TaskInputDataProduct.data_product == now)]
    assert sorted(given) == [first, now.current_ingestion_id]
    assert [each for _, each in traces()].count(now.id) == 2
    assert DataProduct.select().where(DataProduct.path == str(path)).count() == 1


def test_a_file_overwritten_in_place_is_a_new_version(live: Site) -> None:
    path = fits.write(live.tree / fits.visit_name(plate=1003), visit(1003, SNR=10.0))
    settles(live, path)
    path.write_bytes(visit(1003, SNR=30.0))
    settles(live, path, versions=2)
    until(lambda: states(path.name) == Counter(completed=2))
    assert product(path).metadata["snr"] == 30.0


def test_what_is_no_spectrum_is_quarantined_and_the_service_goes_on(live: Site) -> None:
    refused = {
        fits.visit_name(plate=1011): (b"this is no FITS file " * 500, "FITS"),
        fits.visit_name(plate=1012): (visit(1012, MJD5="soon"), "MJD5"),
        fits.star_name(obj="2M10110000+0000000"): (b"<html>no such file</html>\n" * 200, "FITS"),
    }
    for name, (content, _) in refused.items():
        fits.write(live.tree / name, content)
    good = fits.write(live.tree / fits.visit_name(plate=1013), visit(1013))
    assert settles(live, good) == [("ingested", None)]
    until(lambda: all(ingestions(name) for name in refused))
    for name, (_, word) in refused.items():
        [(outcome, reason)] = ingestions(name)
        assert outcome == "quarantined"
        assert name in str(reason)
        assert word in str(reason)
        assert states(name) == Counter()
    assert "Traceback" not in daemon_of(live).output()


def test_a_quarantined_file_that_changes_is_taken_in(live: Site) -> None:
    path = fits.write(live.tree / fits.visit_name(plate=1014), b"not yet " * 1000)
    until(lambda: ingestions(path))
    path.write_bytes(visit(1014))
    settles(live, path, versions=2)
    assert [outcome for outcome, _ in ingestions(path)] == ["quarantined", "ingested"]
    assert states(path.name) == Counter(completed=1)


def test_a_copy_elsewhere_is_a_duplicate_and_calls_no_rule(live: Site) -> None:
    content, name = visit(1021), fits.visit_name(plate=1021)
    first = fits.write(live.tree / "one" / name, content)
    settles(live, first)
    second = fits.write(live.tree / "two" / name, content)
    until(lambda: len(ingestions(name)) == 2)
    [_, (outcome, reason)] = ingestions(name)
    assert outcome == "duplicate"
    assert str(first) in str(reason)
    assert product(first).current_ingestion_id is not None
    assert states(name) == Counter(completed=1)
    assert DataProduct.get_or_none(DataProduct.path == str(second)) is None


def test_a_folder_moved_into_the_tree_is_taken_in_with_all_it_holds(live: Site) -> None:
    outside = live.folder / "outside"
    fibers = {fits.visit_name(plate=1031, fiber=fiber): fiber for fiber in range(1, 6)}
    for name, fiber in fibers.items():
        fits.write(outside / "deep" / name, visit(1031, fiber))
    outside.rename(live.tree / "moved-in")
    for name in fibers:
        assert settles(live, live.tree / "moved-in" / "deep" / name) == [("ingested", None)]
        assert states(name) == Counter(completed=1)


def test_versions_of_a_star_are_one_product_and_the_link_to_the_newest_is_none(live: Site) -> None:
    night = Night(
        release="sdsswork", telescopes=("apo25m",), configurations=1, stars=1, visits=3, combinations=2, seed=3
    )
    simulation = simulate(night, live.tree / "sdss5")
    for _ in simulation:
        pass
    older, newer = simulation.truth
    assert older.star != newer.star
    assert newer.link is not None
    assert newer.link.is_symlink()
    for path in (older.star, newer.star, *newer.visits):
        until(lambda path=path: ingestions(path))
        settles(live, path)
    stars = list(DataProduct.select().where((DataProduct.filetype == "apStar") & (DataProduct.release == "sdsswork")))
    assert [each.path for each in stars] == [str(newer.star)]
    assert ingestions(newer.link) == []
    version = Ingestion.get_by_id(stars[0].current_ingestion_id)
    assert version.path.endswith(newer.star.name)
    source = stars[0].source
    assert source is not None
    assert {each.path for each in source.data_products} == {str(newer.star), *map(str, newer.visits)}
    assert source.catalogid == newer.catalogid


def test_an_older_version_of_a_star_that_comes_late_does_not_become_the_current_one(live: Site) -> None:
    night = Night(
        release="sdsswork", telescopes=("apo25m",), configurations=1, stars=1, visits=2, combinations=2, seed=4
    )
    scratch = live.folder / "scratch"
    simulation = simulate(night, scratch)
    for _ in simulation:
        pass
    older, newer = (live.tree / "late" / each.star.relative_to(scratch) for each in simulation.truth)
    fits.write(newer, simulation.truth[1].star.read_bytes())
    settles(live, newer)
    fits.write(older, simulation.truth[0].star.read_bytes())
    [(outcome, reason)] = settles(live, older)
    assert (outcome, "older version" in str(reason)) == ("ingested", True)
    assert product(newer).current_ingestion_id is not None
    assert states(older.name) == Counter()


def test_links_that_lead_nowhere_or_to_themselves_hold_up_nobody(live: Site) -> None:
    loop = live.tree / fits.visit_name(plate=1041)
    loop.symlink_to(loop)
    (live.tree / fits.visit_name(plate=1042)).symlink_to("nowhere")
    (live.tree / fits.visit_name(plate=1043)).mkdir()
    good = fits.write(live.tree / fits.visit_name(plate=1044), visit(1044))
    assert settles(live, good) == [("ingested", None)]
    assert "Traceback" not in daemon_of(live).output()


def test_a_file_that_is_gone_before_it_settles_leaves_no_trace(live: Site) -> None:
    path = fits.write(live.tree / fits.visit_name(plate=1051), visit(1051))
    path.unlink()
    good = fits.write(live.tree / fits.visit_name(plate=1052), visit(1052))
    assert settles(live, good) == [("ingested", None)]
    assert ingestions(path) == []


def test_no_task_was_enqueued_that_a_file_did_not_call_for(live: Site) -> None:
    until(lambda: not {"pending", "running"} & set(states()))
    assert len(traces()) == states()["completed"] == len({task for task, _ in traces()})
    assert Task.select().count() == sum(states().values())
    on_current = (
        "SELECT t.id, t.state FROM task t JOIN task_input_data_product i ON i.task_id = t.id "
        "JOIN data_product p ON p.current_ingestion_id = i.ingestion_id WHERE t.state <> 'completed'"
    )
    assert run(on_current) == [], "only work on a version that a file no longer has may be left undone"
