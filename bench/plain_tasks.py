"""Tasks recorded in peewee's plain way, with nothing but their parameters, state and time: what is the least to pay.

No versions, no environment, no inputs, no leases; a file that changes, a process that dies, an error: all unseen.
"""

from __future__ import annotations

import json

import peewee

from astra.clock import SYSTEM
from bench.plain import PlainModel, tables

CHUNK = 1_000  # rows of one INSERT


class PlainBundle(PlainModel):
    """Tasks that ran together."""

    id = peewee.AutoField()
    name = peewee.TextField()
    state = peewee.TextField()
    seconds = peewee.FloatField(null=True)


class PlainTask(PlainModel):
    """One piece of work."""

    id = peewee.AutoField()
    bundle = peewee.ForeignKeyField(PlainBundle)
    parameters = peewee.TextField()
    state = peewee.TextField()
    seconds = peewee.FloatField(null=True)


MODELS = (PlainBundle, PlainTask)


def _parameters(number: int) -> str:
    return json.dumps({"number": number, "model": "a model", "snr": 100.0})


def one_by_one(count: int) -> int:
    """Record each task as running, do nothing, and record its end: two transactions each."""
    for number in range(count):
        with tables.atomic():
            bundle = PlainBundle.create(name="Trivial", state="running")
            task = PlainTask.create(bundle=bundle, parameters=_parameters(number), state="running")
        began = SYSTEM.monotonic()
        task.state, task.seconds = "completed", SYSTEM.monotonic() - began
        bundle.state, bundle.seconds = "ended", task.seconds
        with tables.atomic():
            task.save()
            bundle.save()
    return count


def in_one_bundle(count: int) -> int:
    """Record tasks by the thousand, read each, and record the time of each and the end of all."""
    with tables.atomic():
        bundle = PlainBundle.create(name="Trivial", state="running")
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            rows = [{"bundle": bundle, "parameters": _parameters(each), "state": "running"} for each in numbers]
            PlainTask.insert_many(rows).execute()
    began = SYSTEM.monotonic()
    for task in PlainTask.select().where(PlainTask.bundle == bundle).order_by(PlainTask.id).iterator():
        json.loads(task.parameters)
    seconds = (SYSTEM.monotonic() - began) / count
    with tables.atomic():
        PlainTask.update(state="completed", seconds=seconds).where(PlainTask.bundle == bundle).execute()
        PlainBundle.update(state="ended", seconds=seconds * count).where(PlainBundle.id == bundle.id).execute()
    return count


def read(count: int) -> int:
    """Read the tasks of a recorded bundle, with their parameters."""
    bundle = PlainBundle.select().order_by(PlainBundle.id.desc()).get()
    found = [json.loads(each.parameters) for each in PlainTask.select().where(PlainTask.bundle == bundle)]
    assert len(found) == count, (len(found), count)
    return count
