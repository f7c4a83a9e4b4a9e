"""What of a table was not taken is counted, by reason; what says itself that it is nothing is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable

from astra.catalogue import tables
from astra.catalogue.tables import Table

V31 = 63050396092955182


def taken(path: Path, size: int = 5000) -> Table:
    table = tables.read(path)
    for _ in table.chunks(size):
        pass
    return table


def text_table(folder: Path, text: str) -> Table:
    path = folder / "table.csv"
    path.write_text(text)
    return taken(path)


def fits_table(folder: Path, **columns: object) -> Table:
    path = folder / "table.fits"
    AstropyTable(columns).write(path, overwrite=True)
    return taken(path)


def test_what_the_user_said_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("source_id,ra,dec\n1,2,3\n")
    table = tables.read(path, gaia="dr2", epoch=2000.0)
    assert (table.gaia, table.epoch) == ("dr2", 2000.0)
    path.write_text("sdss_id\n1\n")
    assert (tables.read(path).gaia, tables.read(path).epoch) == (None, None)


def test_a_table_without_losses_counts_none(tmp_path: Path) -> None:
    table = fits_table(tmp_path, sdss_id=[1, 2], catalogid=[V31, V31], ra=[1.0, 2.0], dec=[1.0, 2.0])
    assert (table.left_out, table.dropped, table.misplaced, table.undated) == (0, {}, 0, 0)


def test_catalogids_of_unknown_cross_matches_are_counted(tmp_path: Path) -> None:
    table = fits_table(tmp_path, sdss_id=[1, 2, 0, 4], catalogid=[1 << 54, V31, 5 << 53, -1])
    assert table.dropped == {tables.NO_CROSS_MATCH: 2}
    assert tables.NO_CROSS_MATCH == "catalogid of no cross-match we know"
    assert table.left_out == 1


def test_what_stands_for_nothing_is_no_loss(tmp_path: Path) -> None:
    numbers = [0, -1, -999, -9999, 5]
    floats = [np.nan, 0.0, -999.0, -9999.99, -1.0]
    texts = ["", "-", "NaN", "-999", "None"]
    masked = MaskedColumn([-7, 1, 1, 1, 1], mask=[True, False, False, False, False])
    table = fits_table(
        tmp_path, sdss_id=numbers, catalogid21=floats, catalogid25=texts, catalogid31=masked, apogee_id=texts
    )
    assert (table.left_out, table.dropped) == (1, {})
    values = ["0", "-1", "-999", "-9999", "nan", "-9999.0", " ", "null", "-1.0", "0.0", "00", "-"]
    table = text_table(tmp_path, "sdss_id,x\n" + "".join(f"{each},\n" for each in values))
    assert (table.left_out, table.dropped) == (12, {})


def test_numbers_that_are_no_identifiers_are_counted(tmp_path: Path) -> None:
    assert tables.NO_NUMBER == "no number above 0 that fits 64 bits"
    values = [str(1 << 63), "-5", "9" * 5000, "12a", "1_000", "inf", "-4e18", "7", ""]
    table = text_table(tmp_path, "sdss_id,x\n" + "".join(f"{each},\n" for each in values))
    assert table.dropped == {tables.NO_NUMBER: 7}
    assert fits_table(tmp_path, sdss_id=[5, -7, -(1 << 62), -1]).dropped == {tables.NO_NUMBER: 2}
    assert fits_table(tmp_path, sdss_id=[5.0, -7.0, np.inf, np.nan]).dropped == {tables.NO_NUMBER: 2}


def test_unsigned_numbers_beyond_63_bits_are_counted(tmp_path: Path) -> None:
    column = fits.Column("sdss_id", "K", bzero=1 << 63, array=np.array([5, (1 << 63) + 1, 0], dtype=np.uint64))
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "table.fits")
    table = taken(tmp_path / "table.fits")
    assert (table.dropped, table.left_out) == ({tables.NO_NUMBER: 1}, 2)


def test_names_of_no_known_kind_are_counted(tmp_path: Path) -> None:
    text = (
        "sdss_id,designation,tmass_id,apogee_id,obj\n"
        "1,Gaia DR3 5,00005143+5615568,2M00005143+5615568,STAR\n"
        "2,J000051.43+561556.8,WISE 1,123,\n"
        "3,Gaia DR1 5,-,2MNone,OTHER\n"
    )
    table = text_table(tmp_path, text)
    assert table.dropped == {tables.NO_DESIGNATION: 2, tables.NO_TMASS: 1, tables.NO_APOGEE: 1}


def test_gaia_numbers_of_releases_that_are_not_kept_are_counted(tmp_path: Path) -> None:
    table = text_table(tmp_path, "sdss_id,gaia_sourceid,gaia_release\n1,5,dr3\n2,5,dr1\n3,5,\n4,-1,\n")
    assert table.dropped == {tables.NO_RELEASE: 2}


def test_positions_that_are_given_and_not_on_the_sky_are_counted(tmp_path: Path) -> None:
    ra = [1.0, 360.5, -0.1, 10.0, np.nan, -9999.99, np.nan, 10.0]
    dec = [1.0, 0.0, 0.0, 91.0, 0.0, -9999.99, np.nan, np.nan]
    table = fits_table(tmp_path, sdss_id=list(range(1, 9)), ra=ra, dec=dec)
    assert (table.misplaced, table.unplaced) == (3, 7)
    table = text_table(tmp_path, "sdss_id,ra,dec\n1,12:30:05.5,-05:10:20\n2,,\n3,nan,-\n4,1,2\n5,400,2\n,-5,5\n")
    assert (table.misplaced, table.unplaced, table.left_out) == (3, 4, 1)


def test_epochs_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    table = fits_table(
        tmp_path, sdss_id=[1, 2, 3, 4], ra=[1.0] * 4, dec=[1.0] * 4, ref_epoch=[2451545.0, 2016.0, np.nan, 0.0]
    )
    assert table.undated == 1
    table = text_table(tmp_path, "sdss_id,ra,dec,epoch\n1,1,2,J2000\n2,1,2,\n3,1,2,2015.5\n4,1,2,-9999\n")
    assert table.undated == 1
    table = text_table(tmp_path, "sdss_id,ra,dec,jdate\n1,1,2,51179.75\n2,1,2,2451179.75\n3,1,2,-9999\n4,1,2,0\n")
    assert table.undated == 1


def test_counts_are_of_the_last_reading_and_of_all_its_chunks(tmp_path: Path) -> None:
    table = fits_table(tmp_path, sdss_id=[1, 2, 0, -5], ra=[1.0, 400.0, 400.0, 1.0], dec=[1.0] * 4, epoch=[9.0] * 4)
    for _ in range(2):
        list(table.chunks(1))
        assert (table.left_out, table.dropped, table.misplaced, table.undated) == (2, {tables.NO_NUMBER: 1}, 2, 4)
