"""Which product type is this path, what does it say, and where does a file with these fields lie?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astra import headers, products, sky
from astra.errors import BadHeader, ConfigurationError, IncompleteFile
from astra.products import apogee, apstar, apvisit, releases
from tests.support import fits
from tests.support.products import describe
from tests.support.realdata import RealFile, read_manifest

OBJECT = "2M00005143+5615568"


def real_spectra(real_data: Path) -> list[RealFile]:
    return [file for file in read_manifest(real_data) if file.filetype.startswith(("apStar", "apVisit"))]


# --- real files -------------------------------------------------------------------------------------------------


def test_every_real_spectrum_is_the_same_product_in_its_tree_and_under_its_flat_name(
    real_data: Path, tmp_path: Path
) -> None:
    seen: dict[str, str] = {}
    for file in real_spectra(real_data):
        place = tmp_path / file.sas_path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.path)
        flat, laid_out = describe(file.path), describe(place)
        assert flat.identity == laid_out.identity
        assert flat.identity not in seen, f"{file.path.name} and {seen.get(flat.identity)}"
        seen[flat.identity] = file.path.name
        assert flat.metadata["object"] == file.obj
        assert ("tmass", file.obj.removeprefix("2M")) in flat.target.identifiers
        assert laid_out.notes == (), "a file in its own place is nothing odd"
        assert flat.kwargs["telescope"] == "apo25m"
        kind = products.product_types()[flat.filetype]
        public = flat.release != "sdsswork"
        if public and flat.release not in ("dr16", "dr17"):
            assert kind.path(flat.release, flat.kwargs) == f"{flat.release}/{file.sas_path}"
        if flat.release == "dr17":
            assert kind.path("dr17", flat.kwargs) == f"dr17/{file.sas_path}"
    assert len(seen) == 70


def test_the_position_in_a_real_header_is_the_one_its_name_spells(real_data: Path) -> None:
    for file in real_spectra(real_data):
        description = describe(file.path)
        spelt = apogee.coordinates(file.obj)
        assert spelt is not None
        assert description.target.ra is not None
        assert description.target.dec is not None
        assert sky.separation(description.target.ra, description.target.dec, *spelt) < 0.3


def test_aspcapstar_and_spec_files_are_left_alone(real_data: Path) -> None:
    others = [file for file in read_manifest(real_data) if not file.filetype.startswith(("apStar", "apVisit"))]
    assert len(others) == 14
    assert [products.identify(str(file.path)) for file in others] == [None] * 14


def test_ten_of_the_eleven_hdus_of_a_real_dr17_star_are_refused(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "apStar-dr17-2M17335483-2753043.fits"
    content = path.read_bytes()
    end = max(at for at in range(0, len(content), fits.BLOCK) if content[at : at + 9] == b"XTENSION=")
    cut = fits.write(tmp_path / path.name, content[:end])
    assert headers.count_hdus(cut) == 10
    with pytest.raises(IncompleteFile, match="10 of the 11 HDUs of an apStar of dr17"):
        describe(cut)
    assert describe(path).release == "dr17"


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "aspcapStar-r6-l30e.2-2M00452143+1634446.fits", "asCap-r6-x.fits", "mwmStar-0.6.0-54392544.fits",
        "mwmVisit-0.6.0-54392544.fits", "spec-3586-55181-0500.fits", "apVisitSum-5094-55874.fits", "apStar.fits",
        "apStarC-r6-2M00005143+5615568.fits", ".apVisit-r6-5094-55874-088.fits", "apVisit-r6-5094-55874-088.fits.gz",
        "apVisit-r6-5094-55874-088.fits.tmp", "apVisit-r6-5094-55874-088.tmp.fits",
        "apVisit-r6-5094-55874-088.fits~", ".apVisit-r6-5094-55874-088.fits.Xb3dQ1",
        "plots/apVisit-r6-5094-55874-088.fits", "apStar-1.3-apo25m.fits",
        "html/apStar-r6-2M00005143+5615568.fits", "logs/apStar-r6-2M00005143+5615568.fits", "", "/", ".fits",
    ],
)  # fmt: skip
def test_other_files_are_nobodys(path: str) -> None:
    assert products.identify(path) is None
    assert products.identify(f"/some/where/{path}") is None


@pytest.mark.parametrize(
    ("base", "fields"),
    [
        ("apStar-r6-2M07440053+1053592-55960", {"apred": "r6", "obj": "2M07440053+1053592", "version": "55960"}),
        ("apStar-dr17-2M17335483-2753043", {"apred": "dr17", "obj": "2M17335483-2753043"}),
        ("asStar-r12-2M05263377-6838079", {"prefix": "as", "apred": "r12", "obj": "2M05263377-6838079"}),
        ("apStar-1.3-lco25m-2M17335483-2753043-59380",
         {"apred": "1.3", "telescope": "lco25m", "obj": "2M17335483-2753043", "version": "59380"}),
        ("apStar-s3-2M00005143+5615568", {"apred": "r3", "apstar": "s3", "obj": "2M00005143+5615568"}),
        ("apStar-0.12.7-VESTA", {"apred": "0.12.7", "obj": "VESTA"}),
        ("apStar-dr17-HD-12345", {"apred": "dr17", "obj": "HD-12345"}),
        ("apStar-1.3-apo25m-HD-12345-59380",
         {"apred": "1.3", "telescope": "apo25m", "obj": "HD-12345", "version": "59380"}),
        ("apVisit-0.12.7-9518-57729-004", {"apred": "0.12.7", "plate": "9518", "mjd": "57729", "fiber": "4"}),
        ("asVisit-r12-9570-57815-045",
         {"prefix": "as", "apred": "r12", "plate": "9570", "mjd": "57815", "fiber": "45"}),
        ("apVisit-1.3-apo25m-6340-59804-145",
         {"apred": "1.3", "telescope": "apo25m", "plate": "6340", "mjd": "59804", "fiber": "145"}),
        ("apVisit-dr17-57690-2M06154934-0100415", {"apred": "dr17", "mjd": "57690", "reduction": "2M06154934-0100415"}),
        ("apVisit-dr17-57690.25-VESTA", {"apred": "dr17", "mjd": "57690.25", "reduction": "VESTA"}),
        ("apVisit-2M06154934-0100415-0", {"prefix": "ap", "given": "2M06154934-0100415-0"}),
        ("apVisit-2M00452143+1634446-13", {"prefix": "ap", "given": "2M00452143+1634446-13"}),
    ],
)  # fmt: skip
def test_a_name_says_what_it_says(base: str, fields: Mapping[str, str]) -> None:
    found = products.identify(f"/any/where/{base}.fits")
    assert found is not None
    assert {"prefix": "ap", **fields} == dict(found[1].fields)
    assert found[1].folders == {}, "these folders are of no layout"


DESIGNATIONS = st.builds(
    "{}{:02d}{:02d}{:04d}{}{:02d}{:02d}{:03d}".format,
    st.sampled_from(["2M", "AP", "J"]), st.integers(0, 23), st.integers(0, 59), st.integers(0, 5999),
    st.sampled_from("+-"), st.integers(0, 89), st.integers(0, 59), st.integers(0, 599),
)  # fmt: skip
FIELDS = st.one_of(st.integers(1, 9999).map(str), st.from_regex(r"\A[A-Z0-9][A-Za-z0-9_+-]{0,9}\Z"))
RELEASES = st.sampled_from(sorted(releases.RELEASES))


def reduction_in(release: str) -> st.SearchStrategy[str]:
    held = [apred for apred, where in releases.REDUCTIONS.items() if release in where]
    return st.sampled_from(held or ["1.0", "1.2"])


@settings(deadline=None)
@given(data=st.data(), release=RELEASES, obj=DESIGNATIONS)
def test_the_path_of_a_star_is_recognised_with_the_same_fields(data: st.DataObject, release: str, obj: str) -> None:
    known = releases.RELEASES[release]
    north_only = known.layout == "plates"
    fields = {
        "apred": data.draw(reduction_in(release)), "obj": obj, "field": data.draw(FIELDS),
        "telescope": "apo25m" if north_only else data.draw(st.sampled_from(apogee.TELESCOPES)),
    }  # fmt: skip
    assume(not north_only or fields["apred"] in releases.COMBINATIONS.values())
    if data.draw(st.booleans()):
        fields["version"] = str(data.draw(st.integers(55000, 61000)))
    path = apstar.PRODUCT.path(release, fields)
    found = products.identify(f"/sas/{path}")
    assert found is not None
    assert found[0] is apstar.PRODUCT
    said = {**found[1].folders, **found[1].fields}
    assert {key: said[key] for key in ("apred", "obj")} == {key: fields[key] for key in ("apred", "obj")}
    assert said.get("version") == fields.get("version")
    assert north_only or said["telescope"] == fields["telescope"]
    assert said.get("field", fields["field"]) == fields["field"]
    assert "field" in said or said["healpix"] == apogee.pixel(obj)


@settings(deadline=None)
@given(
    data=st.data(),
    release=RELEASES,
    plate=st.integers(1, 99999),
    mjd=st.integers(55000, 61999),
    fiber=st.integers(1, 300),
)
def test_the_path_of_a_visit_is_recognised_with_the_same_fields(
    data: st.DataObject, release: str, plate: int, mjd: int, fiber: int
) -> None:
    known = releases.RELEASES[release]
    fields = {
        "apred": data.draw(reduction_in(release)), "plate": str(plate), "mjd": str(mjd), "fiber": str(fiber),
        "field": data.draw(FIELDS), "telescope": data.draw(st.sampled_from(["apo25m", "lco25m"])),
    }  # fmt: skip
    if known.layout in ("plates", "location"):
        fields["telescope"] = "apo25m"
    found = products.identify(f"/sas/{apvisit.PRODUCT.path(release, fields)}")
    assert found is not None
    assert found[0] is apvisit.PRODUCT
    said = {**found[1].folders, **found[1].fields}
    keys = {"apred", "plate", "mjd", "fiber"} | ({"telescope"} if known.layout != "plates" else set())
    assert {key: said[key] for key in keys} == {key: fields[key] for key in keys}


def test_our_paths_are_those_of_sdss_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # it writes some hundred variables into it
    sdss_path = pytest.importorskip("sdss_access.path", reason="sdss-access, our oracle for paths, is not installed")
    pixel = apogee.pixel(OBJECT)
    assert pixel is not None
    fields = {
        "obj": OBJECT, "field": "4264", "telescope": "apo25m", "plate": "5094", "mjd": "55874", "fiber": "8",
        "healpix": pixel,
    }  # fmt: skip
    theirs_only = {"apstar": "stars", "prefix": "ap"}
    for release, known in releases.RELEASES.items():
        apred = next((name for name, where in releases.REDUCTIONS.items() if release in where), "1.0")
        oracle = sdss_path.Path(release=release)
        apstar_name = next((s for s, r in releases.COMBINATIONS.items() if r == apred), "stars")
        for kind in (apstar.PRODUCT, apvisit.PRODUCT):
            asked = {**fields, **theirs_only, "apred": apred, "apstar": apstar_name}
            theirs = oracle.full(kind.name, **asked)
            ours = kind.path(release, {**fields, "apred": apred})
            assert theirs.endswith("/" + ours), f"{release}: {theirs} is not {ours}"
        if known.layout == "field":
            asked |= {"telescope": "lco25m", "prefix": "as"}
            ours = apvisit.PRODUCT.path(release, {**fields, "apred": apred, "telescope": "lco25m"})
            assert oracle.full("apVisit", **asked).endswith("/" + ours)


def test_a_path_that_lacks_a_field_or_a_release_says_which() -> None:
    with pytest.raises(ValueError, match="needs the field 'field'"):
        apstar.PRODUCT.path("dr17", {"apred": "dr17", "telescope": "apo25m", "obj": OBJECT})
    with pytest.raises(ValueError, match="no release 'dr99' is known"):
        apvisit.PRODUCT.path("dr99", {})


@given(name=DESIGNATIONS)
def test_a_designation_spells_a_position_on_the_sky(name: str) -> None:
    position = apogee.coordinates(name)
    assert position is not None
    assert 0 <= position[0] < 360
    assert -90 < position[1] < 90


# --- the folder of product types --------------------------------------------------------------------------------


def module_with(product: object, file: str) -> ModuleType:
    module = ModuleType(file)
    module.__file__ = file
    module.PRODUCT = product  # type: ignore[attr-defined]
    return module


class Greedy(apstar.ApStar):
    name = "greedy"
    examples = ("apStar-r6-greedy.fits",)


def test_two_files_that_claim_one_name_stop_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"two files claim the product type apStar: a\.py and b\.py"):
        products.collect([module_with(apstar.PRODUCT, "a.py"), module_with(apstar.ApStar(), "b.py")])


def test_an_example_that_another_type_takes_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"is taken by apStar, greedy: see a\.py and b\.py"):
        products.collect([module_with(apstar.PRODUCT, "a.py"), module_with(Greedy(), "b.py")])


def test_an_example_its_own_type_does_not_take_stops_the_start() -> None:
    class Wrong(Greedy):
        examples = ("mwmStar-1.fits",)

    with pytest.raises(ConfigurationError, match="is taken by no product type"):
        products.collect([module_with(Wrong(), "a.py")])


def test_a_new_file_in_the_folder_is_a_new_product_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from astra.products.apstar import ApStar
        class Twin(ApStar):
            name = "twin"
            examples = ()
        PRODUCT = Twin()
    """
    (tmp_path / "twin.py").write_text("\n".join(line[8:] for line in source.splitlines()))
    monkeypatch.setattr(products, "__path__", [*products.__path__, str(tmp_path)])
    products.product_types.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r"apstar\.py and .*twin\.py"):
            products.product_types()
        monkeypatch.setattr(apstar.ApStar, "examples", ())
        assert set(products.product_types()) == {"apStar", "apVisit", "twin"}
        with pytest.raises(BadHeader, match="its name is that of apStar and of twin"):
            products.identify("apStar-r6-2M00005143+5615568.fits")
    finally:
        products.product_types.cache_clear()
        sys.modules.pop("astra.products.twin", None)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("apVisit-r6-5094-55874-088.fits", True),
        ("asStar-r12-2M05263377-6838079.fits", True),
        ("aspcapStar-r6-l30e.2-2M00452143+1634446.fits", False),
        ("spec-3586-55181-0500.fits", False),
        (".apVisit-r6-5094-55874-088.fits", False),
        ("apVisit-r6-5094-55874-088.tmp.fits", False),
        ("apVisit-r6-5094-55874-088.fits.gz", False),
    ],
)
def test_other_kinds_of_file_are_turned_away_at_the_door(name: str, wanted: bool) -> None:
    assert products.might_be_product(name) is wanted
