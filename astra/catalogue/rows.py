"""One object as a catalogue has it: what files and the survey's database are read into, and `loading` writes."""

from __future__ import annotations

from typing import NamedTuple

from astra.identifiers import Identifier
from astra.sky import Star


class CatalogueName(NamedTuple):
    """An identifier that a catalogue gives an object; of several objects with one catalogid, the lowest `rank` counts.

    `kind` is one of `astra.identifiers.KINDS`, and `value` its valid text.
    """

    kind: str
    value: str
    rank: int | None = None

    @property
    def identifier(self) -> Identifier:
        """The name alone."""
        return Identifier(self.kind, self.value)


class CatalogueRow(NamedTuple):
    """One object: its identifiers, at least one and each valid, and where it is, if the catalogue says so."""

    names: tuple[CatalogueName, ...]
    star: Star | None
