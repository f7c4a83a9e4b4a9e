"""The synthetic night: headers true to each release, spectra to their velocities, files that grow as the pipeline's."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from astra.errors import ConfigurationError
from astra.headers import read
from astra.products import identify
from astra.simulate import Deed, Night, Simulation, Truth, simulate
from astra.simulate.night import LAYOUTS
from tests.support.clock import FakeClock

RELEASES = tuple(LAYOUTS)
SYNTHETIC_KEYS = {"ORIGIN"}


def written(plan: Night, root: Path) -> Simulation:
    """Write a whole night."""
    simulation = simulate(plan, root)
    for _ in simulation:
        pass
    return simulation


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Simulation]:
    """One small night of every release."""
    return {
        release: written(Night(release=release, configurations=1, stars=3, visits=2), tmp_path_factory.mktemp(release))
        for release in RELEASES
    }


def files(simulation: Simulation) -> list[Path]:
    """All regular files of a night."""
    return [path for path in simulation.root.rglob("*.fits") if not path.is_symlink()]


def keys(header: fits.Header) -> list[str]:
    """The header's keywords in order, without what marks it as synthetic and without the text of comments."""
    return [card.keyword for card in header.cards if card.keyword not in {*SYNTHETIC_KEYS, "COMMENT", "HISTORY", ""}]


@pytest.mark.parametrize("release", RELEASES)
def test_every_file_opens_and_verifies_without_a_warning_and_says_it_is_synthetic(
    nights: dict[str, Simulation], release: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in files(nights[release]):
            with fits.open(path) as hdus:
                hdus.verify("exception")
                for hdu in hdus:
                    assert hdu.header["ORIGIN"] == "astra simulate"
                    assert hdu.data is None or hdu.data.size >= 0
                assert any("SYNTHETIC" in line for line in hdus[0].header["COMMENT"])
                ends = hdus[-1]._data_offset + hdus[-1]._data_size
                assert ends == path.stat().st_size


@pytest.mark.parametrize("release", RELEASES)
def test_a_night_has_the_files_and_steps_that_were_announced(nights: dict[str, Simulation], release: str) -> None:
    night = nights[release]
    telescopes = len(LAYOUTS[release].telescopes)
    assert len(files(night)) == telescopes * 3 * (2 + 1)
    assert len(night.truth) == telescopes * 3
    assert {path for truth in night.truth for path in (truth.star, *truth.visits)} == set(files(night))
    assert (
        len({truth.object for truth in night.truth})
        == len({truth.catalogid for truth in night.truth})
        == telescopes * 3
    )


def same_layout(ours: Path, theirs: Path) -> None:
    """Compare keywords in order, shapes, types and header blocks of all HDUs."""
    with fits.open(ours) as mine, fits.open(theirs) as real:
        assert len(mine) == len(real)
        for n, (left, right) in enumerate(zip(mine, real, strict=True)):
            assert keys(left.header) == keys(right.header), f"HDU {n}"
            assert left._data_offset - left._header_offset == right._data_offset - right._header_offset, f"HDU {n}"
            if isinstance(right, fits.BinTableHDU):
                assert len(left.data) == len(right.data)
                strings = [name for name in right.columns.names if right.columns[name].format.endswith("A")]
                for name in set(right.columns.names) - set(strings):
                    assert left.columns[name].format == right.columns[name].format, name
            elif right.data is not None:
                assert left.data.dtype == right.data.dtype
                assert left.data.shape == right.data.shape
        for card in real[0].header.cards:
            if card.keyword not in {"COMMENT", "HISTORY", ""}:
                assert isinstance(mine[0].header[card.keyword], type(card.value)), card.keyword


def test_a_dr13_visit_is_laid_out_like_a_real_one(nights: dict[str, Simulation], real_data: Path) -> None:
    visit = nights["dr13"].truth[0].visits[0]
    same_layout(visit, real_data / "apVisit-r6-5094-55874-088.fits")
    assert visit.stat().st_size == 495_360
    assert {path.stat().st_size for truth in nights["dr13"].truth for path in truth.visits} == {495_360}


def test_a_dr13_card_is_spelt_like_a_real_one(nights: dict[str, Simulation], real_data: Path) -> None:
    def cards(path: Path) -> dict[bytes, bytes]:
        head = path.read_bytes()[:8640]
        return {head[n : n + 8]: head[n : n + 80] for n in range(0, 8640, 80)}

    ours = cards(nights["dr13"].truth[0].visits[0])
    real = cards(real_data / "apVisit-r6-5094-55874-088.fits")
    alike = {key for key in real if ours.get(key, b"")[10:] == real[key][10:]}
    assert {
        b"NPAIRS  ",
        b"OBJTYPE ",
        b"TELESCOP",
        b"V_APRED ",
        b"NCOMBINE",
        b"EXPTIME ",
        b"VTYPE   ",
        b"LONGSTRN",
    } <= alike
    for key in (b"PLATE   ", b"RA      ", b"SNR     ", b"VRAD    ", b"VHELIO  ", b"DATE-OBS", b"FLUXFLAM", b"MJD5    "):
        assert len(ours[key][10:30].strip()) == len(ours[key][10:30].strip().rstrip()), key
        assert ours[key].find(b"/") == real[key].find(b"/"), key


@pytest.mark.parametrize(
    ("visits", "real"), [(1, "apStar-r6-2M03290406+3117075.fits"), (2, "apStar-r6-2M17334253-1654573.fits")]
)
def test_a_dr13_star_is_laid_out_like_a_real_one(tmp_path: Path, real_data: Path, visits: int, real: str) -> None:
    night = written(Night(release="dr13", configurations=1, stars=1, visits=visits), tmp_path)
    same_layout(night.truth[0].star, real_data / real)


def test_a_dr17_star_is_laid_out_like_a_real_one(tmp_path: Path, real_data: Path) -> None:
    night = written(Night(release="dr17", telescopes=("lco25m",), configurations=1, stars=1, visits=3), tmp_path)
    same_layout(night.truth[0].star, real_data / "apStar-dr17-2M17335483-2753043.fits")
    assert night.truth[0].star.stat().st_size == 2_548_800


def test_single_visits_have_one_row_in_dr13_and_two_since_dr17(tmp_path: Path) -> None:
    for release, shape in (("dr13", (8575,)), ("dr17", (2, 8575)), ("dr19", (2, 8575))):
        night = written(Night(release=release, telescopes=("apo25m",), configurations=1, stars=1, visits=1), tmp_path)
        with fits.open(night.truth[0].star) as hdus:
            assert [hdu.data.shape for hdu in hdus[1:8]] == [shape] * 7
            assert hdus[0].header["VSCATTER"] == 0


def test_sdss5_files_have_what_is_known_of_them(nights: dict[str, Simulation]) -> None:
    truth = nights["dr19"].truth[0]
    with fits.open(truth.star) as hdus:
        assert len(hdus) == 10
        assert isinstance(hdus[8], fits.BinTableHDU)
        assert (hdus[8].header["NAXIS1"], hdus[8].header["NAXIS2"], hdus[8].header["TFIELDS"]) == (0, 0, 0)
        assert {"VRAD", "CATID", "HEALPIX", "STARVER", "V_APRED"} <= set(hdus[0].header)
        assert not {"VHELIO", "TELESCOP", "FIELD", "LOCID", "SDSSID"} & set(hdus[0].header)
        assert len(hdus[0].header["V_APRED"]) == 40
        pixel = int(hdus[0].header["HEALPIX"])
        assert truth.star.parent.parts[-2:] == (str(pixel // 1000), str(pixel))
    with fits.open(truth.visits[0]) as hdus:
        names = ["", "FLUX", "ERROR", "MASK", "WAVELENGTH", "SKY FLUX", "SKY ERROR", "TELLURIC", "TELLURIC ERROR"]
        assert [hdu.header.get("EXTNAME", "") for hdu in hdus[:9]] == names
        assert {"GAIA_SOURCEID", "SDSS_ID", "CATALOGID", "HEALPIX", "URI"} <= set(hdus[11].columns.names)


def test_the_newest_pipeline_adds_sdss_id_and_the_gaia_identifier(nights: dict[str, Simulation]) -> None:
    for truth in nights["sdsswork"].truth:
        for path in (truth.star, truth.visits[0]):
            header = fits.getheader(path)
            assert 0 < header["SDSSID"] < 2**53 < header["GSRCID"] < 2**63


def test_catalogue_identifiers_above_2_to_the_53_arrive_whole(nights: dict[str, Simulation]) -> None:
    found = {truth.catalogid: fits.getheader(truth.star)["CATID"] for truth in nights["dr19"].truth}
    assert all(card == catalogid and isinstance(card, int) for catalogid, card in found.items())
    assert {catalogid >> 53 for catalogid in found} == {0, 3, 7}
    for truth in nights["dr19"].truth:
        assert fits.getdata(truth.visits[0], 11)["CATALOGID"][0] == truth.catalogid


def test_southern_files_say_so_in_their_path_as_each_release_does(nights: dict[str, Simulation]) -> None:
    south = [truth for truth in nights["dr17"].truth if truth.telescope == "lco25m"]
    assert len(south) == 3
    assert all(path.name.startswith("as") and "lco25m" in path.parts for t in south for path in (t.star, *t.visits))
    south = [truth for truth in nights["dr19"].truth if truth.telescope == "lco25m"]
    assert all(path.name.startswith("ap") and "-lco25m-" in path.name for t in south for path in (t.star, *t.visits))


@pytest.mark.parametrize("release", RELEASES)
def test_names_are_those_of_the_coordinates(nights: dict[str, Simulation], release: str) -> None:
    for truth in nights[release].truth:
        header = fits.getheader(truth.star)
        assert header["OBJID"] == truth.object
        name = truth.object.removeprefix("2M")
        spelt = SkyCoord(
            f"{name[:2]}h{name[2:4]}m{name[4:6]}.{name[6:8]}s {name[8:11]}d{name[11:13]}m{name[13:15]}.{name[15]}s"
        )
        assert spelt.separation(SkyCoord(header["RA"], header["DEC"], unit="deg")).arcsec < 0.19
        seen = spelt.galactic
        assert (seen.l.deg, seen.b.deg) == pytest.approx((header["GLON"], header["GLAT"]), abs=1e-2)


@pytest.mark.parametrize("release", RELEASES)
def test_signal_to_noise_in_the_headers_is_that_of_the_arrays(nights: dict[str, Simulation], release: str) -> None:
    for truth in nights[release].truth:
        for path in truth.visits:
            with fits.open(path) as hdus:
                assert np.median(hdus[1].data[1] / hdus[2].data[1]) == pytest.approx(hdus[0].header["SNR"], rel=1e-5)
        with fits.open(truth.star) as hdus, np.errstate(invalid="ignore"):
            ours = np.nanmedian(hdus[1].data[0] / hdus[2].data[0])
            assert ours == pytest.approx(hdus[0].header["SNR"], rel=1e-5)
            assert truth.snr == pytest.approx(hdus[0].header["SNR"], rel=1e-5)


def test_velocities_add_up_in_every_header(nights: dict[str, Simulation]) -> None:
    for truth in nights["dr13"].truth:
        for path in truth.visits:
            header = fits.getheader(path)
            assert abs(header["VRAD"] + header["BC"] - header["VHELIO"]) < 1e-4
    for release in RELEASES:
        for truth in nights[release].truth:
            header = fits.getheader(truth.star)
            count = header["NVISITS"]
            barycentric_key = "VHELIO" if "VHELIO1" in header else "VRAD"
            velocity = np.array([header[f"{barycentric_key}{n}"] for n in range(1, count + 1)])
            snr = np.array([header[f"SNRVIS{n}"] for n in range(1, count + 1)])
            assert header[barycentric_key] == pytest.approx((velocity * snr).sum() / snr.sum(), abs=2e-4)
            assert header["VSCATTER"] == pytest.approx(velocity.std(ddof=1), abs=2e-4)
            assert abs(velocity - truth.velocity).max() < 0.4
            assert truth.header_velocity == pytest.approx(header[barycentric_key], abs=2e-4)
            for n, path in enumerate(truth.visits, 1):
                assert header[f"SFILE{n}"] == path.name
                if "VHELIO1" in header:
                    assert abs(header[f"VRAD{n}"] + header[f"BC{n}"] - header[f"VHELIO{n}"]) < 4e-4


def test_errors_describe_the_noise(nights: dict[str, Simulation]) -> None:
    for truth in nights["dr17"].truth[:2]:
        with fits.open(truth.visits[0]) as hdus:
            flux, error = (hdus[n].data[1].astype(float) for n in (1, 2))
            # Third differences take the continuum and the wings of the lines out; 20 = 1 + 9 + 9 + 1.
            pull = np.diff(flux, 3) / error[1:-2] / np.sqrt(20)
            assert 1.4826 * np.median(np.abs(pull)) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("release", RELEASES)
def test_files_grow_hdu_by_hdu_and_every_state_is_valid_fits(tmp_path: Path, release: str) -> None:
    hdus: dict[Path, int] = {}
    simulation = simulate(Night(release=release, configurations=1, stars=2, visits=1), tmp_path)
    seen = 0
    for step in simulation:
        seen += 1
        if step.deed is Deed.LINKED:
            continue
        if step.deed is Deed.APPENDED:
            assert hdus.get(step.path, 0) == step.hdu
            hdus[step.path] = step.hdu + 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(step.path) as opened:
                assert len(opened) == hdus[step.path]
                ends = opened[-1]._data_offset + opened[-1]._data_size
        assert ends == step.path.stat().st_size
        assert step.last == (hdus[step.path] == step.of)
    assert seen == simulation.total


def test_visits_are_closed_between_steps_and_new_stars_stay_open(tmp_path: Path) -> None:
    process = psutil.Process(os.getpid())
    for step in simulate(Night(release="dr19", telescopes=("apo25m",), configurations=1, stars=1, visits=1), tmp_path):
        is_open = str(step.path) in {file.path for file in process.open_files()}
        assert is_open == ("/stars/" in str(step.path) and not step.last)


def test_the_old_radial_velocity_stage_rewrites_the_header_in_place(tmp_path: Path) -> None:
    rewritten: dict[Path, tuple[int, int, bytes]] = {}
    before: dict[Path, tuple[int, int, bytes]] = {}
    for step in simulate(Night(release="dr13", configurations=1, stars=2, visits=1), tmp_path):
        if step.deed is Deed.REWRITTEN:
            header = fits.getheader(step.path)
            assert any(line.startswith("APRV Update on ") for line in header["HISTORY"])
            assert "VHELIO" in header
            rewritten[step.path] = (step.path.stat().st_ino, step.path.stat().st_size, step.path.read_bytes()[8640:])
        elif "apVisit" in step.path.name and step.hdu == 10:
            assert "VHELIO" not in fits.getheader(step.path)
            before[step.path] = (step.path.stat().st_ino, step.path.stat().st_size, step.path.read_bytes()[5760:])
    assert len(rewritten) == 2
    for path, (inode, size, data) in rewritten.items():
        assert before[path] == (inode, size - 2880, data)


def test_configurations_are_written_at_the_same_time_and_stars_last(tmp_path: Path) -> None:
    steps = list(simulate(Night(release="dr17", configurations=2, stars=2, visits=1, writers=2), tmp_path))
    folders = [step.path.parent for step in steps if "Visit" in step.path.name]
    changes = sum(left != right for left, right in itertools.pairwise(folders))
    assert changes > len(folders) / 2
    kinds = ["Star" in step.path.name for step in steps]
    assert kinds == sorted(kinds)


def test_the_link_is_relative_and_leads_to_the_newest_version(tmp_path: Path) -> None:
    plan = Night(release="dr19", telescopes=("lco25m",), configurations=1, stars=1, visits=3, combinations=2)
    targets, last = [], None
    for step in simulate(plan, tmp_path):
        if step.deed is Deed.LINKED:
            last = step.path
            targets.append(os.readlink(step.path))
            assert step.path.resolve(strict=True).name == targets[-1]
    assert last is not None
    older, newer = targets
    assert "/" not in older + newer
    assert older < newer
    assert sorted(path.name for path in last.parent.iterdir()) == sorted([older, newer, last.name])
    assert fits.getheader(last)["NVISITS"] == 3
    assert fits.getheader(last)["STARVER"] == newer.removesuffix(".fits")[-5:]


def contents(root: Path) -> dict[str, bytes]:
    """All bytes below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.fits")}


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    plans = [Night(stars=1, configurations=1, visits=1, seed=seed) for seed in (5, 5, 6)]
    first, again, other = (contents(written(plan, tmp_path / str(n)).root) for n, plan in enumerate(plans))
    assert first == again
    assert not set(first) & set(other)


def test_a_night_written_again_leaves_the_same_files(tmp_path: Path) -> None:
    plan = Night(release="sdsswork", stars=1, configurations=1, visits=2)
    first = contents(written(plan, tmp_path).root)
    assert contents(written(plan, tmp_path).root) == first


@pytest.mark.parametrize("release", RELEASES)
def test_the_product_types_recognise_every_file_and_take_it_for_what_it_is(
    nights: dict[str, Simulation], release: str
) -> None:
    identities = set()
    for path in files(nights[release]):
        found = identify(str(path))
        assert found is not None
        product, recognised = found
        header = read(path, product.wanted)
        described = product.describe(recognised, header, None)
        product.check_whole(described, header)
        identities.add(described.identity)
        assert described.release == release
        assert described.filetype == ("apVisit" if "Visit" in path.name else "apStar")
        assert not described.notes
    assert len(identities) == len(files(nights[release]))


def test_the_pause_goes_through_the_clock_once_a_step(tmp_path: Path, clock: FakeClock) -> None:
    simulation = simulate(Night(stars=1, configurations=1, visits=1, pause=0.25), tmp_path, clock)
    assert sum(1 for _ in simulation) == simulation.total
    assert clock.waits == [0.25] * simulation.total


def test_the_truth_is_not_written_beside_the_files(nights: dict[str, Simulation]) -> None:
    for night in nights.values():
        assert all(isinstance(truth, Truth) for truth in night.truth)
        assert {path.suffix for path in night.root.rglob("*") if path.is_file()} == {".fits"}


def test_simulating_does_not_need_astropy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from astra.simulate import Night, simulate\n"
        f"list(simulate(Night(stars=1, configurations=1, visits=1), Path({str(tmp_path)!r})))\n"
        "print('astropy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"seed": -1}, "the seed cannot be negative"),
        ({"mjd": 100}, "an MJD of five digits"),
        ({"mjd": 123456}, "an MJD of five digits"),
        ({"mjd": -1}, "an MJD of five digits"),
        ({"mjd": 10001, "visits": 5}, "an MJD of five digits"),
        ({"pause": float("nan")}, "the pause between steps"),
        ({"pause": 1e300}, "the pause between steps"),
        ({"pause": -1.0}, "the pause between steps"),
        ({"writers": 10**30}, "at most"),
    ],
)
def test_a_night_that_cannot_be_written_is_refused_with_a_sentence(plan: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Night(**plan)
