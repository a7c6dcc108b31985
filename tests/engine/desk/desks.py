"""A machine without engine and cluster, as far as one process can be one, and links that are cut."""

from __future__ import annotations

import getpass
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from quakegrid import testing
from tests.support.clusters import Cluster

TIMEOUT_S = 300
# Runs the command line in a process in which there is no engine.
WITHOUT_ENGINE = """
import sys

class NoEngine:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openquake":
            raise ModuleNotFoundError(f"no module named {name!r}: this desk has no engine", name=name)

sys.meta_path.insert(0, NoEngine())
"""
COMMAND_LINE = WITHOUT_ENGINE + "from quakegrid.cli.__main__ import main\nmain()\n"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The value that it printed."""
        return json.loads(self.out)


class Desk:
    """An empty home with one credential.

    Args:
        cluster: whose credential it is.
        root: an empty folder for the home.
        name: of the person.
        **places: other addresses than the credential's own, such as `web`.
    """

    def __init__(self, cluster: Cluster, root: Path, name: str, **places: str) -> None:
        self.home = root / "home"
        self.home.mkdir()
        self.environ = testing.isolated_environ(self.home)
        file = root / "file.credential"
        # Whoever has the name of the services' account elsewhere is an admin.
        role = "admin" if name == getpass.getuser() else "user"
        target = ("--file", file, "--cluster-name", "lab")
        made = cluster.call("user", "add", name, "--role", role, *target)
        if made.returncode and role == "admin":  # another test has made one of another role
            made = cluster.call("user", "role", name, role, *target)
        assert made.returncode == 0, made.stderr
        document = json.loads(file.read_text()) | places
        file.write_text(json.dumps(document))
        done = self.call(root, "login", file)
        assert done.code == 0, done.err

    def command(self, *args: object) -> list[str]:
        """The command line `quakegrid` with these arguments."""
        return [sys.executable, "-c", COMMAND_LINE, *map(str, args)]

    def call(self, folder: Path, *args: object) -> Done:
        """Run `quakegrid` in a folder, to its end."""
        done = self.start(folder, *args)
        out, err = done.communicate(timeout=TIMEOUT_S)
        return Done(done.returncode, out, err)

    def start(self, folder: Path, *args: object) -> subprocess.Popen[str]:
        """Start `quakegrid` in a folder."""
        return subprocess.Popen(
            self.command(*args),
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, folder: Path, program: str) -> Done:
        """Run a program, to its end; it has no engine either."""
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_ENGINE + program],
            cwd=folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


class Link:
    """Passes connections on, counts what it passes, and cuts each of them after so many bytes.

    Args:
        listen: where it listens.
        target: where it passes connections on to.
    """

    def __init__(self, listen: tuple[str, int], target: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self._port = socket.create_server(listen, family=family)
        self._target = target
        self._stop, self._stopper = os.pipe()
        # Bytes to the target after which a connection is cut; None for never.
        self.cut_after_bytes: int | None = None
        self.sent_bytes, self.cut_count = 0, 0
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._counts: dict[socket.socket, int] = {}
        self._clients: set[socket.socket] = set()
        self._wants_cut = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._port.getsockname()[1])

    def cut(self) -> None:
        """Cut all connections now."""
        self._wants_cut.set()
        os.write(self._stopper, b"c")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.write(self._stopper, b"x")
        self._thread.join()
        for each in [self._port, *self._pairs]:
            each.close()
        os.close(self._stop)
        os.close(self._stopper)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._stop, self._port, *self._pairs], [], [])
            if self._stop in ready:
                if os.read(self._stop, 1) == b"x":
                    return
                for each in list(self._clients):
                    self._close(each)
                self._wants_cut.clear()
                continue
            for each in ready:
                if each is self._port:
                    self._accept()
                elif each in self._pairs:
                    self._pass(each)

    def _accept(self) -> None:
        client, _ = self._port.accept()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self._pairs |= {client: server, server: client}
        self._clients.add(client)
        self._counts[client] = 0

    def _pass(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 16)
            if data:
                self._pairs[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(source)
        elif source in self._clients:
            self.sent_bytes += len(data)
            self._counts[source] += len(data)
            if self.cut_after_bytes is not None and self._counts[source] > self.cut_after_bytes:
                self._close(source)

    def _close(self, end: socket.socket) -> None:
        other = self._pairs.pop(end)
        self._pairs.pop(other)
        client = end if end in self._clients else other
        self._clients.discard(client)
        self._counts.pop(client, None)
        self.cut_count += 1
        # Reset: what was on its way is lost, as on a broken link.
        for each in (end, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            each.close()


@contextmanager
def linked_desk(cluster: Cluster, root: Path, name: str, web_port: int) -> Iterator[tuple[Desk, Link]]:
    """A desk, and its link to the web service: on the other loopback address, which the service knows."""
    with Link(("::1", web_port), ("127.0.0.1", web_port)) as link:
        yield Desk(cluster, root, name, web=f"http://[::1]:{web_port}"), link
