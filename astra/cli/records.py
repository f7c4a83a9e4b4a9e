"""One record and all it is linked to, as plain values: what `astra show` shows. A source's page is in `star`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astra import holds
from astra.components import component_class
from astra.database.astradb import TIME_COLUMNS, Bundle, DataProduct, Environment, Ingestion, Replay, Task
from astra.database.connection import run
from astra.database.fields import read_instant
from astra.errors import AstraError
from astra.known import current_inputs
from astra.rules import Rule, awaited
from astra.states import TaskState

if TYPE_CHECKING:
    from astra.base import TaskInstance

MEMBERS = 1000  # of a bundle's tasks, or a data product's, the first so many are told


def task_keys_of(kind: str, key: int) -> list[int]:
    """Return the keys of a task, or of all tasks of a bundle; raise `AstraError` where there is none such."""
    if kind == "task":
        found = run("SELECT id FROM task WHERE id = ?", (key,))
    else:
        found = run("SELECT task_id FROM task_bundle WHERE bundle_id = ? ORDER BY position", (key,))
    if not found:
        raise AstraError(f"there is no {kind} {key}")
    return [row[0] for row in found]


def instance_of(kind: str, key: int) -> TaskInstance:
    """Return the instance that a recorded task or bundle makes."""
    task_keys_of(kind, key)
    return (Task if kind == "task" else Bundle).get_by_id(key).instance()


def product(key: int) -> dict[str, Any] | None:
    """Return a data product with its file versions, its source, the tasks it was given to, and their results."""
    row = DataProduct.get_or_none(DataProduct.id == key)
    if row is None:
        return None
    versions = _rows(
        "ingestion outcome version size taken_in root path reason",
        "SELECT id, outcome, version, size, started, root, path, reason FROM ingestion WHERE data_product_id = ? "
        "ORDER BY id DESC",
        key,
    )
    links = _rows(
        "link source designation current method catalogue_version candidates separation reason conflict",
        "SELECT l.id, l.source_id, s.designation, l.superseded_by_id IS NULL, l.method, l.catalogue_version, "
        "l.candidates, l.separation, l.reason, l.conflict FROM source_data_product l "
        "LEFT JOIN source s ON s.id = l.source_id WHERE l.data_product_id = ? ORDER BY l.id DESC",
        key,
    )
    tasks = _rows(
        "task state component rule ingestion bundle",
        "SELECT t.id, t.state, t.name, t.rule, i.ingestion_id, t.bundle_id FROM task_input_data_product i "
        f"JOIN task t ON t.id = i.task_id WHERE i.data_product_id = ? ORDER BY t.id DESC LIMIT {MEMBERS}",
        key,
    )
    results = [
        row for name in sorted({each["component"] for each in tasks}) for row in _results(name, "data_product", key)
    ]
    return {
        **_columns(row),
        "versions": versions,
        "links": [{**each, "current": bool(each["current"])} for each in links],
        "tasks": tasks,
        "results": results,
    }


def task(key: int) -> dict[str, Any] | None:
    """Return a task with its exact inputs, its bundles with outcome and times, its error and its results."""
    row = Task.get_or_none(Task.id == key)
    if row is None:
        return None
    inputs = _rows(
        "data_product ingestion size header_sha256 sha256 current path",
        "SELECT p.id, g.id, g.size, g.header_sha256, g.sha256, g.id = p.current_ingestion_id, p.path "
        "FROM task_input_data_product i JOIN data_product p ON p.id = i.data_product_id "
        "LEFT JOIN ingestion g ON g.id = i.ingestion_id WHERE i.task_id = ? ORDER BY i.position",
        key,
    )
    tries = _rows(
        "bundle outcome kind error_class error_message seconds began ended host executor counts",
        "SELECT b.id, m.outcome, m.error_kind, m.error_class, coalesce(m.error_message, b.error), "
        "m.time_pre_execute + coalesce(m.time_execute, 0) + coalesce(m.time_post_execute, 0), b.started, b.ended, "
        "b.host, b.executor, b.id > t.tries_after FROM task_bundle m JOIN bundle b ON b.id = m.bundle_id "
        "JOIN task t ON t.id = m.task_id WHERE m.task_id = ? ORDER BY b.id DESC",
        key,
    )
    times = run(f"SELECT {', '.join(TIME_COLUMNS)} FROM task_time WHERE task_id = ?", (key,))
    traceback = run(  # an error of a whole bundle has its traceback once, with its first task
        "SELECT coalesce(m.traceback, (SELECT o.traceback FROM task_bundle o WHERE o.bundle_id = m.bundle_id "
        "AND o.error_class = m.error_class AND o.traceback IS NOT NULL ORDER BY o.position LIMIT 1)) "
        "FROM task_bundle m WHERE m.task_id = ? ORDER BY m.bundle_id DESC LIMIT 1",
        (key,),
    )
    repeats = [each[0] for each in run("SELECT id FROM task WHERE repeat_of_id = ? ORDER BY id", (key,))]
    return {
        **_columns(row),
        "held": _held(row),
        "waits_for": _waits_for(row),
        "next": _next(row),
        "times": dict(zip(TIME_COLUMNS, times[0], strict=True)) if times else None,
        "inputs": [{**each, "current": bool(each["current"])} for each in inputs],
        "outputs": [{"data_product": each.id, "path": each.path} for each in row.output_data_products],
        "tries": [{**each, "counts": bool(each["counts"])} for each in tries],
        "repeated_by": repeats,
        "results": _results(row.name, "task", key),
        "traceback": traceback[0][0] if traceback else None,
    }


def _held(row: Task) -> list[str] | None:
    """Return what keeps a task that has not ended from being started, each as a sentence; None where nothing does."""
    if row.state not in (TaskState.PENDING, TaskState.RUNNING):
        return None
    found = [f"{each.kind} {each.target} {holds.told(each)}" for each in holds.over(row.name, row.__data__["replay"])]
    found += ["this task, by itself or with its bundle"] if holds.is_held(row.not_before) else []
    return found or None


def _waits_for(row: Task) -> str | None:
    """Return in words the work that a pending task comes after and waits for; None where it does not."""
    if row.state != TaskState.PENDING or row.after is None or not holds.awaits(row.not_before):
        return None
    return holds.told_awaited(row.after, holds.awaited({row.after}))


def _next(row: Task) -> str | None:
    """Return the command that brings a task on, which does not go on by itself."""
    if row.state == TaskState.FAILED:
        return f"astra execute task {row.id}" if row.identity is None else f"astra retry task {row.id}"
    if row.state == TaskState.PENDING and holds.is_held(row.not_before):
        return f"astra resume task {row.id}"
    if row.state == TaskState.PENDING:
        for each in holds.over(row.name, row.__data__["replay"]):
            return f"astra resume {each.kind} {each.target}"
    if row.state == TaskState.PENDING and row.after is not None and holds.awaits(row.not_before):
        task, state = holds.awaited({row.after}).get(row.after, (None, None))
        again = {TaskState.FAILED: "", TaskState.CANCELLED: " --cancelled"}
        return f"astra retry task {task}{again[TaskState(state)]}" if state in again else None
    return None


def next_of_waiting(key: int, rules: Sequence[Rule]) -> str:
    """Return the command that brings a task on which waits for work that nobody enqueued, as the rules are now."""
    row = Task.get_by_id(key)
    query = "SELECT data_product_id FROM task_input_data_product WHERE task_id = ? ORDER BY position"
    given = tuple(current_inputs([product for (product,) in run(query, (key,))]).values())
    for each in rules:
        if each.name == row.rule and each.after is not None and awaited(each, given) == row.after:
            return f"astra replay --rule {each.after.name}"
    return f"astra cancel task {key}; astra replay tasks --rule {row.rule} --state cancelled"


def bundle(key: int) -> dict[str, Any] | None:
    """Return a bundle with its environment and its tasks."""
    row = Bundle.get_or_none(Bundle.id == key)
    if row is None:
        return None
    shown = {name: value for name, value in _columns(row).items() if name != "token"}  # whoever has it may write
    environment = Environment.get_or_none(Environment.id == row.__data__["environment"])
    ran = {"python": environment.python, "platform": environment.platform} if environment else None
    tasks = _rows(
        "position task outcome state time_pre_execute time_execute time_post_execute kind error_class error_message",
        "SELECT m.position, t.id, m.outcome, t.state, m.time_pre_execute, m.time_execute, m.time_post_execute, "
        "m.error_kind, m.error_class, m.error_message FROM task_bundle m JOIN task t ON t.id = m.task_id "
        f"WHERE m.bundle_id = ? ORDER BY m.position LIMIT {MEMBERS}",
        key,
    )
    packages = environment.packages if environment else {}
    outcomes = run("SELECT outcome, count(*) FROM task_bundle WHERE bundle_id = ? GROUP BY outcome ORDER BY 1", (key,))
    shown["outcomes"] = {outcome or "unfinished": count for outcome, count in outcomes}
    return {**shown, "ran": ran, "packages": packages, "tasks": tasks}


def ingestion(key: int) -> dict[str, Any] | None:
    """Return one row of the ledger, with those it supersedes and is superseded by, and the tasks on that version."""
    row = Ingestion.get_or_none(Ingestion.id == key)
    if row is None:
        return None
    product = DataProduct.get_or_none(DataProduct.id == row.__data__["data_product"])
    replay = Replay.get_or_none(Replay.id == row.__data__["replay"])
    by = [each[0] for each in run("SELECT id FROM ingestion WHERE supersedes_id = ? ORDER BY id", (key,))]
    tasks = _rows(
        "task state component rule",
        "SELECT t.id, t.state, t.name, t.rule FROM task_input_data_product i JOIN task t ON t.id = i.task_id "
        "WHERE i.ingestion_id = ? ORDER BY t.id DESC",
        key,
    )
    return {
        **_columns(row),
        "identity": product.identity if product else None,
        "product_path": product.path if product else None,
        "current": bool(product and product.__data__["current_ingestion"] == key),
        "asked_by": replay.who if replay else None,
        "superseded_by": by,
        "tasks": tasks,
    }


def _columns(row: Any) -> dict[str, Any]:
    """Return a record's columns by name; references by the name of what they refer to."""
    return dict(row.__data__)


def _rows(names: str, sql: str, key: int) -> list[dict[str, Any]]:
    columns = names.split()
    rows = [dict(zip(columns, row, strict=True)) for row in run(sql, (key,))]
    for row in rows:
        for name in ("taken_in", "began", "started", "ended"):
            if name in row:
                row[name] = read_instant(row[name])
        if row.get("error_class") is not None and row["error_message"] == row["error_class"]:
            row["error_message"] = None  # it was raised without a message
    return rows


def _results(component: str, column: str, key: int) -> list[dict[str, Any]]:
    """Return the rows that a component recorded, where it can still be imported and has such tables."""
    try:
        models = component_class(component).result_models
    except AstraError:
        return []
    found = []
    for model in models:
        if column in model._meta.fields and model.table_exists():
            query = model.select().where(model._meta.fields[column] == key).order_by(model.id)
            found += [{"table": model._meta.table_name, **row.__data__} for row in query]
    return found
