"""The life of workers under a real agent: how they end, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from quakegrid import LocalCluster, testing
from quakegrid.blobs import shared_memory
from quakegrid.clients import agent as agents
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.node_control import NodeControl
from quakegrid.sdk import executor as executor_module
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.services.agent.node import state_lock, status
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support.calls import rough_calls, sdk_calls
from tests.support.nodes import wait_until
from tests.support.processes import Service

# What an agent and its template may grow by: allocators keep some of what a burst needed.
MAX_GROWTH_BYTES = 8 << 20
WAIT_S = 60.0
STOP_LIMIT_S = 6.0


@dataclass(frozen=True)
class Node:
    """A broker and an agent."""

    settings: Settings
    broker: Service
    agent: Service

    @property
    def template(self) -> psutil.Process:
        """The agent's template."""
        assert self.agent.process is not None
        (template,) = psutil.Process(self.agent.process.pid).children()
        return template

    def descendants(self) -> list[psutil.Process]:
        """All that came from the agent."""
        assert self.agent.process is not None
        return psutil.Process(self.agent.process.pid).children(recursive=True)

    def workers(self) -> list[agents.WorkerStatus]:
        """The workers that the agent knows."""
        with contextlib.closing(agents.AgentClient(self.settings)) as client:
            return list(client.status().workers)

    def open_files(self) -> dict[str, int]:
        """Open descriptors of broker, agent and template."""
        return {name: process.num_fds() for name, process in self.lasting().items()}

    def resident_bytes(self) -> dict[str, int]:
        """Memory of broker, agent and template."""
        return {name: process.memory_info().rss for name, process in self.lasting().items()}

    def lasting(self) -> dict[str, psutil.Process]:
        """The processes that stay when workers go."""
        assert self.agent.process is not None
        assert self.broker.process is not None
        return {
            "broker": psutil.Process(self.broker.process.pid),
            "agent": psutil.Process(self.agent.process.pid),
            "template": self.template,
        }

    def files(self) -> set[str]:
        """Files of the cluster, and its shared memory."""
        shared = shared_memory.folder(self.settings.state_dir)
        roots = (self.settings.state_dir, shared, self.settings.state_dir.parent / "tmp")
        return {str(path) for root in roots for path in root.rglob("*")}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A cluster without the engine, whose broker outlives the agents of all these tests."""
    folder = tmp_path_factory.mktemp("life")
    (folder / "home").mkdir()
    (folder / "tmp").mkdir()
    extra = {
        "agent": {"preload": "none"},
        "zworkers": {"host_cores": f"{config.LOOPBACK} 1"},
        "directory": {"custom_tmp": str(folder / "tmp")},
    }
    path = testing.write_cluster_config(folder / "state", extra)
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    node = Node(settings, Service(settings, "broker"), Service(settings, "agent"))
    try:
        node.broker.start()
        yield node
    finally:
        node.broker.close()


@pytest.fixture
def node(lasting: Node) -> Iterator[Node]:
    """A node of the cluster; nothing is left of it."""
    settings = lasting.settings
    try:
        lasting.agent.start()
        yield lasting
    finally:
        lasting.agent.close()  # by SIGKILL
    end_s = time.monotonic() + WAIT_S
    while left := [*marked(settings), *shared_folders(settings)]:
        assert time.monotonic() < end_s, f"left behind: {left}"
        time.sleep(rough_calls.PAUSE_S)


def marked(settings: Settings) -> list[psutil.Process]:
    """What an agent of this cluster has started and is still there."""
    family = state_lock.mark_family(settings.run_dir / state_lock.LOCK_NAME)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(config.AGENT_MARK, "").startswith(family):
                found.append(process)
    return found


def shared_folders(settings: Settings) -> list[Path]:
    """Where the cluster has shared memory, if it has any."""
    return [path for path in shared_memory.folders() if path == shared_memory.folder(settings.state_dir)]


def told(path: Path) -> list[int]:
    """The pids that a task tells."""
    end_s = time.monotonic() + WAIT_S
    while not path.exists():
        assert time.monotonic() < end_s, "the task told nothing"
        time.sleep(rough_calls.PAUSE_S)
    return [int(word) for word in path.read_text().split()]


@contextlib.contextmanager
def watched(pids: list[int]) -> Iterator[None]:
    """These processes live now, and end within this block or soon after."""
    descriptors = {os.pidfd_open(pid): pid for pid in pids}
    try:
        yield
        end_s = time.monotonic() + WAIT_S
        waiting = dict(descriptors)
        while waiting:
            ready = connection.wait(list(waiting), max(0.0, end_s - time.monotonic()))
            left = [psutil.Process(pid) for pid in waiting.values()] if not ready else []
            assert ready, f"they are still there: {left}"
            waiting = {fd: pid for fd, pid in waiting.items() if fd not in ready}
    finally:
        for descriptor, pid in descriptors.items():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
            assert pid


@contextlib.contextmanager
def abandoned(node: Node) -> Iterator[ClusterExecutor]:
    """An executor whose calls need not end."""
    executor = ClusterExecutor(node.settings)
    try:
        yield executor
    finally:
        executor.terminate_workers()
        executor.shutdown()


def test_killed_worker_takes_its_children_along(node: Node, tmp_path: Path) -> None:
    """Of every kind, and the task runs again."""
    path = tmp_path / "pids"
    with abandoned(node) as executor:
        executor.submit(rough_calls.have_children, str(path))
        worker, *children = told(path)
        path.unlink()

        with watched([worker, *children]):
            os.kill(worker, signal.SIGKILL)

        again, *others = told(path)
        assert again != worker
        with watched([again, *others]):
            executor.terminate_workers()


def test_worker_that_ends_in_order_leaves_no_child(node: Node, tmp_path: Path) -> None:
    """What a task has started goes with the session."""
    path = tmp_path / "pids"
    with ClusterExecutor(node.settings) as executor:
        worker = executor.submit(rough_calls.leave_children, str(path)).result(WAIT_S)
        pids = [worker, *told(path)]
        with watched(pids):
            executor.shutdown()


@pytest.mark.parametrize("victims", [("agent",), ("template",), ("agent", "template"), ("template", "agent")])
def test_nothing_outlives_what_is_killed(node: Node, tmp_path: Path, victims: tuple[str, ...]) -> None:
    """Neither template nor worker nor its children; what cannot be seen to then, the next agent ends."""
    path = tmp_path / "pids"
    assert node.agent.process is not None
    with abandoned(node) as executor:
        executor.submit(rough_calls.have_children, str(path))
        worker, plain, apart, lost, nameless, program = told(path)
        template = node.template.pid
        pids = {"agent": node.agent.process.pid, "template": template}
        # With an empty environment and no relative left, it is nobody's any more.
        others = [plain, apart, lost, program] + ([nameless] if len(victims) == 1 else [])

        with watched([template, worker, *others]):
            for victim in victims:
                os.kill(pids[victim], signal.SIGKILL)
            if "agent" in victims:
                node.agent.process.wait(WAIT_S)
                node.agent.start()
        with contextlib.suppress(ProcessLookupError):
            os.kill(nameless, signal.SIGKILL)
        path.unlink()
        again = told(path)  # the session is still there, and the task is tried again
        assert again[0] != worker


class SlowSetup:
    """A worker's setup that does not end at the first time; nothing of ours can be imported before it."""

    def __init__(self, path: Path) -> None:
        self._code = f"""
import os, pathlib, sys, time
sys.path += {sys.path!r}
os.chdir({str(Path.cwd())!r})
if not pathlib.Path({str(path)!r}).exists():
    from tests.support.calls import rough_calls
    rough_calls.tell({str(path)!r}, [os.getpid()])
    rough_calls.wait_for_ever()
"""

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (exec, self._code, {})


@dataclass
class Scene:
    """A session whose worker is in some state: what it has submitted, and its worker."""

    node: Node
    executor: ClusterExecutor
    path: Path
    future: Future[Any]
    worker: int

    def drain(self) -> None:
        """Let the node serve no more; the worker would end after its task."""
        with contextlib.closing(NodeControl(self.node.settings, config.LOOPBACK)) as control:
            control.stop(is_forced=False)

    def stop(self) -> None:
        """Let the agent stop, which waits for a worker that does not listen."""
        assert self.node.agent.process is not None
        self.node.agent.process.terminate()
        assert told(self.path.with_suffix(".term")) == [self.worker]

    def kill(self, victim: str) -> None:
        """Kill a process, and see to it that its children end."""
        assert self.node.agent.process is not None
        agent, template = self.node.agent.process.pid, self.node.template.pid
        ends = {"worker": [self.worker], "template": [template, self.worker]}
        with watched(ends.get(victim, [agent, template, self.worker])):
            os.kill({"agent": agent, "template": template, "worker": self.worker}[victim], signal.SIGKILL)

    def go_on(self, *, is_agent_gone: bool) -> None:
        """Have an agent that serves."""
        assert self.node.agent.process is not None
        if is_agent_gone:
            self.node.agent.process.wait(WAIT_S)
            self.node.agent.start()
        with contextlib.closing(NodeControl(self.node.settings, config.LOOPBACK)) as control:
            control.start(-1)


@contextlib.contextmanager
def scene(node: Node, path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A worker in this state."""
    if state == "starting":
        monkeypatch.setattr(executor_module, "WorkerSetup", lambda *_: SlowSetup(path))
    with abandoned(node) as executor:
        if state == "idle":
            future = executor.submit(os.getpid)
            pids = [future.result(WAIT_S)]
        elif state == "starting":
            future = executor.submit(os.getpid)
            pids = told(path)
        else:
            future = executor.submit(rough_calls.hold_on_at_first, str(path))
            pids = told(path)
        found = Scene(node, executor, path, future, pids[0])
        if state == "draining":
            found.drain()
        if state == "stopping":
            found.stop()
        yield found


@pytest.mark.parametrize("victim", ["worker", "template", "agent"])
@pytest.mark.parametrize("state", ["starting", "idle", "running", "draining", "stopping"])
def test_killed_in_any_state_it_takes_its_children_along_and_no_task_is_lost(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, victim: str
) -> None:
    """The state is the worker's; the node works again, and the session with it."""
    assert node.agent.process is not None
    with scene(node, tmp_path / "pid", state, monkeypatch) as at:
        at.kill(victim)
        if state == "stopping" and victim != "agent":
            assert node.agent.process.wait(WAIT_S) == 0
        at.go_on(is_agent_gone=state == "stopping" or victim == "agent")

        result = at.future.result(WAIT_S)
        if state not in {"starting", "idle"}:
            assert result == "again"
        assert at.executor.submit(sdk_calls.square, 4).result(WAIT_S) == 16


def end_for_no_fault(node: Node, how: str, worker_pid: int) -> None:
    """End a worker in a way that its task cannot be blamed for."""
    assert node.agent.process is not None
    if how == "its template is killed":
        node.template.kill()
    elif how == "people terminate it":
        os.kill(worker_pid, signal.SIGTERM)
    elif how == "people stop the node":
        with contextlib.closing(NodeControl(node.settings, config.LOOPBACK)) as control:
            control.stop(is_forced=True)
            control.start(-1)
    else:
        node.agent.process.send_signal(signal.SIGKILL if how == "its agent is killed" else signal.SIGTERM)
        node.agent.process.wait(WAIT_S)
        node.agent.start()


@pytest.mark.parametrize(
    "how",
    [
        "people terminate it",
        pytest.param("its template is killed", marks=pytest.mark.full),
        pytest.param("people stop the node", marks=pytest.mark.full),
        pytest.param("its agent is killed", marks=pytest.mark.full),
        pytest.param("its agent is stopped", marks=pytest.mark.full),
    ],
)
def test_worker_that_ends_for_no_fault_of_its_task_costs_no_attempt(
    node: Node, tmp_path: Path, how: str
) -> None:
    """More often than a task may be tried."""
    begins, gate = tmp_path / "begins", tmp_path / "gate"
    with ClusterExecutor(node.settings) as executor:
        waiting = executor.submit(sdk_calls.begin_and_wait, str(begins), str(gate))
        for count in range(1, node.settings.max_attempts + 2):
            wait_until(lambda: begins.exists() and len(begins.read_text().splitlines()) == count)  # noqa: B023
            end_for_no_fault(node, how, int(begins.read_text().split()[-1]))
        wait_until(lambda: len(begins.read_text().splitlines()) == node.settings.max_attempts + 2)
        gate.touch()

        assert waiting.result(WAIT_S) == str(gate)


@pytest.mark.parametrize("victim", ["template", "agent"])
def test_killed_while_the_template_loads_it_leaves_nothing(node: Node, victim: str) -> None:
    """And the next one serves."""
    node.agent.stop()
    node.agent.start()
    assert node.agent.process is not None
    template = node.template.pid

    with watched([template]):
        os.kill(node.agent.process.pid if victim == "agent" else template, signal.SIGKILL)
    if victim == "agent":
        node.agent.process.wait(WAIT_S)
        node.agent.start()

    with ClusterExecutor(node.settings) as after:
        assert after.submit(sdk_calls.square, 4).result(WAIT_S) == 16


def test_agent_stops_in_one_deadline_whoever_does_not_listen(node: Node, tmp_path: Path) -> None:
    """Workers that ignore SIGTERM and their children, which do so too."""
    path = tmp_path / "pids"
    with abandoned(node) as executor:
        executor.submit(rough_calls.ignore_everything, str(path))
        told(path)
        pids = [process.pid for process in node.descendants()]

        with watched(pids):
            start_s = time.monotonic()
            assert node.agent.stop() == 0
            duration_s = time.monotonic() - start_s

    assert duration_s < STOP_LIMIT_S
    assert marked(node.settings) == []


def test_agent_that_is_stopped_says_goodbye(node: Node) -> None:
    """The fleet knows at once that it gives no cores, not after `node_timeout`; the next agent serves."""
    with contextlib.closing(BrokerClient(node.settings)) as broker:
        wait_until(lambda: broker.status().nodes[0].is_up)

        assert node.agent.stop() == 0
        wait_until(lambda: not broker.status().nodes[0].is_up)
        (found,) = broker.status().nodes
        node.agent.start()
        wait_until(lambda: broker.status().nodes[0].is_up)

    assert (found.core_count, found.state) == (0, status.STOPPED_WORDS)


def test_fork_bomb_is_ended_with_its_worker(node: Node, tmp_path: Path) -> None:
    """Also the part of it that has left the worker's group, and while it replaces what ends."""
    path = tmp_path / "pids"
    with abandoned(node) as executor:
        executor.submit(rough_calls.fork_many, str(path), 4)
        end_s = time.monotonic() + WAIT_S
        with watched(told(path)):
            while len(node.descendants()) < 150:
                assert time.monotonic() < end_s
            executor.terminate_workers()

    end_s = time.monotonic() + WAIT_S
    while [process.pid for process in marked(node.settings)] != [node.template.pid]:
        assert time.monotonic() < end_s


def test_worker_without_its_sockets_is_replaced(node: Node) -> None:
    """It cannot work any more, ends, and its task is tried elsewhere; others are not disturbed."""
    with ClusterExecutor(node.settings) as executor:
        broken: Future[str] = executor.submit(rough_calls.close_everything)
        assert "ended its worker 3 times" in str(broken.exception(WAIT_S))
        assert executor.submit(sdk_calls.square, 3).result(WAIT_S) == 9


def test_worker_without_its_output_works(node: Node) -> None:
    """Nobody needs to print."""
    with ClusterExecutor(node.settings) as executor:
        assert executor.submit(rough_calls.close_output, "fine").result(WAIT_S) == "fine"
        assert executor.submit(sdk_calls.square, 3).result(WAIT_S) == 9


@pytest.mark.parametrize(
    "count", [50, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(2000)])]
)
def test_sessions_that_come_and_go_leave_nothing(node: Node, count: int) -> None:
    """No process, no descriptor, no memory, no shared memory and no file, however many workers there were."""
    shared = np.ones(100_000)  # comes to the worker as a blob

    def cycle(number: int) -> None:
        with ClusterExecutor(node.settings, shows_output=False) as executor:
            word = f"{number}-" + "x" * 100_000
            assert executor.submit(rough_calls.print_both, word).result(WAIT_S) == word
            assert executor.submit(sdk_calls.double_in_place, shared).result(WAIT_S) == 200_000
            assert node.workers()

    def wait_until_idle() -> None:
        end_s = time.monotonic() + WAIT_S
        while node.workers() or len(node.descendants()) != 1:
            assert time.monotonic() < end_s, node.descendants()

    for number in range(10):
        cycle(number)
    wait_until_idle()
    before, files, resident = node.open_files(), node.files(), node.resident_bytes()

    for number in range(count):
        cycle(number)
    wait_until_idle()

    end_s = time.monotonic() + WAIT_S  # one of them may be answering somebody now, or have been before
    while any(after > before[name] for name, after in node.open_files().items()):
        assert time.monotonic() < end_s, (before, node.open_files())
    grown = {name: after - resident[name] for name, after in node.resident_bytes().items()}
    print(f"grown by {grown} bytes in {count} cycles")
    assert max(grown.values()) < MAX_GROWTH_BYTES, grown
    assert {path for path in node.files() - files if "/records/" not in f"{path}/"} == set()
    assert [process.pid for process in marked(node.settings)] == [node.template.pid]


def test_agents_that_come_and_go_leave_nothing(node: Node) -> None:
    """Whatever their workers were at."""
    files: set[str] = set()
    for number in range(5):
        with abandoned(node) as executor:
            executor.submit(rough_calls.wait_for_ever)
            end_s = time.monotonic() + WAIT_S
            while not node.workers():
                assert time.monotonic() < end_s
            pids = [process.pid for process in node.descendants()]
            with watched(pids):
                assert node.agent.stop() == 0
        if number:
            assert {path for path in node.files() - files if "/records/" not in f"{path}/"} == set()
        files = node.files()
        assert marked(node.settings) == []
        node.agent.start()


def test_shared_memory_of_an_agent_that_is_killed_goes_with_it(node: Node, tmp_path: Path) -> None:
    """Also if no other agent ever starts: its template removes it."""
    with abandoned(node) as executor:
        executor.submit(rough_calls.ignore_everything, str(tmp_path / "pids"))
        told(tmp_path / "pids")
        assert shared_folders(node.settings)
        assert node.agent.process is not None

        os.kill(node.agent.process.pid, signal.SIGKILL)

        end_s = time.monotonic() + WAIT_S
        while shared_folders(node.settings):
            assert time.monotonic() < end_s


def test_shared_memory_that_nobody_could_remove_goes_when_another_agent_starts(
    node: Node, tmp_path: Path
) -> None:
    """That of a cluster whose agent and template were killed at once; an agent that lives keeps its own."""
    other = LocalCluster(cores=1)
    with other, other.executor() as executor:
        executor.submit(sdk_calls.square, 3).result(WAIT_S)
        with abandoned(node) as broken:
            broken.submit(rough_calls.ignore_everything, str(tmp_path / "pids"))
            told(tmp_path / "pids")
            pids = [process.pid for process in node.descendants()]
            assert node.agent.process is not None
            with watched(pids):
                for pid in (node.template.pid, node.agent.process.pid):
                    os.kill(pid, signal.SIGKILL)
            assert shared_folders(node.settings)

            with LocalCluster(cores=1):
                assert not shared_folders(node.settings)

        assert shared_folders(other.settings)
        assert executor.submit(sdk_calls.square, 4).result(WAIT_S) == 16
