"""What a selection means: patterns of paths, and its way through JSON. Names of sources: `test_asking`."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.selection import Selection
from astra.states import IngestionOutcome, TaskState

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
PATH = "/data/sas/visit/apo25m/5094/apVisit-r6-5094-55874-088.fits"


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("*", True),
        ("apVisit-r6-5094-55874-088.fits", True),
        ("apVisit-*", True),
        ("Visit-*", False),
        ("5094", False),
        ("visit/*", True),
        ("visit/apo25m", True),
        ("visit/apo25m/", True),
        ("isit/apo25m", False),
        ("apo25m/*/*-088.fits", True),
        ("/data/sas/visit", True),
        ("/data/sas/visi", False),
        ("/sas/visit", False),
        ("/data/*/apo25m", True),
        ("apVisit-r6-5094-55874-08[0-7].fits", False),
        ("apVisit-r6-5094-55874-08[8-9].fits", True),
    ],
)
def test_a_pattern_is_of_the_base_name_the_end_of_the_path_or_the_whole_path(pattern: str, taken: bool) -> None:
    assert Selection(paths=(pattern,)).takes_path()(PATH) is taken


part = st.text("ab-[]*?.", min_size=1, max_size=5)


@given(name=part, pattern=part)
def test_a_pattern_without_a_slash_is_what_the_shell_makes_of_the_base_name(name: str, pattern: str) -> None:
    assert Selection(paths=(pattern,)).takes_path()(f"/x/y/{name}") is fnmatch.fnmatchcase(name, pattern)


@given(
    st.builds(
        Selection,
        paths=st.lists(st.text(), max_size=2).map(tuple),
        mjd_from=st.none() | st.integers(0, 99999),
        since=st.none() | st.just(NOW),
        source=st.none() | st.text(),
        outcomes=st.lists(st.sampled_from(IngestionOutcome), max_size=2).map(tuple),
        states=st.lists(st.sampled_from(TaskState), max_size=2).map(tuple),
    )
)
def test_a_selection_is_the_same_after_it_was_recorded(selection: Selection) -> None:
    assert Selection.read(selection.given()) == selection
