"""Nodes with addresses of their own: network namespaces around a bridge, which is in one too.

Nothing of it is visible outside of these namespaces. A direction of a link is cut by a neighbour entry
with an address that nobody has, so packets vanish without an error; no firewall is needed for it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Self

PREFIX = "qgtest"
NOBODY = "02:77:00:00:ff:ff"
RUN = Path("/run/netns")
# About what a bad line between two buildings gives, if the kernel cannot delay packets.
SLOW_WITHOUT_NETEM = ("tbf", "rate", "2mbit", "burst", "16kb", "latency", "2s")
SLOW = ("netem", "delay", "150ms", "30ms")
# Of the networks of this process, each with names of its own.
SERIALS = itertools.count()


class NamespaceError(Exception):
    """This machine, or this user, cannot have network namespaces."""


def tool(name: str, package: str = "iproute2") -> str:
    """The path of a program, also of one that is for administrators.

    Args:
        name: of the program.
        package: where Debian has it.
    Raises:
        NamespaceError: it is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise NamespaceError(f"there is no {name}: apt-get install {package}")
    return found


def ip(*args: str) -> None:
    """Run `ip`.

    Raises:
        NamespaceError: it failed.
    """
    done = subprocess.run([tool("ip"), *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NamespaceError(f"ip {' '.join(args)}: {done.stderr.strip()}")


def sweep() -> None:
    """Remove what harnesses that are gone left: namespaces by their name, and all processes in them."""
    with contextlib.suppress(OSError):
        for path in RUN.iterdir():
            prefix, _, rest = path.name.partition("-")
            if prefix == PREFIX and not Path("/proc", rest.partition("-")[0]).exists():
                _remove(path.name)


def _remove(name: str) -> None:
    for pid in pids_of(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ip("netns", "delete", name)


def pids_of(name: str) -> list[int]:
    """The processes of a namespace."""
    done = subprocess.run([tool("ip"), "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


class Network:
    """So many nodes, each reaching each; a context manager.

    Args:
        node_count: of all nodes, the master included.
    Raises:
        NamespaceError: not allowed here.
    """

    def __init__(self, node_count: int) -> None:
        stem = f"{PREFIX}-{os.getpid()}-{next(SERIALS)}"
        self._names = [f"{stem}-{number}" for number in range(node_count)]
        self._switch = f"{stem}-switch"
        self._preludes = [""] * node_count
        self._cuts: Counter[tuple[int, int]] = Counter()
        self._slows: Counter[int] = Counter()

    def __enter__(self) -> Self:
        """Build it."""
        sweep()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove it, with every process in it."""
        for name in (*self._names, self._switch):
            if (RUN / name).exists():
                _remove(name)

    def name(self, node: int) -> str:
        """The namespace of a node."""
        return self._names[node]

    def address(self, node: int) -> str:
        """The address of a node."""
        return f"10.77.0.{node + 1}"

    @property
    def nodes(self) -> range:
        """All of them."""
        return range(len(self._names))

    def node_name(self, node: int) -> str:
        """What a node calls itself."""
        return f"node{node}"

    def begin_with(self, node: int, prelude: str) -> None:
        """Let what is started on a node from now on begin with this: shell, such as mounts of its own."""
        self._preludes[node] = prelude

    def inside(self, node: int, command: list[str]) -> list[str]:
        """The command that runs a command on a node, in the same process, under the node's own name."""
        enter = [tool("ip"), "netns", "exec", self.name(node), "unshare", "--uts", "sh", "-ec"]
        script = f'hostname "$0"\n{self._preludes[node]}\nexec "$@"'
        return [*enter, script, self.node_name(node), *command]

    def pids(self, node: int) -> list[int]:
        """The processes of a node."""
        return pids_of(self.name(node))

    def listening_ports(self, node: int) -> list[int]:
        """TCP ports that somebody listens on."""
        table = subprocess.run(
            [tool("ip"), "netns", "exec", self.name(node), "cat", "/proc/net/tcp", "/proc/net/tcp6"],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [line.split() for line in table.stdout.splitlines()]
        return sorted(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A")

    def cut(self, source: int, target: int, *, is_cut: bool) -> None:
        """Let the packets from one node to another vanish, or stop that; it is counted."""
        self._cuts[source, target] += 1 if is_cut else -1
        mac = NOBODY if self._cuts[source, target] else _mac(target)
        self._set_neighbour(source, target, mac)

    def slow(self, node: int, *, is_slow: bool) -> None:
        """Delay what a node sends, or stop that; it is counted."""
        self._slows[node] += 1 if is_slow else -1
        base = [tool("tc"), "-n", self.name(node), "qdisc"]
        if not self._slows[node]:
            subprocess.run([*base, "del", "dev", "eth0", "root"], capture_output=True, check=False)
            return
        for way in (SLOW, SLOW_WITHOUT_NETEM):
            command = [*base, "replace", "dev", "eth0", "root", *way]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return

    def _build(self) -> None:
        tool("tc")  # will be wanted
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")
        for node, name in enumerate(self._names):
            port = f"p{node}"
            ip("netns", "add", name)
            veth = ["link", "add", port, "netns", self._switch, "type", "veth"]
            ip(*veth, "peer", "name", "eth0", "address", _mac(node), "netns", name)
            ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        for source in range(len(self._names)):
            for target in range(len(self._names)):
                if source != target:
                    self._set_neighbour(source, target, _mac(target))

    def _set_neighbour(self, source: int, target: int, mac: str) -> None:
        entry = ["neigh", "replace", self.address(target), "lladdr", mac, "dev", "eth0", "nud", "permanent"]
        ip("-n", self.name(source), *entry)


def wait_for_no_process(network: Network, node: int, timeout_s: float) -> list[int]:
    """Wait until a node has no process any more; those that are left."""
    end_s = time.monotonic() + timeout_s
    while (left := network.pids(node)) and time.monotonic() < end_s:
        time.sleep(0.05)
    return left


def _mac(node: int) -> str:
    return f"02:77:00:00:00:{node + 1:02x}"
