"""Files written, cut, moved, copied and deleted at random, while events are lost, late, repeated and out of order.

The watcher is the machine itself; settler, sweeper, intake and database are the real ones, without threads, and so are
the files. When all is still, the records must say what is on the disk: versions, products, tasks, each once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import peewee
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from astra import ingest, products, roots, tree
from astra.components import component_class
from astra.config import Settings, Watch
from astra.database.connection import run
from astra.rules import Rule, compile_rules
from astra.signature import Signature
from daemon.intake import Intake
from daemon.sweeper import Sweeper
from tests.support import fits
from tests.support.clock import LeapingClock
from tests.support.components import COMPONENTS
from tests.support.machine import RUBBISH, STAMPING, Held, Killed, fiber_of, instead_of, killed, stamp_files, swapped
from tests.support.site import Site

QUIET, PATIENCE = 0.5, 20
FOLDERS = ("", "a/", "a/deep/", "b/")
COARSE = 2_000_000_000  # nanoseconds: the coarsest stamps in use
OBJECTS = ("00000001+0000000", "00000002+0000000")
TRACE = {"name": "trace", "filetype": "apVisit", "task": f"{COMPONENTS}.Traced"}

a_folder = st.sampled_from(FOLDERS)
a_fiber = st.integers(1, 2)
an_order = st.randoms(use_true_random=False)
some_facts = st.tuples(st.integers(10, 99), st.sampled_from(OBJECTS))
a_cut = st.sampled_from(["nothing", "in a header", "after an HDU", "in the data", "a byte short"])


class TakingIn(RuleBasedStateMachine):
    """Each example has a root and a plate of its own; all share one database."""

    folder: ClassVar[Path]
    shared: ClassVar[Settings]
    called: ClassVar[tuple[Rule, ...]]
    numbers: ClassVar[Iterator[int]]

    def __init__(self) -> None:
        super().__init__()
        number = next(self.numbers)
        self.plate, self.root, self.tree = 1000 + number, f"root{number}", self.folder / f"root{number}"
        for each in FOLDERS:
            (self.tree / each).mkdir(parents=True, exist_ok=True)
        self.clock = LeapingClock()
        self.files: dict[str, Held] = {}
        self.events: list[str] = []
        self.these = replace(self.shared, watch=(Watch(name=self.root, path=self.tree, backfill=True),))
        self.tick = 1
        STAMPING.append(self.stamp)
        roots.open_root(self.root, self.tree, self.clock.now())
        self.begin()

    def begin(self) -> None:
        self.intake = Intake(self.these, self.called, self.clock)
        self.sweeper = Sweeper(self.these.watch, self.find, self.intake.offer, self.clock, {}, lambda _: None)

    @initialize(coarse=st.booleans())
    def the_file_system_has_stamps(self, coarse: bool) -> None:
        self.tick = COARSE if coarse else 1

    def stamp(self, nanoseconds: int) -> int:
        """Return the stamp that a file of the example's file system has, of one that this machine's has."""
        return self.clock.stamp(nanoseconds) // self.tick * self.tick

    def find(self, watch: Watch, report: tree.WalkReport) -> Iterator[list[tree.Found]]:
        return tree.differing(watch.name, watch.path, products.might_be_product, self.clock.now(), report)

    def teardown(self) -> None:
        try:
            self.all_is_still()
        finally:
            STAMPING.clear()
            shutil.rmtree(self.tree)

    @rule(folder=a_folder, fiber=a_fiber, facts=some_facts)
    def write_whole(self, folder: str, fiber: int, facts: tuple[int, str]) -> None:
        self.put(self.place(folder, fiber), self.held(fiber, facts))

    @rule(folder=a_folder, fiber=a_fiber, facts=some_facts, cut=a_cut)
    def write_part(self, folder: str, fiber: int, facts: tuple[int, str], cut: str) -> None:
        held = self.held(fiber, facts)
        ends = fits.hdu_ends(held.content)
        present = {"nothing": 0, "in a header": 700, "after an HDU": ends[-2], "in the data": ends[2] - 1000}
        self.put(self.place(folder, fiber), held._replace(present=present.get(cut, len(held.content) - 1)))

    @precondition(lambda self: any(held.part for held in self.files.values()))
    @rule(data=st.data())
    def finish_part(self, data: st.DataObject) -> None:
        parts = sorted(path for path, held in self.files.items() if held.part)
        path = data.draw(st.sampled_from(parts), "part")
        held = self.files[path]
        with (self.tree / path).open("ab") as file:
            file.write(held.content[held.present :])
        self.now_is(path, held._replace(present=len(held.content)))

    @rule(folder=a_folder, fiber=a_fiber, facts=some_facts)
    def write_beside_and_rename(self, folder: str, fiber: int, facts: tuple[int, str]) -> None:
        path, held = self.place(folder, fiber), self.held(fiber, facts)
        beside = fits.write((self.tree / path).with_suffix(".part"), held.content)
        beside.replace(self.tree / path)
        self.now_is(path, held)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), facts=some_facts)
    def overwrite_in_place_and_keep_size_and_modification_time(
        self, data: st.DataObject, facts: tuple[int, str]
    ) -> None:
        path = self.any_file(data)
        stat = (self.tree / path).stat()
        with (self.tree / path).open("r+b") as file:
            held = self.held(fiber_of(path), facts)
            file.write(held.content[: stat.st_size])
        os.utime(self.tree / path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.now_is(path, held._replace(present=stat.st_size))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), way=st.sampled_from(["touch", "chmod", "put far into the future"]))
    def touch(self, data: st.DataObject, way: str) -> None:
        path = self.tree / self.any_file(data)
        if way == "touch":
            path.touch()
        elif way == "chmod":
            path.chmod(path.stat().st_mode ^ 0o020)
        else:
            os.utime(path, (4e9, 4e9))
        self.events.append(str(path.relative_to(self.tree)))

    @rule(folder=a_folder, fiber=a_fiber)
    def write_rubbish(self, folder: str, fiber: int) -> None:
        self.put(self.place(folder, fiber), RUBBISH)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = self.any_file(data)
        (self.tree / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), folder=a_folder)
    def move(self, data: st.DataObject, folder: str) -> None:
        path = self.any_file(data)
        target = folder + Path(path).name
        (self.tree / path).replace(self.tree / target)
        self.now_is(target, self.files.pop(path))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), folder=a_folder, keep=st.booleans())
    def copy(self, data: st.DataObject, folder: str, keep: bool) -> None:
        path = self.any_file(data)
        target = folder + Path(path).name
        if target != path:
            (shutil.copy2 if keep else shutil.copyfile)(self.tree / path, self.tree / target)
            self.now_is(target, self.files[path])

    @rule(fibers=st.sets(a_fiber), facts=some_facts)
    def fill_a_new_folder_and_move_it_in(self, fibers: set[int], facts: tuple[int, str]) -> None:
        shutil.rmtree(self.tree / "b")
        self.files = {path: held for path, held in self.files.items() if not path.startswith("b/")}
        outside = self.folder / f"outside{self.plate}"
        outside.mkdir()
        for fiber in fibers:
            held = self.files[self.place("b/", fiber)] = self.held(fiber, facts)
            (outside / fits.visit_name(plate=self.plate, fiber=fiber)).write_bytes(held.content)
        outside.rename(self.tree / "b")

    @rule()
    def two_folders_change_places(self) -> None:
        (self.tree / "a").rename(self.tree / "beside")
        (self.tree / "b").rename(self.tree / "a")
        (self.tree / "beside").rename(self.tree / "b")
        self.files = {swapped(path): held for path, held in self.files.items()}
        for each in FOLDERS:
            (self.tree / each).mkdir(parents=True, exist_ok=True)

    @precondition(lambda self: self.events)
    @rule(data=st.data(), times=st.integers(1, 2), keep=st.booleans())
    def an_event_comes(self, data: st.DataObject, times: int, keep: bool) -> None:
        path = data.draw(st.sampled_from(sorted(set(self.events))), "event")
        for _ in range(times):
            self.intake.hint(self.root, path)
        if not keep:
            self.events.remove(path)

    @precondition(lambda self: len(self.events) > 1)
    @rule(order=an_order)
    def all_events_come_out_of_order(self, order: Any) -> None:
        order.shuffle(self.events)
        for path in self.events:
            self.intake.hint(self.root, path)
        self.events.clear()

    @rule(folder=a_folder, fiber=a_fiber)
    def all_events_are_lost_and_one_comes_of_nothing(self, folder: str, fiber: int) -> None:
        self.events.clear()
        self.intake.hint(self.root, self.place(folder, fiber))

    @rule(seconds=st.sampled_from([0.0, 0.3, 0.7, 3.0, 8.0, 30.0]), turns=st.integers(1, 3))
    def time_passes(self, seconds: float, turns: int) -> None:
        self.clock.leap(seconds)
        for _ in range(turns):
            self.turn()

    @precondition(lambda self: self.tick == 1)  # coarse stamps may come again then, and nobody could tell
    @rule(seconds=st.sampled_from([-5.0, -1.0, 5.0]))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.clock.leap(0.0, wall=seconds)

    @rule(seconds=st.sampled_from([0.0, 1.0]))
    def a_sweep_goes_through(self, seconds: float) -> None:
        self.clock.leap(seconds)
        self.sweeper.request(self.root, "the machine says so")
        for _ in range(10):
            self.turn()

    @rule(folder=a_folder, fiber=a_fiber, facts=some_facts, others=some_facts)
    def a_file_is_rewritten_as_soon_as_it_is_known(
        self, folder: str, fiber: int, facts: tuple[int, str], others: tuple[int, str]
    ) -> None:
        for each in (facts, others):
            self.write_whole(folder=folder, fiber=fiber, facts=each)
            self.a_sweep_goes_through(seconds=0.6)

    @rule(folder=a_folder, fiber=a_fiber, facts=some_facts)
    def a_copy_is_known_and_its_original_goes(self, folder: str, fiber: int, facts: tuple[int, str]) -> None:
        for each in ("b/" if folder == "" else "", folder):
            self.write_whole(folder=each, fiber=fiber, facts=facts)
            self.a_sweep_goes_through(seconds=3.0)
        (self.tree / (first := self.place("b/" if folder == "" else "", fiber))).unlink()
        del self.files[first]

    @rule(when=st.sampled_from(["between turns", "before the record", "in the transaction", "after the commit"]))
    def crash(self, when: str) -> None:
        with suppress(Killed), killed(when):
            self.turn()
        self.begin()

    @precondition(lambda self: self.files)
    @rule(
        data=st.data(),
        facts=some_facts,
        deed=st.sampled_from(["write", "delete", "write and take in by hand"]),
        step=st.sampled_from(["record", "_refused"]),
    )
    def a_writer_comes_between_reading_and_recording(
        self, data: st.DataObject, facts: tuple[int, str], deed: str, step: str
    ) -> None:
        path = self.any_file(data)

        def overtake(real: Callable[..., Any], *given: Any) -> Any:
            if deed == "delete":
                (self.tree / path).unlink(missing_ok=True)
                self.files.pop(path, None)
            else:
                self.put(path, self.held(fiber_of(path), facts))
            if deed == "write and take in by hand":
                found = real_examine(self.intake._roots[self.root], path, self.clock)
                real_record([found], self.called, self.clock)
            return real(*given)

        real_examine, real_record = ingest.examine, ingest.record
        self.intake.hint(self.root, path)
        self.clock.leap(1.0)
        with instead_of(step, overtake):
            for _ in range(3):
                self.turn()
                self.clock.leap(QUIET)

    @rule()
    def all_is_still(self) -> None:
        self.events.clear()
        self.clock.leap(PATIENCE + 10)
        for _ in range(12):
            self.clock.leap(QUIET + 4)
            self.sweeper.request(self.root, "is all recorded?")
            while self.turn():
                pass
            if not self.intake.waiting and not self.lacking():
                break
        assert (self.intake.waiting, self.lacking()) == (0, [])
        self.the_ledger_holds_every_version_once()
        self.products_are_at_files_that_are_there()
        self.every_current_version_has_its_task()

    def place(self, folder: str, fiber: int) -> str:
        return folder + fits.visit_name(plate=self.plate, fiber=fiber)

    def held(self, fiber: int, facts: tuple[int, str]) -> Held:
        return Held.visit(self.plate, fiber, facts)

    def put(self, path: str, held: Held) -> None:
        (self.tree / path).write_bytes(held.content[: held.present])
        self.now_is(path, held)

    def now_is(self, path: str, held: Held) -> None:
        self.files[path] = held
        self.events.append(path)

    def any_file(self, data: st.DataObject) -> str:
        return str(data.draw(st.sampled_from(sorted(self.files)), "file"))

    def turn(self) -> bool:
        """Take one turn as the service does; return whether anything was done."""
        swept = self.sweeper.turn(self.clock.monotonic(), self.intake.load)
        recorded = self.intake.turn(self.clock.monotonic())
        return swept is not None or bool(recorded) or self.intake.ready

    def lacking(self) -> list[str]:
        return [each.path for part in self.find(self.these.watch[0], tree.WalkReport()) for each in part]

    def the_ledger_holds_every_version_once(self) -> None:
        rows = run(
            "SELECT path, size, mtime_ns, ctime_ns, inode, outcome FROM ingestion WHERE root = ? ORDER BY id",
            (self.root,),
        )
        assert len({row[:5] for row in rows}) == len(rows)
        newest = {row[0]: row for row in rows}
        for path, held in self.files.items():
            _, *signature, outcome = newest[path]
            assert tuple(signature) == Signature.of((self.tree / path).stat()), path
            assert outcome in (("ingested", "duplicate") if held.whole else ("quarantined",)), path

    def products_are_at_files_that_are_there(self) -> None:
        wholes = {fiber_of(path) for path, held in self.files.items() if held.whole}
        found = Counter(fiber_of(path) for path, *_ in self.products())
        assert all(number == 1 for number in found.values())
        assert wholes <= set(found)
        for path, current, metadata, identifier in self.products():
            place = str(Path(path).relative_to(self.tree))
            assert place == current
            held = self.files.get(place)
            if held is not None and held.whole:
                said = metadata if isinstance(metadata, dict) else json.loads(metadata)
                assert (said["snr"], identifier[-16:]) == (held.snr, held.obj)
            elif fiber_of(path) in wholes:
                assert held is not None, f"{place} is gone, and another file of its product is there"

    def products(self) -> list[Any]:
        """Return path, current version's path, metadata and source of each product below this root."""
        return run(
            "SELECT p.path, c.path, p.metadata, "
            "(SELECT max(value) FROM source_identifier s WHERE s.source_id = l.source_id) FROM data_product p "
            "JOIN ingestion c ON c.id = p.current_ingestion_id LEFT JOIN source_data_product l "
            "ON l.data_product_id = p.id AND l.superseded_by_id IS NULL WHERE c.root = ?",
            (self.root,),
        )

    def every_current_version_has_its_task(self) -> None:
        """Nothing runs here, so the current version's only task is pending, and those of other versions cancelled."""
        rows = run(
            "SELECT i.id, i.id = p.current_ingestion_id, t.state FROM ingestion i "
            "JOIN data_product p ON p.id = i.data_product_id "
            "LEFT JOIN task_input_data_product u ON u.ingestion_id = i.id LEFT JOIN task t ON t.id = u.task_id "
            "WHERE i.root = ?",
            (self.root,),
        )
        assert len({row[0] for row in rows}) == len(rows), "a version has two tasks"
        assert all(state == "pending" if current else state in ("cancelled", None) for _, current, state in rows)


def test_whatever_happens_to_files_and_events_the_records_end_up_as_the_disk_is(
    tmp_path: Path, database_url: str, database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Site(tmp_path, database_url, [TRACE], sections={"settle": {"quiet": QUIET, "patience": PATIENCE}})
    TakingIn.folder, TakingIn.shared, TakingIn.numbers = tmp_path, given.settings(), count()
    TakingIn.called = compile_rules(TakingIn.shared.rules, component_class, products.product_types())
    stamp_files(monkeypatch)
    monkeypatch.setattr(tree, "walk", partial(tree.walk, slice_size=3))
    run_state_machine_as_test(
        TakingIn,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
