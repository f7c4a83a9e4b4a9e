"""What ran: code, packages, machine, process. Looked up once in each process."""

from __future__ import annotations

import ast
import functools
import getpass
import hashlib
import importlib.metadata
import inspect
import json
import linecache
import os
import platform
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astra.database.connection import changed, database, run
from astra.database.fields import canonical_json

GIT_SECONDS = 10.0
_codes: weakref.WeakKeyDictionary[type, Code] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told from every other that ever ran: by its boot, its number and when it started."""

    boot: str
    pid: int
    start: int
    host: str
    user: str

    @property
    def text(self) -> str:
        """All of it, as one column holds it."""
        return json.dumps([self.boot, self.pid, self.start, self.host, self.user])

    @classmethod
    def of_text(cls, text: str) -> Owner:
        """Return the process that a column tells of."""
        return cls(*json.loads(text))


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a component: astra's version, its own, a digest of its source, and its repository's commit."""

    version: str
    component_version: str
    source_sha256: str | None
    git_commit: str | None
    git_dirty: bool | None


@functools.cache
def astra_version() -> str:
    """Return the installed version of astra."""
    try:
        return importlib.metadata.version("sdss-astra")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


def owner(pid: int | None = None) -> Owner:
    """Return the identity of this process, or of the living process `pid`."""
    if pid is None:
        return _this_process(os.getpid())  # by its number: a fork is another process
    return Owner(_boot(), pid, _start(pid) or 0, host(), _user())


@functools.lru_cache(maxsize=1)
def _this_process(pid: int) -> Owner:
    return owner(pid)


@functools.cache
def host() -> str:
    """Return this machine's name, with the start of its machine id where it has one."""
    path = Path("/etc/machine-id")
    identity = path.read_text().strip()[:12] if path.exists() else ""
    return f"{platform.node()}/{identity}" if identity else platform.node()


def is_dead(boot: str, pid: int, start: int, host_name: str) -> bool:
    """Return whether that process is known to be gone; False where only its own machine could tell."""
    if boot != _boot():
        # Another container of this boot can tell nothing of it; of another boot of this machine nobody is left.
        return host_name == host() and boot.partition(" ")[0] != _boot().partition(" ")[0]
    started = _start(pid)
    return not _exists(pid) if started is None else started != start


@functools.cache
def _boot() -> str:
    """Return what tells apart the worlds in which process numbers have a meaning: boot, and PID namespace."""
    path = Path("/proc/sys/kernel/random/boot_id")
    boot = path.read_text().strip() if path.exists() else platform.node()
    try:
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return boot


def _start(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot: -1 for a zombie, None where it cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()  # the name of a program may be cut in the middle of a letter
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()
    return -1 if fields[0] == b"Z" else int(fields[19])


def _exists(pid: int) -> bool:
    """Whether a process is there at all: a hardened service may not see the files of another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@functools.cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def code_of(component: type) -> Code:
    """Return what is known of a component's code. What cannot be found is None, never guessed."""
    if component not in _codes:  # by the class itself: one defined anew in a notebook is another class
        _codes[component] = _look_at(component)
    return _codes[component]


def _look_at(component: type) -> Code:
    try:
        source: str | None = inspect.getsource(component)
        file = inspect.getsourcefile(component)
    except (OSError, TypeError):
        source, file = _cell(component), None
    commit, dirty = _git(str(Path(file).parent)) if file and Path(file).exists() else (None, None)
    digest = hashlib.sha256(source.encode()).hexdigest() if source else None
    return Code(astra_version(), str(getattr(component, "version", "")), digest, commit, dirty)


def _cell(component: type) -> str | None:
    """Return the source of a class that was typed into a notebook: what its methods were compiled from is kept."""
    for each in vars(component).values():
        code = getattr(inspect.unwrap(each), "__code__", None) if callable(each) else None
        lines = linecache.getlines(code.co_filename) if code else []
        try:
            nodes = [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.ClassDef)]
        except SyntaxError:
            continue
        for node in reversed(nodes):  # the innermost first
            if (
                code
                and node.name == component.__name__
                and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0)
            ):
                return "".join(lines[node.lineno - 1 : node.end_lineno])
    return None


@functools.cache
def _git(folder: str) -> tuple[str | None, bool | None]:
    def ask(*words: str) -> str | None:
        command = ["git", "-C", folder, *words]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    changes = ask("status", "--porcelain", "--untracked-files=no") if commit else None
    return commit, None if changes is None else bool(changes)


_recorded: list[Any] = []  # a database, and the key of this environment there


def environment_id() -> int:
    """Return the key of the row that describes this interpreter and its packages; make the row where it is new."""
    if _recorded and _recorded[0] is database.obj:
        return int(_recorded[1])
    python, system, packages, digest = _environment()
    known = run("SELECT id FROM environment WHERE digest = ?", (digest,))
    if not known:
        with database.atomic():
            changed(
                "INSERT INTO environment (digest, python, platform, packages) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO NOTHING",
                (digest, python, system, packages),
            )
        known = run("SELECT id FROM environment WHERE digest = ?", (digest,))
    identity: int = known[0][0]
    if not database.in_transaction():  # what is made in one may yet be undone
        _recorded[:] = database.obj, identity
    return identity


@functools.cache
def _environment() -> tuple[str, str, str, str]:
    names = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    packages = canonical_json({name: version for name, version in names.items() if name})
    python, system = sys.version.replace("\n", " "), platform.platform()
    return python, system, packages, hashlib.sha256("\n".join((python, system, packages)).encode()).hexdigest()
