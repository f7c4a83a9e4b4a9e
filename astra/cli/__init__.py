"""The `astra` command: one group, one file for each command, imported when it is asked for."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from astra.errors import AstraError, sentence

COMMANDS = (
    "init",
    "ingest",
    "products",
    "tasks",
    "failures",
    "quarantine",
    "catalog",
    "verify",
    "show",
    "logs",
    "source",
    "conflicts",
    "execute",
    "repeat",
    "replay",
    "retry",
    "pause",
    "resume",
    "cancel",
    "drain",
    "holds",
    "simulate",
    "demo",
)


class LazyGroup(click.Group):
    """A group whose command NAME is `command` of the module ``astra.cli.NAME``; the one place where errors end."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name."""
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, importlib.import_module(f"astra.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; a wrong name is answered with the nearest right one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"there is no command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error a person can act on ends as one sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except AstraError as error:
            told = sentence(error)
        except _losses_of_database() as error:
            from astra.database.connection import loss_of

            told = sentence(loss_of(error))
        click.echo(f"astra: {told}", err=True)
        ctx.exit(1)


def _losses_of_database() -> tuple[type[Exception], ...]:
    """Return the errors that say that the database cannot be reached; none, where nobody has imported peewee."""
    peewee = sys.modules.get("peewee")
    return (peewee.OperationalError, peewee.InterfaceError) if peewee is not None else ()


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"astra {version('sdss-astra')}")
        except PackageNotFoundError:
            click.echo("astra (not installed: run from its sources)")
        ctx.exit()


EPILOG = """\b
Examples:
  astra demo                            a simulated night, from files to results
  astra --config config.toml init       make the database that the settings name
  astra tasks --state failed --json     what failed, for a program

Exit status: 0 done, 1 failed, 2 wrong usage.
"""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings to use; else $ASTRA_CONFIG, ./config.toml, ~/.config/astra/ or /etc/astra/.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Say the version.")
@click.pass_context
def astra(ctx: click.Context, config: Path | None) -> None:
    """Look at and work on the records of Astra: data products, their sources, tasks and results.

    The service that watches folders and runs tasks is `astrad`.
    """
    ctx.obj = config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    warnings.showwarning = _say_warning
    try:
        status = astra.main(
            args=None if arguments is None else list(arguments), prog_name="astra", standalone_mode=False
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except SystemExit as error:  # click's own answer to a reader that went away
        return error.code if isinstance(error.code, int) else 1
    except OSError as error:
        if error.errno != errno.EPIPE:
            click.echo(f"astra: {said(error)}", err=True)
        # the interpreter flushes once more at its end, and must not complain about the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def said(error: OSError) -> str:
    """Return what the system refused, in a sentence."""
    place = error.filename if error.filename is not None else "the output"
    return f"cannot read or write {place}: {error.strerror}; what was asked is not done"


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"astra: {message}", err=True)
