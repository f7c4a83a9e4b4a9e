"""Which texts name an object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import identifiers

NAMES = (("apogee", "2M00005143+5615568"), ("tmass", "00005143+5615568"))
BIG = "9223372036854775807"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("sdss_id", "0"), ("sdss_id", "-1"), ("sdss_id", "-999"), ("sdss_id", "9223372036854775808"),
        ("sdss_id", "1.0"), ("sdss_id", ""), ("catalogid31", "nan"), ("gaia_dr3", "007"),
        ("tmass", "2M00005143+5615568"), ("tmass", "-"),
        ("apogee", ""), ("apogee", "-"), ("apogee", "2M"), ("apogee", "2MNone"), ("apogee", "None"), ("apogee", "nan"),
        ("apogee", "00005143+5615568"), ("apogee", "10.5 +56.25"), ("apogee", "VESTA\0"), ("apogee", " VESTA"),
        ("coordinates", "10.5+56.25"),
    ],
)  # fmt: skip
def test_sentinels_and_bare_coordinates_are_no_identifiers(kind: str, value: str) -> None:
    assert not identifiers.valid(kind, value)


@pytest.mark.parametrize("identifier", [*NAMES, ("apogee", "VESTA"), ("sdss_id", "1"), ("catalogid31", BIG)])
def test_names_and_numbers_of_objects_are_identifiers(identifier: tuple[str, str]) -> None:
    assert identifiers.valid(*identifier)


@given(st.integers(1, (1 << 63) - 1))
def test_every_positive_64_bit_number_is_an_identifier(number: int) -> None:
    assert identifiers.valid("gaia_dr3", str(number))


@pytest.mark.parametrize(
    ("catalogid", "kind"),
    [
        (5696405012, "catalogid21"), (27021599252394686, "catalogid25"), (63050396092955182, "catalogid31"),
        (0, None), (-1, None), (1 << 54, None),
    ],
)  # fmt: skip
def test_a_catalogid_tells_which_cross_match_made_it(catalogid: int, kind: str | None) -> None:
    assert identifiers.catalogid_kind(catalogid) == kind
