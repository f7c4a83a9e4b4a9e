"""Which tasks a data product calls for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import config, rules
from astra.base import Parameter, TaskInstance
from astra.components import component_class
from astra.errors import ConfigurationError
from astra.products import product_types
from astra.rules import Facts, compile_rules, holds, tasks_for
from astra.settings_values import Condition
from astra.work import Input, identity_of

FILETYPES = product_types()
GIVEN = Input(41, 7, "dr17/apVisit/{}", "10:20:ab")


class Smooth(TaskInstance):
    """A component with a required parameter."""

    version = "3"
    width = Parameter(type=int)
    model = Parameter("a.model", bundled=True)


NAME = Smooth.component_name()


def written(**changes: Any) -> config.Rule:
    return config.Rule(**{"name": "smooth", "filetype": "apVisit", "task": NAME, "parameters": {"width": 3}, **changes})


def compiled(*each: config.Rule) -> tuple[rules.Rule, ...]:
    return compile_rules(each, component_class, FILETYPES)


def test_a_rule_calls_for_one_task_with_all_parameters() -> None:
    task = tasks_for(compiled(written(priority=7)), Facts("apVisit", {}, GIVEN))[0]
    plan = Smooth(width=3).plan()
    assert (task.name, task.component_version, task.parameters) == (NAME, "3", '{"model":"a.model","width":3}')
    assert (task.bundle_key, task.priority, task.rule, task.inputs) == (plan.bundle_key, 7, "smooth", (GIVEN,))
    assert task.identity == identity_of(NAME, "3", task.parameters, [GIVEN])


def test_a_rule_for_another_product_type_calls_for_nothing() -> None:
    assert tasks_for(compiled(written(filetype="apStar")), Facts("apVisit", {}, GIVEN)) == []


def test_a_replay_is_told_to_its_tasks() -> None:
    assert tasks_for(compiled(written()), Facts("apVisit", {}, GIVEN), replay=5)[0].replay == 5


def test_all_conditions_must_hold() -> None:
    rule = compiled(written(where=(Condition("snr", "ge", 10), Condition("telescope", "eq", "apo25m"))))
    assert tasks_for(rule, Facts("apVisit", {"snr": 10.0, "telescope": "apo25m"}, GIVEN))
    assert not tasks_for(rule, Facts("apVisit", {"snr": 10.0, "telescope": "lco25m"}, GIVEN))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": {}}, "width"),
        ({"parameters": {"width": "wide"}}, "width"),
        ({"parameters": {"width": 3, "colour": "red"}}, "colour"),
        ({"task": "no.such.Component"}, "no.such.Component"),
        ({"filetype": "apVisits"}, "did you mean apVisit"),
        (
            {"where": (Condition("snrr", "ge", 10),)},
            "apVisit tells no 'snrr', so where cannot ask for it; did you mean snr",
        ),
        ({"filetype": "apStar", "where": (Condition("plate", "eq", 1),)}, "apStar tells no 'plate'"),
    ],
)
def test_a_rule_that_cannot_work_stops_the_start_and_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        compiled(written(), written(**{"name": "broken", **changes}))
    assert "rule 'broken'" in str(error.value)
    assert words in str(error.value)
    assert "rule 'smooth'" not in str(error.value)


@pytest.mark.parametrize(
    ("op", "value", "fact", "expected"),
    [
        ("eq", 5, 5.0, True),
        ("eq", 5, "5", True),
        ("eq", "5", 5, True),
        ("eq", "a", 5, False),
        ("eq", True, 1, False),
        ("eq", True, True, True),
        ("ne", "a", "b", True),
        ("ne", "a", "a", False),
        ("ne", "a", 5, False),
        ("lt", 5, 4.9, True),
        ("le", 5, 5, True),
        ("gt", 5, 5, False),
        ("ge", 5, "10", True),
        ("gt", "a", "b", True),
        ("gt", "a", 5, False),
        ("in", ("a", "b"), "b", True),
        ("in", (1, 2), "2", True),
        ("in", ("a",), "c", False),
        ("eq", 27021598755520773, 27021598755520772, False),
    ],
)
def test_a_condition_holds_as_written(op: str, value: Any, fact: Any, expected: bool) -> None:
    assert holds(Condition("fact", op, value), {"fact": fact}) is expected


values = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())


@given(op=st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), value=values)
def test_a_missing_or_null_fact_never_fulfils_a_condition(op: str, value: Any) -> None:
    assert not holds(Condition("fact", op, value), {})
    assert not holds(Condition("fact", op, value), {"fact": None})


@given(value=values, fact=values)
def test_equal_and_unequal_exclude_each_other(value: Any, fact: Any) -> None:
    equal, unequal = (holds(Condition("fact", op, value), {"fact": fact}) for op in ("eq", "ne"))
    assert not (equal and unequal)


def test_a_rule_after_another_acts_where_both_do_and_names_the_task_that_it_comes_after() -> None:
    rules_made = compiled(
        written(name="last", parameters={"width": 5}, after="middle"),
        written(name="middle", parameters={"width": 4}, after="first", where=(Condition("snr", "le", 100),)),
        written(name="first", where=(Condition("snr", "ge", 10),)),
        written(name="all", parameters={"width": 6}, gather="source", wait=5.0),
    )
    assert [each.name for each in rules_made] == ["last", "middle", "first", "all"]
    last, middle, first = tasks_for(rules_made, Facts("apVisit", {"snr": 50.0}, GIVEN))
    assert (last.after, middle.after, first.after) == (middle.identity, first.identity, None)
    assert tasks_for(rules_made[:1], Facts("apVisit", {"snr": 50.0}, GIVEN)) == [last], "whoever else is asked"
    assert tasks_for(rules_made, Facts("apVisit", {"snr": 5.0}, GIVEN)) == []
    assert [each.rule for each in tasks_for(rules_made, Facts("apVisit", {"snr": 200.0}, GIVEN))] == ["first"]


@pytest.mark.parametrize(
    ("after", "words"), [("smooth", "does the very work of 'smooth'"), ("nothing", "which cannot be waited for")]
)
def test_a_rule_that_would_wait_for_itself_or_for_nothing_stops_the_start(after: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        compiled(written(), written(name="again", after=after))
