"""Twenty-seven faults that were measured in an earlier implementation of the task class, and what we do instead.

Much of it is tested more closely elsewhere; here the list is whole. Each docstring begins with the fault's number.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
import pytest

from astra import backlog, queue
from astra.base import Parameter, TaskInstance, bundler
from astra.cli import main
from astra.database.astradb import Bundle, DataProduct, Ingestion, Task, TaskBundle
from astra.database.migrate import migrate
from astra.errors import LeaseLost
from astra.products.base import identity
from astra.provenance import owner
from tests.support import fits
from tests.support.bundles import held, rows, run_by_person, states, tasks
from tests.support.clock import START, FakeClock
from tests.support.processes import CHECKOUT, write_config
from tests.support.sourcecode import nodes, sources
from tests.support.tasks import statements

FILES = ["apStar-1.fits", "apStar-2.fits"]


class Work(TaskInstance):
    """Does in `execute` what the test gives it."""

    n = Parameter(default=0)
    model = Parameter(default="m", bundled=True)
    body: Callable[[Any], Any] = staticmethod(lambda self: [task.parameters["n"] for task, _ in self.iterable()])

    def execute(self) -> Any:
        return type(self).body(self)


class FailsAtOne(Work):
    """Fails at the task whose n is 1, and returns nothing for the others."""

    def execute(self) -> None:
        for task, _ in self.iterable():
            1 / (task.parameters["n"] - 1)


def doing(body: Callable[[Any], Any], n: Any = (0, 1, 2), **stages: Callable[[Any], Any]) -> TaskInstance:
    made: type[TaskInstance] = type("Doing", (Work,), {"body": staticmethod(body), **stages})
    return made(n=n)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ten files in it."""
    for number in range(10):
        fits.write(tmp_path / "work" / f"apStar-{number}.fits", b"a spectrum")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_a_task_that_failed_is_recorded_as_failed(database: peewee.Database) -> None:
    """1. Earlier, the word for it was not in the table of states; the error of that was swallowed."""
    with pytest.raises(ZeroDivisionError):
        doing(lambda self: 1 / 0, n=5).execute()
    assert states(Bundle.get().id) == ["failed"]


def test_the_tasks_of_a_bundle_are_running_while_they_run_and_not_afterwards(database: peewee.Database) -> None:
    """2. Earlier, the update compared with NULL and met no row: tasks stayed `created`, their bundle `running`."""
    seen: list[str] = []

    def body(self: Any) -> None:
        seen.extend(str(Task.get_by_id(task.id).state) for task, _ in self.iterable())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        doing(body).execute()
    assert seen == ["running"] * 3
    assert (states(Bundle.get().id), Bundle.get().state) == (["failed"] * 3, "ended")


def test_a_single_task_is_running_while_it_runs(database: peewee.Database) -> None:
    """3. Earlier, the state was set before there was a record to set it in."""
    assert doing(lambda self: str(Task.get().state), n=5).execute() == "running"


def test_a_single_task_has_the_time_of_its_end(database: peewee.Database) -> None:
    """4. Earlier, the time was compared where it should have been assigned."""
    doing(lambda self: None, n=5).execute()
    assert Task.get().bundle.started <= Task.get().bundle.ended


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_failed_or_was_stopped_keeps_its_times(database: peewee.Database, clock: FakeClock, error: Any) -> None:
    """5. Earlier, times were saved where all went well, and nowhere else."""

    def body(self: Any) -> None:
        clock.advance(30)
        for task, _ in self.iterable():
            clock.advance(2)
            if task.parameters["n"] == 1:
                raise error

    found = run_by_person(doing(body), clock, error)
    assert [task.time_execute_task for task in found] == [2, 2, 0]
    assert {(task.time_execute, task.time_execute_bundle_overhead) for task in found} == {(34, 30)}


def test_what_was_done_before_its_process_died_keeps_its_times(database: peewee.Database, clock: FakeClock) -> None:
    """5. And so where the process was killed; here its bundle is taken from it in the middle."""

    def body(self: Any) -> None:
        for task, _ in self.iterable():
            clock.advance(60)
            self.done(task)
            if task.parameters["n"] == 1:
                queue.release(bundle.bundle, bundle.token, "gone", clock.now())

    bundle = held(instance := doing(body), clock)
    with pytest.raises(LeaseLost):
        instance.run_held(bundle, clock)
    assert states(bundle.bundle) == ["completed", "pending", "pending"]
    assert [task.time_execute_task for task in tasks(bundle.bundle)] == [60, None, None]
    assert tasks(bundle.bundle)[0].time_total is None, "of the bundle nothing was recorded"


def test_a_loop_left_early_keeps_the_times_of_all(database: peewee.Database, clock: FakeClock) -> None:
    """6. Earlier, the list of times was then too short for the bundle, and all of them were lost."""

    def body(self: Any) -> None:
        for _ in self.iterable():
            clock.advance(2)
            break
        clock.advance(5)

    found = run_by_person(doing(body), clock)
    assert [task.time_execute_task for task in found] == [2, 0, 0]
    assert {task.time_execute_bundle_overhead for task in found} == {5}


def test_each_task_of_a_bundle_has_its_own_file(database: peewee.Database, files: Path) -> None:
    """7. Earlier, every task was linked to all the files of the bundle."""
    Work(FILES, n=[1, 2]).execute()
    assert [[each.path for each in task.input_data_products] for task in Bundle.get().tasks] == [
        [str(files / name)] for name in FILES
    ]


def test_one_value_for_several_files_makes_a_task_for_each(database: peewee.Database, files: Path) -> None:
    """8. Earlier, it made a single task."""
    assert Work(FILES, n=5).execute() == [5, 5]
    assert Task.select().count() == 2


def test_the_bundler_takes_instances_or_records_and_returns_what_can_be_executed(database: peewee.Database) -> None:
    """9. Earlier, it was not where the guide imports it from, took records alone, and returned records."""
    assert [each.execute() for each in bundler([Work(n=1), Work(n=2)])] == [[1, 2]]
    records = [task for n in (3, 4) for task in Work(n=n).enqueue()]
    assert [each.execute() for each in bundler(records)] == [[3, 4]]


def test_inherited_bundled_parameters_keep_tasks_apart() -> None:
    """10. Earlier, only those of the class's own body counted, so tasks of different models were mixed."""

    class Inherits(Work):
        pass

    assert [each.bundle_size for each in bundler([Inherits(model=name) for name in "aba"])] == [2, 1]


def test_bundled_values_are_compared_as_values() -> None:
    """11. Earlier, by their text, so that 1 was not 1.0, and by their hash alone, which -1 shares with -2."""
    found = bundler([Work(model=model) for model in (1, 1.0, "1", True, -1, -2, (1, 2), [1.0, 2.0])])
    assert [each.bundle_size for each in found] == [2, 1, 1, 1, 1, 2]


def test_a_divided_bundle_has_no_empty_part(database: peewee.Database, files: Path, clock: FakeClock) -> None:
    """12. Earlier, 10 tasks in 6 parts were 2, 2, 2, 2, 2, 0, whatever they cost, and the whole kept them too."""
    paths = sorted(files.iterdir())
    takes = type(doing(lambda self: [clock.advance(task.parameters["n"]) for task, _ in self.iterable()]))
    run_by_person(takes(paths, n=[1, 1, 1, 1, 1, 1, 1, 60, 1, 1]), clock)
    records = takes(paths).enqueue()
    parts = bundler(records, balance=6)
    assert [part.bundle_size for part in parts] == [2, 2, 2, 2, 1, 1]
    assert [records[7].id] in [part._tasks for part in parts], "the one that cost most is alone"
    for part in parts:
        part.execute()
    done = TaskBundle.select().where((TaskBundle.task >= records[0].id) & (TaskBundle.outcome == "completed"))
    assert sorted(each.task_id for each in done) == [each.id for each in records]


def test_a_task_that_fails_or_makes_nothing_keeps_nobody_waiting(database: peewee.Database, clock: FakeClock) -> None:
    """13. Earlier, who waited for a bundle waited for ever then, and on SQLite its DISTINCT ON was an error."""
    bundle = held(instance := FailsAtOne(n=[0, 1, 2]), clock)
    with pytest.raises(ZeroDivisionError):
        instance.run_held(bundle, clock)
    for each in bundler(Task.select().where(Task.state == "pending")):
        each.execute()
    assert states(bundle.bundle) == ["completed", "failed", "completed"]
    assert (backlog.is_due(), backlog.open_bundles(clock.now())) == (False, [])
    assert not [name for name, text in sources(CHECKOUT).items() if re.search(r"distinct\s+on\b", text, re.I)]


@pytest.fixture
def astra(database_url: str, database: peewee.Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process; return its exit status and what it said."""
    config = write_config(tmp_path / "config.toml", {"database": {"url": database_url}})

    def said(*words: object) -> tuple[int, str]:
        return main(["--config", str(config), *map(str, words)]), "".join(capsys.readouterr())

    return said


def test_what_lists_the_records_can_do_it_and_nothing_deletes_them(astra: Any, files: Path) -> None:
    """14. Earlier, the command that cleaned up asked for a column that was gone; what held it back was a pause."""
    FailsAtOne(FILES, n=[0, 2]).execute()
    for words in ("tasks", "products", "quarantine", "show task 1", "show bundle 1", "show product 1"):
        assert astra(*words.split())[0] == 0
    words = r"\bDELETE FROM|\bTRUNCATE\b|\bDROP TABLE|\.delete\(|\bdelete_instance|\.delete_by_id"
    found = {name for name, text in sources(CHECKOUT).items() if re.search(words, text)}
    assert found == {"astra.database.staging", "astra.gathering"}, (
        "a connection's own table; marks of work that is done"
    )


def test_a_task_of_an_earlier_version_is_built_again(database: peewee.Database) -> None:
    """15. Earlier, after each upgrade no task of before could be."""
    Work(n=5).execute()
    Task.update(version="0.0.1").execute()
    assert Task.get().instance(strict=True).execute() == [5]
    Task.update(component_version="earlier").execute()
    with pytest.warns(UserWarning, match="is version 0 here, but was recorded with earlier"):
        assert TaskInstance.from_task(Task.get()).execute() == [5]


def test_a_task_whose_value_is_a_list_is_built_again_as_one_task(database: peewee.Database) -> None:
    """16. Earlier, it became as many as the list was long."""
    assert Work(n=[[1, 2, 3]]).execute() == [[1, 2, 3]]
    instance = TaskInstance.from_task(Task.get())
    assert (instance.bundle_size, instance.n) == (1, [1, 2, 3])  # type: ignore[attr-defined]


def test_a_data_product_is_one_in_whatever_order_its_fields_are_given(database: peewee.Database) -> None:
    """17. Earlier, it was told by the text of its fields as they came, so it could be recorded twice."""
    for fields in ({"plate": "5094", "mjd": "55874"}, {"mjd": "55874", "plate": "5094"}):
        known = identity("r6", "apVisit", fields)
        row = {"release": "r6", "filetype": "apVisit", "kwargs": fields, "identity": known, "path": "/x"}
        DataProduct.insert(**row, metadata={}, created=START).on_conflict_ignore().execute()
    assert DataProduct.select().count() == 1


def test_the_hooks_are_called_once_though_a_class_calls_its_base_s_execute(database: peewee.Database) -> None:
    """18. Earlier, they were called again by each `super().execute()`."""
    calls: list[str] = []

    class Base(TaskInstance):
        def pre_execute(self) -> None:
            calls.append("pre")

        def execute(self) -> None:
            calls.append("base's")

        def post_execute(self) -> None:
            calls.append("post")

    class Child(Base):
        def execute(self) -> None:
            super().execute()
            super().execute()

    Child().execute()
    assert (calls, Bundle.select().count()) == (["pre", "base's", "base's", "post"], 1)


def test_debug_keywords_are_taken_though_the_author_knows_nothing_of_them(database: peewee.Database) -> None:
    """19. Earlier, a class whose stages did not all take them could not be called so."""
    assert Work(n=5).execute(debug=True, verbose=True) == [5]  # type: ignore[call-arg]
    told = doing(Work.body, n=5, pre_execute=lambda self, debug=False: {"debug": debug})
    told.execute(debug=True)  # type: ignore[call-arg]
    assert told.context == {"debug": True}


def test_one_bad_member_is_named_and_the_others_go_on(database: peewee.Database, clock: FakeClock) -> None:
    """20. Earlier, the rest of the bundle was given up, and nothing said which one it was."""
    bundle = held(instance := FailsAtOne(n=[0, 1, 2]), clock)
    with pytest.raises(ZeroDivisionError):
        instance.run_held(bundle, clock)
    assert [(each.outcome, each.error_class) for each in rows(bundle.bundle)] == [
        ("released", None), ("failed", "ZeroDivisionError"), ("released", None),
    ]  # fmt: skip
    assert Task.select().where(Task.state == "pending").count() == 2, "the others go on without it"


def test_a_thousand_tasks_cost_as_many_statements_as_ten(database: peewee.Database, files: Path) -> None:
    """21. Earlier, four or five for each task to make and run it, and one for each to build it again."""
    Work(FILES[0]).execute()
    counts = []
    for size in (10, 1000):
        with statements(database) as run:
            Work([FILES[0]] * size, n=list(range(size))).execute()
        with statements(database) as built:
            instance = Bundle.select().order_by(Bundle.id.desc()).get().instance()
            assert len(list(instance.plans())) == size, "with the values of every task"
        counts.append((len(run), len(built)))
    assert counts[0] == counts[1]
    assert (counts[0][0] < 40, counts[0][1] <= 5) == (True, True)


def test_a_helper_may_have_the_name_of_a_stage(database: peewee.Database, clock: FakeClock) -> None:
    """22. Earlier, which stage it was was guessed from the names of the functions being called."""

    def execute(self: Any) -> None:
        for _ in self.iterable():
            clock.advance(2)

    def post_execute(self: Any) -> None:
        for _ in self.iterable():
            clock.advance(3)

    task = run_by_person(doing(post_execute, pre_execute=lambda self: execute(self)), clock)[0]
    assert (task.time_pre_execute_task, task.time_execute_task, task.time_post_execute_task) == (2, 3, 0)


def test_a_bundle_ends_once_and_states_are_words(database: peewee.Database, clock: FakeClock) -> None:
    """23. Earlier, every change of state stamped the end, a state was a row's number, and rows were made twice."""
    seen = []
    bundle = held(instance := doing(lambda self: seen.append(Bundle.get().ended)), clock)
    clock.advance(5)
    instance.run_held(bundle, clock)
    assert (seen, Bundle.get().ended) == ([None], clock.now())
    with pytest.raises(ValueError, match="'failed-execute' is not a valid TaskState"):
        Task.update(state="failed-execute").execute()
    assert migrate() == []


def test_a_command_tells_a_failure_by_its_exit_status_and_needs_no_result(astra: Any) -> None:
    """24. Earlier, the status was 0 whatever had failed, and a result of None ended the command."""
    bad, good = [FailsAtOne(n=n).enqueue()[0].id for n in (1, 2)]
    status, words = astra("execute", "task", bad)
    assert (status, "ZeroDivisionError" in words) == (1, True)
    assert astra("execute", "task", good)[0] == 0
    FailsAtOne(n=[2, 3, 4]).execute()
    assert astra("execute", "bundle", Bundle.select().order_by(Bundle.id.desc()).get().id)[0] == 0
    assert Task.select().where(Task.state == "completed").count() == 1 + 3 + 3


def test_what_ran_on_what_where_and_how_it_ended_is_on_record(database: peewee.Database, files: Path) -> None:
    """25. Earlier, none of this was, and to ask for the outputs of a task that has none was an error."""
    with pytest.raises(ZeroDivisionError):
        FailsAtOne(FILES[0], n=1).execute()
    with pytest.raises(ZeroDivisionError):
        Task.get().instance().execute()
    task, tries = Task.get(), list(TaskBundle.select().order_by(TaskBundle.bundle))
    assert (task.output_data_products, task.results()) == ([], [])
    assert [(each.task_id, each.error_message) for each in tries] == [(task.id, "division by zero")] * 2
    assert "in execute" in tries[0].traceback
    bundle = task.bundle
    assert (bundle.owner_pid, bundle.host, bundle.user) == (os.getpid(), owner().host, owner().user)
    words = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or None
    assert (bundle.git_commit, len(bundle.source_sha256), "numpy" in bundle.environment.packages) == (commit, 64, True)
    (files / FILES[0]).write_bytes(b"another, and longer")
    Work(FILES[0]).execute()
    old, new = Ingestion.select().order_by(Ingestion.id)
    assert (old.size, new.size, new.supersedes_id) == (10, 19, old.id)
    assert new.mtime_ns == (files / FILES[0]).stat().st_mtime_ns


def test_no_place_of_one_site_is_in_the_package() -> None:
    """26. Earlier, the paths of one cluster's programs and folders were, and a person's number."""
    theirs = re.compile(r"^/(data|gpfs|home|lustre|mnt|opt|usr|var)/|/(scratch|uufs)\b|\bu\d{7}\b")
    found = {
        (name, node.value)
        for name, text in sources(CHECKOUT).items()
        if not name.startswith("astra.simulate")  # whose headers tell where the survey's files were made
        for node in nodes(text)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and theirs.search(node.value)
    }
    assert found == set()


def test_the_loop_hands_out_pairs_as_the_guide_says(database: peewee.Database, files: Path) -> None:
    """27. Earlier, three things, where the guide unpacks two. Its other slips are dealt with in `test_seed_bundles`."""
    [(task, data_products)] = type(doing(lambda self: list(self.iterable())))(FILES[0]).execute()
    assert isinstance(task, Task)
    assert [type(each) for each in data_products] == [DataProduct]
