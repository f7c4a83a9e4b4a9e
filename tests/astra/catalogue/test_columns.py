"""What columns are taken for, by their names and, where those do not decide, by what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from astra import identifiers
from astra.catalogue import columns
from astra.catalogue.columns import Plan
from tests.support.pages import Page
from tests.support.processes import CHECKOUT

# The columns that matter here, in the order and spelling of the SDSS data model, sdssdb, the Gaia archive and 2MASS.
FLAT = "sdss_id catalogid version_id ra_sdss_id dec_sdss_id n_associated ra_catalogid dec_catalogid pk rank"
STACKED = "catalogid21 catalogid25 ra_sdss_id dec_sdss_id sdss_id"
TO_CATALOG = "pk sdss_id catalogid version_id lead gaia_dr2_source__source_id gaia_dr3_source__source_id guvcat__objid"
MWM = (
    "sdss_id sdss4_apogee_id gaia_dr2_source_id gaia_dr3_source_id tic_v8_id healpix lead version_id catalogid "
    "catalogid21 catalogid25 catalogid31 n_associated ra dec l b plx pmra e_pmra pmde e_pmde"
)
DRP = (
    "APOGEE_ID FILE RA DEC PMRA PMDEC CATALOGID SDSS_ID RA_SDSS_ID DEC_SDSS_ID GAIA_RELEASE GAIA_SOURCEID GAIA_PMRA "
    "GAIA_PMDEC"
)
DR17 = "APSTAR_ID APOGEE_ID RA DEC GAIAEDR3_SOURCE_ID GAIAEDR3_PMRA GAIAEDR3_PMDEC"
DR16 = "APSTAR_ID TARGET_ID APOGEE_ID RA DEC GAIA_SOURCE_ID GAIA_PMRA GAIA_PMRA_ERROR GAIA_PMDEC"
GAIA = "SOLUTION_ID DESIGNATION SOURCE_ID RANDOM_INDEX REF_EPOCH RA RA_ERROR DEC DEC_ERROR PMRA PMDEC"
PSC = "RA DECL ERR_MAJ J_M H_M K_M PTS_KEY DATE JDATE DESIGNATION"
TARGET = "TARGET_PK RA DEC PMRA PMDEC EPOCH PARALLAX CATALOGID"
CATALOG = "CATALOGID IAUNAME RA DEC PMRA PMDEC PARALLAX LEAD VERSION_ID"


def plan(
    names: str, held: Mapping[str, Sequence[str]] | None = None, gaia: str | None = None, epoch: float | None = None
) -> Plan:
    return columns.plan(names.split(), lambda column: (held or {}).get(column, []), gaia, epoch)


@pytest.mark.parametrize(
    ("names", "kind", "meanings", "place", "epoch"),
    [
        (FLAT, "sdss_id_flat", "sdss_id catalogid", "ra_sdss_id dec_sdss_id", 2015.5),
        (STACKED, "sdss_id_stacked", "sdss_id catalogid25 catalogid21", "ra_sdss_id dec_sdss_id", 2015.5),
        (TO_CATALOG, "sdss_id_to_catalog", "sdss_id catalogid gaia_dr3 gaia_dr2", "", None),
        (MWM, "allStar of Astra (mwmAllStar, astraAllStar)",
         "sdss_id catalogid31 catalogid25 catalogid21 catalogid gaia_dr3 gaia_dr2 apogee", "ra dec pmra pmde", 2015.5),
        (DRP, "allStar of SDSS-V's APOGEE", "sdss_id catalogid gaia apogee",
         "RA_SDSS_ID DEC_SDSS_ID GAIA_PMRA GAIA_PMDEC", 2015.5),
        (DR17, "allStar of DR17", "gaia_dr3 apogee", "RA DEC GAIAEDR3_PMRA GAIAEDR3_PMDEC", 1999.5),
        (DR16, "allStar of DR16", "gaia_dr2 apogee", "RA DEC GAIA_PMRA GAIA_PMDEC", 1999.5),
        ("APSTAR_ID APOGEE_ID RA DEC", "allStar before DR16", "apogee", "RA DEC", 1999.5),
        (PSC, "2MASS point sources", "tmass", "RA DECL", 1999.5),
        ("designation ra dec j_m k_m", "2MASS point sources", "tmass", "ra dec", 1999.5),
        (TARGET, "mos_target, mos_catalog", "catalogid", "RA DEC PMRA PMDEC", 2015.5),
        (CATALOG, "mos_target, mos_catalog", "catalogid", "RA DEC PMRA PMDEC", 2015.5),
    ],
)  # fmt: skip
def test_the_tables_of_the_survey_are_known(
    names: str, kind: str, meanings: str, place: str, epoch: float | None
) -> None:
    found = plan(names)
    assert found.kind == kind
    assert [taken.meaning for taken in found.identifiers] == meanings.split()
    assert [each for each in (found.ra, found.dec, found.pmra, found.pmdec) if each] == place.split()
    assert found.epoch == epoch


def test_a_column_that_says_the_epoch_is_read() -> None:
    assert plan(TARGET).epochs == "EPOCH"
    assert plan(PSC).julian_date == "JDATE"
    assert plan(GAIA, {"REF_EPOCH": ["2016.0"]}).epochs == "REF_EPOCH"


def test_the_users_word_on_the_epoch_counts_before_the_tables() -> None:
    for names in (TARGET, FLAT, PSC):
        found = plan(names, epoch=2000.0)
        assert (found.epoch, found.epochs, found.julian_date) == (2000.0, None, None)
    with pytest.raises(ValueError, match=r"--epoch 2015\.5 \(epoch=2015\.5 in Python\), not 57000"):
        plan(TARGET, epoch=57000.0)


def test_the_rank_of_sdss_id_flat_is_read() -> None:
    assert plan(FLAT).rank == "rank"


@pytest.mark.parametrize(
    ("held", "meaning", "epoch"),
    [
        ({"DESIGNATION": ["", "Gaia DR3 4472832130942575872"]}, "gaia_dr3", 2016.0),
        ({"DESIGNATION": ["Gaia EDR3 4472832130942575872"]}, "gaia_dr3", 2016.0),
        ({"DESIGNATION": ["Gaia DR2 4472832130942575872"]}, "gaia_dr2", 2015.5),
        ({"REF_EPOCH": ["2015.5", "", "2015.5"]}, "gaia_dr2", 2015.5),
        ({"REF_EPOCH": ["2016.0"]}, "gaia_dr3", 2016.0),
    ],
)
def test_a_gaia_table_tells_its_release(held: Mapping[str, Sequence[str]], meaning: str, epoch: float) -> None:
    found = plan(GAIA, held)
    assert found.identifiers[0] == ("SOURCE_ID", meaning)
    assert found.epoch == epoch


def test_a_release_that_nothing_tells_is_asked_of_the_user() -> None:
    with pytest.raises(ValueError, match="which Gaia release its column source_id is; say which: ") as caught:
        plan("source_id ra dec")
    assert '--gaia dr2 or --gaia dr3 (gaia="dr2" in Python), or --gaia none' in str(caught.value)
    with pytest.raises(ValueError, match="its column SOURCE_ID"):
        plan(GAIA, {"REF_EPOCH": ["2015.5", "2016.0"]})
    assert plan("source_id ra dec", gaia="dr3").identifiers == (("source_id", "gaia_dr3"),)
    assert plan("source_id ra dec", gaia="dr2").epoch == 2015.5
    assert plan("source_id sdss_id", gaia="none").identifiers == (("sdss_id", "sdss_id"),)


def test_a_release_that_contradicts_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="its column SOURCE_ID is of dr3, and --gaia says dr2"):
        plan(GAIA, {"DESIGNATION": ["Gaia DR3 1"]}, gaia="dr2")
    with pytest.raises(ValueError, match=r"--gaia \(gaia= in Python\) is one of dr2, dr3, none, not dr4"):
        plan(GAIA, gaia="dr4")


def test_numbers_of_a_release_that_is_not_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="of Gaia DR1, whose numbers are not kept"):
        plan(GAIA, {"DESIGNATION": ["Gaia DR1 4472832130942575872"]})


def test_a_table_without_identifiers_says_what_it_has() -> None:
    with pytest.raises(columns.Unknown, match=r"none of its columns is known .*\(ra, dec, mag\)"):
        plan("ra dec mag")
    with pytest.raises(columns.Unknown, match="the page Catalogues of the documentation"):
        plan("ra dec mag")
    with pytest.raises(columns.Unknown, match="it has none"):
        plan("")


def test_long_names_of_columns_show_how_they_begin() -> None:
    with pytest.raises(columns.Unknown, match=r"\(ra, declination_of_x+\.\.\.\)") as caught:
        plan("ra declination_of_" + "x" * 5000)
    assert len(str(caught.value)) < 250


def test_a_name_that_stands_twice_is_refused_where_it_matters() -> None:
    with pytest.raises(ValueError, match="two columns sdss_id and SDSS_ID"):
        plan("sdss_id SDSS_ID")
    with pytest.raises(ValueError, match="two columns ra and ra"):
        plan("sdss_id ra ra dec")
    assert plan("sdss_id mag MAG mag").identifiers


def test_half_a_position_is_none() -> None:
    found = plan("sdss_id ra pmra pmdec")
    assert (found.ra, found.dec, found.pmra) == (None, None, None)
    assert plan("sdss_id ra dec pmra").pmra is None


def test_the_epoch_of_an_unknown_table_is_unknown() -> None:
    assert plan("sdss_id ra dec").epoch is None


def test_every_column_that_is_read_is_listed_once() -> None:
    assert plan(TARGET).taken == (
        ("CATALOGID", "catalogid"), ("RA", "ra"), ("DEC", "dec"), ("PMRA", "pmra"), ("PMDEC", "pmdec"),
        ("EPOCH", "epoch"),
    )  # fmt: skip


def test_every_kind_of_identifier_has_columns_and_no_column_two_meanings() -> None:
    assert set(identifiers.KINDS) <= columns.IDENTIFIERS.keys()
    names = [name for group in columns.IDENTIFIERS.values() for name in group]
    assert len(names) == len(set(names))
    assert columns.NUMBERS >= identifiers.NUMBERS


def test_the_page_for_users_has_every_column_and_every_kind_of_table() -> None:
    text = Page(CHECKOUT / "docs" / "catalogue.md").path.read_text()
    names = {name for group in columns.IDENTIFIERS.values() for name in group}
    names |= {name for pair in (*(each[:2] for each in columns.POSITIONS), *columns.MOTIONS) for name in pair}
    names |= {*columns.EPOCHS, columns.JULIAN_DATE, columns.RANK, columns.GAIA_RELEASE}
    names |= {mark for kind in columns.KINDS for mark in kind.marks}
    assert not {name for name in names if f"`{name}`" not in text}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for kind in columns.KINDS:
        row = next(line for line in rows if line.startswith(f"| {kind.name}"))
        assert kind.epoch is None or f"{kind.epoch}" in row or kind.name == "sdss_id_to_catalog"
