"""A crowd on one machine: a broker, and agents on loopback addresses of their own that believe in many cores.

Everything is real but the number of cores: processes, ports, keys, connections. Workers load no engine. For
`bench_crowd.py` and `tests/system/test_crowd.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from quakegrid import testing
from quakegrid.clients.broker import BrokerClient, FleetStatus
from quakegrid.machine import service_files, temporary_clusters
from quakegrid.settings import config
from quakegrid.settings.config import Settings

REPOSITORY = Path(__file__).parents[2]
WAIT_S = 300.0
POLL_S = 0.05
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of some processes since they started, and how often their threads have gone to sleep."""

    cpu_s: float
    sleep_count: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu_s - earlier.cpu_s, self.sleep_count - earlier.sleep_count)


class Crowd:
    """A broker and its agents.

    Args:
        folder: an empty directory, for everything of theirs.
        agent_count: agents; number n listens on 127.0.0.n and believes to be a node of its own.
        core_count: cores in which each agent believes.
    """

    def __init__(self, folder: Path, agent_count: int, core_count: int) -> None:
        self.agent_count, self.core_count = agent_count, core_count
        self._folder = folder
        (folder / "home").mkdir()
        extra: temporary_clusters.Sections = {
            # On machines of their own, drivers, lanes and agents would not wait behind a thousand workers.
            "agent": {"preload": "none", "nice": 19},
            "zworkers": {"host_cores": ",".join(f"127.0.0.{n} -1" for n in range(1, agent_count + 1))},
            # The agents share one machine, which others use as well. As a thousand processes start there, an
            # agent may wait long for the CPU.
            "broker": {"node_timeout": 60},
            "memory": {"soft_mem_limit": 98, "hard_mem_limit": 99},
        }
        self._config = testing.write_cluster_config(folder / "state", extra)
        self.settings = self._load(folder / "state")
        # Closes with this process, however it ends, and ends the services.
        self._lifeline, self._our_end = os.pipe()
        self._broker = self._start_broker()
        self._agents = [self._start_agent(number) for number in range(1, agent_count + 1)]

    @property
    def worker_count(self) -> int:
        """Workers when all cores have one."""
        return self.agent_count * self.core_count

    def wait_until_up(self) -> None:
        """Wait for all nodes."""
        wait_until(lambda: service_files.read(self.settings, "broker") is not None)
        wait_until(lambda: sum(node.core_count for node in self.status().nodes) == self.worker_count)

    def status(self) -> FleetStatus:
        """What the broker tells."""
        with BrokerClient(self.settings) as broker:
            return broker.status()

    def pids(self) -> dict[str, list[int]]:
        """Process ids by what they are; the driver is this process."""
        children = _children()
        agents = [agent.pid for agent in self._agents]
        templates = [pid for agent in agents for pid in children.get(agent, ())]
        return {
            "driver": [os.getpid()],
            "broker": [self._broker.pid],
            "lanes": children.get(self._broker.pid, []),
            "agents": agents,
            "templates": templates,
            "workers": [pid for template in templates for pid in children.get(template, ())],
        }

    def kill_lane(self) -> None:
        """SIGKILL for the lane that has most tasks; its broker starts another one."""
        lanes = [lane for lane in self.status().lanes if lane.pid]
        os.kill(max(lanes, key=lambda lane: lane.task_count).pid, signal.SIGKILL)

    def kill_broker(self) -> None:
        """SIGKILL for the broker, and so for its lanes; another one starts at once."""
        self._broker.kill()
        self._broker.wait(STOP_S)
        self._broker = self._start_broker()

    def close(self) -> None:
        """End everything."""
        services = [*self._agents, self._broker]
        for service in services:
            service.terminate()
        for service in services:
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(STOP_S)
            service.kill()
        os.close(self._our_end)
        os.close(self._lifeline)

    def log(self) -> str:
        """What the services have said."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def _start_broker(self) -> subprocess.Popen[bytes]:
        state_dir = self.settings.state_dir
        return self._start(
            "broker",
            state_dir,
            "quakegrid.services.broker",
            "--state-dir",
            str(state_dir),
            "--lifeline-fd",
            str(self._lifeline),
        )

    def _start_agent(self, number: int) -> subprocess.Popen[bytes]:
        state_dir = self.settings.state_dir if number == 1 else self._folder / f"node{number}"
        if number > 1:
            state_dir.mkdir()
            path = state_dir / config.CONFIG_NAME
            path.touch(mode=0o600)
            listen = f"[agent]\nlisten = 127.0.0.{number}\n"
            path.write_text(self._config.read_text().replace("[agent]\n", listen))
        arguments = (
            "benchmarks.support.roomy_agent",
            str(self.core_count),
            str(state_dir),
            str(self._lifeline),
        )
        return self._start(f"agent{number}", state_dir, *arguments)

    def _start(self, name: str, state_dir: Path, *arguments: str) -> subprocess.Popen[bytes]:
        environ = testing.isolated_environ(self._folder / "home")
        environ["OQ_CONFIG_FILE"] = str(state_dir / config.CONFIG_NAME)
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=environ,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                pass_fds=[self._lifeline],
            )

    @staticmethod
    def _load(state_dir: Path) -> Settings:
        return config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(state_dir / config.CONFIG_NAME)})


@contextlib.contextmanager
def running_crowd(agent_count: int, core_count: int) -> Iterator[Crowd]:
    """A crowd whose nodes are all up; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="qgc") as folder:
        crowd = Crowd(Path(folder), agent_count, core_count)
        try:
            crowd.wait_until_up()
            yield crowd
        finally:
            crowd.close()


def wait_until(is_so: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: it did not become so.
    """
    end_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > end_s:
            raise TimeoutError("it did not become so in time")
        time.sleep(POLL_S)


def usage(pids: list[int]) -> Usage:
    """What processes have used, as the kernel counts it for each of their threads; none if they ended."""
    cpu_ns = sleep_count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                cpu_ns += int((task / "schedstat").read_text().split()[0])
                words = (task / "status").read_text().rpartition("\nvoluntary_ctxt_switches:")[2].split()
                sleep_count += int(words[0])
    return Usage(cpu_ns / 1e9, sleep_count)


def usages(pids: dict[str, list[int]]) -> dict[str, Usage]:
    """The same by what the processes are."""
    return {name: usage(group) for name, group in pids.items()}


def _children() -> dict[int, list[int]]:
    """Every process's children, by one look at /proc."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found.setdefault(int(parent), []).append(int(path.parent.name))
    return found


def available_memory_bytes() -> int:
    """What programs may still take on this machine."""
    return int(psutil.virtual_memory().available)
