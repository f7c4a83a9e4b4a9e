"""Which kind of file system holds a path, told from the table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from astra.filesystem import filesystem_kind, is_gone, is_network

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /data rw - nfs4 server:/data rw,vers=4.2
31 30 0:41 / /data/scratch rw - xfs /dev/sdb rw
32 22 0:42 / /with\\040blank\\011and\\134slash rw master:5 propagate_from:2 - lustre mgs:/fs rw
33 22 0:43 / /over rw - tmpfs tmpfs rw
34 22 0:44 / /over rw - fuse.sshfs host:/ rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"), ("/data", "nfs4"), ("/data/night/file.fits", "nfs4"), ("/data/scratch/x", "xfs"),
        ("/database", "ext4"), ("/with blank\tand\\slash/x", "lustre"), ("/over/x", "fuse.sshfs"),
    ],
)  # fmt: skip
def test_the_innermost_and_latest_mount_decides(path: str, kind: str) -> None:
    assert filesystem_kind(Path(path), MOUNTS) == kind


def test_this_machine_s_own_table_is_read() -> None:
    assert filesystem_kind(Path("/proc/self")) == "proc"
    assert filesystem_kind(Path("/nowhere"), "") == "unknown"


def test_kinds_that_other_hosts_change_are_network_kinds() -> None:
    assert [is_network(kind) for kind in ("nfs4", "lustre", "fuse.sshfs", "ext4", "tmpfs", "unknown")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_file_is_gone_only_where_its_root_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "root" / "a.fits")
    assert is_gone(path, None)
    assert not is_gone(path, str(tmp_path / "root")), "the root is away"
    (tmp_path / "root").mkdir()
    assert not is_gone(path, str(tmp_path / "root")), (
        "the root is empty, as a file system that is not mounted leaves it"
    )
    (tmp_path / "root" / "other").touch()
    assert is_gone(path, str(tmp_path / "root"))
    assert is_gone(f"{tmp_path}/root/other/a.fits", str(tmp_path / "root")), "a file stands where its folder was"
    Path(path).touch()
    assert not is_gone(path, None)
    loop = tmp_path / "root" / "loop"
    loop.symlink_to(loop)
    assert not is_gone(str(loop), None), "what cannot be told is no proof"
