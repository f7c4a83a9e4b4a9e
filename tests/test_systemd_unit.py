"""The unit file by itself: systemd understands it, it is hardened, and it starts this checkout as its own user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.missing import lacking
from tests.support.systemd import PYTHON_INSIDE, UNIT, Guest, drop_in

pytestmark = pytest.mark.system

# says that it is ready as the service does, and does nothing else
READY = """\
import os, signal, socket
import astra.errors, daemon, peewee
signal.signal(signal.SIGTERM, lambda *_: exit(0))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1\\nSTATUS=astra from " + os.path.dirname(astra.errors.__file__).encode())
try:
    open("/usr/written", "w")
except OSError as error:
    print("outside:", error.strerror, flush=True)
open(os.environ["STATE_DIRECTORY"] + "/written", "w").close()
signal.pause()
"""


@pytest.fixture
def analyze() -> str:
    path = shutil.which("systemd-analyze")
    return path or lacking("systemd-analyze is not installed: apt-get install systemd")


def test_systemd_finds_no_fault_in_the_unit(analyze: str, tmp_path: Path) -> None:
    text = UNIT.read_text()
    unit = tmp_path / UNIT.name
    # it also looks whether the program is there, which it is only where astra is installed
    unit.write_text(text.replace("/opt/astra/bin/astrad run", "/bin/true"))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert "/opt/astra/bin/astrad run --config /etc/astra/config.toml" in text
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened(analyze: str) -> None:
    command = [analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_unit_runs_this_checkout_as_its_own_user_and_keeps_it_in_its_place(tmp_path: Path) -> None:
    state = tmp_path / "guest"
    units = [UNIT, drop_in(tmp_path, arguments=f"{PYTHON_INSIDE} -P /etc/astra/ready.py")]
    with Guest(state, units) as guest:
        guest.write("/etc/astra/ready.py", READY)
        guest.run("systemctl", "start", UNIT.name)
        assert guest.show(UNIT.name, "StatusText") == "astra from /srv/astra/checkout/astra"
        assert guest.run("ps", "-o", "user=", "-p", guest.show(UNIT.name, "MainPID")) == "astra"
        assert "outside: Read-only file system" in guest.journal(UNIT.name)
        assert guest.run("stat", "-c", "%U", "/var/lib/astra/written") == "astra"
        guest.run("systemctl", "stop", UNIT.name)
        assert guest.show(UNIT.name, "Result") == "success"
    assert not (state / "root").exists()
