"""What makes two tasks the same work."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from astra.work import Input, NewTask, identity_of, with_identity

texts = st.text().filter(lambda text: "\\ud" not in ascii(text))  # half of a character is no text
inputs = st.lists(st.builds(Input, st.just(1), st.none(), texts, texts), max_size=3)


@given(texts, texts, texts, inputs)
def test_an_identity_is_the_digest_of_one_text(name: str, version: str, parameters: str, given: list[Input]) -> None:
    whole = [name, version, parameters, [[each.identity, each.signature] for each in given]]
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
    assert identity_of(name, version, parameters, given) == hashlib.sha256(text.encode()).hexdigest()


def test_an_identity_leaves_the_rest_of_a_task_as_it_is() -> None:
    task = NewTask("a.B", "1", "{}", "a.B {}", (Input(1, 2, "product", "signature"),), rule="a rule", replay=3)
    found = with_identity(task, 7)
    assert found.identity == identity_of("a.B", "1", "{}", task.inputs)
    assert found == task._replace(priority=7, identity=found.identity)
