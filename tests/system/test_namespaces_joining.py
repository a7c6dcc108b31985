"""Nodes that come, go, and are refused, over machines of their own behind the manual's firewall."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from quakegrid.settings import authkeys
from tests.support.clusters import Running
from tests.support.namespace_cluster import MASTER, REPOSITORY
from tests.system.machines import Machines, cores_here, running_machines

SMALL, LARGE, GUEST = 1, 2, 3
CORES = (1, 1, cores_here(2), 1)
NAMED = {SMALL: CORES[SMALL], LARGE: CORES[LARGE]}


@pytest.fixture(scope="module")
def running() -> Iterator[Machines]:
    """A master, and two nodes that its file names."""
    with running_machines(*CORES, configured=tuple(NAMED)) as machines:
        for node in NAMED:
            machines.start_agent(node)
        yield machines


@pytest.fixture
def machines(running: Machines) -> Iterator[Machines]:
    """The same, and the guest's agent ends with the test."""
    running.wait_for_cores(NAMED)
    yield running
    with contextlib.suppress(KeyError):
        running.stop_agent(GUEST)
    running.configure(GUEST)


def test_nodes_of_the_masters_file_give_their_cores(machines: Machines) -> None:
    """As many as each has; they did nothing for it."""
    assert {number: node["core_count"] for number, node in machines.nodes().items()} == NAMED
    assert [node["node"] for node in machines.nodes().values()] == ["node1", "node2"]


@pytest.mark.full
def test_node_joins_and_leaves_without_a_touch_on_the_master(machines: Machines) -> None:
    """By the master's address alone, and nothing is dropped on the way."""
    machines.start_agent(GUEST)
    joined = machines.agentctl(GUEST, "join", machines.network.address(MASTER))
    machines.wait_for_cores(NAMED | {GUEST: CORES[GUEST]})

    left = machines.agentctl(GUEST, "leave")

    assert (joined.returncode, left.returncode) == (0, 0), joined.stderr + left.stderr
    assert machines.warm_cores() == NAMED
    assert machines.firewall.dropped() == []


@pytest.mark.full
def test_serve_join_makes_a_node_with_one_command(machines: Machines) -> None:
    """The master by its name, which the node's /etc/hosts has."""
    machines.start_agent(GUEST, "--join", machines.network.node_name(MASTER))

    machines.wait_for_cores(NAMED | {GUEST: CORES[GUEST]})
    assert machines.agentctl(GUEST, "leave").returncode == 0


def test_node_with_another_authkey_is_refused_by_name_of_the_mistake(machines: Machines) -> None:
    """It is told what differs and what to do; the others are up all the time."""
    machines.configure(GUEST, {"dbserver": {"authkey": authkeys.new_authkey()}})
    machines.start_agent(GUEST)

    joined = machines.agentctl(GUEST, "join")

    assert joined.returncode == 3
    assert (
        "broker 10.77.0.1:1911 has another authkey than this machine: copy [dbserver] authkey"
        in joined.stderr
    )
    assert machines.warm_cores() == NAMED


@pytest.mark.full
def test_node_behind_a_closed_port_is_refused_by_name_of_the_firewall(machines: Machines) -> None:
    """Either side's: the way to the broker, and the way back to the agent."""
    machines.start_agent(GUEST)

    with machines.firewall.closed(MASTER, "input", "1911"):
        joined = machines.agentctl(GUEST, "join")
    with machines.firewall.closed(GUEST, "input", "1909"):
        reached = machines.agentctl(GUEST, "join")

    assert joined.returncode == 3
    assert "broker 10.77.0.1:1911 does not answer: a firewall drops it" in joined.stderr
    assert reached.returncode != 0
    assert "10.77.0.4" in reached.stderr
    assert "[zworkers] ctrl_port" in reached.stderr
    assert machines.agentctl(GUEST, "leave").returncode == 0
    assert list(machines.nodes()) == list(NAMED)


@pytest.mark.full
def test_node_joins_by_its_address_though_its_name_is_loopback(machines: Machines) -> None:
    """As /etc/hosts has it after an installation of Debian."""
    name = machines.network.node_name(GUEST)
    machines.configure(GUEST, hosts=f"127.0.1.1 {name}")
    machines.start_agent(GUEST)

    joined = machines.agentctl(GUEST, "join", machines.network.address(MASTER))

    assert joined.returncode == 0, joined.stderr
    machines.wait_for_cores(NAMED | {GUEST: CORES[GUEST]})
    assert machines.nodes()[GUEST]["node"] == name
    assert machines.agentctl(GUEST, "leave").returncode == 0


def sums(machines: Machines) -> subprocess.Popen[str]:
    """A program on the master that judges what the cluster computes."""
    state_dir = str(machines.cluster.state_dir(MASTER))
    command = [sys.executable, "-P", "-m", "tests.faults.harness.program", state_dir, "sums", "10"]
    return subprocess.Popen(
        machines.network.inside(MASTER, command),
        env=machines.cluster.environ(MASTER),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.full
def test_work_says_which_node_does_not_reach_its_lane(machines: Machines) -> None:
    """And goes on when it does."""
    with machines.firewall.closed(MASTER, "input", "1912-1920"):
        program, said = sums(machines), ""
        for node in NAMED:
            words = f"node{node} gets no tasks: lane 10.77.0.1:1912 does not answer: a firewall drops it"
            while words not in said:
                said += Running(program).wait_for("gets no tasks")
    output, _ = program.communicate(timeout=60)

    assert program.returncode == 0, output


@pytest.mark.full
def test_work_says_that_the_masters_name_is_loopback(machines: Machines) -> None:
    """As the master's own /etc/hosts may have it: its lanes listen where no node reaches them."""
    name = machines.network.node_name(MASTER)
    machines.stop_master()
    machines.configure(MASTER, {"dbserver": {"host": name}}, hosts=f"127.0.1.1 {name}")
    machines.start_master()
    try:
        machines.wait_for_cores(NAMED)
        program = sums(machines)
        said = Running(program).wait_for("gets no tasks")
        program.kill()
        program.communicate()
        doctor = machines.quakegrid("doctor")
    finally:
        machines.stop_master()
        machines.configure(MASTER)
        machines.start_master()

    assert f"gets no tasks: lane {name}:1912 refuses: nothing listens there" in said
    assert doctor.returncode == 1
    assert f"the name {name}, which [dbserver] host uses, is 127.0.1.1 here" in doctor.stdout
