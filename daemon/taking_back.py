"""Bundles taken back from a process that died, was stopped, or never began them: by the service, or inside a job.

Comes from what an executor or a supervisor tells; goes to `queue`, whose guards decide whether it is still so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from astra import backlog, queue
from astra.session import clean
from astra.states import BundleState, ErrorKind
from astra.work import Expiry, OpenBundle, Retry
from daemon.executors import Ending
from daemon.logs import event

log = logging.getLogger(__name__)


def tell_taken_away(taken: Mapping[int, str]) -> None:
    """Log what people did to running bundles, each with why: they cancelled its tasks, or gave it back."""
    cancelled = backlog.cancelled_in(taken)
    for bundle, why in taken.items():
        if bundle in cancelled:
            event(log, "cancelled", logging.WARNING, bundle=bundle, tasks=cancelled[bundle], reason=why)
        else:
            event(log, "taken_away", logging.WARNING, bundle=bundle, reason=why)


def take_back(found: OpenBundle, ending: Ending, retry: Retry, now: datetime, seconds: float | None = None) -> None:
    """Take an open bundle back as its ending tells, and log what became of its tasks.

    Parameters
    ----------
    found
        The bundle, as it stands in the records.
    ending
        What went wrong with it.
    retry
        How often, and when, what was to blame is tried again.
    seconds
        How long it had been handed over.
    """
    reason = clean(ending.trouble or "")
    if found.executor == "interactive":
        failed = queue.fail_gone(found.bundle, found.token, "process gone", now)
        event(log, "interactive_gone", logging.WARNING, bundle=found.bundle, failed=failed)
    elif ending.cancelled:
        tasks = queue.cancel_running(found.bundle, reason, now)
        event(log, "cancelled", logging.WARNING, bundle=found.bundle, tasks=tasks, reason=reason)
    elif ending.kind is None or (ending.kind is ErrorKind.RETRY and found.state is BundleState.SUBMITTED):
        tasks = queue.release(found.bundle, found.token, reason, now)
        event(log, "released", bundle=found.bundle, tasks=tasks, reason=reason)
    else:
        told = (ending.position, ending.stack and clean(ending.stack), ending.peak_memory)
        waiting, failed = queue.expire(Expiry(found.bundle, found.token, ending.kind, reason, retry, *told), now)
        more = {} if seconds is None else {"seconds": seconds}
        counts = {"waiting": waiting, "failed": failed}
        event(log, "expired", logging.WARNING, bundle=found.bundle, **counts, reason=reason, **more)
