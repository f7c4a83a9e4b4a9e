"""The product in a process that goes through a plan of crashes, or as a broken variant.

Started as ``python -m tests.support.launch PLAN astrad ...`` or ``... PLAN front [--until-done]``, with the settings
that `$ASTRA_CONFIG` names, as for every command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from astra import config
from astra.clock import SYSTEM
from astra.database.connection import close_database, open_database
from daemon import cli
from tests.support import crashes, variants
from tests.support.crashes import Plan
from tests.support.front import Ahead, Front

UNTIL_DONE = "--until-done"


def main(plan: Plan, program: str, arguments: Sequence[str]) -> None:
    """Break the product as the plan says, then run the program."""
    if plan.variant is not None:
        for name in plan.variant.split("+"):
            variants.VARIANTS[name]()
    crashes.arm(plan)
    if program == "astrad":
        sys.argv = [program, *arguments]
        cli.main()
        return
    settings = config.load(Path(os.environ["ASTRA_CONFIG"]))
    open_database(settings.database.url, settings.database.synchronous)
    with Front(settings, Ahead(plan.ahead) if plan.ahead else SYSTEM) as front:
        if UNTIL_DONE in arguments:
            front.run_until_done()
        else:
            front.run()
    close_database()


if __name__ == "__main__":
    main(Plan.read(sys.argv[1]), sys.argv[2], sys.argv[3:])
