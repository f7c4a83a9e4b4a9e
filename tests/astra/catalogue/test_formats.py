"""Names of columns that stand twice, other separators than commas, paths in sentences, and what is no file at all."""

from __future__ import annotations

import gzip
import os
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
from astra.errors import FileError, UnreadableFile


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


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("sdss_id;ra;dec", "semicolons"), ("sdss_id\tra\tdec", "tabs"), ("sdss_id  ra   dec", "blanks"),
        ("sdss_id|ra|dec", "bars"), ('"sdss_id";"ra";"dec"', "semicolons"), (" sdss_id ra dec ", "blanks"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_another_separator_than_a_comma_is_named(tmp_path: Path, header: str, found: str, packed: bool) -> None:
    path = tmp_path / ("table.csv.gz" if packed else "table.csv")
    held = f"# a comment\n{header}\n1;2,5;3\n".encode()
    path.write_bytes(gzip.compress(held) if packed else held)
    with pytest.raises(FileError, match=f"separated by {found}.*the separator must be a comma") as caught:
        tables.read(path)
    assert "the page Catalogues of the documentation" in str(caught.value)
    assert "\t" not in str(caught.value)


def test_one_column_with_blanks_around_its_name_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(" sdss_id \n1\n")
    assert tables.read(tmp_path / "t.csv").rows == 1


def test_a_sentence_names_the_path_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for given in ("a/x.csv", str(tmp_path / "a" / "x.csv"), "./a/x.csv"):
        Path(given).write_bytes(b"ra,dec\n1,2\n")
        with pytest.raises(FileError) as caught:
            tables.read(given)
        assert str(caught.value).startswith(f"cannot read {given} as a catalogue: none of its columns")
        table_path = Path("a/y.csv")
        table_path.write_text("sdss_id\n1\n")
        table = tables.read(f"./{table_path}")
        table_path.write_text("sdss_id\n12\n")
        with pytest.raises(FileError, match=r"cannot read \./a/y\.csv as a catalogue: it changed"):
            list(table.chunks())


def test_a_path_that_cannot_be_printed_is_shown_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"odd\xff\n.csv")
    path.write_bytes(b"")
    with pytest.raises(FileError) as caught:
        tables.read(path)
    assert str(caught.value).encode().endswith(rb"/odd\udcff\n.csv as a catalogue: it is empty")


def test_what_is_no_regular_file_is_refused_without_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UnreadableFile, match=r"/pipe\.csv as a catalogue: it is a pipe, .*save it to a file"):
        tables.read(tmp_path / "pipe.csv")
    with pytest.raises(UnreadableFile, match="/dev/null as a catalogue: it is not a regular file"):
        tables.read("/dev/null")
