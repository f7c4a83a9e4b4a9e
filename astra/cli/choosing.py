"""The options that select records, the same in every command that has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from astra.states import IngestionOutcome, TaskState

if TYPE_CHECKING:
    from astra.selection import Selection

Command = TypeVar("Command", bound=Callable[..., Any])

limit = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")


def key_of(kind: str, text: str) -> int:
    """Return the id that a text is, of a record of this kind; anything else is wrong usage."""
    if not text.isdecimal() or int(text) >= 1 << 63:
        article = "an" if kind == "ingestion" else "a"
        raise click.BadParameter(f"{text!r} is no id: {article} {kind} has a whole number below 2^63", param_hint="ID")
    return int(text)


class Key(click.ParamType[int]):
    """The id of a record, of the kind that the word before it says."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        kind = ctx.params.get("kind") if ctx else None
        return value if isinstance(value, int) else key_of(kind or "record", value)


class SourceName(click.ParamType[str]):
    """What names a source; see `astra.asking.read`."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is; what cannot be read is wrong usage."""
        from astra.asking import read
        from astra.errors import NotUnderstood

        try:
            read(str(value))
        except NotUnderstood as error:
            self.fail(str(error), param, ctx)
        return str(value)


source = click.option(
    "--source", type=SourceName(), metavar="NAME", help='One source: a name such as 2M..., KIND=VALUE, or "RA DEC".'
)


class TakingAngles(click.Command):
    """A command among whose words are angles: click would take ``-56.2`` for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, those that begin with a minus and a digit as they are."""
        return super().parse_args(ctx, [f" {word}" if _NEGATIVE.match(word) else word for word in args])


_NEGATIVE = re.compile(r"-\.?\d")


def recorded(command: Command) -> Command:
    """Give a command the two words that name recorded work: `kind`, a task or a bundle, and its `key`."""
    command = click.argument("key", type=Key(), metavar="ID")(command)
    return click.argument("kind", type=click.Choice(["task", "bundle"]))(command)


class Instant(click.ParamType[datetime]):
    """A date or an instant, UTC where it names no zone."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the aware instant."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date: write 2026-11-22 or 2026-11-22T18:00:00Z", param, ctx)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


class MjdRange(click.ParamType[tuple[int | None, int | None]]):
    """One MJD, or a first and a last one: 59000, 59000:59030, 59000: or :59030."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Return the first and the last MJD, None where there is no such bound."""
        if isinstance(value, tuple):
            return value
        first, colon, last = value.partition(":")
        try:
            bounds = (int(first) if first else None, int(last) if last else None)
        except ValueError:
            bounds = (None, None)
        if bounds == (None, None):
            self.fail(f"{value!r} is no MJD range: write 59000, 59000:59030, 59000: or :59030", param, ctx)
        return bounds if colon else (bounds[0], bounds[0])


_OPTIONS = (
    click.option("--path", "paths", multiple=True, metavar="GLOB", help="Files: a pattern of the base name or path."),
    click.option("--filetype", "filetypes", multiple=True, metavar="NAME", help="Product type, such as apVisit."),
    click.option("--release", "releases", multiple=True, metavar="NAME", help="Data release, such as dr17."),
    click.option("--mjd", type=MjdRange(), metavar="N[:M]", help="MJD of observation, one or from N to M."),
    click.option("--since", type=Instant(), metavar="DATE", help="Taken in at or after this instant."),
    click.option("--until", type=Instant(), metavar="DATE", help="Taken in before this instant."),
    source,
    click.option(
        "--outcome",
        "outcomes",
        multiple=True,
        type=click.Choice([str(each) for each in IngestionOutcome]),
        help="What became of the file.",
    ),
    click.option("--component", "components", multiple=True, metavar="NAME", help="Import path, or the class's name."),
    click.option("--rule", "rules", multiple=True, metavar="NAME", help="Rule that enqueued the tasks."),
    click.option(
        "--state", "states", multiple=True, type=click.Choice([str(each) for each in TaskState]), help="Tasks' state."
    ),
    click.option("--component-version", "versions", multiple=True, metavar="TEXT", help="Component version."),
)


def selecting(command: Command) -> Command:
    """Give a command all options that select; it gets them as keywords, for `selection_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection_of(given: dict[str, Any]) -> Selection:
    """Return the selection that the options of `selecting` make."""
    from astra.selection import Selection

    first, last = given.pop("mjd") or (None, None)
    return Selection(mjd_from=first, mjd_to=last, **given)
