"""What a replay is asked for, and what it plans: values. `replay_plan` makes the plan, `replay` carries it out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from astra.errors import AstraError
from astra.ingest import Root
from astra.rules import Rule
from astra.selection import Selection
from astra.work import NewTask


class Verb(StrEnum):
    """What a replay does: files taken in again, tasks enqueued again, or a rule's tasks on products that lack them."""

    INGESTION = "ingestion"
    TASKS = "tasks"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, with the watched folders and the rules of the settings."""

    verb: Verb
    selection: Selection
    roots: tuple[Root, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def rule(self) -> Rule:
        """The rule that the verb `rule` is about."""
        names = self.selection.rules
        found = [each for each in self.rules if each.name in names]
        if len(names) != 1 or not found:
            known = ", ".join(each.name for each in self.rules) or "none"
            raise AstraError(
                f"there is no rule {', '.join(names) or '(none named)'} in the settings; there are {known}"
            )
        return found[0]


class Entry(NamedTuple):
    """One thing to do, on the file `place`.

    `key` is the ledger's row, the task to repeat, the data product, or the source to gather: then there is no task yet.
    """

    key: int
    kind: str
    place: str
    task: NewTask | None = None


class Left(NamedTuple):
    """One thing that is selected and yet left alone, and why."""

    key: int
    kind: str
    place: str
    reason: str


@dataclass(slots=True)
class Plan:
    """What a replay would do. Entries come newest first, which is the order in which they are done."""

    request: Request
    entries: list[Entry] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries there are of each product type, or component."""
        return dict(sorted(Counter(each.kind for each in self.entries).items()))

    @property
    def gathers(self) -> bool:
        """Whether the entries are sources, which a rule gathers."""
        return self.request.verb is Verb.RULE and self.request.rule.gather is not None
