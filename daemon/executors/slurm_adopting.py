"""Bundles that a service handed to Slurm and no longer looks after: which they are, and taken over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from astra import provenance, queue
from astra.database import notices
from astra.provenance import Owner
from astra.work import OpenBundle
from daemon.executors import STRANDED


def adopt_from_gone(found: Sequence[OpenBundle], ours: Owner, lease: float, now: datetime) -> list[OpenBundle]:
    """Take over those of these open bundles whose service is gone; return those that nobody else was faster to take.

    Parameters
    ----------
    ours
        The service that looks after them from now on.
    lease
        Seconds of a lease; a few of them must have passed where nothing but a service's silence tells.
    """
    by_keeper: dict[Owner, list[OpenBundle]] = {}
    for each in found:
        if each.keeper not in (None, ours):
            by_keeper.setdefault(each.keeper, []).append(each)
    services = notices.services() if by_keeper else set()
    adopted: list[OpenBundle] = []
    for keeper, own in by_keeper.items():
        old = [each for each in own if (now - each.created).total_seconds() > STRANDED * lease]
        gone = own if _is_dead(keeper) else old if _is_silent(keeper, ours, services) else []
        taken = queue.adopt([each.bundle for each in gone], keeper, ours) if gone else set()
        adopted += [each for each in gone if each.bundle in taken]
    return adopted


def _is_dead(keeper: Owner) -> bool:
    return provenance.is_dead(keeper.boot, keeper.pid, keeper.start, keeper.host)


def _is_silent(keeper: Owner, ours: Owner, services: Collection[str]) -> bool:
    """Whether a service of another machine has no line to the database; one of our own would be seen to live."""
    name = notices.service_name(keeper.pid, keeper.host.partition("/")[0])
    return keeper.boot != ours.boot and name not in services
