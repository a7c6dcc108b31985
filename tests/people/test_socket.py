"""Who may ask the agent for a driver, and whom a command line trusts. This cluster has no engine."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.people.accounts import ANNA, BEN, SERVICE, STRANGER, USERS_GID
from tests.people.cluster import PeopleCluster, configuration
from tests.people.machine import Machine, Program
from tests.people.workers import WorkerOrders

# The agent's answer to a member: only then the engine is missed.
ENGINE_MISSING = "keeps openquake.engine away from this node"
# Listens where an agent would, and prints what a command line sends.
TRAP = """
import os, socket, sys
os.umask(0)
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
print(repr(connection.recv(1000)), flush=True)
"""


@pytest.fixture(scope="module")
def job(people: PeopleCluster) -> Path:
    """A file that everybody may read."""
    path = people.machine.write("root", "/var/tmp/model/job.ini", "[general]\n", 0o644)
    people.machine.path(path.parent).chmod(0o755)
    return path


def test_members_of_the_group_may_ask(people: PeopleCluster, job: Path) -> None:
    """Without a key, a credential or sudo."""
    for who in (ANNA, BEN):
        done = people.quakegrid(who.name, "run", job)

        assert ENGINE_MISSING in done.stderr, done.stderr


def test_others_are_told_what_to_do(people: PeopleCluster, job: Path) -> None:
    """The kernel refuses them; the words name the group."""
    done = people.quakegrid(STRANGER.name, "run", job)

    assert done.returncode == 1
    assert "is for members of the group qg-users; as root: `usermod --append --groups qg-users" in done.stderr


def test_root_and_the_services_account_may_ask(people: PeopleCluster, job: Path) -> None:
    """As before there were members."""
    for who in (SERVICE.name, "root"):
        assert ENGINE_MISSING in people.quakegrid(who, "run", job).stderr


def test_socket_is_closed_to_others(people: PeopleCluster, machine: Machine) -> None:
    """By its mode, which the kernel checks against the groups that a process really has."""
    run = people.state_dir / "run"
    folder, socket = (machine.path(path).stat() for path in (run, run / "agent.sock"))

    assert stat.S_IMODE(folder.st_mode) == 0o710
    assert stat.S_IMODE(socket.st_mode) == 0o660
    assert {(each.st_uid, each.st_gid) for each in (folder, socket)} == {(SERVICE.uid, USERS_GID)}


def test_other_commands_say_that_the_key_is_not_for_people(people: PeopleCluster) -> None:
    """Commands that ask services need a credential."""
    done = people.quakegrid(ANNA.name, "jobs", "list")

    assert done.returncode == 2
    assert "openquake.cfg" in done.stderr


@contextmanager
def trap(machine: Machine, who: str, state_dir: str, mode: str = "0755") -> Iterator[Program]:
    """Somebody listens where the agent of a state directory would."""
    assert machine.run(who, "mkdir", "-p", f"--mode={mode}", f"{state_dir}/run").returncode == 0
    machine.run(who, "chmod", mode, state_dir, f"{state_dir}/run")
    program = machine.start_program(who, sys.executable, "-c", TRAP, f"{state_dir}/run/agent.sock")
    try:
        program.wait_for("listening")
        yield program
    finally:
        program.stop()


def test_state_directory_of_another_person_is_no_clusters(
    people: PeopleCluster, machine: Machine, job: Path
) -> None:
    """Nothing is sent: environment and terminal would be another's."""
    with trap(machine, BEN.name, "/tmp/ben") as program:
        done = people.quakegrid(ANNA.name, "--state-dir", "/tmp/ben", "run", job)

        assert done.returncode == 1
        assert f"/tmp/ben belongs to {BEN.name}; this may be a trap, so nothing was sent" in done.stderr
        assert program.process.poll() is None


def test_folder_that_anybody_may_change_is_not_trusted(
    people: PeopleCluster, machine: Machine, job: Path
) -> None:
    """Even if it is the services' own: whoever may write there can put a socket there."""
    with trap(machine, SERVICE.name, "/tmp/open", mode="0777") as program:
        done = people.quakegrid(ANNA.name, "--state-dir", "/tmp/open", "run", job)

        assert "and anybody may change it" in done.stderr
        assert program.process.poll() is None


def test_listener_of_another_account_is_not_trusted(
    people: PeopleCluster, machine: Machine, job: Path
) -> None:
    """The kernel tells who listens, whoever has made the folders."""
    with trap(machine, BEN.name, "/tmp/moved") as program:
        machine.run("root", "chown", SERVICE.name, "/tmp/moved", "/tmp/moved/run")

        done = people.quakegrid(ANNA.name, "--state-dir", "/tmp/moved", "run", job)

        assert f"{BEN.name} listens at /tmp/moved/run/agent.sock" in done.stderr
        assert program.finish() == (0, "b''\n")  # it heard nothing


def test_agent_without_capabilities_has_no_members() -> None:
    """All would run as the agent, so its socket stays its own user's, and workers are the agent's."""
    with Machine() as other:
        cluster = PeopleCluster(other, configuration())
        cluster.start("agent")
        workers = WorkerOrders(cluster)
        try:
            socket = other.path(cluster.state_dir / "run" / "agent.sock").stat()
            answer = workers.run(ANNA, "answer['uids'] = os.getresuid()")
        finally:
            workers.close()
            cluster.close()

    assert stat.S_IMODE(socket.st_mode) == 0o600
    assert answer["uids"] == [SERVICE.uid] * 3
