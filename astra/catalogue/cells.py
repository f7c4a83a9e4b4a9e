"""The cells of a table's columns, some thousands at a time: identifiers to the last digit, numbers, and what is none.

Tables say "none" in many ways: a mask, an empty text, NaN, 0, -1, -999, -9999.99. Here all of them become one.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT: Final = 1 << 53  # a float of this size or more may have been another whole number
_END = 1 << 63
_DIGITS = re.compile(r"\d{1,18}|[1-8]\d{18}", re.ASCII)  # few enough to fit 64 bits without a look
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?", re.ASCII)  # D as Fortran writes it


# Words for "none"; numbers for it are 0, -1, -999 and those about -9999.
_NOTHING: Final = frozenset(
    {"", "-", "--", "0", "-1", "2m", "2mnone", "ap", "j", "n/a", "na", "<na>", "nan", "none", "null", "unknown"}
)


class Cells(NamedTuple):
    """Some rows of a column: an array of one dimension or texts, and where it has a value (None: everywhere)."""

    values: NDArray[Any] | list[str]
    known: NDArray[np.bool_] | None = None


class Whole(NamedTuple):
    """The identifiers of a column, 0 where there is none; `lost` are the values that are none and mean to be one."""

    numbers: list[int]
    lost: int = 0


def whole(column: str, cells: Cells) -> Whole:
    """Return the whole numbers above 0 that fit 64 bits, exactly as they stand.

    Raises
    ------
    ValueError
        Where a float, or its text, has a fraction, or is so large that it may have been another number.
    """
    import numpy as np

    values = cells.values
    if isinstance(values, list) or values.dtype.kind in "SUO":
        held = texts(cells)
        if all(map(_DIGITS.fullmatch, held)):
            return Whole(list(map(int, held)))
        found = [int(text) if _DIGITS.fullmatch(text) else _whole_text(column, text) for text in held]
        return Whole(found, sum(1 for text, number in zip(held, found, strict=True) if not number and meant(text)))
    raw, good = values, values > 0
    if cells.known is not None:
        good &= cells.known
    if values.dtype.kind == "f":
        good &= np.isfinite(values)
        bad = good & ((values >= EXACT) | (values != np.floor(values)))
        if bad.any():
            raise ValueError(_inexact(column, str(values[bad][0])))
        values = np.where(good, values, 0).astype(np.int64)
    elif values.dtype == np.uint64:
        good &= values < np.uint64(_END)
    if good.all():
        return Whole(values.tolist())
    rest = raw[~good if cells.known is None else cells.known & ~good]
    return Whole(np.where(good, values, 0).tolist(), _count_meant(rest.astype(np.float64)))


def _count_meant(values: NDArray[np.float64]) -> int:
    import numpy as np

    none = np.isnan(values) | (values == 0) | (values == -1) | (values == -999)
    return int(np.count_nonzero(~none & ~((values > -10_000) & (values < -9998.99))))


def meant(text: str) -> bool:
    """Return whether a text means something, right or wrong: it is no way to say that there is nothing."""
    if text.lower() in _NOTHING:
        return False
    number = _number(text)
    return not (number in (0, -1, -999) or 9998.99 < abs(number) < 10_000)


def standing(cells: Cells, found: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a value stands of which `numbers` has found a number, or none because it is no number at all."""
    import numpy as np

    there: NDArray[np.bool_] = ~np.isnan(found)
    if isinstance(cells.values, list) or cells.values.dtype.kind in "SUO":
        held = texts(cells)
        for index in np.flatnonzero(~there).tolist():
            there[index] = meant(held[index])
    return there


def _whole_text(column: str, text: str) -> int:
    if text.isdigit() and text.isascii():
        return number if (number := int(text[:20])) < _END and len(text.lstrip("0")) < 20 else 0
    real = _number(text)
    if not 0 < real < math.inf:
        return 0
    if real >= EXACT or real != math.floor(real):
        raise ValueError(_inexact(column, text))
    return int(real)


def _inexact(column: str, shown: str) -> str:
    what = f"its column {column} of identifiers holds {shown}, a floating point number that is not surely a whole one"
    return f"{what}: write the column anew as integers or as text"


def texts(cells: Cells) -> list[str]:
    """Return the texts without the blanks and zero bytes around them; "" where there is none, or a number."""
    values = cells.values
    if isinstance(values, list):
        return [value.strip() for value in values]
    if values.dtype.kind not in "SUO":
        return [""] * len(values)
    found = [_text(value) for value in values.tolist()]
    if cells.known is not None:
        found = [text if known else "" for text, known in zip(found, cells.known.tolist(), strict=True)]
    return found


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None else str(value).strip("\0 \t\r\n")


def shown(cells: Cells) -> list[str]:
    """Return the cells as texts, numbers too; "" where there is none."""
    values = cells.values
    if isinstance(values, list) or values.dtype.kind in "SUO":
        return texts(cells)
    known = [True] * len(values) if cells.known is None else cells.known.tolist()
    return [str(value) if there else "" for value, there in zip(values.tolist(), known, strict=True)]


def numbers(cells: Cells) -> NDArray[np.float64]:
    """Return numbers as an array, NaN where there is none: not finite, masked, or like -9999.99."""
    import numpy as np

    values = cells.values
    if isinstance(values, list) or values.dtype.kind in "SUO":
        found = np.array(_numbers(texts(cells)), dtype=np.float64)
    else:
        found = values.astype(np.float64)
    size = np.abs(found)
    none = ~np.isfinite(found) | ((size > 9998.99) & (size < 10_000.0)) | (found == -999.0)
    if cells.known is not None:
        none |= ~cells.known
    found[none] = np.nan
    return found


def _numbers(held: list[str]) -> list[float]:
    try:
        return list(map(float, held))  # most columns have no gaps
    except ValueError:
        return [_number(text) for text in held]


def _number(text: str) -> float:
    return float(text.upper().replace("D", "E")) if text and _REAL.fullmatch(text) else math.nan


def listed(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers as Python's, None for NaN."""
    import numpy as np

    found: list[float | None] = values.tolist()
    for index in np.flatnonzero(np.isnan(values)).tolist():
        found[index] = None
    return found
