"""Names of columns that stand twice, in each format in which they can be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.table import Table

from astra.catalogue import tables
from astra.errors import FileError


def write_text(path: Path, names: Sequence[str]) -> None:
    path.write_text(",".join(names) + "\n" + ",".join(map(str, range(1, len(names) + 1))) + "\n")


def write_ecsv(path: Path, names: Sequence[str]) -> None:
    header = "".join(f"# - {{name: {name}, datatype: int64}}\n" for name in names)
    rows = " ".join(names) + "\n" + " ".join(map(str, range(1, len(names) + 1))) + "\n"
    path.write_text(f"# %ECSV 1.0\n# ---\n# datatype:\n{header}{rows}")


def write_parquet(path: Path, names: Sequence[str]) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([each]) for each in range(1, len(names) + 1)], list(names)), path)


def stand_ins(names: Sequence[str]) -> dict[str, str]:
    """Return other names of the same lengths, all different, by which the libraries write what they would not."""
    return {f"{index}".rjust(len(name), "z"): name for index, name in enumerate(names)}


def write_fits(path: Path, names: Sequence[str], ascii_table: bool = False) -> None:
    others = stand_ins(names)
    made = [
        fits.Column(each, "I8" if ascii_table else "K", array=np.array([value]), ascii=ascii_table)
        for value, each in enumerate(others, 1)
    ]
    (fits.TableHDU if ascii_table else fits.BinTableHDU).from_columns(made).writeto(path)
    held = path.read_bytes()
    for other, name in others.items():
        held = held.replace(f"'{other.ljust(8)}'".encode(), f"'{name.ljust(8)}'".encode())
    path.write_bytes(held)


def write_ascii_fits(path: Path, names: Sequence[str]) -> None:
    write_fits(path, names, ascii_table=True)


def write_votable(path: Path, names: Sequence[str]) -> None:
    others = stand_ins(names)
    writeto(from_table(Table({each: [value] for value, each in enumerate(others, 1)})), str(path))
    held = path.read_text()
    for other, name in others.items():
        held = held.replace(f'name="{other}"', f'name="{name}"')
    path.write_text(held)


FORMATS: dict[str, Callable[[Path, Sequence[str]], None]] = {
    "csv": write_text, "ecsv": write_ecsv, "parquet": write_parquet, "fits": write_fits, "ascii.fits": write_ascii_fits,
    "vot": write_votable,
}  # fmt: skip
every_format = pytest.mark.parametrize("suffix", FORMATS)


@every_format
@pytest.mark.parametrize("name", ["sdss_id", "ra"])
def test_a_name_that_matters_and_stands_twice_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"table.{suffix}"
    FORMATS[suffix](path, ["sdss_id", "ra", "dec", name])
    with pytest.raises(FileError, match=f"it has two columns {name} and {name}, and which one is meant is not known"):
        tables.read(path)


@every_format
def test_a_name_that_does_not_matter_may_stand_twice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    FORMATS[suffix](path, ["mag", "mag", "sdss_id", "mag", "ra", "dec"])
    (row,) = next(tables.read(path).chunks())
    assert (row.names[0].value, row.star and row.star[:2]) == ("3", (5.0, 6.0))


def test_a_number_and_a_text_of_one_name_are_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array(["2M00005143+5615568"])], ["objid", "objid"]), path)
    with pytest.raises(FileError, match="two columns objid and objid"):
        tables.read(path)


def test_of_two_columns_of_one_name_one_of_which_holds_arrays_the_other_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([[1, 2]]), pa.array([7])], ["sdss_id", "sdss_id"]), path)
    assert next(tables.read(path).chunks())[0].names[0].value == "7"
