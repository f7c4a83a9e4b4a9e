"""Every error a user can meet, with a sentence that says what, on which thing, why, and what happens next.

The class says whether trying again can help (`retry`); the message is shown to people as it is, without a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class AstraError(Exception):
    """Base of all errors whose message is meant for a person."""

    retry: ClassVar[bool] = False


class ConfigurationError(AstraError):
    """The settings, or the components and product types they name, cannot be used as they stand."""


class SchemaError(AstraError):
    """The database's tables do not fit this code: too new, or not made yet."""


class DatabaseUnavailable(AstraError):
    """The database cannot be reached now; `mend` is what a person can do, where no loop tries again."""

    retry = True

    def __init__(self, message: str, mend: str = "try again") -> None:
        super().__init__(message)
        self.mend = mend


class CatalogueUnavailable(AstraError):
    """The survey's own catalogue cannot be asked now; what arrives meanwhile is linked later."""

    retry = True


class FileError(AstraError):
    """A file that cannot be taken in as it stands."""


class IncompleteFile(FileError):
    """The bytes that the file's own headers promise are not all there, or it changed while it was read."""

    retry = True


class NotFits(FileError):
    """The file's first bytes are not those of a FITS file."""


class UnreadableFile(FileError):
    """The operating system refuses to read the file: permissions, a folder in its place, a broken disk."""


class BadHeader(FileError):
    """A whole FITS file whose header lacks or contradicts what its product type needs."""


class ComponentError(AstraError):
    """A component (a `TaskInstance` subclass) cannot be found, built or rebuilt."""


class TemporaryFailure(AstraError):
    """Raised by a component: the work may go well at another time, so the task is tried again."""

    retry = True


class PermanentFailure(AstraError):
    """Raised by a component: the work cannot go well, so the task is not tried again."""


class NotUnderstood(AstraError, ValueError):
    """What a person gave is no name, no kind of identifier, no position or no radius that can be read."""


class LeaseLost(AstraError):
    """Somebody else holds this bundle now: whoever gets this error has written nothing and must stop."""


class InputChanged(AstraError):
    """An input file's bytes are no longer those that were recorded for the task."""


class ExecutorUnusable(AstraError):
    """Where bundles are to run, none would be taken."""


def sentence(error: AstraError) -> str:
    """Return what a command says of an error, which it does not try to mend by itself."""
    return f"{error}; {error.mend}" if isinstance(error, DatabaseUnavailable) else str(error)
