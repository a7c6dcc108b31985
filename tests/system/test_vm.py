"""Services of a real Debian: systemd, cgroup v2, NFS, and a machine that is started anew."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.compose import ROOT
from tests.system.vm.machine import QEMU, Machine, wait_until

PROGRAMS = (QEMU, "debootstrap", "mke2fs", "unshare")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
REASON = (
    f"there is no {', '.join(MISSING)}: apt-get install qemu-system-x86 debootstrap e2fsprogs util-linux"
    if MISSING
    else "only root can make the machines' disk"
)
pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(7200),  # emulated machines of a busy computer are slow
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=REASON),
]
IMAGE = ROOT / "build" / "vm"
SERVICES = ("quakegrid-dbserver", "quakegrid-broker", "quakegrid-agent", "quakegrid-web")
# What `systemd-analyze security` calls exposure, 0 to 10; the agent runs people's code.
EXPOSURE = {"quakegrid-dbserver": 3.5, "quakegrid-broker": 3.5, "quakegrid-agent": 5.5, "quakegrid-web": 3.5}
CONFIG = "/opt/quakegrid/venv/openquake.cfg"
AS_USER = ("runuser", "-u", "quakegrid", "--")
EATEN_BYTES = 400 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the machines' sockets and consoles are, with a disk that has this clone."""
    subprocess.run([ROOT / "tests" / "system" / "vm" / "make_image.sh", IMAGE], check=True)
    return tmp_path_factory.mktemp("vm")


@pytest.fixture(scope="module")
def master(folder: Path) -> Iterator[Machine]:
    """A master that was installed as the quickstart says, but for the engine."""
    machine = Machine("master", IMAGE, folder, "10.9.8.1", is_first=True)
    try:
        machine.start()
        machine.script(f"printf '[agent]\\npreload = none\\nworker_memory = 300M\\n' > {CONFIG}")
        install(machine, "master", "--export", "10.9.8.0/24")
        wait_for_workers(machine)
        yield machine
    finally:
        machine.stop()


def install(machine: Machine, role: str, *options: str) -> str:
    """Run `quakegrid install`; what it said."""
    command = ("/opt/quakegrid/venv/bin/quakegrid", "install", "--role", role, "--master", "10.9.8.1")
    done = machine.run(*command, *options, "--yes")
    assert done.code == 0, done.err
    return done.err


def wait_for_workers(machine: Machine) -> None:
    """Until the cluster's nodes are up, as its own command sees it."""
    command = (*AS_USER, "quakegrid", "workers", "wait", "--timeout", "60")
    wait_until(lambda: machine.run(*command).code == 0, "nodes that are up")


def call(machine: Machine, eaten_bytes: int = 0) -> dict[str, Any]:
    """Run functions on the cluster, from that machine."""
    script = "/tmp/calls.py"
    machine.script(f"install -m 644 /root/quakegrid/tests/system/vm/calls.py {script}")
    environ = ("env", "QUAKEGRID_STATE_DIR=/var/lib/quakegrid", "HOME=/var/lib/quakegrid")
    said = machine.must(*AS_USER, *environ, "/opt/quakegrid/venv/bin/python", script, eaten_bytes)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert found["total"] == sum(number * number for number in range(100))
    assert found["again"] == 9
    return found


def states(machine: Machine) -> list[str]:
    """What systemd thinks of the services."""
    return machine.run("systemctl", "is-active", *SERVICES).out.split()


def show(machine: Machine, name: str, service: str) -> str:
    """A property of a service."""
    return machine.must("systemctl", "show", "--value", f"--property={name}", service).strip()


def test_services_are_active_and_hardened(master: Machine) -> None:
    """As their units promise, by systemd's own measure."""
    assert states(master) == ["active"] * len(SERVICES)
    for service, most in EXPOSURE.items():
        said = master.must("systemd-analyze", "security", "--no-pager", f"{service}.service")
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert found, said
        assert float(found[1]) <= most, said


def test_second_installation_has_nothing_to_do(master: Machine) -> None:
    """And restarts nothing."""
    before = show(master, "MainPID", "quakegrid-dbserver")

    assert "Nothing to do" in install(master, "master", "--export", "10.9.8.0/24")
    assert show(master, "MainPID", "quakegrid-dbserver") == before


def test_worker_that_eats_memory_is_killed_by_its_own_cgroup(master: Machine) -> None:
    """Shared memory counts there; the reason is told, and the agent goes on."""
    before = show(master, "MainPID", "quakegrid-agent")

    found = call(master, EATEN_BYTES)

    service = "/system.slice/quakegrid-agent.service"
    assert all(cgroup.startswith(f"0::{service}/worker-") for _, cgroup in found["places"])
    assert "stopped by the kernel at [agent] worker_memory (300 MiB)" in found["killed"]
    assert show(master, "MainPID", "quakegrid-agent") == before
    assert master.script(f"find /sys/fs/cgroup{service} -name 'worker-*'") == ""


def test_agent_of_the_tests_has_cgroups_too(master: Machine) -> None:
    """The test that is skipped where there is no cgroup v2."""
    pytest_command = "/root/tests-venv/bin/python -m pytest -p no:cacheprovider --timeout 1200"
    chosen = (
        "tests/integration/agent/test_agent_limits.py -k test_worker_in_a_cgroup_is_stopped_by_the_kernel"
    )

    said = master.script(f"cd /root/quakegrid && {pytest_command} -rs {chosen}")

    assert "1 passed" in said


def test_service_that_was_killed_is_started_again(master: Machine) -> None:
    """Each of them, and the cluster works as before."""
    before = {service: show(master, "MainPID", service) for service in SERVICES}
    for pid in before.values():
        master.must("kill", "-KILL", pid)

    wait_until(
        lambda: all(show(master, "MainPID", each) not in ("0", before[each]) for each in SERVICES),
        "services that were started again",
    )
    wait_for_workers(master)
    assert states(master) == ["active"] * len(SERVICES)
    call(master)


@pytest.mark.parametrize("start_anew", [Machine.reboot, Machine.cut_power], ids=["reboot", "power-cut"])
def test_everything_comes_back_with_the_machine(master: Machine, start_anew: Any) -> None:
    """The database, too."""
    start_anew(master)

    wait_for_workers(master)
    assert states(master) == ["active"] * len(SERVICES)
    master.must(*AS_USER, "quakegrid", "db", "check")
    call(master)


def test_node_with_nothing_of_its_own_joins(master: Machine, folder: Path) -> None:
    """As the quickstart says: the environment, the settings and the shared directory come over NFS."""
    node = Machine("node", IMAGE, folder, "10.9.8.2")
    master.must("systemctl", "restart", "nfs-server")  # a slow machine may have given it up while it started
    try:
        node.start()
        node.script(
            "mkdir -p /opt/quakegrid\n"
            "echo '10.9.8.1:/opt/quakegrid /opt/quakegrid nfs4 ro,_netdev 0 0' >> /etc/fstab\n"
            "mount /opt/quakegrid"
        )
        install(node, "node")
        wait_until(lambda: len(nodes_of(master)) == 2, "a second node")

        assert {place for place, _ in call(master)["places"]} == {"master", "node"}
        node.must("systemctl", "stop", "quakegrid-agent")
        assert show(node, "ExecMainStatus", "quakegrid-agent") == "0"
    finally:
        node.stop()


def nodes_of(machine: Machine) -> list[str]:
    """The nodes that are up."""
    status = json.loads(machine.must(*AS_USER, "quakegrid", "status", "--output", "json"))
    return [node["node"] for node in status["nodes"] if node["is_up"]]


def test_stopping_is_in_order_and_leaves_no_process(master: Machine) -> None:
    """No service is killed for taking too long."""
    master.must("systemctl", "stop", *SERVICES)

    for service in SERVICES:
        assert show(master, "Result", service) == "success"
        assert show(master, "ExecMainStatus", service) == "0"
    assert master.run("pgrep", "-u", "quakegrid").out == ""


def test_uninstalling_leaves_the_data(master: Machine) -> None:
    """Units, commands and export go; database and user stay."""
    done = master.run("/opt/quakegrid/venv/bin/quakegrid", "uninstall", "--yes")

    assert done.code == 0, done.err
    # It fails when it finds none.
    assert master.run("systemctl", "list-unit-files", "--no-legend", "quakegrid*").out == ""
    assert master.run("ls", "/usr/local/bin/quakegrid", "/etc/exports.d/quakegrid.exports").code != 0
    assert master.must("stat", "-c", "%U %a", "/var/lib/quakegrid/db.sqlite3").strip() == "quakegrid 600"
    assert master.must("exportfs", "-v") == ""
