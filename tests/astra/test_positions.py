"""Positions and radii as people write them: every rendering comes back, and what is none is told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import NotUnderstood
from astra.positions import Position, read_position, read_radius, written

DAY, ARC = 24 * 3600 * 1000, 90 * 3600 * 100  # in thousandths of a second, and in hundredths of an arcsecond


def parts(units: int, per_second: int) -> tuple[int, int, float]:
    seconds, rest = divmod(units, per_second)
    return seconds // 3600, seconds // 60 % 60, seconds % 60 + rest / per_second


def close(found: Position | None, ra: float, dec: float) -> bool:
    return (
        found is not None and math.isclose(found.ra, ra, abs_tol=1e-11) and math.isclose(found.dec, dec, abs_tol=1e-11)
    )


def test_what_the_manual_shows_is_one_position() -> None:
    expected = read_position("209.880042 +63.585389")
    assert expected == Position(209.880042, 63.585389)
    for text in (
        "209.880042, 63.585389", "209.880042,+63.585389", "209.880042d +63.585389d", " 209.880042\t63.585389 ",
        "209.880042° +63.585389°", "209.880042 deg, 63.585389 deg",
    ):  # fmt: skip
        assert read_position(text) == expected, text
    for text in (
        "13:59:31.21 +63:35:07.4", "13:59:31.21 63:35:07.4", "13:59:31.21,+63:35:07.4", "13:59:31.21+63:35:07.4",
        "13 59 31.21 +63 35 07.4", "13 59 31.21 63 35 07.4", "13h59m31.21s +63d35m07.4s", "13h59m31.21s+63d35m07.4s",
        "13H 59M 31.21S +63D 35M 07.4S", "13h59m31.21s +63°35\N{PRIME}07.4\N{DOUBLE PRIME}",
        "209d52m48.15s +63d35m07.4s", "13:59:31.21 +63.58538888888889", "209.88004166666667 +63:35:07.4",
    ):  # fmt: skip
        assert close(read_position(text), 209.88004166666667, 63.58538888888889), text


@given(
    time=st.integers(0, DAY - 1),
    arc=st.integers(-ARC, ARC),
    form=st.sampled_from(["{0}:{1}:{2}", "{0} {1} {2}", "{0}{h}{1}m{2}s", "{0}{h} {1}m {2}s", "{0:02}:{1:02}:{2}"]),
    between=st.sampled_from([" ", ", ", "  ", ""]),
    minus=st.sampled_from(["-", "\N{MINUS SIGN}", "\N{EN DASH}"]),
)
def test_a_sexagesimal_position_comes_back(time: int, arc: int, form: str, between: str, minus: str) -> None:
    ra = form.format(*parts(time, 1000), h="h")
    dec = ("+" if arc >= 0 else minus) + form.format(*parts(abs(arc), 100), h="d")
    assert close(read_position(f"{ra}{between}{dec}"), 15 * time / 3_600_000, arc / 360_000)


@given(
    ra=st.floats(0, 360, exclude_max=True),
    dec=st.floats(-90, 90),
    form=st.sampled_from(["{} {}", "{},{}", "{}, {}", "{}d {:+}d", "{} {:+}"]),
)
def test_a_position_in_degrees_comes_back_to_the_last_digit(ra: float, dec: float, form: str) -> None:
    assert read_position(form.format(ra, dec)) == Position(ra, dec)


def test_360_degrees_are_none() -> None:
    assert read_position("360 -90") == Position(0.0, -90.0)


def test_the_sign_of_a_declination_just_south_of_the_equator_is_kept() -> None:
    assert close(read_position("0:0:0 -00:14:49.4"), 0.0, -889.4 / 3600)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "2M00034394-0014494", "HD 12345", "27021597984222977", "1.5", "10.5", "10,5 -56,2", "1 2 3",
        "1 2 3 4 5", "123-45", "13:59:31.21", "nan nan", "inf 0", "10.5 foo", "1:2:3 4h5m6s", "1:2.5:3 4:5:6",
        "1 2 3 4 5 6 7",
    ],
)  # fmt: skip
def test_what_has_not_the_shape_of_a_position_is_none(text: str) -> None:
    assert read_position(text) is None


@given(st.text())
def test_any_text_is_a_position_on_the_sky_or_none(text: str) -> None:
    try:
        found = read_position(text)
    except NotUnderstood:
        return
    assert found is None or (0 <= found.ra < 360 and -90 <= found.dec <= 90)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("361 0", "361 is no right ascension"),
        ("-1 0", "-1 is no right ascension"),
        ("24:00:00 0", "hours are below 24; in degrees write"),
        ("10 90.1", "90.1 is no declination"),
        ("10 -90:00:01", "-90:00:01 is no declination"),
        ("1:60:00 0", "minutes and seconds are below 60"),
        ("1:00:00 1:00:60", "minutes and seconds are below 60"),
    ],
)
def test_an_angle_out_of_its_range_is_told(text: str, words: str) -> None:
    with pytest.raises(NotUnderstood, match=words):
        read_position(text)


@pytest.mark.parametrize(
    "text",
    [
        "19 39 05.32 +40 27", "19 39 05.32, +40 27", "19 39 +40 27 34.7", "19 39 05.32 +40", "19:39:05.32 +40 27",
        "19h39m05.32s +40 27", "19 39 05 +40 27.5", "209.88, +63 35", "19 39 05.32, 40 27",
    ],
)  # fmt: skip
def test_angles_of_unlike_parts_are_not_guessed_at(text: str) -> None:
    with pytest.raises(NotUnderstood, match=r"in \d parts? and .* in \d: write both alike"):
        read_position(text)


def test_angles_of_unlike_parts_are_read_where_nothing_can_be_lacking() -> None:
    for text in ("19 39 05.32 +40.4596", "19:39:05.32 +40:27", "294.772167 +40:27", "19h39m +40d", "19:39 +40"):
        assert read_position(text) is not None, text


@given(ra=st.floats(0, 360, exclude_max=True), dec=st.floats(-90, 90))
def test_a_written_position_is_the_position_in_both_forms(ra: float, dec: float) -> None:
    degrees, _, sexagesimal = written(Position(ra, dec)).removesuffix(")").partition(" (")
    for text, off in ((degrees, 6e-7), (sexagesimal, 2.2e-5)):
        found = read_position(text)
        assert found is not None
        assert abs((found.ra - ra + 180) % 360 - 180) < off
        assert abs(found.dec - dec) < off


def test_a_written_position_has_its_sign_and_every_digit() -> None:
    assert written(Position(0.933083, -0.247056)) == "0.933083 -0.247056 (00:03:43.94 -00:14:49.4)"
    assert written(Position(359.9999999, 90.0)) == "0.000000 +90.000000 (00:00:00.00 +90:00:00.0)"


@pytest.mark.parametrize(
    ("text", "arcseconds"),
    [
        ("3", 3), ("3.5", 3.5), (".5", 0.5), ('3"', 3), ("3''", 3), ("3 arcsec", 3), ("2'", 120), ("2arcmin", 120),
        ("2\N{PRIME}", 120), ("3\N{DOUBLE PRIME}", 3), ("0.01deg", 36), ("1°", 3600), ("1d", 3600), ("0", 0),
    ],
)  # fmt: skip
def test_a_radius_has_a_unit_or_is_in_arcseconds(text: str, arcseconds: float) -> None:
    assert read_radius(text) == pytest.approx(arcseconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "x", "-3", "3 parsec", "3m", "1.0001deg", "nan", "1e3"])
def test_what_is_no_radius_is_told(text: str) -> None:
    with pytest.raises(NotUnderstood, match="radius"):
        read_radius(text)
