"""Sources by any name, number or position, what is near a place, and what belongs to a source, on both databases."""

from __future__ import annotations

import contextlib
import math
import re

import peewee
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra import asking, sky
from astra.asking import SeveralSources, SourceNotFound
from astra.database.astradb import Source
from astra.database.connection import by_index, is_sqlite, run
from astra.database.connection import database as opened
from astra.errors import AstraError, NotUnderstood
from astra.healpix import NSIDE, ang2pix, cover
from astra.identifiers import KINDS, NUMBERS
from tests.support import stars
from tests.support.corners import CORNERS, bearing, place_of, scatter
from tests.support.tasks import statements

DIGITS = "00034394-0014494"
CATALOGID = (3 << 53) + 12345  # one that a double would lose digits of


# -------------------------------------------------------------------------------------------------------------- reading


@given(number=st.integers(1, (1 << 63) - 1), kind=st.sampled_from(sorted(NUMBERS)))
def test_every_number_comes_back_digit_for_digit(number: int, kind: str) -> None:
    for text in (f"{kind}={number}", f" {kind.upper()} = {number} "):
        assert asking.read(text).names == ((kind, str(number)),)
    bare = asking.read(str(number))
    assert bare.key == number
    assert {name.kind for name in bare.names} == NUMBERS
    assert {name.value for name in bare.names} == {str(number)}
    assert asking.read(f"id={number}").key == number


@given(
    st.from_regex(r"\d{8}[+-]\d{7}", fullmatch=True, alphabet=st.characters(max_codepoint=127)),
    st.sampled_from(["2M", "AP", "J", "2MASS J", "2MASSJ", "2MASS  J", "", "2m", "2mass j"]),
    st.sampled_from(["-", "\N{MINUS SIGN}", "\N{EN DASH}"]),
)
def test_every_spelling_of_a_designation_is_the_same_name(digits: str, start: str, minus: str) -> None:
    read = asking.read(f" {start}{digits.replace('-', minus)} ")
    assert (read.key, read.place) == (None, None)
    assert {("tmass", digits), ("apogee", f"2M{digits}"), ("apogee", f"AP{digits}")} <= set(read.names)


def test_a_gaia_name_is_of_its_release() -> None:
    for text, kind in (("Gaia DR3 4711", "gaia_dr3"), ("gaia dr2 4711", "gaia_dr2"), ("Gaia EDR3 4711", "gaia_dr3")):
        assert asking.read(text).names == ((kind, "4711"),)


@given(st.text(max_size=30))
def test_any_text_is_read_or_told_to_be_wrong(text: str) -> None:
    with contextlib.suppress(NotUnderstood):
        assert all(name.kind in KINDS for name in asking.read(text).names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gaia_dr4=1", "gaia_dr4 is no kind of identifier; did you mean gaia_dr3"),
        ("hip=1", "hip is no kind of identifier; there are id, catalogid, gaia, sdss_id"),
        ("10.5 -95", "-95 is no declination"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, words: str) -> None:
    with pytest.raises(NotUnderstood, match=words):
        asking.read(text)


# -------------------------------------------------------------------------------------------------------------- by name


def test_a_source_is_had_by_any_of_its_names(database: peewee.Database) -> None:
    stars.source(gaia_dr3=1)
    star = stars.source(
        sdss_id=54345, catalogid25=CATALOGID, catalogid21=77, gaia_dr3=(1 << 62) + 1, tmass=DIGITS,
        apogee=f"2M{DIGITS}", ra=0.933, dec=-0.247,
    )  # fmt: skip
    for text in (
        f"2M{DIGITS}", f"AP{DIGITS}", f"J{DIGITS}", f"2MASS J{DIGITS}", DIGITS, "sdss_id=54345", str(CATALOGID), "77",
        f"catalogid={CATALOGID}", f"gaia={(1 << 62) + 1}", f"Gaia DR3 {(1 << 62) + 1}", f"tmass=2M{DIGITS}",
        f"id={star.id}", "0.933 -0.247", "00:03:43.92 -00:14:49.2",
    ):  # fmt: skip
        assert Source.get_by(text) == star, text
    assert Source.get_by(sdss_id=54345) == Source.get_by(catalogid=CATALOGID) == Source.get_by(catalogid="77") == star
    assert Source.get_by(gaia_dr3=(1 << 62) + 1, catalogid=77) == Source.get_by(CATALOGID) == star
    assert Source.get_by(id=star.id) == star


def test_a_name_of_no_2mass_form_is_taken_as_it_stands(database: peewee.Database) -> None:
    for name in ("VESTA", "HD-12345", "M67 star 5"):
        star = stars.source(apogee=name)
        assert Source.get_by(name) == Source.get_by(apogee=name) == star


def test_what_is_not_there_is_an_error_that_peewees_users_expect(database: peewee.Database) -> None:
    stars.source(sdss_id=5, gaia_dr3=6)
    for asked in ("2M99", "sdss_id=7", "id=77", f"2M{DIGITS}", "77"):
        with pytest.raises(Source.DoesNotExist, match=f"no source is known by '{re.escape(asked)}': give") as raised:
            Source.get_by(asked)
        assert isinstance(raised.value, AstraError)
    with pytest.raises(SourceNotFound, match="no source is within 3 arcseconds of 10 20"):
        Source.get_by("10 20")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("sdss_id=-999", "'-999' can be no sdss_id: give a whole number above 0 and below 2^63"),
        ("catalogid=0", "'0' can be no catalogid: give a whole number above 0"),
        ("gaia=x", "'x' can be no gaia: give a whole number above 0"),
        ("id=abc", "'abc' can be no id: give a whole number below 2^63"),
        ("tmass=x", "'x' can be no tmass: give the digits of a designation, as 00034394-0014494"),
        ("apogee=2MNone", "'2MNone' can be no apogee: give a name that has a letter, as 2M00034394-0014494"),
        ("sdss_id=", "'' can be no sdss_id: give a whole number"),
        ("", "there is nothing to look for: give an id, a name"),
        ("-999", "'-999' can be no name of a source: give an id, a name"),
        ("2MNone", "'2MNone' can be no name of a source: give an id"),
        ("9" * 30, "'9{30}' can be no name of a source: give an id"),
    ],
)
def test_what_can_be_no_name_of_a_source_is_told_so(database: peewee.Database, asked: str, sentence: str) -> None:
    for call in (Source.get_by, asking.key):
        with pytest.raises(SourceNotFound, match=f"^{sentence.replace('^', chr(92) + '^')}"):
            call(asked)


def test_names_that_do_not_hold_together_are_told_apart_from_unknown_ones(database: peewee.Database) -> None:
    one, other = stars.source(sdss_id=5, designation="A"), stars.source(catalogid21=3)
    with pytest.raises(SourceNotFound) as raised:
        Source.get_by(sdss_id=5, catalogid=3)
    assert str(raised.value) == (
        f"sdss_id=5, catalogid=3 do not hold together: sdss_id=5 is id={one.id} (A); "
        f"catalogid=3 is id={other.id} (without a name)"
    )
    with pytest.raises(SourceNotFound, match=r"^no source is known by 'gaia_dr3=7', of sdss_id=5, gaia_dr3=7: give"):
        Source.get_by(sdss_id=5, gaia_dr3=7)
    with pytest.raises(SourceNotFound, match=r"^'-1' can be no gaia_dr3"):
        Source.get_by(sdss_id=5, gaia_dr3=-1)


def test_a_float_is_refused_for_it_has_lost_digits(database: peewee.Database) -> None:
    for wrong in (float(CATALOGID), True, [1]):
        with pytest.raises(NotUnderstood, match=r"catalogid cannot be .* whole number"):
            Source.get_by(catalogid=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Source\.get_by needs an id"):
        Source.get_by()


def test_where_several_fit_the_candidates_are_named(database: peewee.Database) -> None:
    pair = [stars.source(tmass=DIGITS, designation=f"blend {n}", ra=10.0 + n / 3600, dec=0.0) for n in (0, 1)]
    with pytest.raises(SeveralSources, match=rf"2 sources: id={pair[0].id} \(blend 0\), id={pair[1].id} .*by id=KEY"):
        Source.get_by(f"2M{DIGITS}")
    with pytest.raises(SeveralSources) as raised:
        Source.get_by("10.00025 0")
    assert list(raised.value.candidates) == pair[::-1]
    assert raised.value.separations == pytest.approx((0.1, 0.9), abs=1e-6)
    with pytest.raises(SeveralSources, match="and 2 more; name one"):
        raise SeveralSources("x", [*pair, *pair, *pair, *pair, *pair, *pair])


def test_of_one_catalogid_the_source_of_the_lowest_rank_is_meant(database: peewee.Database) -> None:
    stars.source(catalogid31=(CATALOGID, 2))
    best = stars.source(catalogid31=(CATALOGID, 1))
    stars.source(catalogid31=CATALOGID)
    assert Source.get_by(catalogid=CATALOGID) == best
    assert asking.key(str(CATALOGID)) == best.id


def test_a_bare_number_is_an_identifier_before_it_is_an_id(database: peewee.Database) -> None:
    first, third = stars.source(), stars.source()
    other = stars.source(sdss_id=first.id)
    assert Source.get_by(first.id) == Source.get_by(str(first.id)) == Source.get_by(sdss_id=first.id) == other
    assert asking.key(str(first.id)) == other.id
    assert Source.get_by(id=first.id) == Source.get_by(f"id={first.id}") == first
    assert Source.get_by(third.id) == third, "no identifier fits"
    stars.SourceIdentifier.create(source=third, kind="gaia_dr2", value=str(first.id))
    with pytest.raises(SeveralSources, match=f"{first.id}' may be any of 2 sources: id={third.id} .*, id={other.id} "):
        Source.get_by(first.id)


def test_a_selection_means_one_source_and_refuses_where_several_fit(database: peewee.Database) -> None:
    pair = [stars.source(tmass=DIGITS, ra=10.0 + n / 36000, dec=0.0).id for n in range(2)]
    for asked in (f"2M{DIGITS}", "10 0"):
        with pytest.raises(SeveralSources, match="name one by id=KEY"):
            asking.key(asked)
    assert asking.key(f"id={pair[1]}") == pair[1]
    with pytest.raises(SourceNotFound):
        asking.key("2MX")


# --------------------------------------------------------------------------------------------------------------- merged


@pytest.fixture
def merged(database: peewee.Database) -> tuple[Source, Source]:
    """A source that became another one in two steps, with what both had: the old one, the new one."""
    new = stars.source(apogee=f"2M{DIGITS}", ra=1.0, dec=2.0)
    middle = stars.source(merged_into=new, ra=1.0, dec=2.0)
    old = stars.source(merged_into=middle, ra=1.0, dec=2.0)
    stars.product(new, mjd=59000)
    return old, new


def test_an_old_id_leads_to_what_it_has_become(merged: tuple[Source, Source]) -> None:
    old, new = merged
    assert Source.get_by(old.id) == Source.get_by(f"id={old.id}") == Source.get_by(f"2M{DIGITS}") == new
    assert [each.source for each in Source.near(1.0, 2.0, 3)] == [new]
    assert asking.family(old.id) == asking.family(new.id) == [new.id, new.id + 1, old.id]
    assert asking.key(str(old.id)) == new.id


def test_an_old_source_answers_for_what_it_has_become(merged: tuple[Source, Source]) -> None:
    old, new = merged
    [visit] = new.data_products
    result = stars.result(stars.task(visit), "new", new)
    before = stars.result(stars.task(visit), "from before", old)
    assert old.data_products == old.visits == [visit]
    assert old.stars == []
    assert old.identifiers == new.identifiers == (("apogee", f"2M{DIGITS}"),)
    assert old.results() == new.results() == [result, before]


# ------------------------------------------------------------------------------------------------------ what belongs to


def test_visits_come_by_date_and_stars_by_release(database: peewee.Database) -> None:
    star = stars.source(sdss_id=1)
    late = stars.product(star, "apVisit", "dr13", mjd=59001)
    dated = [stars.product(star, "apVisit", "dr17", mjd=59000, jd=2459000.5 + n / 10) for n in (3, 1, 2)]
    again = stars.product(star, "apVisit", "dr19", mjd=59000, jd=2459000.5 + 0.1)
    unknown = stars.product(star, "apVisit", "dr10")
    combined = [
        stars.product(star, "apStar", release) for release in ("dr19", "sdsswork", "mine", "ipl-3", "dr10", "a new one")
    ]
    other = stars.product(star, "spec", "dr17")
    stars.product(None, "apVisit", mjd=1)
    assert star.visits == [dated[1], again, dated[2], dated[0], late, unknown]
    assert [each.release for each in star.stars] == ["dr10", "ipl-3", "dr19", "sdsswork", "a new one", "mine"]
    assert set(star.data_products) == {late, *dated, again, unknown, *combined, other}


def test_identifiers_are_all_told_in_the_order_of_kinds_rank_and_value(database: peewee.Database) -> None:
    star = stars.source(apogee="VESTA", tmass=DIGITS)
    for kind, value, rank in (
        ("catalogid21", "9", 2), ("catalogid21", "30", None), ("catalogid21", "12", 1), ("catalogid31", "8", 3),
        ("catalogid21", "11", 1), ("sdss_id", "5", None),
    ):  # fmt: skip
        stars.SourceIdentifier.create(source=star, kind=kind, value=value, rank=rank)
    assert star.identifiers == (
        ("sdss_id", "5"), ("catalogid31", "8"), ("catalogid21", "11"), ("catalogid21", "12"), ("catalogid21", "9"),
        ("catalogid21", "30"), ("tmass", DIGITS), ("apogee", "VESTA"),
    )  # fmt: skip


def test_a_data_product_has_its_versions_and_its_results(database: peewee.Database) -> None:
    star = stars.source()
    first, second = stars.product(star, mjd=1), stars.product(star, mjd=2)
    versions = [stars.version(first, size) for size in (1, 2, 3)]
    stars.version(second, 4)
    assert first.versions == versions[::-1]
    both, alone = stars.task(first, second), stars.task(second)
    rows = [stars.result(each, "x", star) for each in (both, alone)]
    assert first.results() == rows[:1]
    assert second.results() == rows
    stars.task(first, name="lost.module.Component")
    with pytest.warns(UserWarning, match="the results of lost.module.Component are left out: there is no component"):
        assert first.results() == rows[:1]


def test_every_call_takes_a_constant_number_of_queries(database: peewee.Database) -> None:
    star = stars.source(sdss_id=1, ra=10.0, dec=20.0)
    calls = (
        lambda: Source.get_by(sdss_id=1), lambda: Source.get_by("10 20"), lambda: Source.near(10.0, 20.0, 30),
        lambda: star.visits, lambda: star.identifiers, star.results, lambda: star.visits[0].versions,
        star.visits[0].results if star.visits else stars.product(star, mjd=0).results,
    )  # fmt: skip

    def counts() -> list[int]:
        found = []
        for call in calls:
            with statements(opened.obj) as seen:
                call()
            found.append(len(seen))
        return found

    stars.result(stars.task(star.visits[0]), "", star)
    before = counts()
    for n in range(1, 30):
        visit = stars.product(star, mjd=n)
        stars.version(visit, n)
        stars.result(stars.task(visit), "", star)
        stars.source(ra=10.0 + 0.001 + n / 36000, dec=20.0)
    assert counts() == before
    assert max(before) <= 6


# ---------------------------------------------------------------------------------------------------------------- near


def test_near_finds_what_a_look_at_every_source_finds(database: peewee.Database) -> None:
    every = scatter(1, 80)

    @settings(deadline=None, max_examples=200)
    @given(
        corner=st.sampled_from(CORNERS),
        away=st.floats(-5, 0.2).map(lambda power: 10**power),
        towards=st.floats(0, math.tau),
        radius=st.one_of(st.floats(0, 60), st.floats(0, 3600)),
        epochs=st.sampled_from([asking.ANY_EPOCH, sky.Epochs(2016.0, 2016.0), sky.Epochs(1950.0, 2050.0)]),
    )
    def check(corner: tuple[float, float], away: float, towards: float, radius: float, epochs: sky.Epochs) -> None:
        ra, dec = place_of(corner, away, towards)
        found = asking.near(ra, dec, radius, epochs)
        separations = {each.id: sky.closest(ra, dec, epochs, asking._star(each)) for each in every}
        expected = sorted((away, key) for key, away in separations.items() if away <= radius)
        # a right ascension below 0 loses digits when it is brought into the circle
        assert [each.source.id for each in found] == [key for _, key in expected]
        assert [each.separation for each in found] == pytest.approx([away for away, _ in expected], abs=1e-6)

    check()


@pytest.mark.parametrize(
    ("place", "towards"),
    [((217.15656, 42.72578), 3.22189), ((183.58343, -42.72376), 6.22735), ((58.39601, -40.90202), 3.36648)],
)
def test_a_star_is_found_in_a_pixel_that_its_motion_alone_reaches(
    database: peewee.Database, place: tuple[float, float], towards: float
) -> None:
    """Barnard's star moves 7 arcminutes in 41 years: from a pixel that a slow star could not have left."""
    ra, dec = place_of(place, 10.4 * 41 / 3600, towards)
    assert ang2pix(NSIDE, ra, dec) not in cover(NSIDE, *place, 30 / 3600)
    back = bearing((ra, dec), place)
    motion = {"pmra": 10400 * math.sin(back), "pmdec": 10400 * math.cos(back), "epoch": 1975.0}
    star = stars.source(ra=ra, dec=dec, **motion)
    assert [each.source for each in Source.near(*place, 1.0)] == [star]


@settings(deadline=None, max_examples=500)
@given(
    ra=st.floats(0, 360),
    z=st.floats(-1, 1) | st.sampled_from([-1.0, 1.0, 2 / 3, -2 / 3]),
    radius=st.floats(0, 1.5) | st.floats(0, 1.5).map(lambda each: each / 1000),
    share=st.floats(0, 1),
    towards=st.floats(0, math.tau),
    nside=st.sampled_from([1, 2, 16, 128]),
)
def test_a_cover_holds_every_position_of_its_disc(
    ra: float, z: float, radius: float, share: float, towards: float, nside: int
) -> None:
    middle = ra, math.degrees(math.asin(z))
    pixels = cover(nside, *middle, radius)
    assert len(pixels) == len(set(pixels))
    assert ang2pix(nside, *place_of(middle, radius * share, towards)) in pixels
    assert len(pixels) <= 100


def test_a_look_around_goes_by_the_indices(database: peewee.Database) -> None:
    scatter(2, 20)
    with statements(opened.obj) as seen:
        asking.near(10.0, 0.0, 3)
    explain = "EXPLAIN QUERY PLAN " if is_sqlite() else "EXPLAIN "
    with by_index():
        if not is_sqlite():
            run("ANALYZE source; SELECT set_config('enable_bitmapscan', 'on', true)")
        for statement, index in zip(seen, ("source_position", "source_fast"), strict=True):
            count = statement.count("?") + statement.count("%s")
            assert count >= 2, statement
            plan = explain + statement.replace("?", "1").replace("%s", "1")
            told = str(opened.execute_sql(plan).fetchall())
            assert index in told, told


def test_a_place_or_radius_that_is_none_is_told(database: peewee.Database) -> None:
    for wrong in ((400.0, 0.0, 1.0), (0.0, 91.0, 1.0), (math.nan, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, 0.0, 3601.0)):
        with pytest.raises(NotUnderstood):
            Source.near(*wrong)
