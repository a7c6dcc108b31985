"""The cluster that the harness breaks: small, with patience for many faults."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from quakegrid.settings import authkeys
from tests.support.namespace_cluster import MASTER, NamespaceCluster
from tests.support.namespaces import Network

STATE_DISK = "48m"


# After so long out of reach a node is lost, and with it the sessions of its drivers.
NODE_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Options:
    """What a cluster is like.

    Args:
        node_count: nodes beside the master.
        with_engine: whether the master and the first node load the engine.
        node_timeout_s: as in openquake.cfg.
        stopped_timeout_s: the same.
    """

    node_count: int = 3
    with_engine: bool = False
    node_timeout_s: float = NODE_TIMEOUT_S
    stopped_timeout_s: int = 5


def _settings(
    cluster: NamespaceCluster, options: Options, node: int, authkey: str
) -> dict[str, dict[str, str]]:
    master = cluster.network.address(MASTER)
    hosts = ", ".join(f"{cluster.network.address(each)} 1" for each in cluster.nodes)
    has_engine = options.with_engine and node <= 1
    return {
        "dbserver": {"host": master, "port": "1908", "authkey": authkey, "receiver_ports": "1912-1920"},
        "broker": {
            "port": "1911",
            "node_timeout": str(options.node_timeout_s),
            "max_attempts": "20",  # faults are many, and none is the task's
            "max_resumes": "20",  # nor the calculation's
        },
        "zworkers": {"ctrl_port": "1909", "host_cores": hosts},
        "agent": {
            "preload": "openquake" if has_engine else "none",
            "stopped_timeout": str(options.stopped_timeout_s),
        },
        "directory": {"shared_dir": str(cluster.shared_dir), "custom_tmp": str(cluster.tmp_dir(node))},
        "distribution": {"serialize_jobs": "0"},
    }


@contextlib.contextmanager
def fault_cluster(directory: Path, options: Options) -> Iterator[NamespaceCluster]:
    """A cluster that runs, its master's state on a small disk of its own; nothing is left of it after.

    Raises:
        NamespaceError: not allowed here.
    """
    with ExitStack() as stack:
        network = stack.enter_context(Network(options.node_count + 1))
        cluster = NamespaceCluster(directory, network)
        _mount(cluster.state_dir(MASTER))
        stack.callback(subprocess.run, ["umount", "--lazy", cluster.state_dir(MASTER)], check=False)
        cluster.shared_dir.mkdir(parents=True)
        authkey = authkeys.new_authkey()
        for node in cluster.nodes:
            cluster.write(node, _settings(cluster, options, node, authkey))
        cluster.start_service("dbserver", MASTER)
        cluster.start_service("broker", MASTER)
        for node in cluster.nodes:
            cluster.start_service("agent", node)
        try:
            yield cluster
        finally:
            for service in cluster.services.values():
                service.give_up()


def _mount(directory: Path) -> None:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_DISK}", "qgtest", directory], check=True)
