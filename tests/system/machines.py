"""A master and nodes as people have them: addresses and names of their own, standard ports, a firewall."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from quakegrid.settings import authkeys
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER, NamespaceCluster
from tests.support.namespaces import NamespaceError, Network, wait_for_no_process
from tests.system.firewall import Firewall

AGENTCTL = Path(sys.executable).with_name("agentctl")
MASTER_PORTS, AGENT_PORT = {1908, 1911}, 1909
TIMEOUT_S = 120.0
# After an installation the engine compiles its kernels first.
UP_S = 280.0
Sections = dict[str, dict[str, str]]


class Machines:
    """A cluster: the master, which gives no cores, and nodes that give so many each.

    Args:
        directory: for everything that it writes.
        network: of as many machines.
        cores: of each machine, the master first; of those that `host_cores` names all are taken.
        configured: nodes that `host_cores` names.
        preload: as in `[agent] preload`.
        more: further settings of all machines.
    """

    def __init__(
        self,
        directory: Path,
        network: Network,
        cores: tuple[int, ...],
        configured: tuple[int, ...],
        preload: str,
        more: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.cluster = NamespaceCluster(directory, network)
        self.network, self.cores, self.directory = network, cores, directory
        self.firewall = Firewall(network)
        self.shared_dir = self.cluster.shared_dir
        self.shared_dir.mkdir(parents=True)
        self.host_cores = ", ".join(f"{network.address(node)} -1" for node in configured) or "none"
        self._preload, self._authkey, self._more = preload, authkeys.new_authkey(), more or {}
        for node in network.nodes:
            self.configure(node)

    def settings(self, node: int) -> Sections:
        """What stands in a machine's openquake.cfg."""
        return {
            "dbserver": {
                "host": self.network.address(MASTER),
                "port": "1908",
                "authkey": self._authkey,
                "receiver_ports": "1912-1920",
            },
            "broker": {"port": "1911"},
            "zworkers": {"ctrl_port": "1909", "host_cores": self.host_cores},
            "agent": {"preload": self._preload},
            "directory": {"shared_dir": str(self.shared_dir), "custom_tmp": str(self.cluster.tmp_dir(node))},
            **{section: dict(values) for section, values in self._more.items()},
        }

    def configure(
        self,
        node: int,
        changes: Mapping[str, Mapping[str, str]] | None = None,
        *,
        prelude: str = "",
        hosts: str = "",
    ) -> None:
        """Write a machine's files; they count for what is started there from now on.

        Args:
            node: which machine.
            changes: what its openquake.cfg has otherwise.
            prelude: shell commands that all its programs begin with.
            hosts: its /etc/hosts beyond localhost; by default the names and addresses of all machines.
        """
        settings = self.settings(node)
        for section, values in (changes or {}).items():
            settings[section] |= values
        self.cluster.write(node, settings)
        names = (
            f"{self.network.address(each)} {self.network.node_name(each)}" for each in self.network.nodes
        )
        path = self.directory / f"hosts{node}"
        path.write_text(f"127.0.0.1 localhost\n{hosts or chr(10).join(names)}\n", encoding="utf-8")
        self.network.begin_with(node, f"mount --bind {path} /etc/hosts\n{prelude}")

    # --- services

    def start_master(self) -> None:
        """Start dbserver and broker."""
        self.cluster.start_service("dbserver", MASTER)
        self.cluster.start_service("broker", MASTER)
        wait_until(lambda: set(self.network.listening_ports(MASTER)) >= MASTER_PORTS)

    def start_agent(self, node: int, *args: str, environ: Mapping[str, str] | None = None) -> None:
        """Start a machine's agent, with its cores; `args` are more of `agentctl serve`."""
        claims = self.directory / "claims"  # of cores, which these machines have in common
        claims.mkdir(exist_ok=True)
        serve = [str(AGENTCTL), "serve", "--cores", str(self.cores[node]), "--claims", str(claims), *args]
        self.cluster.start_program("agent", node, serve, environ)
        wait_until(lambda: AGENT_PORT in self.network.listening_ports(node))

    def stop_agent(self, node: int) -> None:
        """Stop it."""
        assert self.cluster.services.pop(("agent", node)).stop() == 0

    def stop_master(self) -> None:
        """Stop broker and dbserver."""
        for name in ("broker", "dbserver"):
            assert self.cluster.services.pop((name, MASTER)).stop() == 0

    # --- commands

    def start(self, program: Path, node: int, *args: object) -> subprocess.Popen[str]:
        """Start `quakegrid` or `agentctl` on a machine."""
        command = [str(program), "--state-dir", str(self.cluster.state_dir(node)), *map(str, args)]
        return subprocess.Popen(
            self.network.inside(node, command),
            env=self.cluster.environ(node),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, program: Path, node: int, *args: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with self.start(program, node, *args) as process:
            try:
                out, err = process.communicate(timeout=UP_S)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def quakegrid(self, *args: object) -> subprocess.CompletedProcess[str]:
        """Run `quakegrid` on the master."""
        return self.call(QUAKEGRID, MASTER, *args)

    def agentctl(self, node: int, *args: object) -> subprocess.CompletedProcess[str]:
        """Run `agentctl` on a node."""
        return self.call(AGENTCTL, node, *args)

    def json(self, *args: object) -> Any:
        """What `quakegrid` on the master prints."""
        done = self.quakegrid(*args, "--output", "json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def nodes(self) -> dict[int, dict[str, Any]]:
        """The nodes as the broker knows them, by their number."""
        numbers = {self.network.address(node): node for node in self.network.nodes}
        return {numbers[found["host"]]: found for found in self.json("status")["nodes"]}

    def warm_cores(self) -> dict[int, int]:
        """Cores of the nodes that can work, by their number."""
        return {
            number: node["core_count"]
            for number, node in self.nodes().items()
            if str(node["state"]).startswith(("warm", "cold"))
        }

    def wait_for_cores(self, cores: Mapping[int, int]) -> None:
        """Wait until just these nodes can work, with so many cores."""
        wait_until(lambda: self.warm_cores() == cores, lambda: self.quakegrid("status").stdout, UP_S)


def wait_until(
    is_so: Callable[[], Any], say: Callable[[], object] = str, timeout_s: float = TIMEOUT_S
) -> None:
    """Ask until it is so; `say` tells what is instead."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"it did not become so: {say()}"
        time.sleep(0.05)


@contextlib.contextmanager
def running_machines(
    *cores: int,
    configured: tuple[int, ...] = (),
    preload: str = "none",
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Machines]:
    """Machines of which the master's dbserver and broker run; nothing is left of them at the end."""
    directory = Path(tempfile.mkdtemp(prefix="qgs"))
    try:
        with Network(len(cores)) as network:
            machines = Machines(directory, network, cores, configured, preload, more)
            machines.start_master()
            try:
                yield machines
            finally:
                wrong = machines.cluster.stop()
            assert wrong == []
            for node in network.nodes:
                assert wait_for_no_process(network, node, 5.0) == []
    except NamespaceError as exc:
        pytest.skip(f"tests over network namespaces need root, iproute2 and nftables: {exc}")
    finally:
        shutil.rmtree(directory)


def cores_here(count: int) -> int:
    """So many cores, or those of this machine."""
    return min(count, len(os.sched_getaffinity(0)))
