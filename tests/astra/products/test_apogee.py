"""What the header adds to the name of an apStar or apVisit, and where the two may not disagree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astra.errors import BadHeader, IncompleteFile
from astra.products import apogee, apvisit, releases
from astra.products.base import Description, identity
from tests.support import fits
from tests.support.products import describe, star, visit

OBJECT = "2M00005143+5615568"
IDS: dict[str, Any] = {"SDSSID": 54392544, "CATID": 63050396092955182, "GSRCID": 5853498713190525696}


# --- identity ---------------------------------------------------------------------------------------------------


def test_the_order_of_the_fields_and_leading_zeros_do_not_make_a_second_product(tmp_path: Path) -> None:
    assert identity("dr13", "x", {"a": "1", "b": "2"}) == identity("dr13", "x", {"b": "2", "a": "1"})
    first = visit(tmp_path, "apVisit-r6-5094-55874-088.fits")
    second = visit(tmp_path / "b", "apVisit-r6-05094-55874-88.fits")
    assert first.identity == second.identity == (
        'dr13/apVisit/{"apred":"r6","fiber":"88","mjd":"55874","plate":"5094","telescope":"apo25m"}'
    )  # fmt: skip


def test_a_renamed_visit_is_the_visit_its_header_says(tmp_path: Path) -> None:
    renamed = visit(tmp_path, f"apVisit-{OBJECT}-0.fits")
    assert renamed.identity == visit(tmp_path).identity
    assert renamed.metadata["given_name"] == f"{OBJECT}-0"
    assert any("fits no template" in note for note in renamed.notes)


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"OBJID": "2M00005143+5615569"}, f"its name says object {OBJECT}"),
        ({"PLATE": None}, "its header has no PLATE"),
        ({"FIBERID": "nan"}, "its FIBERID is empty"),
        ({"MJD5": "x"}, "MJD5 = x is no number"),
        ({"V_APRED": "v9_99"}, "V_APRED = v9_99 says which reduction"),
    ],
)
def test_a_renamed_visit_whose_header_says_too_little_is_set_aside(
    cards: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(BadHeader, match=why.replace("+", r"\+")):
        visit(tmp_path, f"apVisit-{OBJECT}-0.fits", **cards)


def test_a_renamed_visit_takes_its_reduction_from_the_setting_where_its_header_gives_none(tmp_path: Path) -> None:
    found = visit(tmp_path, f"apVisit-{OBJECT}-0.fits", "dr17", V_APRED="0.17.22")
    assert (found.release, found.kwargs["apred"]) == ("dr17", "dr17")


def test_one_star_in_two_fields_is_two_products_wherever_the_files_lie(tmp_path: Path) -> None:
    first, second = star(tmp_path / "a"), star(tmp_path / "b", LOCID=4589, FIELD="N1333")
    assert first.identity != second.identity
    in_tree = star(tmp_path / "r6/stars/apo25m/4264")
    assert in_tree.identity == first.identity
    headless = star(tmp_path / "c/r6/stars/apo25m/4264", LOCID=None, FIELD=None)
    assert headless.identity == first.identity
    lost = star(tmp_path / "d", LOCID=None, FIELD=None)
    assert "field" not in lost.kwargs
    assert any("which field" in note for note in lost.notes)


def test_the_field_is_a_number_up_to_dr15_and_a_name_after_and_at_the_1_m(tmp_path: Path) -> None:
    assert star(tmp_path).kwargs["field"] == "4264"
    assert star(tmp_path, fits.star_name("r12")).kwargs["field"] == "N7789"
    assert star(tmp_path / "r6/stars/apo1m/calibration").kwargs["field"] == "N7789"


def test_stars_whose_names_end_in_five_digits_are_as_many_products(tmp_path: Path) -> None:
    folder = tmp_path / "dr17/stars/apo1m/hd"
    found = [star(folder, f"apStar-dr17-{name}.fits", hdus=11, OBJID=name) for name in ("HD-12345", "HD-98765")]
    assert [each.kwargs["obj"] for each in found] == ["HD-12345", "HD-98765"]
    assert [each.version for each in found] == [None, None]
    assert len({each.identity for each in found}) == 2


def test_a_header_that_names_the_whole_object_goes_before_a_version(tmp_path: Path) -> None:
    found = star(tmp_path, "apStar-1.3-apo25m-HD-12345.fits", OBJID="HD-12345")
    assert (found.kwargs["obj"], found.version) == ("HD-12345", None)
    other = star(tmp_path, "apStar-1.3-apo25m-HD-12345-59380.fits", OBJID="HD-12345")
    assert (other.identity, other.version) == (found.identity, 59380)


def test_digits_of_other_scripts_are_no_numbers(tmp_path: Path) -> None:
    found = visit(tmp_path, "apVisit-dr17-57690-\u00b2.fits", OBJID="x", MJD5=57690, PLATE=None, FIBERID=None)
    assert found.kwargs["reduction"] == "\u00b2"


def test_the_versions_of_an_sdss_v_star_are_one_product(tmp_path: Path) -> None:
    names = [f"apStar-1.3-apo25m-{OBJECT}{end}.fits" for end in ("", "-59380", "-59500")]
    found = [star(tmp_path, name) for name in names]
    assert len({each.identity for each in found}) == 1
    assert [each.version for each in found] == [None, 59380, 59500]
    assert found[0].kwargs == {"apred": "1.3", "telescope": "apo25m", "obj": OBJECT}
    assert star(tmp_path, names[0], STARVER="59380").version == 59380
    assert any("STARVER" in note for note in star(tmp_path, names[2], STARVER="59380").notes)


def test_the_1_m_is_known_by_night_and_observation(tmp_path: Path) -> None:
    cards: dict[str, Any] = {"PLATE": None, "FIBERID": None, "OBJID": "VESTA", "MJD5": 57690}
    found = visit(tmp_path, "apVisit-dr17-57690.25-VESTA.fits", **cards)
    assert found.kwargs == {"apred": "dr17", "telescope": "apo1m", "mjd": "57690.25", "reduction": "VESTA"}
    assert found.metadata["mjd"] == 57690
    assert found.target.identifiers == (), "a name that is no catalogue's makes no source"
    with pytest.raises(BadHeader, match="its name says MJD 57691, its header MJD5 = 57690"):
        visit(tmp_path, "apVisit-dr17-57691-VESTA.fits", **cards)
    cards["OBJID"] = OBJECT
    assert any("object VESTA" in note for note in visit(tmp_path, "apVisit-dr17-57690-VESTA.fits", **cards).notes)


# --- telescope and release --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "card", "telescope"),
    [
        ("apVisit-1.3-lco25m-5094-55874-088.fits", "apo25m", "lco25m"),
        ("r6/lco25m/5094/55874/apVisit-r6-5094-55874-088.fits", "apo25m", "lco25m"),
        ("asVisit-r12-5094-55874-088.fits", "apo25m", "lco25m"),
        ("apVisit-r6-5094-55874-088.fits", "apo1m  ", "apo1m"),
        ("apVisit-r6-5094-55874-088.fits", None, "apo25m"),
        ("apVisit-r6-5094-55874-088.fits", "VLT", "apo25m"),
    ],
)
def test_the_telescope_comes_from_name_folder_prefix_and_header_in_this_order(
    path: str, card: str | None, telescope: str, tmp_path: Path
) -> None:
    assert visit(tmp_path, path, TELESCOP=card).kwargs["telescope"] == telescope


@pytest.mark.parametrize(
    "path",
    [
        "1.3/visit/lco25m/20549/5094/55874/apVisit-1.3-apo25m-5094-55874-088.fits",
        "r12/visit/apo25m/LMC8/5094/55874/asVisit-r12-5094-55874-088.fits",
    ],
)
def test_a_name_and_a_folder_of_two_telescopes_are_set_aside(path: str, tmp_path: Path) -> None:
    with pytest.raises(BadHeader, match="telescope"):
        visit(tmp_path, path)


@pytest.mark.parametrize(
    ("apred", "setting", "release"),
    [
        ("r3", None, "dr10"), ("r5", None, "dr12"), ("r8", None, "dr14"), ("r8", "DR15", "dr15"),
        ("dr17", "dr17", "dr17"),
        ("r13", None, "sdsswork"), ("r13", "dr17", "dr17"), ("r99", "mine", "mine"), ("daily", None, "sdsswork"),
    ],
)  # fmt: skip
def test_the_release_comes_from_the_reduction_and_the_setting_fills_in(
    apred: str, setting: str | None, release: str, tmp_path: Path
) -> None:
    assert visit(tmp_path, fits.visit_name(apred), setting).release == release


def test_a_setting_that_contradicts_the_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadHeader, match="reduction r6, of dr13, and the setting says release dr17"):
        visit(tmp_path, None, "dr17")
    name = "apVisit-1.2-apo25m-5094-55874-088.fits"
    with pytest.raises(BadHeader, match="SDSS-V kind, and the setting says release dr16"):
        visit(tmp_path, name, "dr16")
    assert visit(tmp_path, name, "ipl-3").release == "ipl-3"
    assert visit(tmp_path, name).release == "sdsswork"


@pytest.mark.parametrize(
    ("apred", "hdus", "whole"), [("r6", 10, True), ("r8", 9, False), ("dr17", 10, False), ("dr17", 11, True)]
)
def test_a_star_has_the_hdus_of_its_release(apred: str, hdus: int, whole: bool, tmp_path: Path) -> None:
    if whole:
        assert star(tmp_path, fits.star_name(apred), hdus=hdus).filetype == "apStar"
    else:
        with pytest.raises(IncompleteFile, match=f"it has {hdus} of the"):
            star(tmp_path, fits.star_name(apred), hdus=hdus)


def test_a_star_of_an_unknown_reduction_written_as_dr17_writes_has_eleven(tmp_path: Path) -> None:
    with pytest.raises(IncompleteFile, match="10 of the 11 HDUs"):
        star(tmp_path, fits.star_name("r14"), RV_TEFF=4500.0)
    assert star(tmp_path, fits.star_name("r13")).release == "sdsswork"


def test_every_cut_of_a_visit_at_the_end_of_an_hdu_is_refused(tmp_path: Path) -> None:
    content = fits.apvisit()
    for end in fits.hdu_ends(content)[:-1]:
        with pytest.raises(IncompleteFile, match="of the 12 HDUs"):
            describe(fits.write(tmp_path / fits.visit_name(), content[:end]))


# --- header against name ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"PLATE": "5095"}, "its name says plate 5094, its header PLATE = 5095"),
        ({"MJD5": 55875}, "its name says mjd 55874, its header MJD5 = 55875"),
        ({"FIBERID": 89}, "its name says fiber 88, its header FIBERID = 89"),
        ({"FIBERID": None}, "its header has no FIBERID"),
        ({"OBJID": None}, "its header has no OBJID"),
        ({"OBJID": ""}, "its OBJID is empty"),
    ],
)
def test_a_visit_whose_header_contradicts_its_name_is_set_aside(
    cards: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(BadHeader, match=why):
        visit(tmp_path, **cards)


def test_a_star_of_another_object_is_set_aside(tmp_path: Path) -> None:
    with pytest.raises(BadHeader, match="its header OBJID = 2M00005143-5615568"):
        star(tmp_path, OBJID="2M00005143-5615568")
    assert star(tmp_path, OBJID="J00005143+5615568").kwargs["obj"] == OBJECT, "2M and J name one designation"


def test_a_far_position_and_a_wrong_folder_are_noted(tmp_path: Path) -> None:
    (far,) = visit(tmp_path, RA=0.314312).notes
    assert "arcseconds from where its name says" in far
    (folder,) = visit(tmp_path / "r5/apo25m/5094/55874").notes
    assert folder == "its folder says apred r5, and it should be r6"
    nowhere = visit(tmp_path, RA="nan", DEC=-9999.99)
    assert (nowhere.target.ra, nowhere.target.dec) == (None, None)
    assert "its header gives no position" in nowhere.notes


# --- identifiers and metadata -----------------------------------------------------------------------------------


def test_identifiers_come_best_first_and_exact(tmp_path: Path) -> None:
    assert star(tmp_path, GRELEASE="dr3", **IDS).target.identifiers == (
        ("sdss_id", "54392544"), ("catalogid31", "63050396092955182"), ("gaia_dr3", "5853498713190525696"),
        ("tmass", "00005143+5615568"), ("apogee", OBJECT),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("catalogid", "kind"),
    [(5696405012, "catalogid21"), (27021598755520772, "catalogid25"), (63050396092955182, "catalogid31")],
)
def test_the_cross_match_of_a_catalogid_shows_in_its_bits(catalogid: int, kind: str, tmp_path: Path) -> None:
    found = visit(tmp_path, CATID=catalogid)
    assert found.target.identifiers[0] == (kind, str(catalogid))
    assert found.metadata["catalogid"] == str(catalogid)


@pytest.mark.parametrize(
    "cards",
    [
        {"CATID": 0}, {"CATID": -1}, {"CATID": -9999}, {"SDSSID": -1}, {"SDSSID": 0},
        {"SDSSID": -999}, {"SDSSID": "nan"}, {"SDSSID": ""},
        {"GSRCID": 5853498713190525696}, {"GSRCID": 5, "GRELEASE": "dr1"}, {"GSRCID": 0, "GRELEASE": "dr3"},
        {"CATID": 27021598755520772.0}, {"CATID": 1 << 63}, {"CATID": 5 << 53},
    ],
)  # fmt: skip
def test_a_number_that_identifies_nothing_is_not_used(cards: dict[str, Any], tmp_path: Path) -> None:
    assert [kind for kind, _ in visit(tmp_path, **cards).target.identifiers] == ["tmass", "apogee"]


@pytest.mark.parametrize(
    "name",
    ["-", "2M", "2MNone", "00005143+5615568", "0.214312+56.265797", "2M00005143+56155", "2M99005143+5615568", "VESTA"],
)
def test_an_object_name_that_is_no_designation_identifies_nothing(name: str, tmp_path: Path) -> None:
    assert visit(tmp_path, OBJID=name).target.identifiers == ()


@pytest.mark.parametrize("name", ["None", "nan", "  "])
def test_an_object_without_a_name_is_set_aside(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadHeader, match="OBJID is empty"):
        visit(tmp_path, OBJID=name)


def test_a_sky_fibre_has_no_source(tmp_path: Path) -> None:
    found = visit(tmp_path, OBJTYPE="SKY", **IDS)
    assert found.target.identifiers == ()
    assert "it is of a sky fibre, so it has no source" in found.notes


def test_sentinels_are_absent_from_the_metadata_and_their_text_is_kept(tmp_path: Path) -> None:
    found = visit(tmp_path, J=99.999, H="NaN", K=-9999.99, SNR=fits.Bare("NAN"), VHELIO=999999.0)
    assert not {"jmag", "hmag", "kmag", "snr", "vhelio"} & found.metadata.keys()
    assert found.metadata["nulled"] == {"J": "99.999", "H": "NaN", "K": "-9999.99", "SNR": "NAN", "VHELIO": "999999.0"}


def test_the_metadata_are_plain_values_under_one_name_in_every_release(tmp_path: Path) -> None:
    old = star(tmp_path / "old").metadata
    new = star(tmp_path / "new", f"apStar-1.3-apo25m-{OBJECT}-59380.fits", J=None, H=None, K=None, JMAG=9.871).metadata
    assert old["jmag"] == new["jmag"] == 9.871
    assert (new["mjd"], new["healpix"]) == (59380, old["healpix"])
    assert {type(value) for value in new.values()} <= {str, int, float, dict}
    found = visit(tmp_path).metadata
    assert (found["plate"], found["mjd"], found["fiber"]) == (5094, 55874, 88)
    assert (found["date_obs"], found["exptime"], found["jd"]) == ("2011-11-09T02:11:07.482", 2002.04, 2455874.61)


# What a header says in each of the cards that name its object, and how the target then shows it.
RENAMED: dict[str, tuple[Any, Callable[[Description], bool]]] = {
    "object": ("2M00005243+5615568", lambda found: ("apogee", "2M00005243+5615568") in found.target.identifiers),
    "objtype": ("SKY", lambda found: found.target.identifiers == ()),
    "ra": (0.5, lambda found: found.target.ra == 0.5),
    "dec": (56.5, lambda found: found.target.dec == 56.5),
    "sdss_id": (77, lambda found: ("sdss_id", "77") in found.target.identifiers),
    "catalogid": (4_000_000_001, lambda found: ("catalogid21", "4000000001") in found.target.identifiers),
    "gaia": (99, lambda found: ("gaia_dr3", "99") in found.target.identifiers),
    "gaia_release": ("dr2", lambda found: ("gaia_dr2", "5") in found.target.identifiers),
}


@pytest.mark.parametrize("fact", RENAMED)
def test_a_release_that_renames_a_card_is_one_more_entry(
    fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RENAMED.keys() == releases.IDENTITY_KEYS.keys()
    value, shows = RENAMED[fact]
    cards = {"GSRCID": 5, "GRELEASE": "dr3", "NEWNAME": value}
    assert not shows(visit(tmp_path, **cards))
    for table in (releases.IDENTITY_KEYS, apogee._TEXTS):
        if fact in table:
            monkeypatch.setitem(table, fact, ("NEWNAME", *table[fact]))
    monkeypatch.setattr(type(apvisit.PRODUCT), "wanted", apvisit.PRODUCT.wanted | {"NEWNAME"})
    apogee._there.cache_clear()
    assert shows(visit(tmp_path, **cards))
    apogee._there.cache_clear()
