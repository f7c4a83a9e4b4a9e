"""What the documentation holds: its blocks, code spans, tables, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the documentation."""

    path: Path

    @property
    def text(self) -> str:
        """The page as it is written."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, *languages: str) -> list[str]:
        """Return the fenced blocks of these languages, in order."""
        return [match["text"] for match in _FENCE.finditer(self.text) if match["language"] in languages]

    @property
    def spans(self) -> list[str]:
        """The inline code of the prose."""
        return _SPAN.findall(self.prose)

    @property
    def links(self) -> list[str]:
        """The targets of the links in the prose."""
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """The anchors that the headings give, as GitHub and Sphinx make them."""
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in _HEADING.findall(self.prose)}

    def section(self, title: str) -> str:
        """Return what stands below the heading `title`, up to the next heading of its rank or a higher one."""
        for match in _HEADING.finditer(self.text):
            if match[2] == title:
                rest = self.text[match.end() :]
                end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
                return rest[: end.start()] if end else rest
        raise AssertionError(f"{self.path.name} has no section {title!r}")

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield every heading of the second rank with what stands below it."""
        for marks, title in _HEADING.findall(self.prose):
            if marks == "##":
                yield title, self.section(title)


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in `text`, headers and rules left out."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        ruled = re.fullmatch(r"[|\-]+", line) or re.fullmatch(r"\|[|\-]+\|", following)
        if line.startswith("|") and not ruled:
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code(text: str) -> list[str]:
    """Return the inline code of `text`."""
    return _SPAN.findall(text)
