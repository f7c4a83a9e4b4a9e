"""Which settings file, and what it holds: nothing of what its settings mean."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astra import settings_values as values
from astra.errors import ConfigurationError
from astra.settings_values import Place, Refused


def find(environ: Mapping[str, str]) -> Path | None:
    """Return the settings file to use when none is named on the command line, or None where there is none."""
    if given := environ.get("ASTRA_CONFIG"):
        return named(given)
    home = values.user_folder(Place(None, environ), "XDG_CONFIG_HOME", ".config")
    candidates = (Path("config.toml"), home / "config.toml", Path("/etc/astra/config.toml"))
    return next((each for each in candidates if os.path.isfile(each)), None)  # where we may not look, there is none


def named(given: str | os.PathLike[str]) -> Path:
    """Return the settings file that a person named."""
    try:
        return values.expanded_user(os.fspath(given))
    except Refused as refused:
        raise ConfigurationError(
            f"cannot read the settings file {given}: {refused.allowed.partition('; ')[2]}"
        ) from None


def absolute(source: Path) -> Path:
    """Return the settings file's path, whatever folder it was named from."""
    try:
        return source.absolute()
    except FileNotFoundError:
        raise ConfigurationError(
            f"cannot read the settings file {source}: the folder you are in is not there any more"
        ) from None


def read(source: Path) -> dict[str, Any]:
    """Return what a settings file holds, as TOML has it."""
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the settings file {source}: {error.strerror}") from error
    except RecursionError:
        raise ConfigurationError(f"the settings file {source} is not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOML's own, of text that is not UTF-8, and of numbers too long to be read
        raise ConfigurationError(f"the settings file {source} is not valid TOML: {error}") from error
