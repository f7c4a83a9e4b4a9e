"""The sole writer of task and bundle state. Comes from rules, notebooks and the scheduler; goes to the database.

Every change is one guarded UPDATE whose row count is read. A bundle's token is swapped when its process starts, and
every later write of whoever runs it, or takes it from a process that is gone, is fenced by it *and* by its counts: who
lost the bundle changes nothing and is told (`LeaseLost`). Not so fenced is what is no change of state, `ask`,
`note_log` and `note_external`, and what a person takes away: `give_back` and `cancel_running` are guarded by the
bundle's state.
Statements grow with chunks, never with tasks; `docs/STATES.md` draws both state machines.
"""

from astra.queue.awaiting import repair_waits, waits_in_vain
from astra.queue.ending import finish, note_log, renew
from astra.queue.enqueueing import enqueue, make_due, supersede, supersede_gathered
from astra.queue.giving_back import expire, fail_gone, release
from astra.queue.handing import adopt, note_external, note_name
from astra.queue.holding import (
    ask,
    cancel_pending,
    cancel_running,
    give_back,
    hold,
    hold_tasks,
    lift,
    lift_tasks,
    plan_retry,
    probe,
    retry,
)
from astra.queue.opening import claim, open_by_hand, start

__all__ = [
    "adopt",
    "ask",
    "cancel_pending",
    "cancel_running",
    "claim",
    "enqueue",
    "expire",
    "fail_gone",
    "finish",
    "give_back",
    "hold",
    "hold_tasks",
    "lift",
    "lift_tasks",
    "make_due",
    "note_external",
    "note_log",
    "note_name",
    "open_by_hand",
    "plan_retry",
    "probe",
    "release",
    "renew",
    "repair_waits",
    "retry",
    "start",
    "supersede",
    "supersede_gathered",
    "waits_in_vain",
]
