"""What a test does where the machine lacks something: skip and say so, or fail where `CI` is set."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """End the test because of `what`: a skip for a contributor, a failure in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (CI is set, so this is no skip)", pytrace=False)
    pytest.skip(what)
