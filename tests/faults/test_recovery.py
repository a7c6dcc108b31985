"""How long it takes until work that was lost with its worker, lane, agent or node is at work again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness.injector import LANE, command_line
from tests.faults.harness.run import wait_until_up
from tests.faults.harness.services import Options, fault_cluster
from tests.support.namespace_cluster import MASTER, RESTART_AFTER_S, NamespaceCluster
from tests.support.namespaces import NamespaceError, Network
from tests.support.nodes import wait_until

NODE_TIMEOUT_S = 4.0
OPTIONS = Options(node_count=2, node_timeout_s=NODE_TIMEOUT_S)
WORKER_S = 1.0
# From when another one is started.
SERVICE_S = 5.0 + RESTART_AFTER_S
NODE_S = NODE_TIMEOUT_S + 2.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[NamespaceCluster]:
    """A master and two nodes, a core each."""
    try:
        with Network(1):
            pass
    except (NamespaceError, FileNotFoundError) as exc:
        pytest.skip(f"the fault harness needs root and network namespaces: {exc}")
    directory = Path(tempfile.mkdtemp(prefix="qgf"))
    try:
        with fault_cluster(directory, OPTIONS) as cluster:
            wait_until_up(cluster)
            yield cluster
            assert cluster.stop() == []
            assert cluster.leftovers() == []
    finally:
        shutil.rmtree(directory)


@dataclass(frozen=True)
class Begin:
    """A task that began."""

    number: int
    node: str
    pid: int
    at_s: float


@dataclass(frozen=True)
class Held:
    """A program with two tasks that wait, while a third core is free."""

    folder: Path
    process: subprocess.Popen[str]

    def begins(self, count: int) -> list[Begin]:
        """Wait for so many beginnings."""
        path = self.folder / "begins"
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) >= count:
                return [Begin(int(n), node, int(pid), float(s)) for n, node, pid, s in map(str.split, lines)]
            assert self.process.poll() is None
            time.sleep(0.01)

    def finish(self) -> float:
        """Let all tasks end; when the program had ended, with the right result."""
        (self.folder / "go").touch()
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, output
        return time.monotonic()


@pytest.fixture
def held(cluster: NamespaceCluster, tmp_path: Path) -> Iterator[Held]:
    """The program, at work."""
    wait_until_up(cluster)
    state_dir = str(cluster.state_dir(MASTER))
    command = [sys.executable, "-P", "-m", "tests.faults.harness.program", state_dir, "holds", "2"]
    with subprocess.Popen(
        cluster.network.inside(MASTER, command),
        env=cluster.environ(MASTER),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            held = Held(tmp_path, process)
            held.begins(2)
            yield held
        finally:
            process.kill()


def test_killed_worker_costs_a_second(cluster: NamespaceCluster, held: Held) -> None:
    """Its task begins again on another."""
    victim = held.begins(2)[0]

    killed_s = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    again = held.begins(3)[2]
    held.finish()

    assert again.number == victim.number
    assert _told("worker killed", again.at_s - killed_s) < WORKER_S


@pytest.mark.parametrize("victim", ["lane", "broker", "dbserver"])
def test_killed_service_costs_five_seconds(victim: str, cluster: NamespaceCluster, held: Held) -> None:
    """What runs goes on, and the results are right when there is another."""
    if victim == "lane":
        pids = [pid for pid in cluster.network.pids(MASTER) if LANE in command_line(pid)]
    else:
        process = cluster.services[victim, MASTER].process
        assert process is not None
        pids = [process.pid]

    killed_s = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ended_s = held.finish()
    wait_until(lambda: all(service.is_running for service in cluster.services.values()))

    assert len(held.begins(2)) == 2  # whoever ran was not run again
    assert _told(f"{victim} killed", ended_s - killed_s) < SERVICE_S


def kill_agent(cluster: NamespaceCluster, node: int) -> None:
    """SIGKILL, and so its template and workers; it is started again after a second."""
    process = cluster.services["agent", node].process
    assert process is not None
    process.kill()


def freeze(cluster: NamespaceCluster, node: int) -> None:
    """Stop every process of a node."""
    for pid in cluster.network.pids(node):
        os.kill(pid, signal.SIGSTOP)


def cut(cluster: NamespaceCluster, node: int, *, is_cut: bool = True, ways: str = "both") -> None:
    """Cut a node off from the master, or not."""
    if ways in ("both", "out"):
        cluster.network.cut(node, MASTER, is_cut=is_cut)
    if ways in ("both", "in"):
        cluster.network.cut(MASTER, node, is_cut=is_cut)


def thaw(cluster: NamespaceCluster, node: int) -> None:
    """Let every process of a node go on."""
    for pid in cluster.network.pids(node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


Change = Callable[[NamespaceCluster, int], None]


def _cut_ways(ways: str) -> tuple[Change, Change]:
    return (
        lambda cluster, node: cut(cluster, node, ways=ways),
        lambda cluster, node: cut(cluster, node, ways=ways, is_cut=False),
    )


NODE_FAULTS: dict[str, tuple[Change, Change]] = {
    "agent killed": (kill_agent, lambda _cluster, _node: None),
    "node stopped": (freeze, thaw),
    "link cut": _cut_ways("both"),
    "link cut, node to master": _cut_ways("out"),
    "link cut, master to node": _cut_ways("in"),
}
FULL = pytest.mark.full


@pytest.mark.parametrize(
    "fault", [pytest.param(each, marks=() if each == "link cut" else FULL) for each in NODE_FAULTS]
)
def test_lost_node_costs_its_timeout_and_its_late_results_are_ignored(
    fault: str, cluster: NamespaceCluster, held: Held
) -> None:
    """Its task begins again elsewhere; when it is back it ends what it still runs, and serves again."""
    victim = next(begin for begin in held.begins(2) if begin.node != "node0")
    node = int(victim.node.removeprefix("node"))
    begin, end = NODE_FAULTS[fault]

    lost_s = time.monotonic()
    begin(cluster, node)
    try:
        again = held.begins(3)[2]
    finally:
        end(cluster, node)
    wait_until_up(cluster)
    while Path(f"/proc/{victim.pid}").exists():
        time.sleep(0.01)
    held.finish()

    assert again.number == victim.number
    assert again.node != victim.node
    assert len(held.begins(3)) == 3
    assert _told(fault, again.at_s - lost_s) < NODE_S


def _told(what: str, recovery_s: float) -> float:
    """Print a recovery time."""
    print(f"recovery, {what}: {recovery_s:.2f} s")
    return recovery_s
