"""The words for states and outcomes. `docs/STATES.md` draws how one follows another."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands. `queue` alone changes it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BundleState(StrEnum):
    """Where a bundle stands. `queue` alone changes it."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"
    EXPIRED = "expired"
    RELEASED = "released"


class TaskOutcome(StrEnum):
    """How a task left one bundle."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ErrorKind(StrEnum):
    """What kind of error ended a task's try: it decides whether another try may go better, and how it is made.

    The first five are what a component raised; of the others the component said nothing: its process was gone.
    """

    PERMANENT = "permanent"
    BUG = "bug"
    RETRY = "retry"
    RESOURCE = "resource"
    TIMEOUT = "timeout"
    CRASH = "crash"
    INTERRUPTED = "interrupted"


class HoldKind(StrEnum):
    """What is held back: a component, or a replay."""

    COMPONENT = "component"
    REPLAY = "replay"


class IngestionOutcome(StrEnum):
    """What became of one file version. `ledger` alone writes it."""

    INGESTED = "ingested"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    NOTED = "noted"


# What can be claimed: a partial index is made for this, and SQLite uses it for its own words only. And what is alive.
IS_DUE = "state = 'pending' AND not_before IS NULL"
IS_LIVE = "state IN ('pending', 'running')"

# The state that each outcome leaves a task in. One whose process died may be tried again: `expire` decides.
STATE_AFTER = {
    TaskOutcome.COMPLETED: TaskState.COMPLETED,
    TaskOutcome.FAILED: TaskState.FAILED,
    TaskOutcome.RELEASED: TaskState.PENDING,
    TaskOutcome.CANCELLED: TaskState.CANCELLED,
}
