"""Which files do the paths that somebody names mean, and below which watched folder do they lie?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from astra import tree
from astra.errors import UnreadableFile
from astra.products import might_be_product


class Offered(NamedTuple):
    """A file below the watched folder `root`; below none of them, the root is empty and the path absolute.

    Where there is a `problem`, the path could not be looked at.
    """

    root: str
    path: str
    problem: str | None = None


def offer(paths: Iterable[str | os.PathLike[str]], roots: Mapping[str, Path]) -> Iterator[Offered]:
    """Yield the files that `paths` name, and those in the folders that they name; `roots` are the watched folders."""
    for each in paths:
        path = os.path.abspath(os.path.expanduser(os.fspath(each)))
        if os.path.isdir(path):
            yield from _walk(path, roots)
        elif os.path.exists(path):
            yield _file(path, roots)
        else:
            yield _place(path, roots)._replace(problem=f"there is no file {path}")


def _walk(folder: str, roots: Mapping[str, Path]) -> Iterator[Offered]:
    report = tree.WalkReport()
    try:
        for found in tree.walk(Path(folder), might_be_product, report):
            for each in found:
                yield _file(os.path.join(folder, each.path), roots)
    except UnreadableFile as error:
        yield _place(folder, roots)._replace(problem=str(error))
    for problem in report.problems:
        place = os.path.join(folder, problem.path)
        yield _place(place, roots)._replace(problem=f"{place}: {problem.reason}")
    if (more := report.problem_count - len(report.problems)) > 0:
        yield _place(folder, roots)._replace(problem=f"{more} more paths in {folder} could not be looked at")


def _file(path: str, roots: Mapping[str, Path]) -> Offered:
    """Return a file under the path by which the sweep knows it: a link inside a watched folder is its target."""
    if os.path.islink(path):
        target, link = _place(os.path.realpath(path), roots), _place(path, roots)
        if not link.root or target.root == link.root:
            return target
        return link
    return _place(path, roots)


def _place(path: str, roots: Mapping[str, Path]) -> Offered:
    for name, folder in roots.items():
        for own, below in ((path, os.path.abspath(folder)), (os.path.realpath(path), os.path.realpath(folder))):
            if own == below or own.startswith(below.rstrip("/") + "/"):
                return Offered(name, os.path.relpath(own, below))
    return Offered("", path)
