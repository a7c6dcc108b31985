"""The services that are fuzzed, as real processes in a directory of their own, and their neighbours."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from quakegrid.clients.agent import AgentClient
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from tests.fuzz.neighbours import CALL_S, Neighbour
from tests.support.nodes import Nodes, wait_until

# After the last input, until a new session has its worker: what was cut off must be over by then.
RECOVERY_S = 60.0


class Scene(ABC):
    """Services that run; a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="qgz"))  # short: unix sockets are below it
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @abstractmethod
    def start(self) -> None:
        """Start everything."""

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """The processes that must go on, by name."""

    @abstractmethod
    def neighbour(self, name: str) -> Neighbour:
        """A well-behaved peer."""

    def judge(self) -> list[str]:
        """What is wrong after the last input and without neighbours."""
        return []

    def log_bytes(self) -> int:
        """The size of all logs."""
        return sum(path.stat().st_size for path in self.directory.rglob("*.log"))

    def log_tail(self, name: str, byte_count: int = 4000) -> str:
        """The end of a service's log."""
        paths = list(self.directory.rglob(f"{name}.log"))
        return paths[0].read_text(errors="replace")[-byte_count:] if paths else ""


class ClusterScene(Scene):
    """A dbserver, a broker with its lanes, and an agent with a template without the engine."""

    def start(self) -> None:
        """Start them."""
        self.nodes = Nodes(self.directory / "n", "127.0.0.1 2")
        self._stack.callback(self.nodes.close)
        self.settings = self.nodes.master
        self.dbserver = self.nodes.service(self.settings, "dbserver")
        self.agent = self.nodes.agent(1)
        self.broker = self.nodes.broker
        wait_until(lambda: self.nodes.up() == ["127.0.0.1"])
        self.lane_port = 0

    def pids(self) -> dict[str, int]:
        """The services, the lanes that have sessions and the template."""
        services = {
            each.name: each.process.pid for each in (self.dbserver, self.broker, self.agent) if each.process
        }
        lanes = {f"lane {lane.port}": lane.pid for lane in self.nodes.status().lanes if lane.session_count}
        return services | lanes | {"template": template_of(services["agent"])}

    def neighbour(self, name: str) -> Neighbour:
        """One that asks a service, or whose tasks run."""
        match name:
            case "dbserver":
                db = DbClient(self.settings)
                return Neighbour(name, lambda: db.jobs.list_jobs(limit=5), db.close)
            case "broker":
                broker = BrokerClient(self.settings)
                return Neighbour(name, broker.status, broker.close)
            case "agent":
                agent = AgentClient(self.settings)
                return Neighbour(name, agent.status, agent.close)
        cluster = self.nodes.cluster()
        executor = cluster.executor(max_workers=1)
        return Neighbour(name, lambda: executor.submit(pow, 2, 3).result(CALL_S), cluster.close)

    @contextlib.contextmanager
    def session(self) -> Iterator[int]:
        """The number of a session that runs."""
        with self.nodes.cluster() as cluster, cluster.executor(max_workers=1) as executor:
            executor.submit(pow, 2, 3).result(CALL_S)
            yield self.nodes.status().sessions[0].session_id

    def judge(self) -> list[str]:
        """Whether somebody who comes now is served as ever."""
        end_s = time.monotonic() + RECOVERY_S
        try:
            with self.nodes.cluster() as cluster, cluster.executor(max_workers=1) as executor:
                executor.submit(pow, 2, 3).result(end_s - time.monotonic())
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is a violation
            return [f"a new session was not served after it: {type(exc).__name__}: {exc}"]
        return []


def template_of(agent_pid: int) -> int:
    """The template of an agent, 0 if there is none."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_template = b"quakegrid.services.agent.template" in (path / "cmdline").read_bytes()
            stat = (path / "stat").read_text(encoding="utf-8", errors="replace")
            if is_template and int(stat.rpartition(")")[2].split()[1]) == agent_pid:
                return int(path.name)
    return 0
