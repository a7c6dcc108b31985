"""The services of a cluster in namespaces, and an init system that starts again what died."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid import testing
from tests.clusters import QUAKEGRID
from tests.faults.harness.network import Network, wait_for_no_process
from tests.faults.harness.plan import MASTER

RESTART_AFTER_S = 1.0
STOP_S = 30.0
REPOSITORY = Path(__file__).parents[3]
STATE_DISK = "48m"


@dataclass(frozen=True)
class Options:
    """What a cluster is like.

    Args:
        node_count: nodes beside the master.
        with_engine: whether the master and the first node load the engine.
        node_timeout_s: as in openquake.cfg.
    """

    node_count: int = 3
    with_engine: bool = False
    node_timeout_s: float = 15.0


@dataclass
class Service:
    """One service that is to run until the harness says otherwise."""

    name: str
    node: int
    command: list[str]
    environ: dict[str, str]
    log: Path
    start_count: int = 0
    process: subprocess.Popen[bytes] | None = None
    _closing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._spawn()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self) -> int | None:
        """Ask it to end; the exit code, None if it had to be killed."""
        self._closing.set()
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def give_up(self) -> None:
        """Start it no more."""
        self._closing.set()

    def _spawn(self) -> None:
        self.start_count += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environ,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            assert self.process is not None
            self.process.wait()
            if self._closing.wait(RESTART_AFTER_S):
                return
            self._spawn()


class FaultCluster:
    """A master and nodes, each in its namespace.

    Args:
        directory: for everything that it writes; short, for unix sockets are below it.
        network: where it runs.
        options: what it is like.
    """

    def __init__(self, directory: Path, network: Network, options: Options) -> None:
        self.directory, self.network, self.options = directory, network, options
        self.shared_dir = directory / "shared"
        self.nodes = range(options.node_count + 1)
        self.services: dict[tuple[str, int], Service] = {}

    def state_dir(self, node: int) -> Path:
        """The state dir of a node."""
        return self.directory / f"n{node}"

    def tmp_dir(self, node: int) -> Path:
        """Where a node's processes have their temporary files."""
        return self.directory / f"t{node}"

    def environ(self, node: int) -> dict[str, str]:
        """The environment of a node's processes."""
        home = self.directory / f"h{node}"
        mine = {
            "OQ_CONFIG_FILE": str(self.state_dir(node) / "openquake.cfg"),
            "TMPDIR": str(self.tmp_dir(node)),
        }
        return testing.isolated_environ(home) | mine | {"PYTHONPATH": str(REPOSITORY)}

    def command(self, node: int, *args: object) -> list[str]:
        """The command that runs `quakegrid` on a node."""
        command = [str(QUAKEGRID), "--state-dir", str(self.state_dir(node)), *map(str, args)]
        return self.network.inside(node, command)

    def write(self) -> None:
        """Make all directories and settings."""
        authkey = secrets.token_urlsafe(24)
        self.shared_dir.mkdir()
        for node in self.nodes:
            for directory in (self.state_dir(node), self.tmp_dir(node), self.directory / f"h{node}"):
                directory.mkdir(exist_ok=True)
            settings = self._settings(node, authkey)
            extra: dict[str, dict[str, str | int]] = {key: dict(value) for key, value in settings.items()}
            testing.write_cluster_config(self.state_dir(node), extra)

    def _settings(self, node: int, authkey: str) -> dict[str, dict[str, str]]:
        master = self.network.address(MASTER)
        hosts = ", ".join(f"{self.network.address(each)} 1" for each in self.nodes)
        has_engine = self.options.with_engine and node <= 1
        return {
            "dbserver": {"host": master, "port": "1908", "authkey": authkey, "receiver_ports": "1912-1920"},
            "broker": {
                "port": "1911",
                "node_timeout": str(self.options.node_timeout_s),
                "max_attempts": "20",  # faults are many, and none is the task's
            },
            "zworkers": {"ctrl_port": "1909", "host_cores": hosts},
            "agent": {"preload": "openquake" if has_engine else "none"},
            "directory": {"shared_dir": str(self.shared_dir), "custom_tmp": str(self.tmp_dir(node))},
            "distribution": {"serialize_jobs": "0"},
        }

    def start(self) -> None:
        """Start every service, and wait until all nodes are up."""
        self._add("dbserver", MASTER)
        self._add("broker", MASTER)
        for node in self.nodes:
            self._add("agent", node)

    def _add(self, name: str, node: int) -> None:
        command = [sys.executable, "-P", "-m", f"services.{name}", "--state-dir", str(self.state_dir(node))]
        log = self.directory / f"{name}{node}.log"
        service = Service(name, node, self.network.inside(node, command), self.environ(node), log)
        self.services[name, node] = service
        service.start()

    def stop(self) -> list[str]:
        """Stop every service; what is wrong about how they ended."""
        wrong = []
        for service in reversed(self.services.values()):
            code = service.stop()
            if code != 0:
                wrong.append(f"{service.name} of node {service.node} ended with {code} when it was to stop")
        return wrong

    def leftovers(self) -> list[str]:
        """What is left of the cluster when all services have stopped."""
        left = []
        for node in self.nodes:
            pids = wait_for_no_process(self.network, node, 5.0)
            left += [f"process {pid} on node {node}: {_command_line(pid)}" for pid in pids]
            left += [f"port {port} on node {node}" for port in self.network.listening_ports(node)]
            left += [f"temporary file {path}" for path in self.tmp_dir(node).iterdir()]
            shared = _shared_memory(self.state_dir(node))
            left += [f"shared memory {shared}"] if shared.exists() else []
            left += [
                f"file {path}"
                for folder in ("run", "tmp")
                for path in self.state_dir(node).glob(f"{folder}/*")
            ]
        return left


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    return ""


def _shared_memory(state_dir: Path) -> Path:
    """Where the agent of a state dir keeps blobs."""
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return Path("/dev/shm", f"quakegrid-{os.getuid()}-{name}")


@contextlib.contextmanager
def fault_cluster(directory: Path, options: Options) -> Iterator[FaultCluster]:
    """A cluster that runs, its master's state on a small disk of its own; nothing is left of it after.

    Raises:
        NamespaceError: not allowed here.
    """
    with ExitStack() as stack:
        network = stack.enter_context(Network(options.node_count + 1))
        cluster = FaultCluster(directory, network, options)
        _mount(cluster.state_dir(MASTER))
        stack.callback(subprocess.run, ["umount", "--lazy", cluster.state_dir(MASTER)], check=False)
        cluster.write()
        cluster.start()
        try:
            yield cluster
        finally:
            for service in cluster.services.values():
                service.give_up()


def _mount(directory: Path) -> None:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_DISK}", "qgfault", directory], check=True)
