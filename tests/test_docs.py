"""The documentation is true: its examples run, and what it lists is what the code has."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from tests.support.pages import Page, code, rows
from tests.support.processes import CHECKOUT, command, environment
from tests.support.realdata import read_manifest

DOCS = CHECKOUT / "docs"
README = Page(CHECKOUT / "README.md")
PAGES = [README, Page(CHECKOUT / "CHANGELOG.md"), Page(CHECKOUT / "systemd" / "README.md")]
PAGES += [Page(path) for path in sorted(DOCS.glob("*.md"))]


def page(name: str) -> Page:
    return Page(DOCS / f"{name}.md")


def named(pages: list[Page]) -> list[object]:
    return [pytest.param(each, id=str(each.path.relative_to(CHECKOUT))) for each in pages]


# ------------------------------------------------------------------------------------------------------ examples


def run_python(text: str, folder: Path, config: Path | None) -> str:
    script = folder / "example.py"
    script.write_text(text)
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "settings")}
    own |= {"ASTRA_CONFIG": str(config)} if config else {}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder, env=environment(**own), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def give_spectra(folder: Path) -> None:
    """Make the folder of spectra that the guide reads: of real ones where there are any, else as the guide says."""
    if not (real := os.environ.get("ASTRA_REAL_DATA")):
        asked = [*command("astra"), "simulate", "spectra", "--configurations", "1", "--stars", "3"]
        subprocess.run(asked, cwd=folder, env=environment(), check=True, capture_output=True)
        return
    (folder / "spectra").mkdir()
    for each in [each for each in read_manifest(Path(real)) if each.filetype == "apStar" and not each.renamed][:3]:
        shutil.copy(each.path, folder / "spectra")


@pytest.mark.parametrize("each", named([each for each in PAGES if each is not README and each.blocks("python")]))
def test_the_python_examples_of_a_page_run_one_after_another(each: Page, tmp_path: Path) -> None:
    give_spectra(tmp_path)
    run_python("\n".join(each.blocks("python")), tmp_path, None)


class Shown(NamedTuple):
    """A command of the tour, and the lines that the page shows below it."""

    words: str
    lines: list[str]


@dataclass
class Tour:
    """The README's minute, carried out: the folder, and what each command printed."""

    folder: Path
    printed: list[tuple[Shown, str]]


def shown_in_the_tour() -> Iterator[Shown]:
    current: Shown | None = None
    for line in "\n".join(README.blocks("console")).splitlines():
        if line.startswith("$ "):
            if current:
                yield current
            current = Shown(line.removeprefix("$ "), [])
        elif current and line.strip():
            current.lines.append(line)
    if current:
        yield current


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    """Carry out what the README shows, in an empty folder."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / "config.toml").write_text(README.blocks("toml")[0])
    found = Tour(folder, [])
    for shown in shown_in_the_tour():
        program, *arguments = shlex.split(shown.words)
        done = subprocess.run(
            [*command(program), *arguments],
            cwd=folder, env=environment(HOME=str(folder)), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{shown.words}\n{done.stdout}{done.stderr}"
        found.printed.append((shown, done.stdout + done.stderr))
    return found


def masked(line: str) -> str:
    """Return a line without what differs from run to run: paths, numbers, and the width of columns."""
    line = re.sub(r'(?<![\w.])/[^\s"]*', "/", line)
    line = re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "0", line)
    return re.sub(r"\s+", " ", line).strip()


def test_the_tour_of_the_readme_prints_what_it_shows(tour: Tour) -> None:
    assert len(tour.printed) > 5
    for shown, printed in tour.printed:
        lines = {masked(line) for line in printed.splitlines()}
        for line in shown.lines:
            pattern = re.compile(".*".join(re.escape(masked(piece)) for piece in line.split("...")))
            assert any(pattern.search(each) for each in lines), f"{shown.words} does not print {line!r}:\n{printed}"


def test_the_example_of_the_readme_runs_after_its_tour(tour: Tour) -> None:
    assert "completed" in run_python("\n".join(README.blocks("python")), tour.folder, tour.folder / "config.toml")


@pytest.mark.parametrize("each", named([each for each in PAGES if each.blocks("toml")]))
def test_every_settings_example_is_valid(each: Page, tmp_path: Path) -> None:
    from astra import config, products, rules
    from astra.components import component_class

    for text in each.blocks("toml"):
        (tmp_path / "config.toml").write_text(text)
        settings = config.load(tmp_path / "config.toml", {"HOME": str(tmp_path)})
        rules.compile_rules(settings.rules, component_class, products.product_types())


def test_the_sample_of_settings_is_valid(tmp_path: Path) -> None:
    from astra import config

    assert config.load(CHECKOUT / "config.toml", {"HOME": str(tmp_path)}).rules


# ------------------------------------------------------------------------------------------------------ commands


def commands() -> dict[str, click.Command]:
    """Return every command there is by its full name, ``astra init``."""
    from astra.cli import COMMANDS, astra
    from daemon.cli import astrad

    found = {f"astra {name}": astra.get_command(click.Context(astra), name) for name in COMMANDS}
    found |= {f"astrad {name}": each for name, each in astrad.commands.items()}
    assert None not in found.values()
    return {name: each for name, each in found.items() if each is not None}


def options(each: click.Command) -> set[str]:
    """Return the options of a command; of a group such as `astra source`, those of all that is in it."""
    own = {name for option in each.params for name in option.opts if name.startswith("--")}
    return own.union(*map(options, each.commands.values())) if isinstance(each, click.Group) else own


def groups() -> dict[str, set[str]]:
    from astra.cli import astra
    from daemon.cli import astrad

    return {"astra": options(astra), "astrad": options(astrad)}


_MENTION = re.compile(
    r"(?:^|[\s/;])(?P<program>astrad?)(?: --config \S+)? (?P<name>[a-z]+)(?![\w./-])(?P<rest>[^;#\n]*)"
)


def mentions(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _MENTION.finditer(text):
        yield match["program"], match["name"], match["rest"]


def code_of(each: Page) -> Iterator[str]:
    """Yield the commands that a page shows: its inline code, and the lines of its shells."""
    yield from each.spans
    for block in each.blocks("sh"):
        yield from block.splitlines()
    for block in each.blocks("console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith(("$ ", "# ")))


@pytest.mark.parametrize("each", named(PAGES))
def test_every_command_and_option_that_a_page_names_exists(each: Page) -> None:
    known, own = commands(), groups()
    for text in code_of(each):
        for program, name, rest in mentions(text):
            assert f"{program} {name}" in known, f"{each.path.name} names {program} {name}: {text}"
            allowed = options(known[f"{program} {name}"]) | own[program] | {"--help"}
            strange = set(re.findall(r"--[a-z][\w-]*", rest)) - allowed
            assert not strange, f"{each.path.name}: {program} {name} has no {strange}"


def test_every_command_is_documented_with_every_option() -> None:
    documented: dict[str, set[str]] = {}
    for title, text in page("commands").sections():
        program, name = title.strip("`").split()[:2]
        documented[f"{program} {name}"] = {
            option for span in code(text) for option in re.findall(r"(?<!\S)--[a-z][\w-]*", span)
        }
    assert documented == {name: options(each) - {"--help"} for name, each in commands().items()}


def test_the_exit_status_of_bad_settings_is_the_same_everywhere() -> None:
    from daemon.cli import CONFIGURATION_STATUS

    unit = (CHECKOUT / "systemd" / "astrad.service").read_text()
    assert f"RestartPreventExitStatus={CONFIGURATION_STATUS}" in unit
    documented = {row[0] for row in rows(page("playbook").section("Exit statuses of `astrad`"))}
    assert documented == {"0", "1", "2", str(CONFIGURATION_STATUS)}


# ------------------------------------------------------------------------------------------------------ settings


def test_every_setting_is_documented_as_the_code_has_it() -> None:
    from astra.config import SETTINGS

    expected: dict[str, list[list[str]]] = {}
    for each in SETTINGS:
        expected.setdefault(each.section, []).append([f"`{each.name}`", f"`{each.default}`", each.meaning])
    found = {title.strip("`"): rows(text) for title, text in page("settings").sections()}
    assert found == expected


# -------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize(("title", "table"), [("Task", "task"), ("Bundle", "bundle")])
def test_the_charts_of_states_are_those_of_the_queue(title: str, table: str) -> None:
    from astra import queue
    from tests.support.transitions import Change, changes

    drawn = [
        (old, new, by) for old, new, names, _ in rows(page("STATES").section(title)) for by in code(names)
    ]  # fmt: skip
    assert all(callable(getattr(queue, by)) for _, _, by in drawn)
    assert {Change(*each) for each in drawn if each[0] != "new"} == changes(table)
    chart = page("STATES").section(title).split("```")[1]
    for old, new, by in drawn:
        assert {old, new, by} - {"new"} <= set(re.findall(r"\w+", chart)), f"the chart lacks {old} -> {new} by {by}"


def test_every_state_and_outcome_is_documented() -> None:
    from astra.states import STATE_AFTER, BundleState, IngestionOutcome, TaskOutcome, TaskState

    states = page("STATES")
    for title, kind in ("Task", TaskState), ("Bundle", BundleState):
        drawn = {cell for row in rows(states.section(title)) for cell in row[:2]}
        assert drawn == {str(each) for each in kind} | {"new"}
    after = {row[0]: row[1] for row in rows(states.section("How a task left one bundle"))}
    assert set(after) == {str(each) for each in TaskOutcome}
    assert {name: after[name] for name in STATE_AFTER} == {name: str(state) for name, state in STATE_AFTER.items()}
    outcomes = [row[0] for row in rows(states.section("File version"))]
    assert sorted(outcomes) == sorted(IngestionOutcome)


# ------------------------------------------------------------------------------------------------------ the code


def sources() -> list[Path]:
    return [
        path
        for package in ("astra", "daemon")
        for path in sorted((CHECKOUT / package).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def test_what_every_file_does_is_told() -> None:
    told = [cell for row in rows(page("ARCHITECTURE").section("Files")) for cell in code(row[0])]
    assert sorted({name for name in told if told.count(name) > 1}) == []
    assert [name for name in told if not (CHECKOUT / name).exists()] == []
    files = {str(path.relative_to(CHECKOUT)) for path in sources()}
    folders = tuple(name for name in told if name.endswith("/"))
    assert {name for name in files if not name.startswith(folders)} == {name for name in told if name.endswith(".py")}


def verbs() -> set[str]:
    """Return the verbs of all log lines: the text given to `event`, or the outcomes of file versions."""
    found: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "event":
                verb = node.args[1]
                found |= {verb.value} if isinstance(verb, ast.Constant) else {"ingested", "quarantined", "duplicate"}
    return found


def test_every_verb_of_the_log_is_explained() -> None:
    told = [verb for row in rows(page("playbook").section("Reading the log")) for verb in code(row[0])]
    assert sorted(told) == sorted(verbs())


def test_every_fact_that_rules_see_is_listed(tour: Tour) -> None:
    from astra.products import apogee

    listed = {
        name
        for row in rows(page("ARCHITECTURE").section("What a rule's `where` sees"))
        for name in code(row[1])
    }  # fmt: skip
    query = "import json, sqlite3; c = sqlite3.connect('astra.sqlite'); print(json.dumps(c.execute('SELECT kwargs, "
    answer = run_python(query + "metadata FROM data_product').fetchall()))", tour.folder, None)
    seen = {key for row in json.loads(answer) for text in row for key in json.loads(text)}
    read = {name for group in apogee._GROUPS for name in group}
    assert {"plate", "mjd", "fiber", "obj", "snr", "ra"} <= seen
    assert (seen | read) <= listed
    text = "".join(path.read_text() for path in (CHECKOUT / "astra" / "products").glob("ap*.py"))
    assert {name for name in listed - {"release"} if not re.search(rf"\b{name}\b", text)} == set()


# --------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("each", named(PAGES))
def test_no_link_is_dead(each: Page) -> None:
    for link in each.links:
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (each.path.parent / target).resolve() if target else each.path
        home = DOCS if each.path.parent == DOCS else CHECKOUT  # the built pages hold nothing from outside docs/
        assert file.is_relative_to(home), f"{each.path.name} links out of {home.name}: {link}"
        assert file.exists(), f"{each.path.name} links to {link}, which is not there"
        assert not anchor or anchor in Page(file).anchors, f"{each.path.name} links to {link}: no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    reached = {(DOCS / link).resolve() for link in page("index").links}
    assert {path for path in DOCS.glob("*.md") if path.name not in ("index.md", "benchmarks.md")} <= reached
