"""Header values and completeness of single files, against astropy."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from astra import headers, products
from astra.errors import FileError
from bench import plain
from bench.measure import COLUMNS, Table, Way, compare, interleaved, timed


def _each(work: Callable[[Path], object], paths: Sequence[Path], repeats: int) -> Way:
    def all_of_them() -> int:
        for _ in range(repeats):
            for path in paths:
                work(path)
        return repeats * len(paths)

    return lambda: timed(all_of_them)


def _floor(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        file.read(headers.FIRST_READ)


def check_equal(paths: Sequence[Path], read: Callable[..., Any] = headers.read_values) -> int:
    """Compare every value of ours with astropy's, and return how many there were: a wrong answer has no speed."""
    count = 0
    for path in paths:
        ours, theirs = read(path, plain.WANTED), plain.values_by_getheader(path)
        for key in plain.WANTED:
            if (key in ours) != (key in theirs) or not _same(ours.get(key), theirs.get(key)):
                raise AssertionError(f"{path.name}: {key} is {ours.get(key)!r}, and {theirs.get(key)!r} for astropy")
            count += key in ours
    return count


def _same(ours: Any, theirs: Any) -> bool:
    both_nan = isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours) and math.isnan(theirs)
    return both_nan or bool(ours == theirs)


def header_values(paths: Sequence[Path], rounds: int, repeats: int) -> Table:
    """Measure reading fifteen header values of every file."""
    count = check_equal(paths)
    found = interleaved(
        {
            "astropy getheader": _each(plain.values_by_getheader, paths, repeats),
            "astropy open": _each(plain.values_by_open, paths, repeats),
            "astra": _each(lambda path: headers.read_values(path, plain.WANTED), paths, repeats),
            "floor: open, read, close": _each(_floor, paths, repeats),
        },
        rounds,
    )
    table = Table(f"{len(plain.WANTED)} header values of a file", ("way", *COLUMNS), compare(found))
    table.notes = [
        f"{len(paths)} files, warm, read {repeats} times a round. All {count:,} values found were equal to astropy's. "
        f"The floor reads the first {headers.FIRST_READ:,} bytes and looks at none of them."
    ]
    return table


def completeness(paths: Sequence[Path], rounds: int, repeats: int, folder: Path) -> Table:
    """Measure proving a file whole, and count what each way makes of files that are not."""
    wanted = products.product_types()["apVisit"].wanted
    found = interleaved(
        {
            "astropy open, len": _each(plain.count_by_open, paths, repeats),
            "astra": _each(headers.count_hdus, paths, repeats),
            "astra, with values and checksum of the header": _each(
                lambda path: headers.read(path, wanted), paths, repeats
            ),
            "floor: open, read, close": _each(_floor, paths, repeats),
        },
        rounds,
    )
    table = Table("Is a file whole?", ("way", *COLUMNS), compare(found))
    told = _told(paths, folder)
    table.notes = [
        f"Of {told['cut']} damaged copies (cut at the end of each HDU, in the data, by a block, by a byte) astra told "
        f"{told['ours']} from whole files. astropy refused {told['refused']}, warned of {told['warned']}, and opened "
        "the others without a word."
    ]
    return table


def _told(paths: Sequence[Path], folder: Path) -> Counter[str]:
    """Return how many damaged copies there were, and how many of them astra and astropy told from whole files."""
    told: Counter[str] = Counter()
    for path in _one_of_each_kind(paths):
        copy, content = folder / path.name, path.read_bytes()
        for length in _cuts(path, content):
            copy.write_bytes(content[:length])
            told["cut"] += 1
            told["ours"] += _refused_by_us(copy)
            told[_said_by_astropy(copy)] += 1
        copy.unlink()
    return told


def _one_of_each_kind(paths: Sequence[Path]) -> list[Path]:
    """Return the smallest file of each product type and reduction."""
    kinds: dict[tuple[str, str], Path] = {}
    for path in sorted(paths, key=os.path.getsize):
        found = products.identify(str(path))
        if found is not None and "apred" in found[1].fields:
            kinds.setdefault((found[0].name, found[1].fields["apred"]), path)
    return list(kinds.values())


def _cuts(path: Path, content: bytes) -> list[int]:
    starts = [at for at in range(headers.BLOCK, len(content), headers.BLOCK) if content[at : at + 10] == b"XTENSION= "]
    return [*starts, starts[-1] - 1000, len(content) - headers.BLOCK, len(content) - 1]


def _refused_by_us(path: Path) -> bool:
    identified = products.identify(str(path))
    assert identified is not None
    try:
        product, recognised = identified
        header = headers.read(path, product.wanted)
        product.check_whole(product.describe(recognised, header, None), header)
    except FileError:
        return True
    return False


def _said_by_astropy(path: Path) -> str:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            plain.count_by_open(path)
        except OSError:
            return "refused"
    return "warned" if heard else "opened"
