"""Parameters: what may be given, what is kept of it, and what is said of what may not."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.base import DictParameter, Parameter, TaskInstance, TupleParameter
from astra.database.fields import canonical_json
from astra.parameters import by_value, parameters_of, plain


class Colour(str, enum.Enum):  # noqa: UP042 -- what older code still has
    RED = "red"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32(0.5), 0.5), (np.float64(0.1), 0.1), (np.longdouble(2.5), 2.5), (np.int16(7), 7),
        (np.bool_(True), True), (np.str_("a"), "a"), (np.array([1, 2]), [1, 2]), (np.array(3.5), 3.5),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]), ((1, (2, 3)), [1, [2, 3]]), (Path("/a/b"), "/a/b"),
        ({"a": (1, np.int64(2))}, {"a": [1, 2]}), (None, None), (2**80, 2**80), (Colour.RED, "red"),
        (enum.IntEnum("Number", {"TWO": 2})["TWO"], 2),
    ],
)  # fmt: skip
def test_what_json_can_hold_is_kept_as_plain_values(given: Any, kept: Any) -> None:
    found = plain(given, "here")
    assert found == kept
    assert type(found) is type(kept)
    assert json.loads(canonical_json(found)) == kept


@pytest.mark.parametrize("bad", [float("nan"), np.inf, -np.inf, np.float32("nan"), [1.0, float("nan")]])
def test_a_number_that_is_none_is_refused_with_the_parameter_s_name(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"Fit\.teff.* cannot be recorded: give None where there is no value"):
        plain(bad, "Fit.teff")


@pytest.mark.parametrize(
    "bad", [object(), open, b"bytes", 1j, np.complex128(1j), np.clongdouble(1), {1, 2}, [{"a": object()}]]
)
def test_what_json_cannot_hold_is_refused_with_the_parameter_s_name(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"Fit\.model.* cannot be recorded: give a number, text, list or dictionary"):
        plain(bad, "Fit.model")


def test_text_that_databases_cannot_keep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Fit\.name holds a NUL character"):
        plain("a\0b", "Fit.name")
    with pytest.raises(ValueError, match=r"Fit\.name is 'a\\udcff', which holds bytes that are no text"):
        plain("a\udcff", "Fit.name")
    with pytest.raises(ValueError, match=r"Fit\.path is '/a\\udcff'"):
        plain(Path("/a\udcff"), "Fit.path")


def test_the_place_inside_a_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"Fit\.options\['lines'\]\[1\] is nan"):
        plain({"lines": [1.0, float("nan")]}, "Fit.options")
    with pytest.raises(TypeError, match=r"Fit\.options has the key 5: keys of a recorded dictionary are text"):
        plain({5: "a"}, "Fit.options")


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("kl"), inner),
    )
)
def test_plain_values_stay_as_they_are(value: Any) -> None:
    kept = plain(value, "here")
    assert kept == value
    assert plain(kept, "here") == kept
    assert canonical_json(by_value(value)) == canonical_json(by_value(json.loads(canonical_json(value))))


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True), (True, 1, False), (False, 0, False), (0.0, -0.0, True), ("1", 1, False), (None, 0, False),
        ([1, 2.0], [1.0, 2], True), ({"a": 1, "b": 2.0}, {"b": 2, "a": 1.0}, True), ([True], [1], False),
        (2**53 + 1, float(2**53), False), (1e300, int(1e300), True), (0.1, 0.1, True), ([], {}, False),
    ],
)  # fmt: skip
def test_values_are_compared_as_values_and_truth_is_no_number(left: Any, right: Any, equal: bool) -> None:
    assert (canonical_json(by_value(left)) == canonical_json(by_value(right))) is equal


class Typed(TaskInstance):
    number = Parameter(type=float, ge=0, lt=10, default=1)
    whole = Parameter(type=int, default=2)
    name = Parameter(type=str, choices=("a", "b"), default="a")
    flag = Parameter(type=bool, default=False)
    bounded = Parameter(le=5, gt=-5, default=0)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"number": "x"}, TypeError, r"Typed\.number must be float, not str 'x'"),
        ({"number": True}, TypeError, r"Typed\.number must be float, not bool True"),
        ({"number": -1}, ValueError, r"Typed\.number must be at least 0, not -1"),
        ({"number": 10.0}, ValueError, r"Typed\.number must be less than 10, not 10\.0"),
        ({"number": [1, 20]}, ValueError, r"Typed\.number must be less than 10, not 20"),
        ({"whole": 1.0}, TypeError, r"Typed\.whole must be int, not float 1\.0"),
        ({"name": "c"}, ValueError, r"Typed\.name must be one of 'a', 'b', not 'c'"),
        ({"flag": 1}, TypeError, r"Typed\.flag must be bool, not int 1"),
        ({"bounded": 6}, ValueError, r"Typed\.bounded must be at most 5, not 6"),
        ({"bounded": -5}, ValueError, r"Typed\.bounded must be greater than -5, not -5"),
        ({"bounded": "x"}, TypeError, r"Typed\.bounded must be a number .*, not str 'x'"),
        ({"colour": 1}, TypeError, r"Typed has no parameter 'colour': its parameters are number, whole, name, flag"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_refused_with_class_parameter_value_and_what_is_allowed(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Typed(**given)


def test_a_value_that_is_allowed_is_taken_and_none_is_always() -> None:
    assert Typed(number=9.5, whole=np.int64(3), name="b", flag=np.bool_(True), bounded=5).number == 9.5
    assert Typed(number=3).number == 3
    assert Typed(number=None).number is None


def test_a_default_that_is_not_allowed_is_refused_when_the_class_is_made() -> None:
    with pytest.raises((ValueError, RuntimeError)) as caught:

        class Wrong(TaskInstance):
            number = Parameter(default=-1, ge=0)

    assert "must be at least 0" in f"{caught.value} {caught.value.__cause__}"


def test_a_bound_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="takes no minimum: its bounds are ge, gt, le, lt"):
        Parameter(minimum=3)


def test_what_a_missing_parameter_takes_is_told() -> None:
    class Needs(TaskInstance):
        teff = Parameter(type=float, ge=3000)
        model = Parameter(bundled=True)

    words = r"Needs needs teff \(float, at least 3000, required\); model \(any value, required, bundled\)"
    with pytest.raises(TypeError, match=words):
        Needs()


class Kinds(TaskInstance):
    anything = Parameter(default=0)
    shared = Parameter(default=0, bundled=True)
    pair = TupleParameter(default=(1, 2))
    options = DictParameter(default={"a": [1]})


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"anything": [1, 2, 3]}, 3), ({"anything": (1, 2)}, 2), ({"anything": np.arange(4)}, 4),
        ({"anything": np.array(4)}, 1), ({"anything": "text"}, 1), ({"anything": {"a": 1}}, 1),
        ({"anything": [[1, 2], [3]]}, 2), ({"anything": [7]}, 1), ({"shared": [1, 2, 3]}, 1),
        ({"pair": (1, 2, 3)}, 1), ({"pair": [(1, 2), (3, 4)]}, 2), ({"pair": np.array([1, 2])}, 1),
        ({"options": {"b": 1}}, 1), ({"options": [{"b": 1}, {}]}, 2), ({"anything": [1, 2], "pair": [(1,), (2,)]}, 2),
    ],
)  # fmt: skip
def test_a_list_gives_one_value_to_each_task_and_a_single_value_is_for_all(given: dict[str, Any], size: int) -> None:
    assert Kinds(**given).bundle_size == size


def test_lengths_that_do_not_agree_are_told() -> None:
    with pytest.raises(ValueError, match="Kinds: one value per task is needed, but anything has 2, pair has 3"):
        Kinds(anything=[1, 2], pair=[(1,), (2,), (3,)])
    with pytest.raises(ValueError, match="Kinds: an empty list was given, so there is no task to do"):
        Kinds(anything=[])


def test_a_tuple_and_a_dictionary_are_asked_for_by_name() -> None:
    with pytest.raises(TypeError, match=r"Kinds\.pair must be a tuple, not int 1"):
        Kinds(pair=[1, 2])
    with pytest.raises(TypeError, match=r"Kinds\.options must be a dictionary, not str 'a'"):
        Kinds(options="a")


def test_a_component_reads_a_tuple_as_a_tuple_and_its_own_copy_of_what_can_change() -> None:
    kinds = Kinds()
    assert kinds.pair == (1, 2)
    kinds.options["a"].append(2)
    assert kinds.options == {"a": [1]}
    assert Kinds().options == {"a": [1]}, "the default is nobody's to change"
    given = {"a": [5]}
    kinds = Kinds(options=given)
    given["a"].append(6)
    assert kinds.options == {"a": [5]}


def test_a_parameter_cannot_be_changed_after_it_was_given() -> None:
    with pytest.raises(AttributeError, match=r"Kinds\.anything cannot be"):
        Kinds().anything = 5


@pytest.mark.parametrize("name", ["version", "execute", "context", "bundle_size", "done", "parameters", "enqueue"])
def test_a_parameter_may_not_take_a_name_that_a_task_instance_uses(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        type("Taken", (TaskInstance,), {name: Parameter()})


def test_parameters_are_inherited_replaced_and_removed() -> None:
    class Base(TaskInstance):
        a = Parameter(bundled=True)
        b = Parameter(default=1)
        c = Parameter(default=2)

    class Mixin:
        m = Parameter(default=3)

    class Child(Mixin, Base):
        b = Parameter(default=10)
        c = 5  # type: ignore[assignment]
        d = Parameter(default=4)

    assert {name: each.required for name, each in parameters_of(Child).items()} == {
        "a": True, "b": False, "m": False, "d": False,
    }  # fmt: skip
    child = Child(a=1)
    assert (child.a, child.b, child.c, child.m, child.d) == (1, 10, 5, 3, 4)
    assert set(Base.parameters) == {"a", "b", "c"}


def test_the_class_itself_shows_its_parameters() -> None:
    assert Typed.parameters["number"].describe() == "float, at least 0, less than 10, default 1"
    assert Typed.number is Typed.parameters["number"]
