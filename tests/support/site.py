"""A watched folder, a database and settings made for tests: everything quick, everything below one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astra import config
from astra.config import Settings
from tests.support.processes import Daemon, run, write_config

QUALITY = "astra.contrib.spectrum_quality.base.SpectrumQuality"
QUALITY_RULES: tuple[Mapping[str, Any], ...] = (
    {"name": "quality-visit", "filetype": "apVisit", "task": QUALITY},
    {"name": "quality-star", "filetype": "apStar", "task": QUALITY},
)
QUICK: Mapping[str, Mapping[str, Any]] = {
    "settle": {"quiet": 0.2, "patience": 60},
    "scheduler": {"tick": 0.05, "backoff": 0},
    "executor": {"workers": 1, "drain": 20},
    "log": {"level": "debug"},
}


@dataclass
class Site:
    """Settings whose sections a test changes before it writes them; `tree` is the one watched folder.

    `running` is the service that a fixture has started with them.
    """

    folder: Path
    url: str
    rules: Sequence[Mapping[str, Any]] = ()
    watch: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedule: Sequence[Mapping[str, Any]] = ()
    components: Sequence[Mapping[str, Any]] = ()
    running: Daemon | None = None

    @property
    def tree(self) -> Path:
        """The watched folder."""
        return Path(self.watch.get("path", self.folder / "sas"))

    @property
    def gate(self) -> Path:
        """Where components wait, for those tests in which they do."""
        return self.folder / "gate"

    def write(self) -> Path:
        """Write the settings, and return the file."""
        self.tree.mkdir(parents=True, exist_ok=True)
        watch = {"name": "redux", "path": str(self.tree), "backfill": True, **self.watch}
        sections: dict[str, Any] = {name: {**quick, **self.sections.get(name, {})} for name, quick in QUICK.items()}
        sections |= {name: values for name, values in self.sections.items() if name not in sections}
        sections["database"] = {"url": self.url}
        sections["service"] = {"state": str(self.folder / "state")}
        sections["output"] = {"root": str(self.folder / "output")}
        listed = {"watch": [watch], "rules": list(self.rules), "schedule": list(self.schedule)}
        listed["components"] = list(self.components)
        given = {name: tables for name, tables in listed.items() if tables}
        return write_config(self.folder / "config.toml", {**sections, **given})

    def settings(self) -> Settings:
        """Write the settings, and return them as the service reads them."""
        return config.load(self.write(), {"HOME": str(self.folder)})

    def daemon(self, *arguments: str) -> Daemon:
        """Start `astrad run` with these settings."""
        return Daemon(self.write(), "run", *arguments)

    def drain(self, *arguments: str, expect: int = 0, timeout: float = 90.0) -> str:
        """Run `astrad run --drain` to its end, expect this exit status, and return what it said."""
        done = run("astrad", "run", "--drain", *arguments, config=self.write(), timeout=timeout)
        assert done.returncode == expect, f"ended with {done.returncode}, not {expect}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr
