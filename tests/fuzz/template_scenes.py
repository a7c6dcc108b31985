"""An agent whose template is the fuzzer, and a template whose agent is the fuzzer."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from quakegrid import testing
from quakegrid.clients.agent import AgentClient
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.orders import (
    Exited,
    ForkDriver,
    Forked,
    ForkWorker,
    LoadedCode,
    Order,
    Ping,
    Pong,
    Ready,
    Report,
)
from quakegrid.services.agent.packets import close_all, encode_report, receive_order, receive_report
from quakegrid.settings import config
from quakegrid.settings.config import AGENT_MARK
from tests.fuzz.neighbours import Neighbour
from tests.fuzz.scenes import Scene
from tests.support import kernel
from tests.support.nodes import environment, wait_until
from tests.support.processes import Service

WAIT_S = 10.0
READY = Ready(TemplateState(TemplateKind.WARM), LoadedCode("3.26.0"), 0.1)


class FuzzedAgent(Service):
    """An agent with a fake template."""

    def __init__(self, settings: config.Settings, fuzz_socket: str) -> None:
        super().__init__(settings, "agent")
        self._fuzz_socket = fuzz_socket

    @property
    def command(self) -> list[str]:
        """What starts it."""
        module = "tests.fuzz.agent_with_fake_template"
        return [sys.executable, "-m", module, "--state-dir", str(self.settings.state_dir)]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        return environment(self.settings) | {"FUZZ_SOCKET": self._fuzz_socket}


class AgentScene(Scene):
    """An agent that believes the fuzzer to be its template, which forks whatever it is told.

    The agent may end a template that errs and start another; the fuzzer is that one too.
    """

    def start(self) -> None:
        """Start the agent and be its template."""
        (self.directory / "home").mkdir()
        state_dir = self.directory / "state"
        testing.write_cluster_config(state_dir, {"agent": {"preload": "none"}})
        self.settings = config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(state_dir / "openquake.cfg")})
        path = str(self.directory / "fuzz")
        self._listener = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._listener.bind(path)
        self._listener.listen()
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        self.agent = FuzzedAgent(self.settings, path)
        self._stack.callback(self._stop)
        self.agent.start()
        client = AgentClient(self.settings)
        wait_until(lambda: client.status().template_state.is_ready)
        client.close()

    def pids(self) -> dict[str, int]:
        """The agent alone."""
        assert self.agent.process is not None
        return {"agent": self.agent.process.pid}

    def neighbour(self, name: str) -> Neighbour:
        """One that asks the agent for its status."""
        agent = AgentClient(self.settings)
        return Neighbour(name, agent.status, agent.close)

    def report(self, packet: bytes, fd_count: int = 0) -> None:
        """Send a packet as the template; where the agent does without one, wait until it has another."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            with self._lock:
                control = self._control
            try:
                if control is not None:
                    send(control, packet, fd_count)
                    return
            except OSError:  # the agent has closed it
                self._forget(control)
            time.sleep(0.01)
        raise OSError("the agent has no template any more")

    def _stop(self) -> None:
        self.agent.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._connections:
                connection.close()
            if self._control is not None:
                self._control.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            _pid, fds, _flags, _address = socket.recv_fds(connection, 64, 1)
            control = socket.socket(fileno=fds[0])
            control.settimeout(WAIT_S)
            with contextlib.suppress(OSError):  # the agent has thought better of it
                send(control, encode_report(READY), 0)
            threading.Thread(target=self._obey, args=(control.dup(),), daemon=True).start()
            with self._lock:
                older = [*self._connections, *([self._control] if self._control else [])]
                self._connections, self._control = [connection], control
            for each in older:  # the agent has no use for that template
                each.close()

    def _forget(self, control: socket.socket) -> None:
        with self._lock:
            if self._control is control:
                self._control = None
                control.close()

    def _obey(self, control: socket.socket) -> None:
        """Answer orders as a template without children would, until the agent has closed its end."""
        pids: dict[str, int] = {}
        with control, contextlib.suppress(OSError):
            while True:
                try:
                    order, fds = receive_order(control)
                except TimeoutError:
                    continue
                close_all(fds)
                if order is None:
                    return
                for answer in self._answers(order, pids):
                    send(control, encode_report(answer), 0)

    def _answers(self, order: Order, pids: dict[str, int]) -> list[Report]:
        match order:
            case Ping():
                return [Pong()]
            case ForkDriver(name) | ForkWorker(name, _):
                pid = pids[name] = (1 << 22) + len(pids)  # above all numbers of processes
                return [Forked(name, pid), Exited(pid, 0, 0)]
        return []


class TemplateScene(Scene):
    """A template alone; the fuzzer is its agent."""

    def start(self) -> None:
        """Start it and wait until it is ready."""
        (self.directory / "home").mkdir()
        state_dir = self.directory / "state"
        testing.write_cluster_config(state_dir, {"agent": {"preload": "none"}})
        settings = config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(state_dir / "openquake.cfg")})
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.callback(self.control.close)
        self.control.settimeout(WAIT_S)
        command = [
            sys.executable,
            "-P",
            "-m",
            "quakegrid.services.agent.template",
            str(state_dir),
            str(theirs.fileno()),
            "",
        ]
        with theirs, (state_dir / "template.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(settings) | {AGENT_MARK: str(state_dir)},
            )
        self._stack.callback(self._process.wait)
        self._stack.callback(self._process.send_signal, signal.SIGTERM)
        self._stack.callback(self.control.close)
        report = receive_report(self.control)
        assert isinstance(report, Ready), report

    def pids(self) -> dict[str, int]:
        """The template alone."""
        return {"template": self._process.pid}

    def neighbour(self, name: str) -> Neighbour:
        """None: who gives orders is one."""
        raise NotImplementedError(name)

    def judge(self) -> list[str]:
        """Whether children are left when the agent has gone."""
        self.control.close()
        self._process.wait(WAIT_S)
        return ["the template is still there"] if kernel.start_time(self._process.pid) else []


def send(control: socket.socket, packet: bytes, fd_count: int) -> None:
    """Send a packet with descriptors of nothing; the kernel takes none that is much too long."""
    fds = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(fd_count)]
    try:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        control.sendmsg([packet], ancillary)
    except OSError as exc:
        if exc.errno != errno.EMSGSIZE:
            raise
    finally:
        for fd in fds:
            os.close(fd)
