"""`quakegrid doctor` over machines of their own finds every mistake that these tests make on purpose."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quakegrid.nodes import engine_version
from quakegrid.settings import authkeys
from tests.support.namespace_cluster import MASTER
from tests.system.machines import Machines, running_machines

# One with sound services whose ports are closed, one whose agent is started with mistakes.
BLOCKED, SICK = 1, 2
NODES = {BLOCKED: 1, SICK: 1}
ENGINE = engine_version.installed_version()
# What the machine that runs the tests may lack, or be short of.
OF_THIS_MACHINE = (
    "root",
    "sqlite",
    "swap",
    "memory_limit",
    "cpu_limit",
    "cpu_governor",
    "disk_space",
    "shared_memory",
    "overcommit",
)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A master and two nodes, without the engine."""
    with running_machines(0, 1, 1, configured=tuple(NODES)) as machines:
        for node in NODES:
            machines.start_agent(node)
        machines.wait_for_cores(NODES)
        yield machines


def doctor(machines: Machines) -> tuple[int, list[dict[str, Any]]]:
    """Exit code, and findings that are not fine."""
    found = machines.json("doctor")
    wrong = [finding for finding in found["findings"] if finding["severity"] != "ok"]
    return int(found["would_break"]), wrong


def relevant(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that are of the machine on which the tests run."""
    return [finding for finding in findings if finding["check"] not in OF_THIS_MACHINE]


# --- mistakes


@contextlib.contextmanager
def restarted(
    machines: Machines,
    changes: dict[str, dict[str, str]] | None = None,
    *,
    prelude: str = "",
    hosts: str = "",
    environ: dict[str, str] | None = None,
) -> Iterator[None]:
    """The sick node's agent with other files and another environment, until the next mistake."""
    machines.configure(SICK, changes, prelude=prelude, hosts=hosts)
    machines.stop_agent(SICK)
    machines.start_agent(SICK, environ=environ)
    yield


def closed(
    node: int, chain: str, ports: str
) -> Callable[[Machines], contextlib.AbstractContextManager[None]]:
    """A firewall that lets less through."""
    return lambda machines: machines.firewall.closed(node, chain, ports)


def other_key(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """Another authkey."""
    return restarted(machines, {"dbserver": {"authkey": authkeys.new_authkey()}})


def loopback_master(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """The master by its name, which the node's /etc/hosts has as a loopback address."""
    name = machines.network.node_name(MASTER)
    return restarted(machines, {"dbserver": {"host": name}}, hosts=f"127.0.1.1 {name}")


def loopback_self(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """The node's own name is a loopback address, as Debian has it."""
    return restarted(machines, hosts=f"127.0.1.1 {machines.network.node_name(SICK)}")


def no_shared_dir(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """Nothing is mounted there."""
    return restarted(machines, prelude=f"mount -t tmpfs none {machines.shared_dir.parent}")


def other_shared_dir(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """Another folder is mounted there."""
    return restarted(machines, prelude=f"mount -t tmpfs none {machines.shared_dir}")


def other_version(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """Another engine seems to be installed."""
    info = machines.directory / "site" / "openquake_engine-3.25.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: openquake.engine\nVersion: 3.25.0\n")
    return restarted(machines, environ={"PYTHONPATH": str(info.parent)})


def swap(machines: Machines) -> contextlib.AbstractContextManager[None]:
    """The node tells of swap."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {"SwapTotal": 8 << 20, "SwapFree": 7 << 20}
    kept = [line for line in lines if line.partition(":")[0] not in sizes]
    path = machines.directory / "meminfo"
    path.write_text("\n".join([*kept, *(f"{name}: {size} kB" for name, size in sizes.items()), ""]))
    return restarted(machines, prelude=f"mount --bind {path} /proc/meminfo")


CLOCK = """
import time
real = time.time
time.time = lambda: real() + {offset_s}
real_ns = time.time_ns
time.time_ns = lambda: real_ns() + {offset_s} * 10**9
import datetime
class shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)
datetime.datetime = shifted
"""


def clock(offset_s: int) -> Callable[[Machines], contextlib.AbstractContextManager[None]]:
    """The node's Python tells another time."""

    def make(machines: Machines) -> contextlib.AbstractContextManager[None]:
        folder = machines.directory / f"clock{offset_s}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK.format(offset_s=offset_s))
        return restarted(machines, environ={"PYTHONPATH": str(folder)})

    return make


@dataclass(frozen=True)
class Mistake:
    """What is done, and what a doctor must say of which node: check, severity, words."""

    make: Callable[[Machines], contextlib.AbstractContextManager[None]]
    check: str
    words: tuple[str, ...]
    severity: str = "breaks"
    node: int = SICK


FIREWALL = "does not answer: a firewall drops it"
# Ports come first: they are closed while all else is sound.
MISTAKES = {
    "agent's port closed on the node": Mistake(
        closed(BLOCKED, "input", "1909"), "port", ("agent 10.77.0.2:1909", FIREWALL), node=BLOCKED
    ),
    "agent's port closed on the master": Mistake(
        closed(MASTER, "output", "1909"), "port", ("agent 10.77.0.2:1909", FIREWALL), node=BLOCKED
    ),
    "broker's port closed on the master": Mistake(
        closed(MASTER, "input", "1911"), "port", ("broker 10.77.0.1:1911", FIREWALL), node=BLOCKED
    ),
    "all ports closed on the way out": Mistake(
        closed(BLOCKED, "output", "1908, 1911-1920"),
        "port",
        ("dbserver 10.77.0.1:1908", FIREWALL),
        node=BLOCKED,
    ),
    "lanes closed on the master": Mistake(
        closed(MASTER, "input", "1912-1920"), "port", ("lane 10.77.0.1:1912", FIREWALL), node=BLOCKED
    ),
    "wrong authkey": Mistake(
        other_key, "authkey", ("agent 10.77.0.3:1909 has another authkey than this machine",)
    ),
    "no shared directory": Mistake(
        no_shared_dir, "shared_dir", ("No such file or directory",), severity="note"
    ),
    "another shared directory": Mistake(
        other_shared_dir, "shared_dir", ("is not the same folder there",), severity="note"
    ),
    "another version": Mistake(
        other_version, "versions", (f"openquake.engine 3.25.0 there, {ENGINE or 'none'} here",)
    ),
    "master's name is loopback": Mistake(
        loopback_master, "host_name", ("node0, which [dbserver] host uses, is 127.0.1.1 here",)
    ),
    "own name is loopback": Mistake(
        loopback_self, "host_name", ("node2, this machine's own, is 127.0.1.1 here",), severity="note"
    ),
    "clock is seconds off": Mistake(clock(-40), "clock", ("s behind ours",), severity="note"),
    "clock is hours off": Mistake(clock(15 * 3600), "clock", ("s ahead of ours",)),
    "clock is days off": Mistake(clock(3 * 86400), "clock", ("the clocks are days apart",)),
    "swap": Mistake(swap, "swap", ("8.0 GiB of swap are active, 1.0 GiB in use",), severity="slows"),
}
QUICK = ("agent's port closed on the node", "no shared directory")


def test_sound_machines_are_sound(machines: Machines) -> None:
    """Nothing is found, and no packet of the doctor's was dropped."""
    code, findings = doctor(machines)

    assert (code, relevant(findings)) == (0, [])
    assert machines.firewall.dropped() == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in MISTAKES]
)
def test_mistake_is_found(name: str, machines: Machines) -> None:
    """With its words, on its node, and with the exit code that it deserves."""
    mistake = MISTAKES[name]

    with mistake.make(machines):
        code, findings = doctor(machines)

    label = machines.network.address(mistake.node)
    whats = [
        finding["what"]
        for finding in findings
        if (finding["node"], finding["check"], finding["severity"])
        == (label, mistake.check, mistake.severity)
    ]
    assert any(all(word in what for word in mistake.words) for what in whats), findings
    assert code == (mistake.severity == "breaks")
