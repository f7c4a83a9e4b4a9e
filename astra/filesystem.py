"""What kind of file system a path lies on, and whether a file is really gone from it."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Kinds whose changes can come from another host, so that neither file events nor shared-memory locks hold.
NETWORK_KINDS = frozenset({"nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "beegfs"})


def filesystem_kind(path: Path, mounts: str | None = None) -> str:
    """Return the kind of file system that holds `path` (``ext4``, ``nfs4``, ...), or ``unknown``.

    Parameters
    ----------
    path
        A file or folder; its nearest existing parent is looked at.
    mounts
        The text of ``/proc/self/mountinfo``; read from there where it is not given.
    """
    if mounts is None:
        table = Path("/proc/self/mountinfo")
        if not table.exists():
            return "unknown"
        mounts = table.read_text(errors="surrogateescape")
    place = str(path.resolve())
    best, kind = -1, "unknown"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split(" ")[4])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), after.split(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    """Return whether changes on this kind of file system can come from another host."""
    return kind in NETWORK_KINDS or kind.startswith("fuse.")


def is_gone(path: str, root: str | None) -> bool:
    """Return whether a file is really not there any more.

    What the system will not tell is no proof, and neither is a watched folder `root` that is away or empty: that is
    what a file system leaves behind that is not mounted.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return root is None or holds_something(root)
    except OSError:
        return False
    return False


def holds_something(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder can be read and has anything in it."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
