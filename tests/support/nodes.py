"""A cluster of several nodes on one machine: a broker, and agents on loopback addresses of their own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quakegrid import Cluster, testing
from quakegrid.clients.broker import BrokerClient, FleetStatus
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support.processes import Service

TIMEOUT_S = 60.0
# Where root installed the engine, upstream lets nobody else control workers.
USER = "openquake"


def wait_until(is_so: Callable[[], Any], timeout_s: float = TIMEOUT_S, why: Callable[[], str] = str) -> None:
    """Ask until it is so; `why` tells what is, where it does not become so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"it did not become so {why()}"
        time.sleep(0.01)


def environment(settings: Settings) -> dict[str, str]:
    """That of a node's user: nothing but this cluster, and the caches of compiled kernels."""
    home = settings.state_dir.parent / "home"
    own = {"OQ_CONFIG_FILE": str(settings.state_dir / "openquake.cfg"), "LOGNAME": USER}
    return testing.isolated_environ(home) | own


class NodeService(Service):
    """A service of a node."""

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        return environment(self.settings)


def run(program: str, settings: Settings, *args: object) -> subprocess.CompletedProcess[str]:
    """Run `quakegrid` or `agentctl` of a node to its end."""
    command = [str(Path(sys.executable).with_name(program)), "--state-dir", str(settings.state_dir)]
    return subprocess.run(
        [*command, *map(str, args)],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class Nodes:
    """A broker and agents; node n listens on 127.0.0.n, the first is the master's."""

    def __init__(self, directory: Path, host_cores: str, engine: bool = False) -> None:
        self.directory, self._stack = directory, contextlib.ExitStack()
        self._preload = "openquake" if engine else "none"
        (directory / "home").mkdir(parents=True)
        extra = {
            "zworkers": {"host_cores": host_cores},
            "agent": {"preload": self._preload},
            "broker": {"node_timeout": 3},
        }
        self._config = testing.write_cluster_config(directory / "state", extra)
        self.master = self._load(directory / "state")
        self.broker = self.service(self.master, "broker")
        self._agents: dict[int, Service] = {}

    def service(self, settings: Settings, name: str) -> Service:
        """A service that ends with the test."""
        return self.keep(NodeService(settings, name))

    def keep(self, service: Service) -> Service:
        """Start a service that ends with the test."""
        self._stack.callback(service.close)
        service.start()
        return service

    def settings_of(self, number: int) -> Settings:
        """Settings of a node; those of the first are the master's."""
        if number == 1:
            return self.master
        folder = self.directory / f"node{number}"
        (folder / "home").mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir(exist_ok=True)
        text = self._config.read_text().replace("[agent]\n", f"[agent]\nlisten = 127.0.0.{number}\n")
        path = folder / "state" / "openquake.cfg"
        path.touch(mode=0o600)
        path.write_text(text)
        return self._load(folder / "state")

    def agent(self, number: int) -> Service:
        """A running agent."""
        self._agents[number] = self.service(self.settings_of(number), "agent")
        return self._agents[number]

    def mend(self) -> None:
        """Have the broker and all agents that were started at work again."""
        for service in (self.broker, *self._agents.values()):
            if service.process is None or service.process.poll() is not None:
                service.start()
        if any(node.state == "stopped" for node in self.status().nodes):
            # An agent that was started just now cannot be told yet.
            wait_until(lambda: self.quakegrid("workers", "start").returncode == 0)
        wait_until(lambda: set(self.up()) >= {f"127.0.0.{number}" for number in self._agents})

    def status(self) -> FleetStatus:
        """What the broker tells."""
        with BrokerClient(self.master) as client:
            return client.status()

    def up(self) -> list[str]:
        """The nodes that are up."""
        return [node.host for node in self.status().nodes if node.is_up]

    def cluster(self) -> Cluster:
        """The cluster, for Python programs."""
        return Cluster(self.master.state_dir)

    def agentctl(self, number: int, *args: object) -> subprocess.CompletedProcess[str]:
        """Run `agentctl` on a node."""
        return run("agentctl", self.settings_of(number), *args)

    def quakegrid(self, *args: object) -> subprocess.CompletedProcess[str]:
        """Run `quakegrid` on the master."""
        return run("quakegrid", self.master, *args)

    def node(self, number: int) -> dict[str, Any]:
        """What `agentctl status` tells of a node."""
        done = self.agentctl(number, "status", "--output", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @staticmethod
    def _load(state_dir: Path) -> Settings:
        return config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(state_dir / "openquake.cfg")})

    def close(self) -> None:
        """End everything."""
        self._stack.close()


@contextlib.contextmanager
def running_nodes(directory: Path, host_cores: str, *numbers: int, engine: bool = False) -> Iterator[Nodes]:
    """A broker and these agents, all up that `host_cores` names; gone at the end."""
    nodes = Nodes(directory, host_cores, engine)
    try:
        for number in numbers:
            nodes.agent(number)
        named = [item.host for item in nodes.master.agent_host_cores]
        expected = {host for host in named if host[-1] in map(str, numbers)}
        # After an installation the engine compiles its kernels first.
        wait_until(lambda: set(nodes.up()) >= expected, 280 if engine else TIMEOUT_S)
        yield nodes
    finally:
        nodes.close()
