"""Which tasks does a data product call for? Values in, values out: no database, no clock.

Comes from the settings' `[[rules]]`, compiled once; goes to `ingest`, which enqueues what the rules call for. Compiling
builds each component once, so that a missing parameter stops the start and not the night.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """For this product type, where these conditions hold, enqueue this task.

    With `after`, only where that rule applies too, and the task waits for that rule's. With `gather`, one task for all
    data products of a source, `wait` seconds after the last of them changed.
    """

    name: str
    filetype: str
    plan: Plan
    priority: int
    where: tuple[Condition, ...]
    after: Rule | None = None
    gather: str | None = None
    wait: float = 3600.0


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
    made: dict[str, Rule] = {}
    rules = list(written)
    for each in rules:
        if (rule := _compiled(each, component_class, filetypes, problems)) is not None:
            made[each.name] = rule
    if not problems:
        made = _in_turn(rules, made)
        problems += _contradictions(rules, made)
    if problems:
        raise ConfigurationError("cannot use the rules as they are written:\n  " + "\n  ".join(problems))
    return tuple(made[each.name] for each in rules)


def _in_turn(written: Iterable[config.Rule], made: Mapping[str, Rule]) -> dict[str, Rule]:
    """Return the rules by name, each with the one that it comes after; without those whose one is not there.

    The settings' own check refuses circles.
    """
    done: dict[str, Rule] = {}
    left = list(written)
    while ready := [each for each in left if each.after is None or each.after in done]:
        for each in ready:
            done[each.name] = replace(made[each.name], after=done[each.after] if each.after is not None else None)
        left = [each for each in left if each not in ready]
    return done


def _contradictions(written: Iterable[config.Rule], made: Mapping[str, Rule]) -> Iterator[str]:
    """Yield what is wrong with the rules that come after others."""
    for each in written:
        rule = made.get(each.name)
        if rule is None:
            yield f"rule {each.name!r}: comes after {each.after!r}, which cannot be waited for"
        elif rule.after is not None and _work(rule.after) == _work(rule):
            yield f"rule {each.name!r}: does the very work of {each.after!r}, after which it comes"


def _work(rule: Rule) -> tuple[str, str, str]:
    return rule.plan.name, rule.plan.component_version, rule.plan.parameters


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
    return Rule(rule.name, rule.filetype, plan, rule.priority, rule.where, gather=rule.gather, wait=rule.wait)


def _unknown_facts(rule: config.Rule, facts: frozenset[str]) -> Iterator[str]:
    for fact in sorted({each.fact for each in rule.where} - facts):
        near = difflib.get_close_matches(fact, facts, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(facts))}"
        yield f"rule {rule.name!r}: {rule.filetype} tells no {fact!r}, so where cannot ask for it; {hint}"


def tasks_for(rules: Sequence[Rule], facts: Facts, replay: int | None = None) -> list[NewTask]:
    """Return the tasks that the rules call for on one file version of a data product.

    Rules that gather call for none: theirs are on a source's data products together, see `task_of`.
    """
    return [task_of(each, (facts.input,), replay) for each in rules if each.gather is None and applies(each, facts)]


def applies(rule: Rule, facts: Facts) -> bool:
    """Return whether a rule acts on a data product: its own conditions hold, and those of the rules it comes after."""
    if rule.filetype != facts.filetype or not all(holds(each, facts.values) for each in rule.where):
        return False
    return rule.after is None or applies(rule.after, facts)


def task_of(rule: Rule, given: tuple[Input, ...], replay: int | None = None) -> NewTask:
    """Return a rule's task on these inputs."""
    plan = rule.plan
    return NewTask(
        name=plan.name,
        component_version=plan.component_version,
        parameters=plan.parameters,
        bundle_key=plan.bundle_key,
        inputs=given,
        priority=rule.priority,
        identity=_identity(rule, given),
        rule=rule.name,
        replay=replay,
        after=awaited(rule, given),
    )


def awaited(rule: Rule, given: tuple[Input, ...]) -> str | None:
    """Return the identity of the task that a rule's task on these inputs comes after; None where it does not."""
    return None if rule.after is None else _identity(rule.after, given)


def _identity(rule: Rule, given: tuple[Input, ...]) -> str:
    return identity_of(rule.plan.name, rule.plan.component_version, rule.plan.parameters, given)


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
