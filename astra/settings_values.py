"""What a setting's value may be: one small check for each shape, and the defaults that depend on the environment.

A check takes the value as TOML gives it and the `Place` it was written in, and returns the value to use or raises
`Refused` with what is allowed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

Check = Callable[[Any, "Place"], Any]

MOST_SECONDS = 1_000_000_000  # thirty years: what clocks and dates can still count
MOST_PRIORITY = (1 << 15) - 1  # of a 16-bit column

SHOWN = 100  # characters of a value that a message repeats

OPERATIONS = ("eq", "ne", "lt", "le", "gt", "ge", "in")


class Place(NamedTuple):
    """Where a value was written: relative paths start at `folder`, or at the current folder where that is None."""

    folder: Path | None
    environ: Mapping[str, str]

    @property
    def home(self) -> Path:
        """The user's own folder."""
        return Path(self.environ.get("HOME") or Path.home())

    def resolve(self, text: str) -> Path:
        """Return `text` as an absolute path, with ``~`` and dots taken out and links left as they are."""
        own = text == "~" or text.startswith("~/")
        expanded = self.home / text[1:].lstrip("/") if own else expanded_user(text)
        if expanded.is_absolute():
            return Path(os.path.normpath(expanded))
        try:
            return Path(os.path.normpath((self.folder or Path.cwd()) / expanded))
        except FileNotFoundError:
            raise Refused("an absolute path, for the folder you are in is not there any more") from None


class Condition(NamedTuple):
    """`fact` compared with `value` by `op`, one of `OPERATIONS`; for ``in`` the value is a tuple."""

    fact: str
    op: str
    value: Any


class Refused(Exception):
    """The value cannot be used; `allowed` completes the sentence "must be ..."."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


def expanded_user(text: str) -> Path:
    """Return a path with ``~`` or ``~user`` at its start replaced by that user's folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise Refused(f"a path; there is no user {text.partition('/')[0].removeprefix('~')}") from None


def number(least: float | None = None, above: float | None = None, most: int = MOST_SECONDS) -> Check:
    """Check for a number between two bounds; of seconds, no more than clocks can count."""
    bound = f" of at least {least:g}" if least is not None else f" above {above:g}" if above is not None else ""

    def check(value: Any, place: Place) -> float:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and value <= most
        if not fine or (least is not None and not value >= least) or (above is not None and not value > above):
            raise Refused(f"a number{bound}, at most {most}")
        return float(value)

    return check


def whole_number(least: int | None = None, most: int = (1 << 31) - 1) -> Check:
    """Check for a whole number between two bounds."""
    low = -most - 1 if least is None else least
    allowed = f"from {low} to {most}" if least is None else f"of at least {low}, at most {most}"

    def check(value: Any, place: Place) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= most:
            raise Refused(f"a whole number {allowed}")
        return value

    return check


def priority(value: Any, place: Place) -> int:
    """Check for a priority that the records can hold."""
    checked: int = _PRIORITY(value, place)
    return checked


_PRIORITY = whole_number(most=MOST_PRIORITY)


def one_of(*allowed: str) -> Check:
    """Check for one of the allowed words, in any case."""

    def check(value: Any, place: Place) -> str:
        for each in allowed:
            if isinstance(value, str) and value.lower() == each.lower():
                return each
        raise Refused(" or ".join(shown(each) for each in allowed))

    return check


def boolean(value: Any, place: Place) -> bool:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise Refused("true or false")
    return value


def text(value: Any, place: Place) -> str:
    """Check for a text of one line that is not empty."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Refused("a text of one line, not empty")
    return value.strip()


_LONG_OPTION = re.compile(r"--[a-z][a-z-]*(=[^\x00-\x1f\x7f]+)?")


def lines(value: Any, place: Place) -> str:
    """Check for a text of one or more lines."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise Refused("a text of one or more lines, not empty")
    return value


def long_options(value: Any, place: Place) -> tuple[str, ...]:
    """Check for options of a command, written with two dashes."""
    if not isinstance(value, list) or not all(isinstance(each, str) and _LONG_OPTION.fullmatch(each) for each in value):
        raise Refused('a list of options of one line each, as in ["--qos=low"]')
    for each in value:
        named = each.partition("=")[0]
        if any(own.startswith(named) for own in _OWN_OPTIONS):
            raise Refused(f"without {named}, which astra itself decides, or has a setting for")
    return tuple(value)


# What is said with every job, or would undo what is; options may be shortened.
_OWN_OPTIONS = (
    "--array", "--chdir", "--cpus-per-task", "--error", "--job-name", "--mem", "--nodes", "--no-requeue",
    "--ntasks", "--open-mode", "--output", "--parsable", "--requeue", "--signal", "--test-only", "--time", "--wait",
    "--wrap", "--partition", "--account",
)  # fmt: skip


def table(value: Any, place: Place) -> dict[str, Any]:
    """Check for a table of any content that JSON can hold."""
    if not isinstance(value, dict):
        raise Refused("a table, as in {limit = 3}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise Refused("a table that JSON can hold too: no NaN or infinity, and dates as text") from None
    return value


def path(value: Any, place: Place) -> Path:
    """Check for a path; a relative one starts at the settings file's folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise Refused("a path")
    return place.resolve(value)


def import_path(value: Any, place: Place) -> str:
    """Check for the dotted name of a class inside a module."""
    parts = value.split(".") if isinstance(value, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise Refused("the dotted name of a class, as in package.module.Class")
    return str(value)


def database_url(value: Any, place: Place) -> str:
    """Check for a database URL, and make the path in a SQLite one absolute."""
    allowed = "sqlite:///PATH or postgresql://USER@HOST/NAME"
    if not isinstance(value, str):
        raise Refused(allowed)
    scheme, separator, rest = value.partition("://")
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return value if rest == "/:memory:" else f"sqlite:///{place.resolve(rest[1:])}"
    return _postgresql(value, allowed)


def postgresql_url(value: Any, place: Place) -> str:
    """Check for the URL of a PostgreSQL database."""
    return _postgresql(value, "postgresql://USER@HOST/NAME")


def _postgresql(value: Any, allowed: str) -> str:
    scheme, separator, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    if not separator or scheme not in ("postgresql", "postgres") or not rest.strip("/"):
        raise Refused(allowed)
    if not _is_url(f"postgresql://{rest}"):
        raise Refused(f"{allowed}, a % in it written as %25")
    return f"postgresql://{rest}"


def _is_url(url: str) -> bool:
    """Whether a driver can read a URL: hosts in brackets that close, and every % the start of a character's code."""
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", url) or "\0" in url:
        return False
    try:
        return urlsplit(url).port is None or True
    except ValueError:
        return False


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES: tuple[dict[str, int], ...] = (
    {},
    {},
    {},
    {name: i for i, name in enumerate(_MONTHS, 1)},
    {name: i for i, name in enumerate(_WEEKDAYS)},
)
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_CRON_PART = re.compile(r"(?P<any>\*)(?:/(?P<every>[1-9]\d*))?|(?P<low>\w+)(?:-(?P<high>\w+)(?:/(?P<step>[1-9]\d*))?)?")


def cron(value: Any, place: Place) -> str:
    """Check for the five fields of a calendar entry; weekdays by name, for they are counted from 0 in two ways."""
    allowed = 'five fields, as in "30 4 * * mon-fri" (minute, hour, day of month, month, day of week)'
    parts = value.lower().split() if isinstance(value, str) else []
    if len(parts) != 5:
        raise Refused(allowed)
    if re.search(r"\d", parts[4].split("/")[0]):  # cron counts weekdays from Sunday, APScheduler from Monday
        raise Refused(f"{allowed}; a weekday by its name, mon to sun, not {parts[4]}")
    for part, names, bounds in zip(parts, _NAMES, _BOUNDS, strict=True):
        if not all(_cron_part(each, names, bounds) for each in part.split(",")):
            raise Refused(f"{allowed}; {part} is not one of them")
    return " ".join(parts)


def _cron_part(part: str, names: Mapping[str, int], bounds: tuple[int, int]) -> bool:
    match = _CRON_PART.fullmatch(part)
    if match is None:
        return False
    ends = [end for end in (match["low"], match["high"]) if end is not None]
    counted = [int(end) if end.isdecimal() else names.get(end, -1) for end in ends]
    return counted == sorted(counted) and all(bounds[0] <= end <= bounds[1] for end in counted)


def conditions(value: Any, place: Place) -> tuple[Condition, ...]:
    """Check for a table of conditions: a plain value is ``eq``, a list is ``in``, a table names its operations."""
    if not isinstance(value, dict):
        raise Refused("a table of conditions, as in {snr = {ge = 10}}")
    found: list[Condition] = []
    for fact, wanted in value.items():
        if isinstance(wanted, dict):
            found += [_condition(fact, op, each) for op, each in wanted.items()]
            if not wanted:
                raise Refused(f"a table of conditions; {fact} has none")
        else:
            found.append(_condition(fact, "in" if isinstance(wanted, list) else "eq", wanted))
    return tuple(found)


def _condition(fact: str, op: str, value: Any) -> Condition:
    if op not in OPERATIONS:
        raise Refused(f"made of the operations {', '.join(OPERATIONS)}; {fact} has {op}")
    if op == "in":
        if not isinstance(value, list) or not value or not all(_is_scalar(each) for each in value):
            raise Refused(f"a list of texts or numbers, not empty, where {fact} has in")
        return Condition(fact, op, tuple(value))
    if not _is_scalar(value) or (isinstance(value, bool) and op not in ("eq", "ne")):
        raise Refused(f"one text or number where {fact} has {op}")
    return Condition(fact, op, value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def default_database_url(place: Place, url: str) -> str:
    """Return the URL of the user's own SQLite file."""
    return f"sqlite:///{user_folder(place, 'XDG_DATA_HOME', '.local/share') / 'astra.sqlite'}"


def default_output_root(place: Place, url: str) -> Path:
    """Return the user's own folder for outputs."""
    return user_folder(place, "XDG_DATA_HOME", ".local/share") / "output"


def default_state(place: Place, url: str) -> Path:
    """Return where the service keeps its state: what systemd gives, else beside the database, else the user's."""
    if given := place.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if url.startswith("sqlite:///") and not url.endswith(":memory:"):
        return Path(url.removeprefix("sqlite:///")).parent
    return user_folder(place, "XDG_STATE_HOME", ".local/state")


def user_folder(place: Place, variable: str, otherwise: str) -> Path:
    """Return the user's folder for Astra's files of one kind, as the base directory specification has it."""
    # by that specification a relative path in these variables is ignored
    given = place.environ.get(variable, "")
    return (Path(given) if given.startswith("/") else place.home / otherwise) / "astra"


def shown(value: Any) -> str:
    """Return a value as it would be written in the settings file."""
    if isinstance(value, str) and "://" in value:
        value = without_password(value)
    text = f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def without_password(url: str) -> str:
    """Return a database URL that may be shown."""
    url = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)\b(password=)[^&]*", r"\1***", url)


def jsonable(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, Condition):
        return {"fact": value.fact, "op": value.op, "value": jsonable(value.value)}
    if isinstance(value, dict):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [jsonable(each) for each in value]
    if is_dataclass(value):
        return jsonable(vars(value))
    return str(value) if isinstance(value, Path) else value
