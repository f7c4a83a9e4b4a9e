"""A real Slurm of the tests' own: controller, nodes, munge, and accounts in a MariaDB, all below one folder.

Nothing of the machine's own Slurm is read or written. All its ports are private, so several may run side by side. Its
nodes are emulated: each is a `slurmd` on this machine, and its jobs run as whoever runs the tests.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.processes import descendants, lives, until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
PROGRAMS_OF_ACCOUNTS = ("slurmdbd", "mariadbd", "mariadb-install-db")
PACKAGES = "slurm-wlm slurmdbd munge mariadb-server-core mariadb-client-core"
BELOW_EPHEMERAL = range(20_000, 32_000)  # ports which no outgoing connection takes meanwhile
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36

# Nodes that die are noticed in seconds, jobs begin at once, memory above what was asked for ends a job without cgroups.
CONTROLLER = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
SlurmdParameters=config_overrides
SlurmdTimeout=4
SlurmctldTimeout=10
MessageTimeout=5
KillWait=2
MinJobAge=3600
MaxArraySize=1001
InactiveLimit=0
{accounts}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port={first}-{last} CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=120 DefMemPerCPU=1000 State=UP
PartitionName=other Nodes=ALL MaxTime=120 DefMemPerCPU=1000 State=UP
"""
NO_ACCOUNTS = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
"""
ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounts}
AccountingStoragePass={folder}/munge.socket
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""
ACCOUNTANT = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={accounts}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounts
LogFile={folder}/log/slurmdbd
PidFile={folder}/slurmdbd.pid
"""


class NoSlurm(Exception):
    """There is no Slurm to be had here; the message says what would help."""


class Job(NamedTuple):
    """One job, or one element of an array, as the controller knows it."""

    id: str
    name: str
    state: str
    reason: str


@dataclass
class PrivateSlurm:
    """A cluster of `nodes` with `cpus` each. A context: leaving it ends every process and removes the folder.

    Without `accounts` it is the barest there is: it forgets its jobs, and does not look at what they hold in memory.
    """

    nodes: int = 2
    cpus: int = 2
    accounts: bool = True

    def __post_init__(self) -> None:
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), SBIN])
        wanted = PROGRAMS + (PROGRAMS_OF_ACCOUNTS if self.accounts else ())
        missing = [program for program in wanted if not shutil.which(program, path=path)]
        if missing:
            raise NoSlurm(f"there is no {', '.join(missing)} here: apt-get install {PACKAGES}")
        # a short path: the name of a Unix socket holds 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._config: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        for name in ("log", "controller", *(f"spool-{node}" for node in self._nodes)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self._configure()
        self._start_munge()
        if self.accounts:
            self._start_database()
            self._start("slurmdbd", "slurmdbd", "-D")
            self._answers("slurmdbd", "sacctmgr", "-n", "list", "cluster")
            self("sacctmgr", "-i", "add", "cluster", "private")
            self("sacctmgr", "-i", "add", "account", "survey")
            self("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=survey")
        self.start_controller()
        for node in self._nodes:
            self.start_node(node)
        until(lambda: self("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * self.nodes, 60)

    def down(self) -> None:
        """End every process, and remove the folder; harmless where nothing is up."""
        for node in self._nodes:
            self.kill_node(node)
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGKILL)  # nobody will miss what they have not saved
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, *command: str, check: bool = True) -> str:
        """Run a command of Slurm's, and return what it printed, without the last newline."""
        done = self._run(*command)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.removesuffix("\n")

    def jobs(self) -> list[Job]:
        """Return all jobs there have been, finished ones too, one for each element of an array."""
        lines = self("squeue", "-h", "-r", "-t", "all", "-o", "%i|%j|%T|%r").splitlines()
        return sorted(Job(*line.split("|", 3)) for line in lines)

    def restore(self) -> None:
        """Start what is not there, end every job and wait for its end: one test's trouble is not the next one's."""
        if "slurmctld" not in self._processes:
            self.start_controller()
        for node in self._nodes:
            if node not in self._processes:
                self.start_node(node)
            self("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self("scancel", "-u", getpass.getuser(), check=False)
        until(lambda: not self("squeue", "-h", "-o", "%i"), 60)

    def start_node(self, node: str) -> None:
        """Start a node's `slurmd`, as when its machine boots."""
        self._start(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill a node and all that runs on it, as a power cut does."""
        process = self._processes.pop(node, None)
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)  # it starts nothing more
        # whatever its jobs leave behind becomes its child: see _start
        while below := [pid for pid in descendants(process.pid) if lives(pid)]:
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()

    def start_controller(self) -> None:
        """Start the controller, and wait until it answers."""
        self._start("slurmctld", "slurmctld", "-D")
        self._answers("slurmctld", "scontrol", "ping")

    def stop_controller(self) -> None:
        """Stop the controller in good order: it saves all that it knows."""
        self._end("slurmctld", signal.SIGTERM)

    def kill_controller(self) -> None:
        """Kill the controller: what it knew of the last seconds is lost."""
        self._end("slurmctld", signal.SIGKILL)

    def pids(self) -> list[int]:
        """Return every process of this cluster: daemons, jobs, and what jobs left running."""
        mark = f"SLURM_CONF={self.folder}/".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in environ.read_bytes():
                    found.append(int(environ.parent.name))
        return found

    def settle(self) -> None:
        """Wait until the controller has written down all that it knows, which it does every few seconds."""
        saved = self.folder / "controller" / "part_state"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        self("scontrol", "update", "partitionname=other", "maxtime=120")  # a change, which is written with all others
        until(lambda: saved.exists() and saved.stat().st_mtime_ns != before)

    def drain(self, node: str, reason: str) -> None:
        """Let nothing more begin on a node, as an operator does before repairs."""
        self("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def resume(self, node: str) -> None:
        """Undo `drain`."""
        self("scontrol", "update", f"nodename={node}", "state=resume")

    def node_is(self, node: str, state: str, timeout: float = 60.0) -> None:
        """Wait until the controller says so of a node."""
        until(lambda: self("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T").rstrip("*") == state, timeout)

    @property
    def _nodes(self) -> Sequence[str]:
        return [f"n{number + 1}" for number in range(self.nodes)]

    def _configure(self) -> None:
        first, controller, accounts, database = free_ports(self.nodes, 1, 1, 1)
        values = {
            "folder": self.folder,
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "nodes": self.nodes,
            "cpus": self.cpus,
            "controller": controller,
            "first": first,
            "last": first + self.nodes - 1,
        }
        self._config = {"accounts": accounts, "database": database, **values}
        chosen = ACCOUNTS.format(**self._config) if self.accounts else NO_ACCOUNTS
        (self.folder / "slurm.conf").write_text(CONTROLLER.format(**values, accounts=chosen))
        if self.accounts:
            (path := self.folder / "slurmdbd.conf").touch(0o600)
            path.write_text(ACCOUNTANT.format(**self._config))

    def _start_munge(self) -> None:
        (key := self.folder / "munge.key").touch(0o600)
        key.write_bytes(os.urandom(128))
        files = [f"--{what}-file={self.folder / f'munge.{what}'}" for what in ("key", "pid", "seed")]
        log, sockets = self.folder / "log" / "munge", self.folder / "munge.socket"
        self._start("munged", "munged", "--foreground", "--force", f"--socket={sockets}", f"--log-file={log}", *files)
        until(sockets.exists)

    def _start_database(self) -> None:
        user, data = getpass.getuser(), self.folder / "database"
        plain = ("--no-defaults", f"--datadir={data}", f"--user={user}")
        self("mariadb-install-db", *plain, "--auth-root-authentication-method=normal", "--skip-test-db")
        small = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M", "--innodb-flush-log-at-trx-commit=0")
        place = ("--bind-address=127.0.0.1", f"--port={self._config['database']}", f"--socket={self.folder}/db.socket")
        self._start("mariadbd", "mariadbd", *plain, *small, *place)
        client = ("mariadb", "--no-defaults", f"--socket={self.folder}/db.socket", "-uroot")
        self._answers("mariadbd", *client, "-e", "select 1")
        grant = "grant all on accounts.* to 'slurm'@'{0}' identified by 'slurm'"
        self(*client, "-e", "; ".join(["create database accounts", *map(grant.format, ("localhost", "127.0.0.1"))]))

    def _answers(self, process: str, *command: str) -> None:
        """Wait until a command succeeds; fail early where the process that it asks has ended."""

        def answered() -> bool:
            if self._processes[process].poll() is not None:
                raise AssertionError(f"{process} has ended:\n{self._said(process)}")
            return self._run(*command).returncode == 0

        try:
            until(answered, 60)
        except AssertionError as error:
            raise AssertionError(f"{process}: {error}\n{self._said(process)}") from None

    def _said(self, process: str) -> str:
        texts = [path.read_text(errors="replace") for path in (self.folder / "log").glob(f"{process}*")]
        return "\n".join(text[-2000:] for text in texts)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # into files: what a command leaves running would hold a pipe open
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            kept: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            status = subprocess.run(command, env=self._environment, **kept, timeout=60, check=False).returncode
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, status, out.read(), err.read())

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "LC_ALL": "C"}

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent_and_adopt,
            )

    def _end(self, name: str, by: signal.Signals) -> None:
        if (process := self._processes.pop(name, None)) is None:
            return
        process.send_signal(by)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(*sizes: int) -> list[int]:
    """Return the first port of so many free ranges of these sizes."""
    taken: set[int] = set()
    found = []
    for size in sizes:
        first = next(port for port in _candidates() if _all_free(wanted := range(port, port + size), taken))
        taken.update(wanted)
        found.append(first)
    return found


def _candidates() -> Sequence[int]:
    return random.SystemRandom().sample(BELOW_EPHEMERAL, 1000)


def _all_free(ports: range, taken: set[int]) -> bool:
    for port in ports:
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                return False
    return taken.isdisjoint(ports)


_LIBC = ctypes.CDLL(None)


def _die_with_parent_and_adopt() -> None:
    """End with the tests, however those end; and become the parent of what loses its own, so that it can be found."""
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
