"""The contract of a product type: bytes and names in, facts out; no database, no clock.

A product type is one file of this folder holding `PRODUCT`, an instance of a class that keeps `ProductType`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from astra.headers import Header
from astra.identifiers import Identifier
from astra.sky import Epochs

_FIELDS = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a path alone says: the product type, and the fields its name gives (all text, normalised).

    `folders` are the fields that the folders give, where they are those of a known layout.
    """

    filetype: str
    fields: Mapping[str, str]
    folders: Mapping[str, str] = field(default_factory=dict)


class Target(NamedTuple):
    """What a file says of the object it is of: its identifiers, the surest first, and where it is.

    `ra` and `dec` are in degrees, as they were at some time within `epochs`; None where the header has none.
    `doubt` says why the file may be of another object than it says.
    """

    identifiers: tuple[Identifier, ...]
    ra: float | None
    dec: float | None
    epochs: Epochs
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What name and header together say of one whole file.

    `kwargs` are the identity fields (text, normalised); `identity` is the unique text made of release, file type and
    kwargs in canonical order. `version` orders the versions of one product where the name has such a field (the MJD
    of an SDSS-V star), else None. `metadata` are the parsed cards worth asking for (plain JSON values, null for
    sentinels); `notes` what was odd but not fatal.
    """

    release: str
    filetype: str
    kwargs: Mapping[str, str]
    identity: str
    version: int | None
    target: Target
    metadata: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class ProductType(Protocol):
    """One kind of file: its name, how base names of it begin, the header cards it needs, and paths of this type."""

    @property
    def name(self) -> str: ...
    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def wanted(self) -> frozenset[str]: ...
    @property
    def examples(self) -> tuple[str, ...]: ...
    @property
    def facts(self) -> frozenset[str]:
        """The names that a rule's `where` may use: identity fields and metadata."""

    def recognise(self, path: str) -> Recognised | None:
        """Return what `path` says, or None where it is not of this type. Base name first, then the path's tail."""

    def describe(self, recognised: Recognised, header: Header, release: str | None) -> Description:
        """Return the facts of a file; raise `BadHeader` where a required card is missing or contradicts the name.

        `release` is the watch's setting, used where the name cannot tell; one that contradicts the name is an error.
        """

    def target(self, release: str, metadata: Mapping[str, Any]) -> Target:
        """Return what a file of this type said of its object, from the facts that were kept of it."""

    def check_whole(self, description: Description, header: Header) -> None:
        """Raise `IncompleteFile` where the file has fewer HDUs than this type has in this release."""

    def path(self, release: str, fields: Mapping[str, str]) -> str:
        """Return where the survey keeps the file with these fields, from the archive's root."""


def identity(release: str, filetype: str, kwargs: Mapping[str, str]) -> str:
    """Return the unique text of a data product: equal for equal fields, in whatever order they were given."""
    return f"{release}/{filetype}/{_FIELDS.encode(dict(kwargs))}"
