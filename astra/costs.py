"""What tasks are expected to cost, in seconds, as far as the records tell. Reads; writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from astra.database.connection import by_index, run
from astra.database.staging import among

if TYPE_CHECKING:
    from astra.base import TaskInstance

CHUNK = 10_000
MOST_RECENT = 10_000  # tasks that a component's mean is taken over
_SECONDS = "coalesce(m.time_pre_execute, 0) + coalesce(m.time_execute, 0) + coalesce(m.time_post_execute, 0)"
_DONE = "JOIN task_bundle m ON m.task_id = t.id AND m.bundle_id = t.bundle_id WHERE t.state = 'completed'"


def expected_seconds(instance: TaskInstance) -> list[float]:
    """Return what each task of an instance is expected to take, in order.

    The time that its component last took on the same data products; where it never has, its mean over all it has done;
    where it has done nothing, the same for all. A statement for each 10,000 tasks.
    """
    usual = _mean(instance.component_name())
    keys = _inputs(instance)
    known = _last(instance.component_name(), sorted({each for own in keys for each in own}))
    return [sum(known[each] for each in own) if own and known.keys() >= set(own) else usual for own in keys]


def _mean(component: str) -> float:
    latest = f"SELECT {_SECONDS} AS seconds FROM task t {_DONE} AND t.name = ? ORDER BY t.id DESC LIMIT {MOST_RECENT}"
    found = run(f"SELECT avg(seconds) FROM ({latest}) AS latest", (component,))[0][0]
    return float(found) if found else 1.0


def _inputs(instance: TaskInstance) -> Sequence[Sequence[int]]:
    """Return the keys of each task's data products: none for one whose file is not known yet."""
    if instance._tasks:
        own: dict[int, list[int]] = {task: [] for task in instance._tasks}
        for start in range(0, len(instance._tasks), CHUNK):
            listed = ", ".join(str(int(key)) for key in instance._tasks[start : start + CHUNK])
            with by_index():
                for task, product in run(
                    f"SELECT task_id, data_product_id FROM task_input_data_product WHERE task_id IN ({listed})"
                ):
                    own[task].append(product)
        return [own[task] for task in instance._tasks]
    given = instance._inputs or [[]] * instance.bundle_size
    paths = _of_paths(sorted({each for own in given for each in own if isinstance(each, str)}))
    return [_all_known([each if isinstance(each, int) else paths.get(each) for each in own]) for own in given]


def _all_known(keys: Sequence[int | None]) -> list[int]:
    known = [each for each in keys if each is not None]
    return known if len(known) == len(keys) else []


def _of_paths(paths: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(paths), CHUNK):
        condition, parameter = among("path", paths[start : start + CHUNK])
        found |= dict(run(f"SELECT path, id FROM data_product WHERE {condition}", (parameter,)))
    return found


def _last(component: str, products: Sequence[int]) -> dict[int, float]:
    """Return, by data product, the time of its latest completed task of a component, shared among its inputs."""
    found: dict[int, float] = {}
    for start in range(0, len(products), CHUNK):
        listed = ", ".join(str(int(key)) for key in products[start : start + CHUNK])
        rows = defaultdict[int, list[int]](list)
        seconds: dict[int, float] = {}
        with by_index():
            for product, task, took in run(
                f"SELECT i.data_product_id, t.id, {_SECONDS} FROM task_input_data_product i "
                f"JOIN task t ON t.id = i.task_id {_DONE} AND t.name = ? AND i.data_product_id IN ({listed})",
                (component,),
            ):
                rows[product].append(task)
                seconds[task] = took
        shares = defaultdict[int, int](int)
        for tasks in rows.values():
            for task in tasks:
                shares[task] += 1
        found |= {product: seconds[max(tasks)] / shares[max(tasks)] for product, tasks in rows.items()}
    return found
