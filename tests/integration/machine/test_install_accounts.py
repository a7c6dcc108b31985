"""Installing for real: accounts, groups and owners of folders, on a machine of the test's own.

The machine is a mount namespace with an /etc, /opt, /var/lib and /usr/local/bin of its own. Only `systemctl`
is replaced: it notes how it was called.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes accounts"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("unshare", "useradd", "groupadd"))), reason="this machine lacks a program"
    ),
]
TIMEOUT_S = 120
QUAKEGRID = "/opt/quakegrid/venv/bin/python -m quakegrid.cli"
CONFIG = "/opt/quakegrid/venv/openquake.cfg"
AS = "setpriv --reuid"
INSTALL = f"{QUAKEGRID} install --role master --master 10.0.0.1"
# The folders that an installation changes become copies, or empty ones.
MACHINE = """\
set -eu
exec 2>&1
mount --bind {own}/etc /etc
mount --bind {own}/opt /opt
mount -t tmpfs none /var/lib
mount -t tmpfs none /usr/local/bin
cp {own}/systemctl /usr/local/bin/systemctl
export PATH=/usr/local/bin:$PATH
cd /
"""


class OwnMachine:
    """A machine on which scripts run as root, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "opt").mkdir()
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        systemctl = folder / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >> {folder}/systemctl.calls\n', encoding="utf-8")
        systemctl.chmod(0o755)
        venv = folder / "opt/quakegrid/venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        packages = next(venv.glob("lib/python*/site-packages"))
        paths = [str(REPOSITORY), *site.getsitepackages()]
        (packages / "test.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")

    def run(self, *lines: str) -> str:
        """Run shell commands; returns what they said."""
        script = MACHINE.format(own=self._folder) + "\n".join(lines)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        environ = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environ, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def systemctl_calls(self) -> list[str]:
        """How systemctl was called."""
        return (self._folder / "systemctl.calls").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> OwnMachine:
    """A machine without QuakeGrid."""
    for folder in (tmp_path, *tmp_path.parents):  # everybody must be able to enter an environment
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o111)
    return OwnMachine(tmp_path)


def test_accounts_are_made_and_removed(machine: OwnMachine) -> None:
    """The services' user reads the key, the others do not; people reach the socket's folder and their own."""
    said = machine.run(
        "useradd anna",
        f"SUDO_USER=anna {INSTALL} --yes",
        "echo ---",
        "stat -c '%n %U:%G %a' /var/lib/quakegrid /var/lib/quakegrid-worker /opt/quakegrid/shared",
        "stat -c '%n %U:%G %a' /opt/quakegrid/venv/openquake.cfg",
        "getent passwd quakegrid quakegrid-worker; getent group quakegrid-users",
        "setpriv --reuid anna --regid anna --init-groups mkdir /opt/quakegrid/shared/anna",
        "stat -c '%n %U:%G %a' /opt/quakegrid/shared/anna",
        "for user in anna quakegrid-worker; do",
        f"{AS} $user --regid $user --init-groups cat {CONFIG} && exit 1",
        "setpriv --reuid $user --regid $user --init-groups ls /var/lib/quakegrid && exit 1",
        "done",
        f"{AS} quakegrid --regid quakegrid --init-groups grep -c authkey {CONFIG}",
        "echo ---",
        f"SUDO_USER=anna {INSTALL}",
        "rmdir /opt/quakegrid/shared/anna",
        f"{QUAKEGRID} uninstall --yes",
        "getent passwd quakegrid quakegrid-worker || getent group quakegrid-users || echo all gone",
    )

    made, found, after = said.split("---\n")
    for words in (
        "make the system user and group quakegrid ",
        "quakegrid-worker (home",
        "make the group quakegrid-users",
    ):
        assert words in made
    assert "put anna into the group quakegrid-users" in made
    assert made.count("warning: no interface of this machine has 10.0.0.1") == 1
    for line in (
        "/var/lib/quakegrid quakegrid:quakegrid 751",
        "/var/lib/quakegrid-worker quakegrid-worker:quakegrid-worker 700",
        "/opt/quakegrid/shared quakegrid:quakegrid-users 3775",
        "/opt/quakegrid/venv/openquake.cfg quakegrid:quakegrid 400",
        "/opt/quakegrid/shared/anna anna:quakegrid-users 2755",
    ):
        assert line in found
    assert found.count("/usr/sbin/nologin") == 2
    assert "Nothing to do" in after
    assert "all gone" in after
    assert any("enable --now quakegrid-agent.service" in call for call in machine.systemctl_calls)


@pytest.mark.full
def test_accounts_with_two_uses_stop_the_installation(machine: OwnMachine) -> None:
    """Before anything is changed."""
    said = machine.run(
        "groupadd quakegrid-users; useradd --system --groups quakegrid-users quakegrid",
        f"{INSTALL} --yes && exit 1",
        "test ! -e /var/lib/quakegrid-worker",
        "ls /etc/systemd/system/quakegrid* && exit 1",
        "echo nothing done",
    )

    assert "`gpasswd --delete quakegrid quakegrid-users`" in said
    assert said.endswith("nothing done\n")


@pytest.mark.full
def test_installation_of_today_is_upgraded(machine: OwnMachine) -> None:
    """One that has the services' user, and results in a folder of its group."""
    said = machine.run(
        "groupadd --system quakegrid",
        "useradd --system --gid quakegrid --no-create-home --home-dir /var/lib/quakegrid quakegrid",
        "install -d -o quakegrid -g quakegrid -m 0750 /var/lib/quakegrid",
        "install -d -o quakegrid -g quakegrid -m 2775 /opt/quakegrid/shared",
        "install -d -o quakegrid -g quakegrid /opt/quakegrid/shared/quakegrid/oqdata",
        "touch /var/lib/quakegrid/db.sqlite3",
        "mkdir -p /etc/quakegrid",
        f"echo '{json.dumps(OLD_NOTES)}' > /etc/quakegrid/installed.json",
        f"{INSTALL} --yes",
        "stat -c '%n %U:%G %a' /var/lib/quakegrid /opt/quakegrid/shared",
        "stat -c '%n %U:%G %a' /opt/quakegrid/shared/quakegrid/oqdata",
        "ls /var/lib/quakegrid",
        "cat /etc/quakegrid/installed.json",
    )

    assert "make the system user and group quakegrid (" not in said
    assert "make the group quakegrid-users" in said
    assert "/var/lib/quakegrid quakegrid:quakegrid 751" in said
    assert "/opt/quakegrid/shared quakegrid:quakegrid-users 3775" in said
    assert "/opt/quakegrid/shared/quakegrid/oqdata quakegrid:quakegrid 755" in said
    assert "\ndb.sqlite3\n" in said
    assert "systemctl restart quakegrid-agent" in said
    notes = json.loads(said[said.rindex('{\n "files"') :])
    assert (notes["user"], notes["other_users"], notes["groups"]) == (
        "quakegrid",
        ["quakegrid-worker"],
        ["quakegrid-users"],
    )


OLD_NOTES = {
    "files": {"/usr/local/bin/quakegrid": "0" * 64},
    "folders": ["/var/lib/quakegrid", "/opt/quakegrid/shared"],
    "user": "quakegrid",
    "is_complete": True,
}
