"""Which tasks does a data product call for? Values in, values out: no database, no clock.

Comes from the settings' `[[rules]]`, compiled once; goes to `ingest`, which enqueues what the rules call for. Compiling
builds each component once, so that a missing parameter stops the start and not the night.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from astra import config
from astra.errors import AstraError, ConfigurationError
from astra.settings_values import Condition
from astra.work import Input, NewTask, identity_of

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class Plan(Protocol):
    """A task as a component plans it, but for its inputs."""

    @property
    def name(self) -> str:
        """The component's import path."""

    @property
    def component_version(self) -> str:
        """The component's own version."""

    @property
    def parameters(self) -> str:
        """All parameters, defaults too, as canonical JSON."""

    @property
    def bundle_key(self) -> str:
        """What tasks must share to run together."""


class Told(Protocol):
    """A product type, as far as rules ask of it."""

    @property
    def facts(self) -> frozenset[str]:
        """The names that a condition may use."""


@dataclass(frozen=True, slots=True)
class Rule:
    """For this product type, where these conditions hold, enqueue this task."""

    name: str
    filetype: str
    plan: Plan
    priority: int
    where: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules ask of a data product: its product type, and its identity fields and header facts by name."""

    filetype: str
    values: Mapping[str, Any]
    input: Input


def compile_rules(
    written: Iterable[config.Rule], component_class: Callable[[str], Any], filetypes: Mapping[str, Told]
) -> tuple[Rule, ...]:
    """Return the rules of the settings, ready for use.

    Parameters
    ----------
    written
        The rules as the settings hold them.
    component_class
        What returns the component that an import path names: `astra.base.component_class`.
    filetypes
        The product types there are, by name.

    Raises
    ------
    ConfigurationError
        Naming every rule whose product type is unknown, whose condition is on a fact that this type never tells, or
        whose component cannot be found or built as it says.
    """
    problems: list[str] = []
    compiled = [_compiled(each, component_class, filetypes, problems) for each in written]
    if problems:
        raise ConfigurationError("cannot use the rules as they are written:\n  " + "\n  ".join(problems))
    return tuple(each for each in compiled if each is not None)


def _compiled(
    rule: config.Rule, component_class: Callable[[str], Any], filetypes: Mapping[str, Told], problems: list[str]
) -> Rule | None:
    if rule.filetype not in filetypes:
        near = difflib.get_close_matches(rule.filetype, filetypes, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(filetypes))}"
        problems.append(f"rule {rule.name!r}: there is no product type {rule.filetype!r}; {hint}")
    else:
        problems += _unknown_facts(rule, filetypes[rule.filetype].facts)
    try:
        plan: Plan = component_class(rule.task)(**rule.parameters).plan()
    except (AstraError, TypeError, ValueError) as error:
        problems.append(f"rule {rule.name!r}: {rule.task} cannot be made with its parameters: {error}")
        return None
    return Rule(rule.name, rule.filetype, plan, rule.priority, rule.where)


def _unknown_facts(rule: config.Rule, facts: frozenset[str]) -> Iterator[str]:
    for fact in sorted({each.fact for each in rule.where} - facts):
        near = difflib.get_close_matches(fact, facts, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(facts))}"
        yield f"rule {rule.name!r}: {rule.filetype} tells no {fact!r}, so where cannot ask for it; {hint}"


def tasks_for(rules: Sequence[Rule], facts: Facts, replay: int | None = None) -> list[NewTask]:
    """Return the tasks that the rules call for on one file version of a data product."""
    return [_task(each, facts.input, replay) for each in rules if _applies(each, facts)]


def _applies(rule: Rule, facts: Facts) -> bool:
    return rule.filetype == facts.filetype and all(holds(each, facts.values) for each in rule.where)


def _task(rule: Rule, given: Input, replay: int | None) -> NewTask:
    plan = rule.plan
    return NewTask(
        name=plan.name,
        component_version=plan.component_version,
        parameters=plan.parameters,
        bundle_key=plan.bundle_key,
        inputs=(given,),
        priority=rule.priority,
        identity=identity_of(plan.name, plan.component_version, plan.parameters, (given,)),
        rule=rule.name,
        replay=replay,
    )


def holds(condition: Condition, facts: Mapping[str, Any]) -> bool:
    """Return whether a condition holds.

    A fact that is missing, null or of another kind never fulfils one, not even ``ne``. A number and the text of that
    number are equal: identity fields are text, header facts are numbers.
    """
    fact = facts.get(condition.fact)
    if fact is None:
        return False
    if condition.op == "in":
        return any(_equal(fact, each) is True for each in condition.value)
    if condition.op in ("eq", "ne"):
        return _equal(fact, condition.value) is (condition.op == "eq")
    pair = _alike(fact, condition.value)
    return pair is not None and _ORDERED[condition.op](*pair)


def _equal(fact: Any, value: Any) -> bool | None:
    pair = _alike(fact, value)
    return None if pair is None else bool(pair[0] == pair[1])


def _alike(fact: Any, value: Any) -> tuple[Any, Any] | None:
    """Return fact and value as two of a kind, or None where they cannot be compared."""
    if isinstance(fact, bool) or isinstance(value, bool):
        return (fact, value) if isinstance(fact, bool) and isinstance(value, bool) else None
    if isinstance(fact, str) and isinstance(value, str):
        return fact, value
    pair = _number(fact), _number(value)
    return None if None in pair else pair


def _number(value: Any) -> int | float | None:
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return None
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return None
