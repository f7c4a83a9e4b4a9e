"""The product in processes that go through a plan of crashes, or are a broken variant.

``python -m tests.support.launch PLAN astrad ...`` is one such `astrad`. Without arguments it is a nursery: it has
imported everything, and forks a front (`tests.support.front`) for every order on its standard input, so that a kill
costs a tenth of a second. `tests.support.nursery` gives the orders.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from typing import NoReturn

from astra import config
from astra.clock import SYSTEM
from astra.database.connection import close_database, open_database
from daemon import cli
from tests.support import crashes, variants
from tests.support.crashes import Plan
from tests.support.front import Ahead, Front
from tests.support.nursery import KILLED_FROM_OUTSIDE, Order


def become(plan: Plan) -> None:
    """Break and arm this process's product as the plan says."""
    for name in plan.variant:
        variants.VARIANTS[name]()
    crashes.arm(plan)


def run_front(order: Order) -> None:
    """Run the front of the service until a plan or somebody kills it, or until nothing is left to do."""
    become(order.plan)
    settings = config.load(Path(order.config), {"HOME": os.path.dirname(order.config)})
    open_database(settings.database.url, settings.database.synchronous)
    with Front(settings, Ahead(order.plan.ahead) if order.plan.ahead else SYSTEM) as front:
        if order.until_done:
            front.run_until_done()
        else:
            front.run()
    close_database()


def serve() -> None:
    """Fork a front for each order, one after another, and answer how it ended: its exit status, or minus a signal."""
    for line in sys.stdin:
        order = Order.read(line)
        child = os.fork()
        if child == 0:
            _be_child(order)
        descriptor = os.pidfd_open(child)
        ended = bool(select.select([descriptor], [], [], order.longest)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)  # it may have ended now, but it is there until it is waited for
        os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status if ended else KILLED_FROM_OUTSIDE, flush=True)


def _be_child(order: Order) -> NoReturn:
    status = 1
    try:
        with open(order.log, "ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        run_front(order)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Be the program that the arguments name."""
    if len(sys.argv) == 1:
        serve()
        return
    become(Plan.read(sys.argv[1]))
    sys.argv = sys.argv[2:]
    cli.main()


if __name__ == "__main__":
    main()
