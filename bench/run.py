"""Measure what Astra costs beside the plain way and beside what the machine can do: `make bench`.

Reading headers, proving files whole, taking files in, finding nothing to take in, running tasks, loading a catalogue
and linking to it, each in the same run as what it is compared with. ``--quick`` is a smoke run of a few seconds;
``--write`` keeps the tables in ``docs/benchmarks.md``. ``--part growth``, up to a million files and ten million rows of
a catalogue, is made only when it is asked for, and kept in ``docs/growth.md``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # `bench` and `tests` are folders of a checkout, not installed packages.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from bench.command import main

    sys.exit(main())
