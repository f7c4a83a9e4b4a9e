"""A real systemd for the tests, booted beside whatever runs this machine, and this checkout inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.missing import lacking
from tests.support.processes import CHECKOUT, until

BOOT = Path(__file__).with_name("systemd-boot.sh")
UNIT = CHECKOUT / "systemd" / "astrad.service"
CANNOT = 77

# where the checkout and the virtual environment in use are seen inside: /tmp is hidden from a unit with PrivateTmp
CODE_INSIDE = "/srv/astra/checkout"
VENV_INSIDE = "/srv/astra/venv"
PYTHON_INSIDE = f"{VENV_INSIDE}/bin/python"
ASTRAD_INSIDE = f"{PYTHON_INSIDE} -P -m daemon"


class Guest:
    """One booted systemd. A context: leaving it powers it off and removes all of it.

    Parameters
    ----------
    state
        An empty folder.
    units
        Unit files and drop-in folders (``NAME.service.d``) that systemd finds inside.
    binds
        Folders of the host to show inside, read-only, beside the checkout and the virtual environment.
    """

    def __init__(self, state: Path, units: Sequence[Path] = (), binds: Mapping[Path, str] | None = None) -> None:
        self._state = state
        self._units = units
        self._binds = {CHECKOUT: CODE_INSIDE, Path(sys.prefix): VENV_INSIDE, **(binds or {})}

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Boot, and make the user `astra`; where this machine cannot, skip the test, or fail it in CI."""
        binds = "\n".join(f"{source}\t{target}" for source, target in self._binds.items())
        done = self._boot("up", *map(str, self._units), environment={**os.environ, "BOOT_BINDS": binds})
        if done.returncode == CANNOT:
            lacking(f"no systemd can be booted here: {done.stderr.strip()}")
        if done.returncode != 0:
            self.down()
            raise AssertionError(f"systemd did not boot: {done.stderr}")
        self.run("useradd", "--system", "--no-create-home", "astra")
        for folder in Path(sys.base_prefix).resolve().parents:  # a Python under a closed home; a copy is opened up
            self.run("chmod", "o+x", str(folder), check=False)

    def down(self) -> None:
        """Power off and remove everything; harmless where nothing is up."""
        self._boot("down")

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Run a command inside, with `text` as its input; return what it printed, without the last newline."""
        done = self._boot("run", *command, text=text)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.removesuffix("\n")

    def write(self, path: str, text: str) -> None:
        """Make or replace a file inside, readable by everybody, with its folders."""
        self.run("sh", "-c", f"mkdir -p $(dirname '{path}') && cat > '{path}' && chmod 644 '{path}'", text=text)

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit: ActiveState, MainPID, NRestarts, StatusText, Result."""
        return self.run("systemctl", "show", "-P", name, unit)

    def reaches(self, unit: str, name: str, value: str, timeout: float = 20.0) -> None:
        """Wait until a property of a unit has this value; the failure shows the unit's journal."""
        try:
            until(lambda: self.show(unit, name) == value, timeout)
        except AssertionError:
            found = self.show(unit, name)
            raise AssertionError(f"{name} of {unit} is {found!r}, not {value!r}:\n{self.journal(unit)}") from None

    def journal(self, unit: str) -> str:
        """Return all messages of a unit, without dates."""
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager")

    def _boot(
        self, verb: str, *arguments: str, text: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BOOT, verb, self._state, *arguments],
            input=text or "",
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )


def drop_in(folder: Path, *lines: str, arguments: str = "run --config /etc/astra/config.toml") -> Path:
    """Write a drop-in folder that makes the unit run this checkout, inside a `Guest`, with `lines` more of [Service].

    Everything else, the hardening above all, stays as it is in the unit.
    """
    target = folder / f"{UNIT.name}.d"
    target.mkdir(parents=True)
    start = arguments if arguments.startswith("/") else f"{ASTRAD_INSIDE} {arguments}"
    settings = ["[Service]", f"Environment=PYTHONPATH={CODE_INSIDE}", "ExecStart=", f"ExecStart={start}", *lines]
    (target / "test.conf").write_text("\n".join(settings) + "\n")
    return target
