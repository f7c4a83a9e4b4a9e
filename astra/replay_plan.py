"""What would a replay do? A plan: each file to take in again, each task to enqueue again, and what is left out and why.

Comes from `replay`; writes nothing. Rows are read and judged in chunks, so statements grow with chunks, not with rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from astra import gathering, ingest, products
from astra.base import TaskInstance
from astra.components import component_class
from astra.database.astradb import Task
from astra.database.connection import run
from astra.database.staging import among
from astra.errors import AstraError, FileError
from astra.known import current_inputs
from astra.replay_request import Entry, Left, Plan, Request, Verb
from astra.rules import Facts, Rule, applies, awaited, task_of
from astra.selection import Condition, joined, of_products, of_tasks
from astra.states import IS_LIVE, TaskState
from astra.work import Input, NewTask, with_identity

_CHUNK = 5_000
ENDED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


def make_plan(request: Request, replay: int | None = None) -> Plan:
    """Return what `request` would do now; of a replay that has begun already, what it has still to do."""
    plan = Plan(request)
    makers = {Verb.INGESTION: _plan_files, Verb.TASKS: _plan_tasks, Verb.RULE: _plan_rule}
    makers[request.verb](plan, replay)
    return plan


# ------------------------------------------------------------------------------------------------- files taken in again


def _plan_files(plan: Plan, replay: int | None) -> None:
    selection = plan.request.selection
    conditions = of_products(replace(selection, filetypes=()))
    if tasks := of_tasks(selection):
        conditions.append(_wrapped("p.id IN (SELECT i.data_product_id FROM task_input_data_product i "
                                   "JOIN task t ON t.id = i.task_id WHERE {})", tasks))  # fmt: skip
    if replay is not None:
        conditions.append(Condition("coalesce(g.replay_id, 0) <> ?", (replay,)))
    where = joined(conditions)
    roots = {each.name: each for each in (ingest.OUTSIDE, *plan.request.roots)}
    takes = selection.takes_path()
    for key, name, path, filetype, known in run(
        "SELECT g.id, g.root, g.path, p.filetype, p.path FROM ingestion g "
        "LEFT JOIN data_product p ON p.id = g.data_product_id WHERE g.outcome <> 'noted' AND NOT EXISTS (SELECT 1 "
        "FROM ingestion n WHERE n.root = g.root AND n.path = g.path AND n.id > g.id AND n.outcome <> 'noted') "
        f"AND {where.sql} ORDER BY g.id DESC",
        where.values,
    ):
        root = roots.get(name)
        place = os.path.join(root.folder, path) if root else known or path
        if not takes(place):
            continue
        kind = filetype or _filetype(place)
        if selection.filetypes and kind not in selection.filetypes:
            continue
        if root is None:
            plan.left.append(Left(key, kind, place, f"no folder named {name} is watched any more"))
        elif not os.path.lexists(place):
            plan.left.append(Left(key, kind, place, "the file is gone"))
        else:
            plan.entries.append(Entry(key, kind, place))


def _filetype(place: str) -> str:
    try:
        identified = products.identify(place)
    except FileError:
        return "contested"
    return identified[0].name if identified else "unknown"


# ------------------------------------------------------------------------------------------------ tasks enqueued again


class _Old(NamedTuple):
    """A task to repeat."""

    key: int
    name: str
    parameters: str
    rule: str | None
    priority: int


def _plan_tasks(plan: Plan, replay: int | None) -> None:
    selection = plan.request.selection
    states = selection.states or ENDED
    conditions = of_tasks(replace(selection, states=states))
    if about := of_products(selection):
        conditions.append(_wrapped("t.id IN (SELECT i.task_id FROM task_input_data_product i JOIN data_product p "
                                   "ON p.id = i.data_product_id LEFT JOIN ingestion g ON g.id = i.ingestion_id "
                                   "WHERE {})", about))  # fmt: skip
    if replay is not None:
        conditions.append(Condition("coalesce(t.replay_id, 0) <> ?", (replay,)))
    where = joined(conditions)
    # a task that was enqueued again stands for the one it repeats: what failed and then went well is not failed
    rows = run(
        "SELECT t.id, t.name, t.parameters, t.rule, t.priority FROM task t WHERE t.identity IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM task r WHERE r.repeat_of_id = t.id AND r.identity IS NOT NULL) "
        f"AND {where.sql} ORDER BY t.id DESC",
        where.values,
    )
    known = _Components()
    seen: dict[str, int] = {}
    for chunk in _chunks([_Old(*row) for row in rows]):
        entries = list(_repeats(plan, chunk, known, seen))
        plan.entries += _without_twins(plan, entries, replay)
    plan.entries = _awaited_first(plan.entries)


def _awaited_first(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries in their order, but each after the one whose work it comes after, where that is among them.

    Where that was done before, it would else begin at once, on the old result.
    """
    left = {str(each.task.identity): each for each in entries if each.task}
    ordered: list[Entry] = []
    for each in entries:
        chain: list[Entry] = []
        identity = each.task.identity if each.task else None
        while identity in left:
            chain.append(left.pop(identity))
            identity = chain[-1].task.after if chain[-1].task else None
        ordered += reversed(chain)
    return ordered


def _repeats(plan: Plan, chunk: Sequence[_Old], known: _Components, seen: dict[str, int]) -> Iterator[Entry]:
    inputs = _inputs([each.key for each in chunk])
    older = _of_older_sets(plan.request.rules, chunk, inputs)
    takes = plan.request.selection.takes_path()
    for old in chunk:
        given = inputs.get(old.key, [])
        paths = [path for path, _ in given]
        if plan.request.selection.paths and not any(map(takes, paths)):
            continue
        path = paths[0] if paths else ""
        if old.key in older:
            plan.left.append(
                Left(old.key, old.name, path, "of an older set: its source has other data products by now")
            )
            continue
        made, problem = known.plan(old)
        if made is None:
            plan.left.append(Left(old.key, old.name, path, problem))
            continue
        new = NewTask(made.name, made.component_version, made.parameters, made.bundle_key)
        new = new._replace(inputs=tuple(each for _, each in given), rule=old.rule, repeat_of=old.key)
        new = new._replace(after=_awaited(plan.request.rules, new))
        new = with_identity(new, old.priority)
        twin = seen.setdefault(str(new.identity), old.key)
        if twin == old.key:
            yield Entry(old.key, old.name, path, task=new)
        else:
            plan.left.append(Left(old.key, old.name, path, f"the same work as task {twin}, which is repeated"))


def _of_older_sets(
    rules: Sequence[Rule], chunk: Sequence[_Old], inputs: Mapping[int, Sequence[tuple[str, Input]]]
) -> set[int]:
    """Return the tasks of rules that gather whose data products are not those that their source has now."""
    older: set[int] = set()
    for rule in gathering.that_gather(rules):
        own = {
            old.key: frozenset(each.data_product for _, each in inputs.get(old.key, ()))
            for old in chunk
            if old.rule == rule.name
        }
        current = (
            gathering.current_sets(rule, {product for given in own.values() for product in given}) if own else set()
        )
        older |= {key for key, given in own.items() if given not in current}
    return older


def _awaited(rules: Sequence[Rule], new: NewTask) -> str | None:
    """Return what a task that is repeated comes after, as the rule that enqueued it says now."""
    own = next((each for each in rules if each.name == new.rule and each.plan.name == new.name), None)
    return awaited(own, new.inputs) if own is not None else None


class _Components:
    """The components of recorded tasks as they are now, each built once for each set of parameters."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[Any, str]] = {}

    def plan(self, old: _Old) -> tuple[Any, str]:
        """Return how the task is planned now, or None and why it cannot be."""
        if (old.name, old.parameters) not in self._made:
            self._made[old.name, old.parameters] = self._make(old)
        return self._made[old.name, old.parameters]

    def _make(self, old: _Old) -> tuple[Any, str]:
        given = json.loads(old.parameters)
        try:
            component = component_class(old.name)
            missing = [name for name, each in component.parameters.items() if each.required and name not in given]
            if missing:
                return None, f"the component now needs {', '.join(missing)}, which the task does not give"
            record = Task(id=old.key, name=old.name, parameters=given, component_version=str(component.version))
            return TaskInstance.from_task(record).plan(), ""
        except (AstraError, TypeError, ValueError) as error:
            return None, str(error)


def _inputs(tasks: Sequence[int]) -> dict[int, list[tuple[str, Input]]]:
    """Return the paths and inputs of recorded tasks, each with the data product's current file version."""
    marks = ", ".join("?" * len(tasks))
    rows = run(
        "SELECT i.task_id, p.path, p.id FROM task_input_data_product i JOIN data_product p ON p.id = i.data_product_id "
        f"WHERE i.task_id IN ({marks}) ORDER BY i.task_id, i.position",
        tasks,
    )
    current = current_inputs(list({row[2] for row in rows}))
    found: dict[int, list[tuple[str, Input]]] = {}
    for task, path, product in rows:
        found.setdefault(task, []).append((path, current[product]))
    return found


def _without_twins(plan: Plan, entries: Sequence[Entry], replay: int | None) -> Iterator[Entry]:
    """Yield the entries whose work nobody does already, nor has this replay done."""
    live, done = known_work([str(each.task.identity) for each in entries if each.task], replay)
    for each in entries:
        identity = str(each.task.identity) if each.task else ""
        if identity in live:
            reason = f"task {live[identity]}, which is the same work, is pending or running"
            plan.left.append(Left(each.key, each.kind, each.place, reason))
        elif identity not in done:
            yield each


def known_work(identities: Sequence[str], replay: int | None) -> tuple[dict[str, int], set[str]]:
    """Return the live tasks of these identities, and those identities that the replay has enqueued already."""
    which, parameter = among("identity", identities)
    alive = run(f"SELECT identity, id, replay_id FROM task WHERE {which} AND {IS_LIVE}", (parameter,))
    done = set[str]()
    if replay is not None:
        ended = f"SELECT identity FROM task WHERE {which} AND NOT {IS_LIVE} AND replay_id = ?"
        done = {row[0] for row in run(ended, (parameter, replay))} | {row[0] for row in alive if row[2] == replay}
    return {identity: key for identity, key, own in alive if replay is None or own != replay}, done


# ------------------------------------------------------------------------------- a rule on products that lack its tasks


def _plan_rule(plan: Plan, replay: int | None) -> None:
    rule = plan.request.rule
    if rule.gather is not None:
        _plan_sources(plan, rule, replay)
        return
    selection = plan.request.selection
    where = joined(of_products(selection))
    takes = selection.takes_path()
    rows = run(
        "SELECT p.id, p.release, p.kwargs, p.metadata, p.path "
        "FROM data_product p JOIN ingestion g ON g.id = p.current_ingestion_id "
        f"WHERE p.filetype = ? AND g.outcome = 'ingested' AND {where.sql} AND NOT EXISTS (SELECT 1 "
        "FROM task_input_data_product i JOIN task t ON t.id = i.task_id "
        "WHERE i.data_product_id = p.id AND i.ingestion_id = g.id AND t.rule = ? AND t.component_version = ? "
        "AND t.parameters = ?) ORDER BY p.id DESC",
        (rule.filetype, *where.values, rule.name, rule.plan.component_version, rule.plan.parameters),
    )
    for chunk in _chunks(rows):
        current = current_inputs([row[0] for row in chunk])
        called = []
        for key, release, kwargs, metadata, path in chunk:
            values = {**json.loads(kwargs), **json.loads(metadata), "release": release}
            if takes(path) and applies(rule, Facts(rule.filetype, values, current[key])):
                called.append((path, current[key]))
        plan.entries += _lacking(rule, called)


def _lacking(rule: Rule, called: Sequence[tuple[str, Input]]) -> list[Entry]:
    """Return a rule's tasks on data products that nobody ever enqueued, and first those that they come after."""
    tasks = [(path, given, task_of(rule, (given,))) for path, given in called]
    known = _ever_enqueued([str(task.identity) for _, _, task in tasks])
    lacking = [each for each in tasks if each[2].identity not in known]
    entries = [Entry(given.data_product, task.name, path, task) for path, given, task in lacking]
    if rule.after is None or not lacking:
        return entries
    return [*_lacking(rule.after, [(path, given) for path, given, _ in lacking]), *entries]


def _plan_sources(plan: Plan, rule: Rule, replay: int | None) -> None:
    """Plan the sources of the selected data products whose products, as they are now, were not gathered yet."""
    where = joined(of_products(plan.request.selection))
    takes = plan.request.selection.takes_path()
    rows = run(
        "SELECT l.source_id, p.path FROM data_product p JOIN ingestion g ON g.id = p.current_ingestion_id "
        "JOIN source_data_product l ON l.data_product_id = p.id AND l.superseded_by_id IS NULL "
        f"WHERE p.filetype = ? AND g.outcome = 'ingested' AND l.source_id IS NOT NULL AND {where.sql} ORDER BY p.id",
        (rule.filetype, *where.values),
    )
    paths: dict[int, str] = {}
    for source, path in rows:
        if takes(path):
            paths.setdefault(source, path)
    marked = gathering.marked_by(replay) if replay is not None else set()
    for chunk in _chunks(sorted(paths.keys() - marked, reverse=True)):
        tasks = {source: task_of(rule, given) for source, given in gathering.inputs_of(rule, chunk).items()}
        live, done = gathering.live_and_completed(list(tasks.values())) if tasks else (set(), set())
        for source in filter(tasks.__contains__, chunk):
            if tasks[source].identity in live:
                reason = "a task on all that it has now is pending or running"
                plan.left.append(Left(source, rule.plan.name, paths[source], reason))
            elif tasks[source].identity not in done:
                plan.entries.append(Entry(source, rule.plan.name, paths[source]))


def _ever_enqueued(identities: Sequence[str]) -> set[str]:
    which, parameter = among("identity", identities)
    return {row[0] for row in run(f"SELECT identity FROM task WHERE {which}", (parameter,))}


def _wrapped(sql: str, conditions: Iterable[Condition]) -> Condition:
    inner = joined(list(conditions))
    return Condition(sql.format(inner.sql), inner.values)


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
