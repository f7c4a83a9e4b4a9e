"""Log lines: a verb and its details, as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import shlex
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.config import Log
from daemon.logs import Event, configure, event

log = logging.getLogger("daemon.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("astra", "daemon")}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_text_is_a_verb_then_key_and_value() -> None:
    stream = io.StringIO()
    configure(Log(folder=None), stream)
    event(log, "ingested", path="a/b.fits", data_product=41, source=None, seconds=0.1234567)
    time, level, rest = stream.getvalue().split(maxsplit=2)
    assert time.endswith("Z")
    assert level == "info"
    assert rest == "ingested path=a/b.fits data_product=41 seconds=0.123457\n"


def test_a_value_with_blanks_or_quotes_is_quoted() -> None:
    line = str(Event("quarantined", {"path": "a b.fits", "reason": 'not "FITS"', "empty": ""}))
    assert line == 'quarantined path="a b.fits" reason="not \\"FITS\\"" empty=""'


@given(st.text())
def test_any_value_stays_on_one_line_and_can_be_read_back(value: str) -> None:
    line = str(Event("verb", {"key": value}))
    assert line.isprintable()
    quoted = line.removeprefix("verb key=")
    assert (json.loads(quoted) if quoted.startswith('"') else quoted) == value


def test_json_has_one_object_a_line_and_its_own_keys_are_kept() -> None:
    stream = io.StringIO()
    configure(Log(folder=None, format="json"), stream)
    event(log, "ended", logging.WARNING, bundle=3, level="high")
    log.warning("plain %s", "message")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["bundle"], first["level"], first["level_"]) == ("ended", 3, "warning", "high")
    assert (second["event"], second["message"], second["logger"]) == ("message", "plain message", "daemon.test")


def test_a_traceback_follows_the_line_or_stands_in_the_object() -> None:
    for form in ("text", "json"):
        stream = io.StringIO()
        configure(Log(folder=None, format=form), stream)
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("loop failed")
        assert "ValueError: broken" in stream.getvalue()
        assert len(stream.getvalue().splitlines()) == 1 or form == "text"


def test_the_level_holds_for_our_packages_and_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(Log(folder=None, level="debug"), first)
    configure(Log(folder=None, level="warning"), second)
    event(log, "quiet")
    event(log, "loud", logging.ERROR)
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
    assert shlex.split(second.getvalue())[-1] == "loud"
