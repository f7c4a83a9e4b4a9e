"""Log lines: one for each change of state, a fixed verb and then what it happened to.

``event(logger, "ingested", path=..., data_product=41)`` is written ``ingested path=... data_product=41`` for people and
as one JSON object for machines.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from astra.config import Log

_PACKAGES = ("astra", "daemon")


class Event:
    """The message of a log line: a verb and its details. Text is made only when the line is written."""

    def __init__(self, verb: str, details: dict[str, Any]) -> None:
        self.verb, self.details = verb, details

    def __str__(self) -> str:
        return " ".join([self.verb, *(f"{key}={_quoted(value)}" for key, value in self.details.items())])


def event(logger: logging.Logger, verb: str, level: int = logging.INFO, /, **details: Any) -> None:
    """Log a change of state; details that are None are left out."""
    if logger.isEnabledFor(level):
        given = {key: value for key, value in details.items() if value is not None}
        logger.log(level, Event(verb, given), stacklevel=2)


def configure(log: Log, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (standard error by default), in place of wherever an earlier call sent it."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Json() if log.format == "json" else _Text())
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, _Json | _Text)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(log.level.upper())


def configure_bundles(level: str) -> None:
    """Send what components log, and the libraries they use, to standard error: to the log of their bundle."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Named())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("peewee").setLevel(logging.INFO)  # or it tells every statement by which astra keeps its records


class _Named(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_when(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = str(record.msg) if isinstance(record.msg, Event) else _one_line(record.getMessage())
        line = f"{_when(record)} {record.levelname.lower():7} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _when(record), "level": record.levelname.lower(), "logger": record.name}
        if isinstance(record.msg, Event):
            # a detail must not replace the line's own keys
            line |= {"event": record.msg.verb}
            line |= {(f"{key}_" if key in line else key): value for key, value in record.msg.details.items()}
        else:
            line |= {"event": "message", "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _when(record: logging.LogRecord) -> str:
    instant = datetime.fromtimestamp(record.created, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _quoted(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = text and text.isprintable() and not any(letter in text for letter in " \"'=\\")
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
