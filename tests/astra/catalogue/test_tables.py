"""Tables in files come out as objects: each format written by the library that others use, and read back here."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable
from hypothesis import given, settings
from hypothesis import strategies as st

from astra.catalogue import tables
from astra.catalogue.rows import CatalogueName, CatalogueRow
from astra.errors import AstraError, FileError, IncompleteFile, UnreadableFile
from astra.sky import Star

LARGEST = (1 << 63) - 1
V21, V25, V31 = 5696405012, 27021599252394686, 63050396092955182
Columns = Mapping[str, Any]


def table_of(columns: Columns) -> AstropyTable:
    return AstropyTable({name: each if hasattr(each, "dtype") else np.array(each) for name, each in columns.items()})


def write_fits(path: Path, columns: Columns) -> None:
    table_of(columns).write(path, format="fits", overwrite=True)


def write_votable(path: Path, columns: Columns) -> None:
    writeto(from_table(table_of(columns)), str(path))


def write_binary_votable(path: Path, columns: Columns) -> None:
    table = table_of(columns)
    for name in table.colnames:
        if table[name].dtype.kind == "U":  # astropy forgets the masks of texts here
            table[name] = table[name].filled("") if hasattr(table[name], "filled") else table[name]
    writeto(from_table(table), str(path), tabledata_format="binary2")


def write_ecsv(path: Path, columns: Columns) -> None:
    table_of(columns).write(path, format="ascii.ecsv", overwrite=True)


def write_comma_ecsv(path: Path, columns: Columns) -> None:
    table_of(columns).write(path, format="ascii.ecsv", delimiter=",", overwrite=True)


def write_csv(path: Path, columns: Columns) -> None:
    table_of(columns).write(path, format="ascii.csv", overwrite=True)


def write_parquet(path: Path, columns: Columns) -> None:
    arrays = {}
    for name, each in columns.items():
        mask = np.ma.getmaskarray(np.ma.asarray(each))
        arrays[name] = pa.array(np.ma.getdata(np.ma.asarray(each)).tolist(), mask=mask)
    pq.write_table(pa.table(arrays), path)


FORMATS: dict[str, Callable[[Path, Columns], None]] = {
    "fits": write_fits, "vot": write_votable, "binary.vot": write_binary_votable, "ecsv": write_ecsv,
    "comma.ecsv": write_comma_ecsv, "csv": write_csv, "parquet": write_parquet,
}  # fmt: skip
every_format = pytest.mark.parametrize("suffix", FORMATS)


def read(path: Path, gaia: str | None = None, epoch: float | None = None) -> list[CatalogueRow]:
    return [row for chunk in tables.read(path, gaia, epoch).chunks() for row in chunk]


def names(row: CatalogueRow) -> list[tuple[str, str]]:
    return [(name.kind, name.value) for name in row.names]


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------------- kinds of table


@every_format
def test_an_allstar_of_astra_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "sdss_id": [54392544, 54392545], "sdss4_apogee_id": ["2M00005143+5615568", ""],
        "gaia_dr3_source_id": [4472832130942575872, -1], "catalogid": [V31, V25], "catalogid21": [V21, -1],
        "catalogid31": [V31, 0], "ra": [0.21431, 359.5], "dec": [56.26579, -12.5], "pmra": [-1.5, np.nan],
        "pmde": [2.25, 3.5], "mag": [12.5, 13.5],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    first, second = read(path)
    assert names(first) == [
        ("sdss_id", "54392544"), ("catalogid31", str(V31)), ("catalogid21", str(V21)),
        ("gaia_dr3", "4472832130942575872"), ("apogee", "2M00005143+5615568"), ("tmass", "00005143+5615568"),
    ]  # fmt: skip
    assert first.star == Star(0.21431, 56.26579, 2015.5, -1.5, 2.25)
    assert names(second) == [("sdss_id", "54392545"), ("catalogid25", str(V25))]
    assert second.star == Star(359.5, -12.5, 2015.5, None, None)


@every_format
def test_sdss_id_flat_keeps_ranks_beside_its_catalogids(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "sdss_id": [7, 8], "catalogid": [V25, V25], "ra_sdss_id": [1.0, 2.0], "dec_sdss_id": [3.0, 4.0],
        "ra_catalogid": [1.1, 2.1], "dec_catalogid": [3.1, 4.1], "rank": [1, 2],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    assert read(path) == [
        ((("sdss_id", "7", None), ("catalogid25", str(V25), 1)), (1.0, 3.0, 2015.5, None, None)),
        ((("sdss_id", "8", None), ("catalogid25", str(V25), 2)), (2.0, 4.0, 2015.5, None, None)),
    ]


@every_format
def test_a_table_of_the_gaia_archive_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "solution_id": [1636148068921376768], "designation": ["Gaia DR3 4472832130942575872"],
        "source_id": [4472832130942575872], "ref_epoch": [2016.0], "ra": [269.4485025], "dec": [4.7394201],
        "pmra": [-801.55], "pmdec": [10362.39],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    assert read(path) == [
        ((("gaia_dr3", "4472832130942575872", None),), (269.4485025, 4.7394201, 2016.0, -801.55, 10362.39))
    ]


@every_format
def test_2mass_point_sources_are_where_they_were_in_their_night(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "RA": [0.214298, 1.0], "DECL": [56.265778, 2.0], "PTS_KEY": [1, 2], "JDATE": [2451179.75, -9999.0],
        "DESIGNATION": ["00005143+5615568 ", "00040000+0200000 "],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    first, second = read(path)
    assert first == ((("tmass", "00005143+5615568", None),), (0.214298, 56.265778, 1999.0, None, None))
    assert second.star is not None
    assert second.star.epoch is None


@every_format
def test_an_allstar_of_dr16_has_numbers_of_gaia_dr2(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "APSTAR_ID": ["apogee.n.s"], "APOGEE_ID": ["2M00005143+5615568"], "RA": [0.2], "DEC": [56.2],
        "GAIA_SOURCE_ID": [420487693646148992], "GAIA_PMRA": [1.0], "GAIA_PMDEC": [-9999.99],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    (row,) = read(path)
    assert names(row)[0] == ("gaia_dr2", "420487693646148992")
    assert row.star == Star(0.2, 56.2, 1999.5, None, None)


@every_format
def test_each_row_may_tell_its_gaia_release(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    columns = {
        "APOGEE_ID": ["AP00005143+5615568", "2M00005143+5615568", "VESTA"], "GAIA_RELEASE": ["dr2", "gaia_edr3", "?"],
        "GAIA_SOURCEID": [11, 12, 13],
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    assert [names(row) for row in read(path)] == [
        [("gaia_dr2", "11"), ("apogee", "AP00005143+5615568")],
        [("gaia_dr3", "12"), ("apogee", "2M00005143+5615568"), ("tmass", "00005143+5615568")],
        [("apogee", "VESTA")],
    ]


def test_a_column_of_any_objects_names_gives_only_those_made_of_coordinates(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "sdss_id,obj\n1,STAR\n2,2M00005143+5615568\n3,J00005143+5615568\n")
    assert [len(row.names) for row in read(path)] == [1, 3, 2]


def test_a_column_of_numbers_is_no_column_of_names(tmp_path: Path) -> None:
    write_fits(tmp_path / "table.fits", {"objid": [1237645879551066262], "ra": [1.0]})
    with pytest.raises(FileError, match="none of its columns is known to hold identifiers"):
        tables.read(tmp_path / "table.fits")


@pytest.mark.parametrize("prefix", ["", "2MASS J", "2MASSJ", "2M"])
def test_a_2mass_designation_is_known_with_and_without_its_prefix(tmp_path: Path, prefix: str) -> None:
    assert names(read(csv_file(tmp_path, f"tmass_id\n{prefix}00005143+5615568\n"))[0]) == [
        ("tmass", "00005143+5615568")
    ]


def test_a_designation_is_what_its_value_shows(tmp_path: Path) -> None:
    values = ["Gaia DR3 12", "Gaia DR2 13", "00005143+5615568", "J000051.43+561556.8", "Gaia DR1 14"]
    table = tables.read(csv_file(tmp_path, "designation\n" + "\n".join(values) + "\n"))
    found = [names(row) for chunk in table.chunks() for row in chunk]
    assert found == [[("gaia_dr3", "12")], [("gaia_dr2", "13")], [("tmass", "00005143+5615568")]]
    assert table.left_out == 2


def test_the_same_name_in_two_columns_is_one_name(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, f"catalogid,catalogid31,apogee_id,tmass\n{V31},{V31},2M00005143+5615568,00005143+5615568\n"
    )
    assert [kind for kind, _ in names(read(path)[0])] == ["catalogid31", "tmass", "apogee"]


# --------------------------------------------------------------------------------------------------------- identifiers

IDS = st.lists(st.one_of(st.integers(1, LARGEST), st.integers((1 << 53) - 2, (1 << 53) + 2)), min_size=1, max_size=20)


@every_format
@settings(deadline=None, max_examples=15)
@given(ids=IDS)
def test_numbers_of_64_bits_survive_every_format(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, ids: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ids") / f"table.{suffix}"
    ids = [*ids, (1 << 53) + 1, LARGEST]
    columns = {"sdss_id": np.array(ids), "gaia_dr3_source_id": np.array([str(each) for each in ids])}
    FORMATS[suffix](path, columns)
    assert [names(row) for row in read(path)] == [
        [("sdss_id", str(each)), ("gaia_dr3", str(each))] for each in ids
    ]  # fmt: skip


@every_format
def test_masked_cells_are_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    mask = [False, True, False]
    columns = {
        "sdss_id": MaskedColumn([LARGEST, 5, 6], mask=mask), "catalogid": MaskedColumn([V25, V25, V31]),
        "apogee_id": MaskedColumn(["2M00005143+5615568", "VESTA", "CERES"], mask=[True, True, False]),
        "ra": MaskedColumn([1.0, 2.0, 3.0], mask=mask), "dec": MaskedColumn([1.0, 2.0, 3.0]),
        "pmra": MaskedColumn([1.0, 2.0, 3.0], mask=[True, False, False]), "pmdec": MaskedColumn([1.0, 2.0, 3.0]),
        "epoch": MaskedColumn([2015.5, 2015.5, 2016.0]),
    }  # fmt: skip
    FORMATS[suffix](path, columns)
    assert [(names(row), row.star) for row in read(path)] == [
        ([("sdss_id", str(LARGEST)), ("catalogid25", str(V25))], Star(1.0, 1.0, 2015.5, None, None)),
        ([("catalogid25", str(V25))], None),
        ([("sdss_id", "6"), ("catalogid31", str(V31)), ("apogee", "CERES")], Star(3.0, 3.0, 2016.0, 3.0, 3.0)),
    ]


@every_format
def test_sentinels_are_no_identifiers_and_their_rows_are_counted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    numbers = [0, -1, -999, -9999, -(1 << 63), 5]
    texts = ["nan", "-", "", "-999", "0", "None"]
    FORMATS[suffix](path, {"sdss_id": np.array(numbers), "gaia_dr2_source_id": texts, "apogee_id": texts})
    table = tables.read(path)
    assert table.rows == 6
    found = [row for chunk in table.chunks() for row in chunk]
    assert [names(row) for row in found] == [[("sdss_id", "5")]]
    assert table.left_out == 5
    assert table.unplaced == 1


def test_texts_that_are_no_number_of_64_bits_are_none(tmp_path: Path) -> None:
    values = [str(1 << 63), "9" * 5000, "12a", "\uff11\uff12", "1_000", "inf", "+5", "0007", "null", " 8 ", "-4e18"]
    found = read(csv_file(tmp_path, "sdss_id,x\n" + "".join(f"{each},\n" for each in values)))
    assert [names(row)[0][1] for row in found] == ["5", "7", "8"]


@every_format
def test_floats_are_refused_where_they_may_have_been_rounded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    for bad in (float(1 << 53), 4472832130942575872.0, 12.5):
        path.unlink(missing_ok=True)
        FORMATS[suffix](path, {"sdss_id": [1.0, bad]})
        with pytest.raises(FileError, match=r"column sdss_id of identifiers holds .*write the column anew as integers"):
            read(path)


@every_format
def test_whole_floats_pass_as_pandas_writes_columns_with_gaps(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    FORMATS[suffix](path, {"sdss_id": [float((1 << 53) - 1), np.nan, -999.0, -0.5, 3.0, np.inf, -9999.99]})
    assert [names(row)[0][1] for row in read(path)] == [str((1 << 53) - 1), "3"]


def test_a_catalogid_of_an_unknown_cross_match_names_nothing(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"catalogid\n{5 << 53}\n{V31}\n{(9 << 53) + 1}.0\n")
    with pytest.raises(FileError, match="floating point"):
        read(path)
    path = csv_file(tmp_path, f"catalogid\n{5 << 53}\n{V31}\n")
    assert [names(row) for row in read(path)] == [[("catalogid31", str(V31))]]


# ------------------------------------------------------------------------------------------------------------ positions


@every_format
def test_positions_outside_the_sky_are_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    ra = [0.0, 360.0, 360.1, -0.1, np.nan, np.inf, -9999.99, 10.0, 10.0]
    dec = [90.0, -90.0, 0.0, 0.0, 0.0, 0.0, 0.0, 90.1, -9999.0]
    FORMATS[suffix](path, {"sdss_id": list(range(1, 10)), "ra": ra, "dec": dec})
    table = tables.read(path)
    stars = [row.star for chunk in table.chunks() for row in chunk]
    assert [star is not None for star in stars] == [True, True] + [False] * 7
    assert table.unplaced == 7


@pytest.mark.parametrize("none", [-9999.99, -9999.0, 9999.99, -999.0, np.nan, -np.inf])
def test_half_a_motion_is_none(tmp_path: Path, none: float) -> None:
    write_fits(tmp_path / "t.fits", {"sdss_id": [1], "ra": [1.0], "dec": [1.0], "pmra": [none], "pmdec": [4.0]})
    assert read(tmp_path / "t.fits")[0].star == Star(1.0, 1.0)


def test_a_fast_star_keeps_its_motion(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "sdss_id,ra,dec,pmra,pmdec\n1,269.4,4.7,-801.5,10362.4\n")
    assert read(path)[0].star == Star(269.4, 4.7, None, -801.5, 10362.4)


def test_a_rank_that_is_none_is_not_the_lowest(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"sdss_id,catalogid,rank\n1,{V31},0\n2,{V31},\n3,{V31},-1\n4,{V31},2\n")
    assert [row.names[1].rank for row in read(path)] == [None, None, None, 2]


def test_the_epoch_is_the_rows_or_the_users(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"catalogid,ra,dec,epoch\n{V31},1,2,2016\n{V31},1,2,57388\n{V31},1,2,\n")
    assert [row.star and row.star.epoch for row in read(path)] == [2016.0, None, None]
    assert [row.star and row.star.epoch for row in read(path, epoch=2000.0)] == [2000.0] * 3


# ----------------------------------------------------------------------------------------------------------------- FITS


def test_tnull_and_scaling_are_those_of_fits(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    big, small = np.array([1, 99, LARGEST]), np.array([7, -32768, 9], dtype=np.int16)
    columns = [
        fits.Column("sdss_id", "K", null=99, array=big),
        fits.Column("catalogid21", "I", null=-32768, bzero=0, array=small),
        fits.Column("gaia_dr2_source_id", "K", bzero=1 << 63, array=np.array([5, LARGEST, 1 << 63], dtype=np.uint64)),
        fits.Column("gaia_dr3_source_id", "J", bzero=1 << 31, array=np.array([5, 1 << 31, 0], dtype=np.uint32)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    assert [dict(names(row)) for row in read(path)] == [
        {"sdss_id": "1", "catalogid21": "7", "gaia_dr2": "5", "gaia_dr3": "5"},
        {"gaia_dr2": str(LARGEST), "gaia_dr3": str(1 << 31)},
        {"sdss_id": str(LARGEST), "catalogid21": "9"},
    ]


def test_an_ascii_table_of_fits_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    columns = [
        fits.Column("sdss_id", "I20", array=np.array([LARGEST, (1 << 53) + 1]), ascii=True),
        fits.Column("ra", "D25.17", array=np.array([1.5, 2.5]), ascii=True),
        fits.Column("dec", "E15.7", array=np.array([-1.5, 3.5]), ascii=True),
    ]
    fits.TableHDU.from_columns(columns).writeto(path)
    assert b"D+0" in path.read_bytes() or b"E+0" in path.read_bytes()
    assert [(names(row), row.star) for row in read(path)] == [
        ([("sdss_id", str(LARGEST))], Star(1.5, -1.5)),
        ([("sdss_id", str((1 << 53) + 1))], Star(2.5, 3.5)),
    ]


def test_blanks_behind_the_last_column_of_an_ascii_table_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    columns = [fits.Column("sdss_id", "I4", array=np.array([11, 22]), ascii=True)]
    columns.append(fits.Column("x", "A6", array=np.array(["a", "b"]), ascii=True))
    fits.TableHDU.from_columns(columns).writeto(path)
    held = path.read_bytes()
    held = held.replace(b"TFIELDS =                    2", b"TFIELDS =                    1")
    held = held.replace(b"TTYPE2  ", b"XTYPE2  ").replace(b"TFORM2  ", b"XFORM2  ").replace(b"TBCOL2  ", b"XBCOL2  ")
    path.write_bytes(held)
    assert [names(row) for row in read(path)] == [[("sdss_id", "11")], [("sdss_id", "22")]]


def test_texts_padded_with_blanks_or_zero_bytes_are_one(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    held = np.array([b"2M00005143+5615568", b"VESTA             ", b"CERES\0\0\0"], dtype="S24")
    fits.BinTableHDU.from_columns([fits.Column("APOGEE_ID", "24A", array=held)]).writeto(path)
    assert [names(row)[0][1] for row in read(path)] == ["2M00005143+5615568", "VESTA", "CERES"]


def test_columns_of_arrays_and_truths_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    columns = [
        fits.Column("catalogid21", "2K", array=np.array([[1, 2]])),
        fits.Column("catalogid25", "L", array=np.array([True])),
        fits.Column("catalogid31", "PK()", array=np.array([np.array([V31])], dtype=object)),
        fits.Column("sdss_id", "K", array=np.array([4])),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    assert [names(row) for row in read(path)] == [[("sdss_id", "4")]]


def test_all_tables_of_a_fits_file_that_have_identifiers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mwmAllStar.fits.gz"
    boss, empty, apogee, other = (
        fits.BinTableHDU.from_columns([fits.Column(name, "K", array=np.array(ids, dtype=np.int64))])
        for name, ids in (("sdss_id", [1, 2]), ("sdss_id", []), ("SDSS_ID", [3]), ("ELEMENTS", [9, 9]))
    )
    fits.HDUList([fits.PrimaryHDU(), boss, empty, fits.ImageHDU(np.zeros(5000)), apogee, other]).writeto(path)
    table = tables.read(path)
    assert table.rows == 3
    assert table.taken == (("sdss_id", "sdss_id"), ("SDSS_ID", "sdss_id"))
    assert [names(row)[0][1] for chunk in table.chunks() for row in chunk] == ["1", "2", "3"]


# --------------------------------------------------------------------------------------------------------- whole files


def test_what_is_known_before_the_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    write_fits(path, {"SDSS_ID": [1, 2], "CATALOGID": [V31, V25], "RA": [1.0, 2.0], "DEC": [1.0, 2.0]})
    table = tables.read(path)
    assert (table.format, table.rows) == ("FITS", 2)
    assert table.kinds == ("mos_target, mos_catalog",)
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [meaning for _, meaning in table.taken] == ["sdss_id", "catalogid", "ra", "dec"]


@every_format
def test_rows_come_in_chunks_and_as_often_as_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    FORMATS[suffix](path, {"sdss_id": np.arange(25) % 24})
    table = tables.read(path)
    for _ in range(2):
        assert [len(chunk) for chunk in table.chunks(10)] == [9, 10, 4]
        assert table.left_out == 2


@pytest.mark.parametrize("suffix", sorted(FORMATS.keys() - {"parquet"}))
def test_packed_files_are_read(tmp_path: Path, suffix: str) -> None:
    plain, packed = tmp_path / f"table.{suffix}", tmp_path / f"table.{suffix}.gz"
    FORMATS[suffix](plain, {"sdss_id": [LARGEST, 2], "ra": [1.0, 2.0], "dec": [1.0, 2.0]})
    with plain.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    assert read(packed) == read(plain)
    assert tables.read(packed).sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()


def test_the_first_bytes_count_and_not_the_name(tmp_path: Path) -> None:
    write_fits(tmp_path / "table.fits", {"sdss_id": [1]})
    (tmp_path / "table.fits").rename(tmp_path / "table.csv")
    assert tables.read(tmp_path / "table.csv").format == "FITS"


def test_a_csv_may_begin_with_comments_and_have_empty_lines_and_quotes(tmp_path: Path) -> None:
    path = csv_file(tmp_path, '\ufeff#Table1\r\nSDSS_ID, name ,ra,dec\r\n5,"a, ""b""\nc",1,2\r\n\r\n6,,,\r\n')
    assert [(row.names[0].value, row.star) for row in read(path)] == [("5", Star(1.0, 2.0)), ("6", None)]
    assert tables.read(path).rows == 2


def test_decimals_and_dictionaries_of_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    ids = pa.array([LARGEST, None, 3]).cast(pa.decimal128(19, 0))
    stars = pa.array(["VESTA", None, "VESTA"]).dictionary_encode()
    unsigned = pa.array([None, 1 << 63, 9], type=pa.uint64())
    pq.write_table(pa.table({"sdss_id": ids, "apogee_id": stars, "catalogid21": unsigned}), path)
    assert [names(row) for row in read(path)] == [
        [("sdss_id", str(LARGEST)), ("apogee", "VESTA")],
        [("sdss_id", "3"), ("catalogid21", "9"), ("apogee", "VESTA")],
    ]


# --------------------------------------------------------------------------------------------------------- wrong input


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("name", "held", "sentence"),
    [
        ("a.csv", b"", "it is empty"),
        ("a.fits", b"sdss_id\n1\n", "its name says FITS, and its first bytes are not of that format"),
        ("a.bin", b"\x00\x01\x02\x03" * 100, "it is none of FITS, Parquet, VOTable, ECSV and CSV"),
        ("a.html", b"<html><body>404</body></html>", "it is XML or HTML, and no VOTable"),
        ("a.vot", b"<?xml version='1.0'?><VOTABLE><RESO", r"it is a broken VOTable \("),
        ("a.vot", b"<?xml version='1.0'?><VOTABLE version='1.3'></VOTABLE>", "it holds no table"),
        ("a.csv", b"ra,dec\n1,2\n", r"none of its columns is known to hold identifiers of objects \(ra, dec\)"),
        ("a.csv", b"sdss_id\n", "its table has no rows"),
        ("a.csv", b"# only a comment\n", "it has none"),
        ("a.csv", b"sdss_id,ra\n1,2\n3\n", r"broken text table \(its row 2 has 1 cells, and there are 2 columns\)"),
        ("a.csv", b'sdss_id,ra\n1,"2\n', r"broken text table \(unexpected end of data\)"),
        ("a.csv", b"sdss_id,ra\n1,\xff\n", r"broken text table \('utf-8' codec"),
        ("a.csv", b"source_id\n1\n", "nothing in it tells of which Gaia release its column source_id is"),
        ("a.csv", b"sdss_id,SDSS_ID\n1,2\n", "two columns sdss_id and SDSS_ID"),
        ("a.csv.gz", b"\x1f\x8bnot packed", r"broken gzip file \("),
        ("a.parquet", b"PAR1" + b"\0" * 40 + b"PAR1", r"broken Parquet file \("),
        ("a.fits", b"SIMPLE  =                    T", r"broken FITS file \("),
    ],
)
def test_a_wrong_file_is_refused_with_one_sentence(tmp_path: Path, name: str, held: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(held)
    with pytest.raises(FileError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(f"cannot read {path} as a catalogue: ")
    assert "\n" not in str(caught.value)


def test_a_fits_file_that_is_cut_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    write_fits(path, {"sdss_id": np.arange(1, 5000)})
    cut(path, 2880 * 5)
    with pytest.raises(FileError, match=r"broken FITS file \(14400 bytes are present, its headers promise 4"):
        tables.read(path)


def test_a_packed_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.fits.gz"
    write_fits(path, {"sdss_id": np.random.default_rng(1).integers(1, LARGEST, 5000)})
    cut(path, path.stat().st_size - 9000)
    with pytest.raises(FileError, match=r"broken FITS file \("):
        read(path)


def test_rows_that_end_early_in_a_packed_file_are_not_passed_over(tmp_path: Path) -> None:
    plain, packed = tmp_path / "table.fits", tmp_path / "table.fits.gz"
    write_fits(plain, {"sdss_id": np.arange(1, 5001)})
    with gzip.open(packed, "wb") as file:
        file.write(plain.read_bytes()[: 2880 * 4])
    with pytest.raises(FileError, match=r"broken FITS file \("):
        read(packed)


def test_rows_that_are_gone_when_they_are_read_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    write_fits(path, {"sdss_id": np.arange(1, 5000)})
    table = tables.read(path)
    cut(path, 2880 * 4)
    with pytest.raises(FileError, match=r"broken FITS file \(it ends within its 4999 rows\)"):
        list(table.chunks())


def test_bytes_after_the_last_table_are_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("sdss_id", "K", array=np.arange(1, 50))])
    fits.HDUList([fits.PrimaryHDU(), table, table.copy()]).writeto(path)
    cut(path, path.stat().st_size - 4000)
    with pytest.raises(FileError, match=r"broken FITS file \(\d+ bytes after its last whole part are none"):
        tables.read(path)


def test_a_fits_file_without_a_table_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros(10)).writeto(tmp_path / "image.fits")
    with pytest.raises(FileError, match=r"image\.fits as a catalogue: it holds no table"):
        tables.read(tmp_path / "image.fits")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"cannot read /.*/gone\.fits as a catalogue: No such file"):
        tables.read(tmp_path / "gone.fits")
    with pytest.raises(UnreadableFile, match="it is a folder"):
        tables.read(tmp_path)


def test_a_packed_parquet_file_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", {"sdss_id": [1]})
    (tmp_path / "t.gz").write_bytes(gzip.compress((tmp_path / "t.parquet").read_bytes()))
    with pytest.raises(FileError, match="unpack it with gunzip"):
        tables.read(tmp_path / "t.gz")


def test_without_pyarrow_the_way_to_install_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "t.parquet", {"sdss_id": [1]})
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(FileError, match=r"needs pyarrow; install it with pip install .sdss-astra\[parquet\]"):
        tables.read(tmp_path / "t.parquet")


@every_format
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    FORMATS[suffix](path, {"sdss_id": [1, 2]})
    table = tables.read(path)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(FileError) as caught:
        list(table.chunks())
    if suffix in ("fits", "vot", "binary.vot"):
        assert isinstance(caught.value, IncompleteFile)


@every_format
def test_damaged_files_end_in_a_sentence_and_never_in_anything_else(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"table.{suffix}"
    FORMATS[suffix](whole, {"sdss_id": np.arange(1, 50), "ra": np.arange(1.0, 50.0), "dec": np.arange(1.0, 50.0)})
    held, chance, refused = whole.read_bytes(), random.Random(5), 0
    for _ in range(150):
        damaged = bytearray(held)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"\0 19A\xff'<,=")
        whole.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(1, len(damaged))])])
        try:
            read(whole)
        except AstraError:
            refused += 1
    assert refused


def test_rows_are_given_as_the_types_that_are_promised(tmp_path: Path) -> None:
    (row,) = read(csv_file(tmp_path, "sdss_id,ra,dec\n1,2,3\n"))
    assert type(row) is CatalogueRow
    assert isinstance(row.names, Sequence)
    assert type(row.names[0]) is CatalogueName
    assert type(row.star) is Star
