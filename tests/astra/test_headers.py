"""The oracle is astropy: what it reads from a whole file is what we read, and what it lets through we do not."""

from __future__ import annotations

import math
import os
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from astropy.io import fits as astropy_fits
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from astra import headers
from astra.errors import AstraError, BadHeader, IncompleteFile, NotFits, UnreadableFile
from astra.signature import Signature
from tests.support import fits

REAL = os.environ.get("ASTRA_REAL_DATA", "")
real_files = pytest.mark.skipif(not REAL, reason="ASTRA_REAL_DATA is not set: no real SDSS files to read")
REAL_FILES = sorted(Path(REAL).glob("*.fits")) if REAL else []


def read_one(tmp_path: Path, content: bytes, *wanted: str) -> headers.Header:
    return headers.read(fits.write(tmp_path / "file.fits", content), wanted)


@real_files
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_card_of_a_real_file_equals_what_astropy_reads(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with astropy_fits.open(path) as opened:
            theirs, count = opened[0].header, len(opened)
            wanted = {key for key in theirs if key not in ("COMMENT", "HISTORY", "CONTINUE", "")}
            ours = headers.read(path, wanted)
            assert ours.hdus == count
            assert set(ours.cards) == wanted
            for key in wanted:
                try:
                    value = theirs[key]
                except astropy_fits.VerifyError:
                    assert ours.cards[key] is None, "only a card astropy cannot read is None here"
                    assert str(ours.raw(key)).startswith("NAN")
                    continue
                assert ours.cards[key] == value, key
                assert type(ours.cards[key]) is type(value), key
    assert ours.signature == Signature.of(path.stat())


@real_files
def test_the_two_stages_agree_with_the_whole() -> None:
    path = Path(REAL) / "apStar-r6-2M03442721+3220288.fits"
    whole = headers.read(path, {"OBJID", "NVISITS"})
    assert headers.read_values(path, {"OBJID", "NVISITS"}) == dict(whole.cards)
    assert headers.count_hdus(path) == whole.hdus == 10


@real_files
@pytest.mark.parametrize("name", ["apVisit-r5-5213-55811-296.fits", "apStar-r6-2M03290406+3117075.fits"])
def test_every_cut_at_a_block_of_a_real_file_is_told_from_the_whole(name: str, tmp_path: Path) -> None:
    content = (Path(REAL) / name).read_bytes()
    whole = headers.count_hdus(Path(REAL) / name)
    ends = {}
    with astropy_fits.open(Path(REAL) / name) as opened:
        for index, hdu in enumerate(opened, start=1):
            ends[hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"]] = index
    path = tmp_path / "cut.fits"
    path.write_bytes(content)
    for size in range(len(content) - fits.BLOCK, 0, -fits.BLOCK):
        os.truncate(path, size)
        if size in ends:
            assert headers.count_hdus(path) == ends[size] < whole, "only the count of HDUs tells"
        else:
            with pytest.raises(IncompleteFile):
                headers.count_hdus(path)


DAMAGED = fits.damaged(fits.apvisit())


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_not_whole(damage: str, tmp_path: Path) -> None:
    with pytest.raises(IncompleteFile, match=r"file\.fits") as caught:
        read_one(tmp_path, DAMAGED[damage], "OBJID")
    assert caught.value.retry


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    header = read_one(tmp_path, fits.apvisit(), "OBJID", "RA", "NOTHERE")
    assert header.cards == {"OBJID": "2M00005143+5615568", "RA": 0.214312}
    assert header.hdus == 12
    assert len(header.sha256) == 64


def test_a_cut_at_the_end_of_an_hdu_shows_only_in_the_count(tmp_path: Path) -> None:
    content = fits.apvisit()
    for count, end in enumerate(fits.hdu_ends(content), start=1):
        assert read_one(tmp_path, content[:end]).hdus == count


@pytest.mark.parametrize("content", [b"PK\x03\x04 something", b"S1MPLE", b"\x1f\x8b gzip", b"XTENSION= 'IMAGE'"])
def test_a_file_that_is_not_fits_is_said_to_be_so(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotFits, match=r"file\.fits is not a FITS file"):
        read_one(tmp_path, content)


def test_a_file_that_is_not_there_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="gone"):
        headers.read(tmp_path / "missing.fits", ())


def test_a_folder_a_pipe_and_a_loop_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.fits").mkdir()
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    for name, why in ("folder", "a folder"), ("pipe", "not a regular file"), ("loop", "symbolic links"):
        with pytest.raises(UnreadableFile, match=why):
            headers.read(tmp_path / f"{name}.fits", ())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_forbidden_file_says_why(tmp_path: Path) -> None:
    path = fits.write(tmp_path / "a.fits", fits.apvisit())
    path.chmod(0)
    with pytest.raises(UnreadableFile, match="Permission denied"):
        headers.read(path, ())


def test_a_broken_disk_is_unreadable() -> None:
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("no /proc/self/mem, whose first bytes nobody can read")
    with headers._Opened("/proc/self/mem") as opened:
        size = opened.signature
    assert size.size == 0, "the system calls it empty, so the reading itself has to be tried"
    with pytest.raises(UnreadableFile, match="Input/output error"), headers._Opened("/proc/self/mem") as opened:
        os.pread(opened.descriptor, 10, 0)


def test_a_file_changed_or_replaced_while_it_is_read_is_not_whole(tmp_path: Path) -> None:
    path = fits.write(tmp_path / "a.fits", fits.apvisit())
    with headers._Opened(path) as opened:
        opened.check_unchanged()
        os.utime(path, ns=(1, 1))
        with pytest.raises(IncompleteFile, match="changed while it was read"):
            opened.check_unchanged()
    with headers._Opened(path) as opened:
        os.replace(fits.write(tmp_path / "b.fits", fits.apvisit()), path)
        with pytest.raises(IncompleteFile, match="changed while it was read"):
            opened.check_unchanged()


class Meddlesome(list[str]):
    """Wanted cards that, when they are looked through, change the file that is being read."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__(["OBJID"])
        self.meddle = meddle

    def __iter__(self) -> Iterator[str]:
        self.meddle()
        return super().__iter__()


def test_a_read_during_which_the_file_changes_gives_nothing(tmp_path: Path) -> None:
    path = fits.write(tmp_path / "a.fits", fits.apvisit())
    other = fits.write(tmp_path / "b.fits", fits.apvisit())
    for meddle in (lambda: os.utime(path, ns=(1, 1)), lambda: os.replace(other, path)):
        with pytest.raises(IncompleteFile, match="changed while it was read"):
            headers.read(path, Meddlesome(meddle))
    with pytest.raises(UnreadableFile, match="is gone"):
        headers.read(path, Meddlesome(path.unlink))


def test_no_descriptor_stays_open_whatever_happens(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc/self/fd to count open files by")
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "folder.fits").mkdir()
    for content in (b"", b"rubbish", fits.apvisit(), fits.apvisit()[:-1]):
        try:
            read_one(tmp_path, content)
        except (IncompleteFile, NotFits):
            continue
    with pytest.raises(UnreadableFile):
        headers.read(tmp_path / "folder.fits", ())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_header_is_read_to_its_end_however_long_up_to_a_limit(tmp_path: Path) -> None:
    many = [fits.card(f"K{n}", n) for n in range(12_000)]
    header = read_one(tmp_path, fits.primary({}, *many) + fits.image(), "K11999")
    assert header.cards == {"K11999": 11_999}
    with pytest.raises(BadHeader, match="no END within"):
        read_one(tmp_path, fits.primary({}, *many, *many))


def test_a_header_that_fills_its_block_exactly_is_read(tmp_path: Path) -> None:
    for count in range(30, 36):
        cards = [fits.card(f"K{n}", n) for n in range(count)]
        assert read_one(tmp_path, fits.primary({}, *cards) + fits.table(), f"K{count - 1}").hdus == 2


def test_a_header_without_its_lengths_is_bad(tmp_path: Path) -> None:
    start = fits.card("XTENSION", "IMAGE")
    for cards in ([], [fits.card("BITPIX", 7), fits.card("NAXIS", 0)], [fits.card("BITPIX", 8), fits.card("NAXIS", 1)]):
        with pytest.raises(BadHeader, match="does not say how long"):
            read_one(tmp_path, fits.primary({}) + fits.header(start, *cards))


@pytest.mark.parametrize("axes", [-1, -1000, 1000, 20_000_000, 9_999_999_999, (1 << 63) - 1])
@pytest.mark.parametrize("free", [False, True])
def test_more_axes_than_the_standard_has_are_bad_at_once_and_cost_no_memory(
    axes: int, free: bool, tmp_path: Path
) -> None:
    number = f"NAXIS   = {axes}".ljust(80).encode() if free else fits.card("NAXIS", axes)
    content = fits.header(fits.card("SIMPLE", True), fits.card("BITPIX", 8), number)
    tracemalloc.start()
    try:
        with pytest.raises(BadHeader, match="does not say how long its data are"):
            read_one(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_axes_longer_than_any_file_are_bad(tmp_path: Path) -> None:
    axes = [fits.card(f"NAXIS{n}", (1 << 63) - 1) for n in range(1, 1000)]
    start = [fits.card("SIMPLE", True), fits.card("BITPIX", 8), fits.card("NAXIS", 999)]
    with pytest.raises(BadHeader, match="does not say how long its data are"):
        read_one(tmp_path, fits.header(*start, *axes))


def test_no_sentence_of_a_file_that_is_not_whole_says_what_happens_next(tmp_path: Path) -> None:
    # it is shown where nothing looks again: in a list of the quarantined, to who asked by hand
    for content in fits.damaged(fits.apvisit()).values():
        with pytest.raises(AstraError) as caught:
            read_one(tmp_path, content)
        assert "again" not in str(caught.value)
    with pytest.raises(UnreadableFile) as refused:
        headers.read(tmp_path, ())
    assert "set aside" not in str(refused.value)


def test_lengths_in_odd_places_and_columns_are_found(tmp_path: Path) -> None:
    free = [b"NAXIS   = 1 / free format".ljust(80), b"BITPIX  = 16".ljust(80), b"NAXIS1  = 1440".ljust(80)]
    odd = fits.header(fits.card("XTENSION", "IMAGE"), fits.card("EXTNAME", "ODD"), *free)
    far = [fits.card(f"K{n}", n) for n in range(20)]
    deep = fits.header(fits.card("XTENSION", "IMAGE"), *far, *free, fits.card("PCOUNT", 0), fits.card("GCOUNT", 2))
    content = fits.primary({}) + odd + bytes(2880) + deep + bytes(2 * 2880)
    assert read_one(tmp_path, content).hdus == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NAN", None), ("", None), ("-Infinity", None), ("1_000", None), ("(1.0, 2.0)", None), ("nan", None),
        ("27021598755520772", 27021598755520772), ("-2138963968", -2138963968), ("6E-06", 6e-06), ("1.5D+03", 1500.0),
        ("1.01459E-18", 1.01459e-18), (".5", 0.5), ("5.", 5.0), ("+7", 7), ("T", True), ("F", False), ("007", 7),
    ],
)  # fmt: skip
def test_a_bare_value_follows_the_standard(text: str, value: headers.Value, tmp_path: Path) -> None:
    header = read_one(tmp_path, fits.primary({"KEY": fits.Bare(text)}), "KEY")
    assert header.cards["KEY"] == value
    assert type(header.cards["KEY"]) is type(value)
    assert header.raw("KEY") == text


def test_the_first_of_two_cards_counts(tmp_path: Path) -> None:
    assert read_one(tmp_path, fits.primary({}, fits.card("K", 1), fits.card("K", 2)), "K").cards == {"K": 1}


def test_a_quote_that_never_ends_is_no_value(tmp_path: Path) -> None:
    cards = [b"A       = 'never ends".ljust(80), b"B       = 'm\xfcde'".ljust(80), b"C       no value".ljust(80)]
    header = read_one(tmp_path, fits.primary({}, *cards), "A", "B", "C")
    assert header.cards == {"A": None, "B": None, "C": None}
    assert header.raw("B") == "'m\\xfcde'"


@pytest.mark.parametrize(
    ("value", "text", "integer", "number"),
    [
        ("9518    ", "9518", 9518, 9518.0), ("  4 ", "4", 4, 4.0), (4895, "4895", 4895, 4895.0),
        ("NaN", None, None, None), ("", None, None, None), ("None", None, None, None), (None, None, None, None),
        (27021598755520772, "27021598755520772", 27021598755520772, float(27021598755520772)),
        (27021598755520772.0, "2.7021598755520772e+16", None, 27021598755520772.0),
        (1 << 63, str(1 << 63), None, float(1 << 63)), (-9999.990234375, "-9999.990234375", None, None),
        (9999.99, "9999.99", None, None), (-9999, "-9999", None, None), (999999.0, "999999.0", 999999, None),
        (-99.0, "-99.0", -99, None), (12.0, "12.0", 12, 12.0), (12.5, "12.5", None, 12.5),
        (10**400, str(10**400), None, None), ("1.5", "1.5", None, 1.5),
        ("K01", "K01", None, None), (True, "True", None, None), ("1E999", "1E999", None, None),
    ],
)  # fmt: skip
def test_coercion_is_tolerant_and_never_lies(
    value: headers.Value, text: str | None, integer: int | None, number: float | None
) -> None:
    header = headers.Header("a.fits", Signature(0, 0, 0, 0), "", {"KEY": value}, 1)
    assert (header.text("KEY"), header.integer("KEY"), header.number("KEY")) == (text, integer, number)
    assert (header.text("NO"), header.integer("NO"), header.number("NO"), header.raw("NO")) == (None, None, None, None)


KEYS = st.from_regex(r"\A[A-Z][A-Z0-9_-]{0,7}\Z").filter(
    lambda key: (
        key not in {"COMMENT", "HISTORY", "CONTINUE", "END", "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "HIERARCH"}
        and not key.startswith("NAXIS")
        and key not in {"XTENSION", "PCOUNT", "GCOUNT", "GROUPS", "BLANK", "BSCALE", "BZERO", "CHECKSUM", "DATASUM"}
    )
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cards=st.dictionaries(KEYS, VALUES, max_size=60))
@example(cards={"A": "'/"})
def test_cards_written_by_astropy_are_read_back_equal(
    cards: dict[str, str | int | float | bool], tmp_path: Path
) -> None:
    path = tmp_path / "random.fits"
    header = astropy_fits.Header()
    for key, value in cards.items():
        header[key] = value
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(header=header)]).writeto(path, overwrite=True)
    with astropy_fits.open(path) as opened:
        # astropy 8 ends a text at a slash after a quote, so of texts it is what was written that counts
        theirs = {
            key: value.rstrip(" ") if isinstance(value, str) else opened[0].header[key] for key, value in cards.items()
        }
    ours = headers.read(path, cards.keys()).cards
    assert ours == theirs
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}


@given(value=st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans()))
def test_no_value_makes_the_coercions_fail(value: headers.Value) -> None:
    header = headers.Header("a.fits", Signature(0, 0, 0, 0), "", {"KEY": value}, 1)
    header.text("KEY")
    integer, number = header.integer("KEY"), header.number("KEY")
    assert integer is None or -(1 << 63) <= integer < 1 << 63
    assert number is None or math.isfinite(number)
