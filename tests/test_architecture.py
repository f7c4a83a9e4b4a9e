"""The shape of the code, checked on its source: layers, sole writers, one clock, one home per dependency.

Each rule is a function from the sources to the sentences that say what breaks it. One test applies every rule to the
real sources, another to a snippet that breaks it on purpose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.sourcecode import (
    Sources,
    aliases,
    at_import,
    called,
    edges,
    full_name,
    handlers,
    imports,
    nodes,
    raises_again,
    sources,
    texts_matching,
    tree,
    under,
    writing_sql,
)

CHECKOUT = Path(__file__).resolve().parents[1]
MAX_LINES = 400

# from the floor up; a module belongs to the longest name that it starts with
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "floor",
        (
            "astra.clock",
            "astra.collector",
            "astra.config",
            "astra.database",
            "astra.errors",
            "astra.filesystem",
            "astra.settings",
            "astra.settings_contradictions",
            "astra.settings_file",
            "astra.settings_values",
            "astra.signature",
            "astra.states",
        ),
    ),
    (
        "nouns",
        (
            "astra.around",
            "astra.cards",
            "astra.headers",
            "astra.healpix",
            "astra.identifiers",
            "astra.inhand",
            "astra.keeping",
            "astra.parameters",
            "astra.positions",
            "astra.products",
            "astra.provenance",
            "astra.sky",
            "astra.sources",
            "astra.interrupts",
            "astra.stopwatch",
        ),
    ),
    (
        "verbs",
        (
            "astra.alike",
            "astra.asking",
            "astra.backlog",
            "astra.base",
            "astra.bundling",
            "astra.catalogue",
            "astra.components",
            "astra.costs",
            "astra.declaring",
            "astra.execution",
            "astra.failures",
            "astra.holds",
            "astra.outbox",
            "astra.running",
            "astra.whole",
            "astra.gathering",
            "astra.given",
            "astra.ingest",
            "astra.inputs",
            "astra.known",
            "astra.ledger",
            "astra.noting",
            "astra.offering",
            "astra.outputs",
            "astra.patience",
            "astra.members",
            "astra.queue",
            "astra.progress",
            "astra.recording",
            "astra.rehearsal",
            "astra.relinking",
            "astra.repeating",
            "astra.replay",
            "astra.replay_plan",
            "astra.replay_request",
            "astra.results",
            "astra.rules",
            "astra.selection",
            "astra.session",
            "astra.standing",
            "astra.steering",
            "astra.taking_in",
            "astra.targets",
            "astra.roots",
            "astra.tree",
            "astra.turns",
            "astra.verifying",
            "astra.work",
        ),
    ),
    ("components", ("astra.contrib", "astra.simulate")),
    ("pure", ("daemon.settler",)),
    ("loops", ("daemon",)),
    ("doors", ("astra.cli", "daemon.cli", "daemon.service", "daemon.web", "daemon.__main__")),
)

# who may import what; a name stands for itself and all below it
HOMES: Mapping[str, tuple[str, ...]] = {
    "watchdog": ("daemon.watcher",),
    "apscheduler": ("daemon.calendar",),
    "signal": ("daemon.service", "daemon.executors", "astra.interrupts"),
    "multiprocessing": ("daemon.executors",),
    "subprocess": ("daemon.executors", "astra.failures", "astra.provenance", "astra.cli.demo.service"),
    "astropy.io": ("astra.catalogue", "astra.headers", "astra.simulate", "astra.contrib"),
    "psycopg2": ("astra.database",),
    "sqlite3": ("astra.database",),
    "playhouse": ("astra.database",),
    "sdssdb": (),  # connects to what a profile in the home folder names, when it is imported
    "http.server": ("daemon.web",),
    "waitress": ("daemon.web",),
    "prometheus_client": ("daemon.web", "daemon.metrics"),
    "click": ("astra.cli", "daemon.cli"),
    "rich": ("astra.cli", "daemon.cli", "astra.progress"),
}

# modules that turn what they are given into an answer, and the names they must not import
DATABASE = ("astra.database", "peewee", "playhouse", "sqlite3", "psycopg2")
PURE: Mapping[str, tuple[str, ...]] = {
    "astra.products": (*DATABASE, "astra.clock", "time"),
    "astra.headers": (*DATABASE, "astra.clock", "time"),
    "astra.cards": (*DATABASE, "astra.clock", "time", "os"),
    "astra.positions": (*DATABASE, "astra.clock", "time"),
    # the values of `queue` are what rules hand out; its doings are not theirs
    "astra.rules": (
        *DATABASE,
        "astra.clock",
        "time",
        "watchdog",
        "astra.queue.enqueue",
        "astra.queue.claim",
        "astra.ledger",
    ),
    "daemon.settler": (*DATABASE, "astra.clock", "time", "watchdog", "astra.queue", "astra.ledger"),
}

# the tables that one file alone may write: models and their tables
SOLE_WRITERS: Mapping[str, Mapping[str, str]] = {
    "astra.queue": {
        "Task": "task",
        "Bundle": "bundle",
        "TaskBundle": "task_bundle",
        "TaskInputDataProduct": "task_input_data_product",
        "TaskOutputDataProduct": "task_output_data_product",
        "Hold": "hold",
    },
    "astra.ledger": {"Ingestion": "ingestion"},
    "astra.gathering": {"Gathering": "gathering", "GatherPosition": "gather_position"},
}
WRITES = re.compile(r"(create|insert|update|delete|replace|bulk_create|bulk_update|get_or_create|set_by_id)(_|$)")

CLOCK = re.compile(
    r"time\.(sleep|time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns)"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)"
)

# what reads or writes something outside the process: functions by their full name, methods by their own
INPUT_OUTPUT = re.compile(
    r"(open|input|os\.(getenv|getcwd|listdir|scandir|stat|makedirs|mkdir|uname|getlogin)|socket\.\w+|platform\.\w+"
    r"|pathlib\.Path\.(home|cwd)|importlib\.metadata\.\w+|importlib\.import_module|subprocess\.\w+"
    r"|.*\.(read_text|read_bytes|write_text|write_bytes|connect|execute_sql|exists|is_file|is_dir|iterdir|glob|rglob"
    r"|mkdir|create_tables))"
)

# imports inside a function that go against the grain, each for a reason
WAIVED: Mapping[tuple[str, str], str] = {
    ("astra.database.connection", "astra.database.migrate"): "first use without any settings makes the tables",
    ("astra.database.astradb", "astra.base"): "a Task's or Bundle's instance() is asked of the row",
    ("astra.database.astradb", "astra.repeating"): "a Task is asked to be repeated",
    ("astra.database.astradb", "astra.results"): "and so are results, and where they come from",
    ("astra.database.astradb", "astra.asking"): "and the versions of a data product",
    ("astra.database.source_tables", "astra.asking"): "a source is asked for by name and place, and for its spectra",
    ("astra.database.source_tables", "astra.results"): "and for its results",
}

# `except Exception`: the one boundary of each loop, and the one around a component's own code
BOUNDARIES = frozenset(
    {
        ("astra.components", "component_class"),  # importing an author's module
        ("astra.execution", "_run_stages"),
        ("astra.session", "words"),
        ("astra.cli.execute", "_run"),  # the component's own, recorded before it comes here
        ("astra.cli.execute", "_debug"),  # a person wants to look at whatever it is
        ("astra.running", "_execute"),  # what the component raised, recorded before it comes this far
        ("daemon.executors.guard", "_carefully"),
        ("daemon.executors.slurm_client", "_answer"),
        ("daemon.executors.surroundings", "_try"),
        ("daemon.listener", "_run"),
        ("daemon.service", "_bring"),  # in the same loop as `_turn`, which renews leases
        ("daemon.service", "_front_loop"),
        ("daemon.service", "_turn"),
    }
)

Rule = Callable[[Sources], list[str]]


def layer(name: str) -> int | None:
    """Return the height of a module, or None where nobody gave it a place."""
    places = [
        (len(prefix), height)
        for height, (_, prefixes) in enumerate(LAYERS)
        for prefix in prefixes
        if under(name, prefix)
    ]
    return max(places)[1] if places else None


def imports_point_down(known: Sources) -> list[str]:
    broken = [
        f"{name} has no layer: give it one in LAYERS"
        for name in known
        if layer(name) is None and name not in ("astra",)
    ]
    for name, target, line in edges(known, typing_too=True):
        here, there = layer(name), layer(target)
        if here is not None and there is not None and there > here and (name, target) not in WAIVED:
            broken.append(f"{name}:{line} ({LAYERS[here][0]}) imports {target} ({LAYERS[there][0]}), which is above it")
    return broken


def astra_never_imports_daemon(known: Sources) -> list[str]:
    return [
        f"{name}:{imported.line} imports {imported.module}"
        for name, text in known.items()
        if under(name, "astra")
        for imported in imports(text)
        if under(imported.module, "daemon")
    ]


def no_import_cycles(known: Sources) -> list[str]:
    below: dict[str, set[str]] = {name: set() for name in known}
    for name, target, _ in edges(known, typing_too=False):
        if (name, target) not in WAIVED:
            below[name].add(target)
    broken, settled = [], set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            broken.append(" -> ".join((*path[path.index(name) :], name)))
        elif name not in settled:
            for target in sorted(below[name]):
                visit(target, (*path, name))
            settled.add(name)

    for name in sorted(known):
        visit(name, ())
    return broken


def execution_never_imports_base(known: Sources) -> list[str]:
    """`base` -> `execution` -> `queue`, and `ingest` -> `ledger`: never the other way."""
    order = {
        "astra.execution": ("astra.base",),
        "astra.queue": ("astra.base", "astra.execution"),
        "astra.queue.opening": ("astra.base", "astra.execution"),
        "astra.queue.ending": ("astra.base", "astra.execution"),
        "astra.ledger": ("astra.ingest",),
    }
    return [
        f"{name}:{line} imports {target}"
        for name, target, line in edges(known, typing_too=True)
        if target in order.get(name, ())
    ]


def pure_modules_stay_pure(known: Sources) -> list[str]:
    return [
        f"{name}:{imported.line} imports {imported.module}"
        for name, text in known.items()
        for pure, forbidden in PURE.items()
        if under(name, pure)
        for imported in imports(text)
        if under(imported.module, *forbidden)
    ]


def every_dependency_has_one_home(known: Sources) -> list[str]:
    return [
        f"{name}:{imported.line} imports {imported.module}, whose home is {', '.join(homes) or 'elsewhere'}"
        for name, text in known.items()
        for imported in imports(text)
        for dependency, homes in HOMES.items()
        if under(imported.module, dependency) and not under(name, *homes)
    ]


def one_clock(known: Sources) -> list[str]:
    broken = []
    for name, text in known.items():
        if name == "astra.clock":
            continue
        names = aliases(text)
        broken += [
            f"{name}:{node.lineno} uses {full_name(node, names)}: take a Clock"
            for node in nodes(text)
            if isinstance(node, ast.Attribute | ast.Name) and CLOCK.fullmatch(full_name(node, names))
        ]
    return broken


def sole_writers(known: Sources) -> list[str]:
    broken = []
    for name, text in known.items():
        if under(name, "astra.database.migrations"):
            continue
        names = aliases(text)
        for owner, models in SOLE_WRITERS.items():
            if under(name, owner):
                continue
            pattern = writing_sql(tuple(models.values()))
            broken += [
                f"{name}:{line} writes {table} in SQL: only {owner} does"
                for line, table in texts_matching(text, pattern)
            ]
            for node in nodes(text):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and WRITES.match(node.func.attr):
                    model = full_name(node.func.value, names).rpartition(".")[2]
                    if model in models:
                        broken.append(f"{name}:{node.lineno} calls {model}.{node.func.attr}: only {owner} does")
    return broken


def nothing_is_saved_whole(known: Sources) -> list[str]:
    """Load, edit, `save()` overwrites what another process wrote in between."""
    return [
        f"{name}:{node.lineno} calls {ast.unparse(node.func)}: update with a condition, and read the row count"
        for name, text in known.items()
        if not under(name, "astra.contrib")
        for node in nodes(text)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("save", "delete_instance")
        and full_name(node.func.value, aliases(text)) != "numpy"
    ]


def exceptions_are_named(known: Sources) -> list[str]:
    broken = []
    for name, text in known.items():
        for function, handler in handlers(tree(text), ""):
            caught = (
                {part.id for part in ast.walk(handler.type) if isinstance(part, ast.Name)} if handler.type else set()
            )
            if handler.type is None:
                broken.append(f"{name}:{handler.lineno} has a bare except")
            elif (
                caught & {"Exception", "BaseException"}
                and not raises_again(handler)
                and (name, function) not in BOUNDARIES
            ):
                broken.append(f"{name}:{handler.lineno} catches everything in {function or 'the module'}")
        broken += [
            f"{name}:{node.lineno} suppresses everything"
            for node in nodes(text)
            if isinstance(node, ast.Call)
            and full_name(node.func, aliases(text)) == "contextlib.suppress"
            and {ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"}
        ]
    return broken


def nothing_is_read_at_import(known: Sources) -> list[str]:
    broken = []
    for name, text in known.items():
        names = aliases(text)
        for node in at_import(tree(text)):
            name_called = called(node.func, names) if isinstance(node, ast.Call) else ""
            environment = isinstance(node, ast.Attribute | ast.Name) and full_name(node, names) == "os.environ"
            if environment or INPUT_OUTPUT.fullmatch(name_called):
                broken.append(f"{name}:{getattr(node, 'lineno', 0)} does {ast.unparse(node)} at import")
    return broken


def files_are_short(known: Sources) -> list[str]:
    lengths = {name: text.count("\n") + 1 for name, text in known.items()}
    return [
        f"{name} has {lines} lines, at most {MAX_LINES}" for name, lines in lengths.items() if lines > MAX_LINES + 1
    ]


RULES: tuple[Rule, ...] = (
    imports_point_down,
    astra_never_imports_daemon,
    no_import_cycles,
    execution_never_imports_base,
    pure_modules_stay_pure,
    every_dependency_has_one_home,
    one_clock,
    sole_writers,
    nothing_is_saved_whole,
    exceptions_are_named,
    nothing_is_read_at_import,
    files_are_short,
)

# (rule, module, a source that breaks it there)
BROKEN: tuple[tuple[Rule, str, str], ...] = (
    (imports_point_down, "astra.errors", "from astra.queue import claim"),
    (imports_point_down, "astra.headers", "def f():\n    import astra.ledger"),
    (
        imports_point_down,
        "astra.sources",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from astra import base",
    ),
    (imports_point_down, "daemon.settler", "from daemon import watcher"),
    (imports_point_down, "astra.brand_new", ""),
    (astra_never_imports_daemon, "astra.cli.run", "def f():\n    from daemon.service import Service"),
    (no_import_cycles, "astra.errors", "from astra import clock"),
    (execution_never_imports_base, "astra.execution", "from astra.base import TaskInstance"),
    (execution_never_imports_base, "astra.ledger", "import astra.ingest"),
    (pure_modules_stay_pure, "astra.products.apstar", "import peewee"),
    (pure_modules_stay_pure, "astra.headers", "from astra.clock import SYSTEM"),
    (pure_modules_stay_pure, "astra.rules", "from astra.database.astradb import Task"),
    (pure_modules_stay_pure, "astra.rules", "from astra.queue import enqueue"),
    (pure_modules_stay_pure, "daemon.settler", "from watchdog.events import FileSystemEvent"),
    (every_dependency_has_one_home, "daemon.sweeper", "import watchdog.observers"),
    (every_dependency_has_one_home, "daemon.scheduler", "from apscheduler.triggers.cron import CronTrigger"),
    (every_dependency_has_one_home, "daemon.scheduler", "import signal"),
    (every_dependency_has_one_home, "astra.ingest", "from astropy.io import fits"),
    (every_dependency_has_one_home, "astra.ingest", "def f():\n    import astropy.io.fits as fits"),
    (every_dependency_has_one_home, "astra.queue", "from subprocess import run"),
    (every_dependency_has_one_home, "astra.queue", "from psycopg2.extras import execute_values"),
    (every_dependency_has_one_home, "astra.catalogue.survey", "from sdssdb.peewee.sdss5db import catalogdb"),
    (one_clock, "astra.queue", "import time\ntime.sleep(1)"),
    (one_clock, "astra.queue", "import time as t\ncounter = t.perf_counter"),
    (one_clock, "astra.queue", "from time import monotonic as tick\ntick()"),
    (one_clock, "astra.queue", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
    (one_clock, "astra.queue", "import datetime as dt\ndt.datetime.utcnow()"),
    (one_clock, "astra.contrib.x.base", "from datetime import date\ndate.today()"),
    (sole_writers, "astra.ingest", "from astra.database.astradb import Task\nTask.create(name='x')"),
    (sole_writers, "astra.ingest", "from astra.database.astradb import Task as T\nT.update(state='x').execute()"),
    (sole_writers, "daemon.scheduler", "from astra.database import astradb\nastradb.Bundle.insert_many([])"),
    (
        sole_writers,
        "astra.execution",
        "from astra.database.connection import changed\nchanged('UPDATE task SET state = 1')",
    ),
    (
        sole_writers,
        "astra.execution",
        "f = f\"insert or ignore into {''}task_bundle (a) values (1)\".upper()".replace("{''}", ""),
    ),
    (sole_writers, "astra.execution", "sql = 'WITH x AS (SELECT 1) DELETE FROM \"bundle\" WHERE id = ?'"),
    (sole_writers, "astra.execution", "sql = f'UPDATE task AS t SET state = {1}'"),
    (
        sole_writers,
        "astra.ingest",
        "from astra.database.astradb import Ingestion\nIngestion.insert(path='x').execute()",
    ),
    (sole_writers, "astra.queue", "sql = 'INSERT INTO ingestion (path) VALUES (?)'"),
    (nothing_is_saved_whole, "astra.queue", "def f(task):\n    task.state = 'x'\n    task.save()"),
    (nothing_is_saved_whole, "astra.queue", "def f(task):\n    task.delete_instance()"),
    (exceptions_are_named, "daemon.intake", "try:\n    pass\nexcept:\n    pass"),
    (
        exceptions_are_named,
        "daemon.intake",
        "def turn():\n    try:\n        pass\n    except Exception as error:\n        print(error)",
    ),
    (exceptions_are_named, "daemon.intake", "try:\n    pass\nexcept (ValueError, BaseException):\n    pass"),
    (exceptions_are_named, "daemon.intake", "from contextlib import suppress\nwith suppress(Exception):\n    pass"),
    (nothing_is_read_at_import, "astra.config", "import os\nHOME = os.environ['HOME']"),
    (nothing_is_read_at_import, "astra.config", "from os import environ\nHOME = environ.get('HOME')"),
    (nothing_is_read_at_import, "astra.config", "with open('/etc/hosts') as file:\n    TEXT = file.read()"),
    (nothing_is_read_at_import, "astra.config", "from pathlib import Path\nclass A:\n    text = Path('x').read_text()"),
    (nothing_is_read_at_import, "astra.config", "import os\ndef f(home=os.getenv('HOME')):\n    pass"),
    (files_are_short, "astra.queue", "x = 1\n" * (MAX_LINES + 1)),
)

# what the rules must let pass
SOUND: tuple[tuple[Rule, str, str], ...] = (
    (imports_point_down, "astra.ingest", "from astra.ledger import record\nfrom astra import errors"),
    (imports_point_down, "daemon.service", "from daemon import watcher\nfrom astra.queue import claim"),
    (
        no_import_cycles,
        "astra.errors",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from astra import clock",
    ),
    (pure_modules_stay_pure, "astra.rules", "from astra.queue import NewTask"),
    (one_clock, "astra.queue", "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)"),
    (sole_writers, "astra.queue", "sql = 'UPDATE task SET state = ?'"),
    (sole_writers, "astra.cli.tasks", "message = 'to update task 3, set its state'"),
    (sole_writers, "astra.cli.tasks", '"""INSERT INTO task is for astra.queue."""'),
    (sole_writers, "astra.sources", "d = {}\nd.update(a=1)\nsql = 'INSERT INTO source (id) VALUES (1)'"),
    (nothing_is_saved_whole, "astra.simulate.night", "import numpy as np\nnp.save('x', [])"),
    (
        exceptions_are_named,
        "astra.queue",
        "def f():\n    try:\n        g()\n    except BaseException:\n        h()\n        raise",
    ),
    (nothing_is_read_at_import, "astra.config", "import os\ndef f():\n    return os.environ['HOME']"),
    (files_are_short, "astra.queue", "x = 1\n" * MAX_LINES),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    assert not (broken := rule(sources(CHECKOUT))), "\n".join(broken)


def _with(module: str, text: str) -> dict[str, str]:
    """Return sources small enough to see through: the names that snippets import, and the snippet itself."""
    empty = "astra astra.base astra.queue astra.ledger astra.ingest astra.database.astradb astra.headers astra.errors"
    known = dict.fromkeys([*empty.split(), "daemon.watcher", "daemon.service"], "")
    return {**known, "astra.clock": "from astra import errors", module: text}


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_sees_what_breaks_it(rule: Rule, module: str, text: str) -> None:
    assert rule(_with(module, "")) == [] or module == "astra.brand_new"
    broken = rule(_with(module, text))
    assert broken
    assert module in broken[0]


@pytest.mark.parametrize(("rule", "module", "text"), SOUND, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_lets_sound_code_pass(rule: Rule, module: str, text: str) -> None:
    assert rule(_with(module, text)) == []


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)
