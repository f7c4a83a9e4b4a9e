"""Disks that are small, fill up, vanish and fail: real mounts and real system calls, never a patched library."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import lacking
from tests.support.processes import until

# what each way to reach a file comes to on the platforms we know; unknown names are left out
OPENING = ("open", "openat")
LOOKING = ("stat", "lstat", "newfstatat", "statx")


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """Mount a disk of its own at `folder`, made where it is missing; where nobody may, that is `lacking`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k,mode=777"]
    done = subprocess.run(["mount", *options, "small", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Take a disk away at once, whoever has files open there; nothing happens where none is mounted."""
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Write until the disk that holds `folder` is full, and return the file to be deleted."""
    path = folder / "filling"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 4096, 1):
            _write_until_full(descriptor, bytes(size))
    finally:
        os.close(descriptor)
    return path


def _write_until_full(descriptor: int, content: bytes) -> None:
    try:
        while True:
            os.write(descriptor, content)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def failing(pid: int, path: Path, calls: tuple[str, ...], number: int) -> Iterator[None]:
    """Have the system answer a running process's `calls` for `path` with an error, as a broken disk or server does.

    The process is traced by strace, which puts the error in the place of the call; when the context ends, it is let go.
    """
    strace = shutil.which("strace")
    if strace is None:
        lacking("strace is not here, which lets real system calls fail: apt-get install strace")
    names = ",".join(f"?{each}" for each in calls)
    rule = ["-e", f"trace={names}", "-e", f"inject={names}:error={errno.errorcode[number]}"]
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(pid), "-P", str(path), "-P", f"{path}/", "-o", os.devnull, *rule],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: tracer.poll() is not None or _is_traced(pid, tracer.pid))
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            lacking(f"no process may be traced here: {tracer.stderr.read().strip()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def _is_traced(pid: int, by: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all(f"TracerPid:\t{by}\n" in (task / "status").read_text() for task in tasks)
