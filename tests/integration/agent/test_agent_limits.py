"""A real agent and what it lets workers use: memory, cores, niceness; its core dial, and its samples."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from quakegrid import errors, testing
from quakegrid.clients.agent import AgentClient, AgentStatus
from quakegrid.clients.broker import BrokerClient, NodeStatus
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.services.agent.node.limits import memory_samples
from quakegrid.services.agent.worker import threads
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.calls import limit_calls, rough_calls, sdk_calls
from tests.support.processes import REPOSITORY, Service

CPU_COUNT = len(os.sched_getaffinity(0))
AGENTCTL = Path(sys.executable).with_name("agentctl")
MIB = 1 << 20
needs_two_cores = pytest.mark.skipif(CPU_COUNT < 2, reason="needs two cores")


class Node:
    """A cluster of one node, with its broker and agent."""

    def __init__(self, folder: Path, extra: dict[str, dict[str, str | int]]) -> None:
        (folder / "home").mkdir()
        sections: dict[str, dict[str, str | int]] = {
            "distribution": {"serialize_jobs": 0},
            "directory": {"custom_tmp": str(folder)},
            **extra,
            "agent": {"preload": "none", **extra.get("agent", {})},
            "broker": {"port": testing.free_ports(1)[0], "max_attempts": 1, **extra.get("broker", {})},
        }
        path = testing.write_cluster_config(folder / "state", sections)
        self.settings: Settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
        self.services = [Service(self.settings, name) for name in ("broker", "agent")]

    def __enter__(self) -> Self:
        """Start both, and wait until there are workers to be had."""
        try:
            for service in self.services:
                service.start()
            with BrokerClient(self.settings) as broker:
                broker.wait_for_nodes(60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave nothing running."""
        for service in reversed(self.services):
            if service.process is not None and service.process.poll() is None:
                service.stop()
            service.close()

    def agent_pid(self) -> int:
        """Process id of the agent."""
        process = self.services[1].process
        assert process is not None
        return process.pid

    def wait_for_node(self, is_reached: Callable[[NodeStatus], bool]) -> NodeStatus:
        """Wait until the broker's view of the node is so."""
        with BrokerClient(self.settings) as broker:
            return next(found.nodes[0] for found in broker.watch_status() if is_reached(found.nodes[0]))

    def wait_for_agent(self, is_reached: Callable[[AgentStatus], bool]) -> AgentStatus:
        """Wait until the agent says so."""
        with closing(AgentClient(self.settings)) as agent:
            return next(found for found in agent.watch_status() if is_reached(found))

    def dial(self, core_count: int) -> tuple[int, int]:
        """Let the node give so many cores."""
        with closing(AgentClient(self.settings)) as agent:
            return agent.set_cores(core_count)

    def agentctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run `agentctl` on the node."""
        return subprocess.run(
            [str(AGENTCTL), "--state-dir", str(self.settings.state_dir), *args],
            env=self.services[1].environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def running_node(folder: Path, **extra: dict[str, str | int]) -> Node:
    """A node that is up in a `with` block."""
    return Node(folder, extra)


def wait_until(is_reached: Callable[[], bool]) -> None:
    """Look until it is so; the test's own timeout bounds it."""
    while not is_reached():
        time.sleep(0.01)


class DelegatedAgent(Service):
    """An agent with a cgroup of its own, as a systemd unit with `Delegate=yes` has."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, "agent")
        self.folder = folder

    @property
    def command(self) -> list[str]:
        """Enter the cgroup first."""
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, str(self.folder), *super().command]


def _hands_memory_on(cgroup: Path) -> bool:
    control = cgroup / "cgroup.subtree_control"
    return control.exists() and "memory" in control.read_text().split() and os.access(cgroup, os.W_OK)


@pytest.fixture
def delegated_cgroup() -> Iterator[Path]:
    """A cgroup of version 2 with the memory controller.

    It is below the nearest one that hands this on; our own cannot, as it has processes.
    """
    own = memory_samples.own_cgroup()
    if own is None:
        pytest.skip("there is no cgroup of version 2 here")
    parent = next((each for each in (own, *own.parents) if _hands_memory_on(each)), None)
    if parent is None:
        pytest.skip("no cgroup of version 2 with the memory controller is this test's to write to")
    folder = parent / f"quakegrid-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in sorted([folder, *folder.glob("*/")], reverse=True):
            path.rmdir()


@needs_two_cores
def test_worker_that_eats_memory_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    """Past the hard limit, which any machine is past here; its job learns why."""
    used_bytes, total_bytes = memory_samples.MemoryWatch().read_node()
    if used_bytes / total_bytes <= 0.011:
        pytest.skip("less than 1 % of this machine's memory is used: nobody could be past a limit")
    limits: dict[str, str | int] = {"soft_mem_limit": 100, "hard_mem_limit": 1}
    done = tmp_path / "done"

    with running_node(tmp_path, memory=limits) as node, ClusterExecutor(node.settings) as executor:
        modest = executor.submit(sdk_calls.wait_for, str(done))
        greedy = executor.submit(limit_calls.eat, 200 * MIB)

        with pytest.raises(errors.TaskKilledError) as caught:
            greedy.result(60)
        done.touch()

        assert modest.result(60) == str(done)
        assert executor.submit(sdk_calls.square, 3).result(60) == 9
    assert "resident because" in str(caught.value)
    assert "(hard_mem_limit 1)" in str(caught.value)


def test_worker_whose_children_eat_beyond_its_limit_is_stopped(tmp_path: Path) -> None:
    """The limit of the process alone does not see them."""
    with (
        running_node(tmp_path, agent={"worker_memory": "300M"}) as node,
        ClusterExecutor(node.settings) as executor,
    ):
        greedy = executor.submit(limit_calls.eat_in_children, 2, 180 * MIB)

        with pytest.raises(
            errors.TaskKilledError, match=r"more than \[agent\] worker_memory allows \(300 MiB\)"
        ):
            greedy.result(60)
        assert executor.submit(sdk_calls.square, 3).result(60) == 9


def test_limit_that_stopped_a_worker_is_told_when_the_next_attempt_succeeds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With task, attempt and memory, where the program prints: nothing else would say why it took longer."""
    limits: dict[str, dict[str, str | int]] = {
        "agent": {"worker_memory": "300M"},
        "broker": {"max_attempts": 3},
    }
    with running_node(tmp_path, **limits) as node, ClusterExecutor(node.settings) as executor:
        result = executor.submit(limit_calls.eat_at_first, str(tmp_path / "eaten"), 180 * MIB).result(60)
    said = capfd.readouterr().err

    assert result == "modest"
    assert re.search(
        r"worker \S+ on node \S+ was stopped at \d+ MiB of its own, more than \[agent\] worker_memory allows "
        r"\(300 MiB\), peak memory \d+ MiB, while it ran task 1 \(attempt 1, eat_at_first\)",
        said,
    )


def test_worker_in_a_cgroup_is_stopped_by_the_kernel(tmp_path: Path, delegated_cgroup: Path) -> None:
    """There its shared memory counts, too."""
    node = Node(tmp_path, {"agent": {"worker_memory": "300M"}})
    node.services[1] = DelegatedAgent(node.settings, delegated_cgroup)
    with node, ClusterExecutor(node.settings) as executor:
        greedy = executor.submit(limit_calls.share, 400 * MIB)

        with pytest.raises(errors.TaskKilledError, match=r"stopped by the kernel at \[agent\] worker_memory"):
            greedy.result(60)
        assert executor.submit(sdk_calls.square, 3).result(60) == 9


def test_node_short_of_memory_goes_on_with_one_worker(tmp_path: Path) -> None:
    """Near the soft limit, where any machine is here; and it says so."""
    limits: dict[str, str | int] = {"soft_mem_limit": 1, "hard_mem_limit": 100}

    with running_node(tmp_path, memory=limits) as node, ClusterExecutor(node.settings) as executor:
        found = node.wait_for_node(lambda each: "short of memory" in each.state)

        assert found.core_count == 1
        assert list(executor.map(sdk_calls.square, range(20))) == [n * n for n in range(20)]
        with closing(AgentClient(node.settings)) as agent:
            assert agent.status().is_short_of_memory


@needs_two_cores
def test_core_dial_loses_nothing_and_outlives_the_agent(tmp_path: Path) -> None:
    """Down, to nothing and up again while tasks run."""
    with running_node(tmp_path) as node, BrokerClient(node.settings) as broker:
        every = node.dial(-1)[1]
        with ClusterExecutor(node.settings) as executor:
            naps = [executor.submit(sdk_calls.nap, 0.01) for _ in range(50_000)]  # more than get done
            node.wait_for_agent(lambda found: len(found.workers) == every)

            assert node.dial(1) == (1, every)
            node.wait_for_agent(lambda found: len(found.workers) == 1)
            node.dial(0)
            node.wait_for_agent(lambda found: not found.workers)
            node.wait_for_node(lambda found: found.is_up and found.core_count == 0)
            idle_count = sum(nap.done() for nap in naps)
            node.dial(-1)
            node.wait_for_agent(lambda found: len(found.workers) == every)
            wait_until(lambda: sum(nap.done() for nap in naps) > idle_count)
            executor.shutdown(cancel_futures=True)
            done = [nap.result() for nap in naps if not nap.cancelled()]
            totals = broker.status().totals
        node.dial(1)
        node.services[1].stop()
        node.services[1].start()
        again = node.wait_for_node(lambda found: found.is_up)

    assert done == [0.01] * len(done)
    assert idle_count < len(done) < len(naps)
    assert totals.requeued_count == totals.failed_count == 0
    assert again.core_count == 1


def test_agentctl_turns_the_dial_and_shows_the_node(tmp_path: Path) -> None:
    """Cores, memory, load and workers; a count that the node has not is refused."""
    with running_node(tmp_path) as node, ClusterExecutor(node.settings, max_workers=1) as executor:
        limits = executor.submit(limit_calls.limits).result(60)
        shown = node.agentctl("status")
        told = json.loads(node.agentctl("status", "--output", "json").stdout)
        none = node.agentctl("cores", "0")
        dialled = node.agentctl("status", "--long")
        many = node.agentctl("cores", str(CPU_COUNT + 1))
        word = node.agentctl("cores", "some")
        back = node.agentctl("cores", "all", "--output", "json")

    assert str(limits["pid"]) in shown.stdout
    assert "resident" in shown.stdout
    (worker,) = told["workers"]
    assert worker["resident_bytes"] > MIB
    assert 0 < told["memory_used_bytes"] < told["memory_total_bytes"]
    assert none.returncode == 0, none.stderr
    assert f"0 of {CPU_COUNT} (agentctl cores)" in dialled.stdout
    assert many.returncode == word.returncode == 2
    assert f"0 to {CPU_COUNT} or all" in many.stderr
    assert json.loads(back.stdout) == {"cores": CPU_COUNT, "of": CPU_COUNT}


def test_samples_are_sent_only_to_who_asked_for_them(tmp_path: Path) -> None:
    """The broker's stream costs nothing."""
    with running_node(tmp_path) as node, closing(AgentClient(node.settings)) as agent:
        samples = agent.watch_status()
        first, second = next(samples), next(samples)
        address = f"127.0.0.1:{node.settings.agent_port}"
        with grpc_channels.open_channel(address, node.settings.authkey) as channel:
            watch = orders_pb2_grpc.OrdersStub(channel).Watch(orders_pb2.WatchRequest())
            unasked = next(watch).status
            watch.cancel()

    assert unasked.memory_used_bytes == unasked.memory_total_bytes == 0
    assert min(first.memory_used_bytes, second.memory_used_bytes) > 0
    assert second.memory_total_bytes == first.memory_total_bytes > 0


def test_workers_are_nice_and_the_first_to_be_killed(tmp_path: Path) -> None:
    """The agent and its template are the last."""
    with (
        running_node(tmp_path, agent={"nice": 5}) as node,
        ClusterExecutor(node.settings) as executor,
    ):
        found = executor.submit(limit_calls.limits).result(60)
        template = int(Path(f"/proc/{found['pid']}/stat").read_text().rpartition(")")[2].split()[1])
        scores = [limit_calls.oom_score(pid) for pid in (node.agent_pid(), template)]

    assert found["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert found["oom_score"] == 500
    assert max(scores) <= max(0, limit_calls.oom_score(os.getpid()))


@needs_two_cores
def test_wider_workers_have_their_cores_and_threads(tmp_path: Path) -> None:
    """As many fewer of them as they are wider."""
    with (
        running_node(tmp_path, agent={"cores_per_worker": 2}) as node,
        ClusterExecutor(node.settings) as executor,
    ):
        found = executor.submit(limit_calls.limits).result(60)
        status = node.wait_for_node(lambda each: each.worker_count > 0)

    assert len(found["cores"]) == 2
    assert found["threads"] == "2"
    assert status.core_count == CPU_COUNT // 2


@needs_two_cores
def test_job_may_ask_for_wider_workers(tmp_path: Path) -> None:
    """Beside another that does not."""
    with (
        running_node(tmp_path) as node,
        ClusterExecutor(node.settings, cores_per_worker=2, max_workers=1) as wide,
    ):
        found = wide.submit(limit_calls.limits).result(60)
        wide.shutdown()
        with ClusterExecutor(node.settings, max_workers=1) as narrow:
            usual = narrow.submit(limit_calls.limits).result(60)
        with pytest.raises(errors.UsageError, match="a worker has 1 to 1024 cores, not 5000"):
            ClusterExecutor(node.settings, cores_per_worker=5000)

    assert (len(found["cores"]), found["threads"]) == (2, "2")
    assert (len(usual["cores"]), usual["threads"]) == (1, "1")


@pytest.mark.parametrize("width", [1, pytest.param(2, marks=needs_two_cores)])
def test_numerical_libraries_use_as_many_threads_as_a_worker_has_cores(tmp_path: Path, width: int) -> None:
    """OpenBLAS, OpenMP and numba, loaded by the template with one; what comes later by the environment."""
    pytest.importorskip("numba.np.ufunc.omppool", reason="numba cannot use OpenMP: libgomp is missing")
    agent: dict[str, str | int] = {
        "cores_per_worker": width,
        "preload": "numpy, scipy.linalg, numba.np.ufunc.parallel, numba.np.ufunc.omppool",
    }
    with running_node(tmp_path, agent=agent) as node, ClusterExecutor(node.settings) as executor:
        with closing(AgentClient(node.settings)) as client:
            state = str(client.status().template_state)
        found = executor.submit(limit_calls.thread_counts).result(60)

    assert state.startswith("warm"), state
    assert found["environment"] == dict.fromkeys(threads.THREAD_VARIABLES, str(width))
    assert found["numba"] == width
    assert {"libgomp", "libscipy_openblas64_", "libscipy_openblas"} <= {
        name.partition("-")[0].partition(".")[0] for name in found["libraries"]
    }
    assert all(counts == [width] for counts in found["libraries"].values()), found["libraries"]


def test_task_that_runs_for_too_long_is_ended_and_says_so(tmp_path: Path) -> None:
    """Each of its attempts; calls that end in time are not disturbed, and the worker's core works again."""
    with Node(tmp_path, {"broker": {"task_timeout": 2, "max_attempts": 2}}) as node:
        with ClusterExecutor(node.settings) as executor:
            endless = executor.submit_weighted(2.0, time.sleep, 600)
            others = [executor.submit_weighted(1.0, time.sleep, 0.01) for _ in range(4)]

            with pytest.raises(errors.TaskKilledError) as caught:
                endless.result(60)

            assert [other.result(60) for other in others] == [None] * 4
        words = str(caught.value)
        assert words.count("its task ran longer than [broker] task_timeout = 2 s") == 2
        assert "attempt 2" in words


def test_worker_that_stays_stopped_is_killed_and_its_task_tried_again(tmp_path: Path) -> None:
    """Nothing else would end the wait."""
    extra: dict[str, dict[str, str | int]] = {"agent": {"stopped_timeout": 1}, "broker": {"max_attempts": 2}}
    path = tmp_path / "pid"
    with Node(tmp_path, extra) as node, ClusterExecutor(node.settings) as executor:
        future = executor.submit(rough_calls.hold_on_at_first, str(path))
        while not path.exists():
            time.sleep(rough_calls.PAUSE_S)  # the test's own timeout bounds it
        worker = int(path.read_text())
        os.kill(worker, signal.SIGSTOP)

        assert future.result(60) == "again"

    log = (tmp_path / "state" / "agent.log").read_text()
    assert "it was stopped (SIGSTOP) for 1 s" in log
