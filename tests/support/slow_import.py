"""A module that takes as long to import as a test wants: until somebody has opened a pipe."""

import os
from pathlib import Path

from tests.support.components import Traced

Path(os.environ["ASTRA_TEST_PIPE"]).read_bytes()


class Slow(Traced):
    """Is there in the end."""
