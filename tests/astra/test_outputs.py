"""Files that components make: in a place of their own, whole, linked to their task with its end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra.base import Parameter, TaskInstance
from astra.database.astradb import Bundle, DataProduct, Ingestion, Link, ResultModel, Task
from astra.outputs import ASIDE, Outputs
from tests.support import fits
from tests.support.bundles import states
from tests.support.tasks import statements


class Drawn(ResultModel):
    data_product = Link(DataProduct, null=True)
    path = peewee.TextField()

    class Meta:
        table_name = "test_drawn"


class Draws(TaskInstance):
    """Writes a file for each task; fails at those that are asked to."""

    result_models = (Drawn,)
    text = Parameter(default="a picture")
    name = Parameter(default="picture.txt", bundled=True)
    bad = Parameter(default=False)

    def execute(self) -> list[Path]:
        places = []
        for task, _ in self.iterable():
            path = self.output_path(task, self.name)
            path.write_text(task.parameters["text"])
            places.append(self.record_output(task, path))
            self.record_result(task, Drawn(path=str(places[-1])))
            assert not places[-1].exists(), "it is not in its place before the task has completed"
            if task.parameters["bad"]:
                raise ValueError("bad")
            self.done(task)
        return places


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.toml").write_text('[output]\nroot = "made"')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path / "made"


def test_a_file_lies_whole_in_a_place_of_its_own_and_is_linked_to_its_task(
    database: peewee.Database, root: Path
) -> None:
    places = Draws(text=["one", "two"]).execute()
    assert [path.read_text() for path in places] == ["one", "two"]
    assert len(set(places)) == 2
    assert all(path.is_relative_to(root / "Draws") for path in places)
    for task, path in zip(Task.select().order_by(Task.id), places, strict=True):
        [made] = task.output_data_products
        assert (made.path, made.filetype) == (str(path), "full")
        version = Ingestion.get_by_id(made.current_ingestion_id)
        assert version.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        [row] = task.results()
        assert [each.path for each in row.provenance().outputs] == [str(path)]
    assert not (root / ASIDE / "1").exists()


def test_of_a_task_that_failed_no_file_is_kept_and_a_second_try_has_a_place_of_its_own(
    database: peewee.Database, root: Path
) -> None:
    with pytest.raises(ValueError, match="bad"):
        Draws(text=["one", "two", "three"], bad=[False, True, False]).execute()
    assert states(1) == ["completed", "failed", "cancelled"]
    kept = [path for path in root.rglob("*") if path.is_file()]
    assert [path.read_text() for path in kept] == ["one"]
    first = Task.get_by_id(1)
    first.instance().execute()
    again = Task.select().order_by(Task.id.desc()).get()
    assert again.repeat_of_id == 1
    assert again.output_data_products[0].path != first.output_data_products[0].path
    assert Path(first.output_data_products[0].path).read_text() == "one", "the first one stands"


def test_a_file_of_one_s_own_stays_where_it_is(database: peewee.Database, root: Path, tmp_path: Path) -> None:
    own = fits.write(tmp_path / fits.visit_name(), fits.apvisit())

    class Elsewhere(TaskInstance):
        def execute(self) -> Path:
            task, _ = next(iter(self.iterable()))
            return self.record_output(task, own)

    assert Elsewhere().execute() == own
    [made] = Task.get().output_data_products
    assert (made.path, made.filetype) == (str(own), "full"), "whatever its name: it is no spectrum of the survey's"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_name_with_folders_is_refused(database: peewee.Database, root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file"):
        Draws(name=name).execute()
    assert states(1) == ["failed"]


def test_what_is_no_file_or_recorded_twice_is_refused(database: peewee.Database, root: Path) -> None:
    class Careless(TaskInstance):
        twice = Parameter()

        def execute(self) -> None:
            for task, _ in self.iterable():
                path = self.output_path(task, "a.txt")
                if task.parameters["twice"]:
                    path.write_text("a")
                    self.record_output(task, path)
                self.record_output(task, path)

    with pytest.raises(FileNotFoundError, match="is not a file: write it before it is recorded"):
        Careless(twice=False).execute()
    with pytest.raises(ValueError, match=r"has recorded .* already"):
        Careless(twice=True).execute()


def test_a_file_that_cannot_be_kept_fails_its_task_alone(database: peewee.Database, root: Path) -> None:
    class Loses(Draws):
        def post_execute(self) -> None:
            pass

        def execute(self) -> Any:
            for task, _ in self.iterable():
                path = self.output_path(task, "a.txt")
                path.write_text("a")
                self.record_output(task, path)
                if task.parameters["bad"]:
                    path.unlink()

    with pytest.raises(Exception, match="cannot keep the output"):
        Loses(bad=[False, True, False]).execute()
    assert states(1) == ["completed", "failed", "completed"]
    assert Bundle.get().state == "ended"


def test_the_number_of_statements_does_not_grow_with_the_files(database: peewee.Database, root: Path) -> None:
    class Plain(TaskInstance):
        n = Parameter()

        def execute(self) -> None:
            for task, _ in self.iterable():
                path = self.output_path(task, "a.txt")
                path.write_text("a")
                self.record_output(task, path)

    Plain(n=0).execute()
    counts = []
    for size in (5, 50):
        with statements(database) as seen:
            Plain(n=list(range(size))).execute()
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_the_places_of_two_databases_with_one_folder_are_never_the_same(tmp_path: Path) -> None:
    one, other = (Outputs(tmp_path, "a.Draws", 1, token) for token in ("aaaaaaaa", "bbbbbbbb"))
    for each in (one, other):
        path = each.path(1, "picture.txt")
        path.write_text(each.token)
        each.record(0, 1, path)
    one.discard()
    [[place]] = other.put([0])[0].values()
    assert Path(place).read_text() == "bbbbbbbb"
    assert not one.aside.exists()


def test_a_file_that_nobody_recorded_is_spoken_of(database: peewee.Database, root: Path) -> None:
    class Forgets(TaskInstance):
        def execute(self) -> None:
            for task, _ in self.iterable():
                self.output_path(task, "forgotten.txt").write_text("x")

    with pytest.warns(UserWarning, match=r"wrote forgotten.txt where output_path said, and did not call record_output"):
        Forgets().execute()
    assert states(Bundle.get().id) == ["completed"]
