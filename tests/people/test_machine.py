"""The machine that these tests run on: who is who there, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.people.accounts import ANNA, BEN, SERVICE, STRANGER, USERS_GID
from tests.people.cluster import PeopleCluster
from tests.people.machine import CAPABILITIES, Machine, children


def test_accounts_have_numbers_groups_and_homes(machine: Machine) -> None:
    """Programs find the accounts by name, and run with their groups in their homes."""
    code = "import os, pwd; print(os.getuid(), sorted(os.getgroups()), os.getcwd(), pwd.getpwuid(6103)[0])"

    anna, stranger = machine.python(ANNA.name, code), machine.python(STRANGER.name, code)

    assert anna == f"{ANNA.uid} [{ANNA.uid}, {USERS_GID}] {ANNA.home} {BEN.name}"
    assert stranger.startswith(f"{STRANGER.uid} [{STRANGER.uid}] ")


def test_everybody_can_import_the_checkout(machine: Machine) -> None:
    """The code under test is that of this checkout, also where its folder is closed to others."""
    found = machine.python(ANNA.name, "import quakegrid; print(quakegrid.__file__)")

    assert Path(found) == Path(__file__).parents[2] / "quakegrid" / "__init__.py"


def test_homes_are_private(machine: Machine) -> None:
    """A person cannot read what another has."""
    path = machine.write(ANNA.name, ANNA.home / "secret", "for Anna")

    assert machine.run(BEN.name, "cat", path).returncode != 0
    assert machine.run(ANNA.name, "cat", path).stdout == "for Anna"


def test_a_service_has_two_capabilities_and_no_more(machine: Machine) -> None:
    """The agent may change users. It is not root, and nothing that it starts can become root."""
    program = machine.start_program(
        SERVICE.name, "grep", "Cap", "/proc/self/status", capabilities=CAPABILITIES
    )

    _code, text = program.finish()

    assert {line.split()[1] for line in text.splitlines()} == {"00000000000000c0"}


def test_nothing_is_left_of_a_machine() -> None:
    """All processes end with the machine, even those in sessions of their own; mounts are gone with them."""
    if os.getuid() != 0:
        pytest.skip("real accounts need root")
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    with Machine() as machine:
        program = machine.start_program(ANNA.name, "sh", "-c", "setsid sleep 1000 & echo started; wait")
        program.wait_for("started")
        pinned = [os.pidfd_open(pid) for pid in (program.pid, *children(program.pid))]

    code, _text = program.finish()

    assert code != 0
    assert len(pinned) == 2
    for descriptor in pinned:
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, 0)
        os.close(descriptor)
    assert Path("/proc/self/mounts").read_text(encoding="utf-8") == mounts
    assert subprocess.run(["getent", "passwd", ANNA.name], capture_output=True, check=False).returncode != 0


def test_the_key_is_for_services_only(people: PeopleCluster) -> None:
    """People cannot read the services' configuration; the services run as their account."""
    path = people.state_dir / "openquake.cfg"

    assert people.machine.run(ANNA.name, "cat", path).returncode != 0
    assert {Path(f"/proc/{each.pid}").stat().st_uid for each in people.services.values()} == {SERVICE.uid}
