"""A cluster in namespaces: each node's directories, and an init system that starts again what died."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid import testing
from quakegrid.services.agent.node.state_lock import LOCK_NAME
from tests.support.clusters import QUAKEGRID
from tests.support.namespaces import Network, wait_for_no_process

MASTER = 0
RESTART_AFTER_S = 1.0
STOP_S = 30.0
REPOSITORY = Path(__file__).parents[2]


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

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

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


class NamespaceCluster:
    """A master and nodes, each in its namespace.

    Args:
        directory: for everything that it writes; short, for unix sockets are below it.
        network: where it runs.
    """

    def __init__(self, directory: Path, network: Network) -> None:
        self.directory, self.network = directory, network
        self.shared_dir = directory / "mount" / "shared"
        self.nodes = network.nodes
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

    def start_agentctl(self, node: int, *args: str) -> subprocess.Popen[bytes]:
        """Start `agentctl` on a node; what it says is for nobody."""
        agentctl = str(QUAKEGRID.with_name("agentctl"))
        return subprocess.Popen(
            self.network.inside(node, [agentctl, *args, "--state-dir", str(self.state_dir(node))]),
            env=self.environ(node),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def write(self, node: int, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Make a node's directories and its settings, or other settings."""
        for directory in (self.state_dir(node), self.tmp_dir(node), self.directory / f"h{node}"):
            directory.mkdir(exist_ok=True)
        testing.write_cluster_config(self.state_dir(node), settings)

    def start_service(self, name: str, node: int) -> None:
        """Keep a service running on a node."""
        self.start_program(name, node, [sys.executable, "-P", "-m", f"quakegrid.services.{name}"])

    def start_program(
        self, name: str, node: int, command: list[str], environ: Mapping[str, str] | None = None
    ) -> None:
        """Keep a command running on a node; `--state-dir` is added."""
        inside = self.network.inside(node, [*command, "--state-dir", str(self.state_dir(node))])
        log = self.directory / f"{name}{node}.log"
        service = Service(name, node, inside, self.environ(node) | dict(environ or {}), log)
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
                if path.name != LOCK_NAME  # which stays, for marks name it
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
