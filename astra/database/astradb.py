"""Every table. Models hold columns and small queries; what changes them lives with the verb that owns the change.

`queue` alone writes `Task`, `TaskInputDataProduct`, `Bundle` and `TaskBundle`; `ledger` alone writes `Ingestion`.
Keys and ids are 64-bit integers everywhere. A scientist may read and query all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import peewee
from peewee import BigAutoField, BigIntegerField, BooleanField, DoubleField, IntegerField, SmallIntegerField, TextField

from astra.database.connection import run
from astra.database.fields import InstantField, JsonField, StateField
from astra.database.model import AstraModel as AstraModel
from astra.database.model import Link as Link
from astra.database.source_tables import Catalogue as Catalogue
from astra.database.source_tables import Gathering as Gathering
from astra.database.source_tables import GatherPosition as GatherPosition
from astra.database.source_tables import Source as Source
from astra.database.source_tables import SourceIdentifier as SourceIdentifier
from astra.states import BundleState, ErrorKind, HoldKind, IngestionOutcome, TaskOutcome, TaskState

if TYPE_CHECKING:
    from astra.base import TaskInstance
    from astra.repeating import Comparison
    from astra.results import Provenance

STAGES = ("pre_execute", "execute", "post_execute")


class WatchedRoot(AstraModel):
    """One watched folder, by the name it has in the ledger: where it was last, and since when it is watched.

    `backfilled` is when a whole sweep had found nothing more of what lay there before: what is found later is new.
    """

    name = TextField(primary_key=True)
    path = TextField()
    watched_since = InstantField()
    backfilled = InstantField(null=True)


class Replay(AstraModel):
    """One request to take in, or to enqueue, again: who asked, for what, and how far it has come."""

    id = BigAutoField()
    who = TextField()
    created = InstantField()
    verb = TextField()
    selection = JsonField()
    planned = BigIntegerField()
    done = BigIntegerField(default=0)
    state = TextField()


class Environment(AstraModel):
    """Interpreter, platform and package versions, stored once per distinct content."""

    id = BigAutoField()
    digest = TextField(unique=True)
    python = TextField()
    platform = TextField()
    packages = JsonField()


class DataProduct(AstraModel):
    """One file astra knows, whatever its path: release, file type and identity fields make it one."""

    id = BigAutoField()
    release = TextField()
    filetype = TextField()
    kwargs = JsonField()
    identity = TextField(unique=True)
    path = TextField()
    current_ingestion = peewee.DeferredForeignKey(
        "Ingestion", null=True, backref="+", column_name="current_ingestion_id"
    )
    metadata = JsonField()
    created = InstantField()

    @property
    def source(self) -> Source | None:
        """The source this data product is linked to now."""
        link = SourceDataProduct
        return cast(
            "Source | None",
            Source.select()
            .join(link, on=(link.source == Source.id))
            .where((link.data_product == self.id) & link.superseded_by.is_null())
            .first(),
        )

    @property
    def versions(self) -> list[Ingestion]:
        """What became of each of its file versions, newest first."""
        from astra import asking

        return asking.versions(self)

    def results(self) -> list[ResultModel]:
        """Return the rows recorded by tasks that this data product was given to, whatever else they were given."""
        from astra import results

        return results.of_product(self)


class Ingestion(AstraModel):
    """The recorded outcome of one file version: the ledger."""

    id = BigAutoField()
    root = TextField()
    path = TextField()
    size = BigIntegerField()
    mtime_ns = BigIntegerField()
    ctime_ns = BigIntegerField()
    inode = BigIntegerField()
    header_sha256 = TextField(null=True)
    sha256 = TextField(null=True)
    outcome = StateField(IngestionOutcome)
    reason = TextField(null=True)
    version = BigIntegerField(null=True)
    data_product = Link(DataProduct, null=True)
    supersedes = Link("self", null=True)
    recheck_after = InstantField(null=True)
    missing_since = InstantField(null=True)
    replay = Link(Replay, null=True)
    started = InstantField()
    duration = DoubleField()
    lag = DoubleField(null=True)


class SourceDataProduct(AstraModel):
    """Why a data product belongs to a source. A better link supersedes; the old row stands.

    `method` is the kind of identifier by which a catalogue knows the object, or ``cone``; ``header`` where only other
    headers do; ``none`` where there is no source. `candidates` is how many objects came into question, `separation`
    how far from the header's position the source is, in arcseconds; `conflict` is what speaks against the link.
    """

    id = BigAutoField()
    source = Link(Source, null=True)
    data_product = Link(DataProduct)
    method = TextField()
    catalogue_version = TextField(default="")
    separation = DoubleField(null=True)
    candidates = IntegerField(null=True)
    reason = TextField(null=True)
    conflict = TextField(null=True)
    superseded_by = Link("self", null=True)
    created = InstantField()


class Bundle(AstraModel):
    """One execution of one or more tasks together; a retry is a new bundle.

    `completed` and `failed` count its tasks, `peak_memory` is in bytes, `asked` what a person wants of it while it
    runs; what it printed and logged lies in the file `log`, between two places in bytes. Outside of astra, in Slurm
    say, it is known as `external_id`, was handed over as `external_name`, and is looked after by the service `keeper`.
    """

    id = BigAutoField()
    name = TextField()
    bundle_key = TextField()
    size = IntegerField()
    state = StateField(BundleState)
    token = TextField()
    owner_boot = TextField()
    owner_pid = BigIntegerField()
    owner_start = BigIntegerField()
    host = TextField()
    user = TextField()
    lease_expires = InstantField(null=True)
    executor = TextField()
    external_id = TextField(null=True)
    environment = Link(Environment, null=True)
    version = TextField(null=True)
    component_version = TextField(null=True)
    source_sha256 = TextField(null=True)
    git_commit = TextField(null=True)
    git_dirty = BooleanField(null=True)
    time_pre_execute = DoubleField(null=True)
    time_pre_execute_overhead = DoubleField(null=True)
    time_execute = DoubleField(null=True)
    time_execute_overhead = DoubleField(null=True)
    time_post_execute = DoubleField(null=True)
    time_post_execute_overhead = DoubleField(null=True)
    created = InstantField()
    started = InstantField(null=True)
    ended = InstantField(null=True)
    error = TextField(null=True)
    log = TextField(null=True)
    completed = IntegerField(default=0)
    failed = IntegerField(default=0)
    asked = TextField(null=True)
    peak_memory = BigIntegerField(null=True)
    log_start = BigIntegerField(null=True)
    log_end = BigIntegerField(null=True)
    external_name = TextField(null=True)
    keeper = TextField(null=True)

    @property
    def tasks(self) -> list[Task]:
        """The tasks of this bundle, in their order."""
        member = TaskBundle
        query = Task.select().join(member, on=(member.task == Task.id)).where(member.bundle == self.id)
        return list(query.order_by(member.position))

    def instance(self, strict: bool = False) -> TaskInstance:
        """Return the `TaskInstance` of all this bundle's tasks."""
        from astra.base import TaskInstance

        return TaskInstance.from_bundle(self, strict=strict)


class Task(AstraModel):
    """One component on its inputs with its parameters. `time_*` answer from its latest bundle.

    `generation` counts how often its identity has come to life. After a crash only tasks of one `cohort` run together;
    tries in bundles up to `tries_after` no longer count. `after` is the identity of the work that it comes after.
    """

    id = BigAutoField()
    name = TextField()
    parameters = JsonField()
    version = TextField()
    component_version = TextField()
    state = StateField(TaskState)
    priority = SmallIntegerField()
    bundle_key = TextField()
    identity = TextField(null=True)
    rule = TextField(null=True)
    not_before = InstantField(null=True)
    repeat_of = Link("self", null=True)
    replay = Link(Replay, null=True)
    bundle = Link(Bundle, null=True)
    created = InstantField()
    generation = BigIntegerField(null=True)
    cohort = BigIntegerField(null=True)
    tries_after = BigIntegerField(default=0)
    after = TextField(null=True)

    @property
    def input_data_products(self) -> list[DataProduct]:
        """The data products this task was given, in order."""
        given = TaskInputDataProduct
        query = DataProduct.select().join(given, on=(given.data_product == DataProduct.id))
        return list(query.where(given.task == self.id).order_by(given.position))

    @property
    def output_data_products(self) -> list[DataProduct]:
        """The data products this task made."""
        made = TaskOutputDataProduct
        query = DataProduct.select().join(made, on=(made.data_product == DataProduct.id))
        return list(query.where(made.task == self.id).order_by(DataProduct.id))

    def results(self) -> list[ResultModel]:
        """Return the rows that this task recorded, in order."""
        from astra import results

        return results.of_task(self)

    def instance(self, strict: bool = False) -> TaskInstance:
        """Return the `TaskInstance` that this task records."""
        from astra.base import TaskInstance

        return TaskInstance.from_task(self, strict=strict)

    def repeat(self, rtol: float = 1e-6, atol: float = 0.0, record: bool = False) -> Comparison:
        """Run this completed task again and compare its results; nothing is written, unless `record` asks for it."""
        from astra import repeating

        return repeating.repeat([self.id], rtol, atol, record)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("time_") and name in TIME_COLUMNS:
            rows = run(f"SELECT {name} FROM task_time WHERE task_id = ?", (self.id,))
            return rows[0][0] if rows else None
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


TIME_COLUMNS = (
    "time_total",
    *(f"time_{stage}{part}" for stage in STAGES for part in ("", "_task", "_bundle_overhead")),
)


class TaskInputDataProduct(AstraModel):
    """What a task was given: the data product, and the exact file version of it."""

    task = Link(Task)
    position = IntegerField()
    data_product = Link(DataProduct)
    ingestion = Link(Ingestion, null=True)

    class Meta:
        primary_key = peewee.CompositeKey("task", "position")


class TaskOutputDataProduct(AstraModel):
    """What a task made."""

    task = Link(Task)
    bundle = Link(Bundle)
    data_product = Link(DataProduct)

    class Meta:
        primary_key = peewee.CompositeKey("task", "data_product")


class TaskBundle(AstraModel):
    """One task's part in one bundle: its outcome, its error, and its own time in each stage, in seconds."""

    bundle = Link(Bundle)
    position = IntegerField()
    task = Link(Task)
    outcome = StateField(TaskOutcome, null=True)
    error_class = TextField(null=True)
    error_message = TextField(null=True)
    traceback = TextField(null=True)
    time_pre_execute = DoubleField(null=True)
    time_execute = DoubleField(null=True)
    time_post_execute = DoubleField(null=True)
    error_kind = StateField(ErrorKind, null=True)

    class Meta:
        primary_key = peewee.CompositeKey("bundle", "position")


class Hold(AstraModel):
    """What is held back, by whom and why: nothing of it is claimed until the hold is lifted.

    One that the circuit breaker made has `probe_at`, when one bundle is tried again, how often that was done, and which
    bundle it was the last time.
    """

    id = BigAutoField()
    kind = StateField(HoldKind)
    target = TextField()
    who = TextField()
    reason = TextField()
    created = InstantField()
    lifted = InstantField(null=True)
    probe_at = InstantField(null=True)
    probes = IntegerField(default=0)
    probe_bundle = BigIntegerField(null=True)


class CalendarTurn(AstraModel):
    """An entry of the calendar, and for which of its times it was last done; of several services by one."""

    entry = TextField(primary_key=True)
    due = InstantField()


class ResultModel(AstraModel):
    """Base of a component's result tables: each row belongs to a task, and to its source where there is one."""

    id = BigAutoField()
    task = Link(Task)
    source = Link(Source, null=True)

    def __init__(self, *arguments: Any, **values: Any) -> None:
        known = self._meta.combined
        unknown = [name for name in values if name not in known]
        if unknown and "__no_default__" not in values:  # which peewee gives for what a query has read
            columns = ", ".join(field.name for field in self._meta.sorted_fields if field.name not in ("id", "task"))
            raise TypeError(f"{type(self).__name__} has no column {unknown[0]}: it has {columns}")
        super().__init__(*arguments, **values)

    def provenance(self) -> Provenance:
        """Return what made this result: task, parameters, inputs with their exact file versions, code, environment."""
        from astra import results

        return results.provenance_of(self)


# In an order in which each refers only to those before it (and data_product to ingestion, afterwards).
TABLES: tuple[type[AstraModel], ...] = (
    WatchedRoot,
    Replay,
    Environment,
    Catalogue,
    Source,
    SourceIdentifier,
    DataProduct,
    Ingestion,
    SourceDataProduct,
    Bundle,
    Task,
    TaskInputDataProduct,
    TaskOutputDataProduct,
    TaskBundle,
    Hold,
    Gathering,
    GatherPosition,
    CalendarTurn,
)
