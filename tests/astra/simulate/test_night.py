"""Plans: what cannot be written is refused, with the value that is wrong."""

from __future__ import annotations

import pytest

from astra.errors import ConfigurationError
from astra.simulate import Night


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"release": "dr99"}, "dr99"),
        ({"release": "dr13", "telescopes": ("lco25m",)}, "lco25m"),
        ({"stars": 301}, "301"),
        ({"stars": 0}, "not 0"),
        ({"visits": 0}, "visits"),
        ({"visits": 1, "combinations": 2}, "2 times"),
        ({"configurations": 501}, "at most 500"),
        ({"visits": 41}, "at most 40"),
        ({"pause": -1.0}, "-1.0"),
    ],
)
def test_a_night_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Night(**wrong)  # type: ignore[arg-type]
