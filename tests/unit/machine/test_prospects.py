"""Whether an installation can succeed: names and programs, before anything is changed."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.install import prospects
from quakegrid.install.plan import Role
from quakegrid.install.steps import GetCertificate, RunCommand

KNOWN = {"m1": "127.0.1.1", "m2": "10.77.0.1", "far": "10.77.0.99", "10.77.0.99": "10.77.0.99"}


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three names and an address; only m2 is this machine, and nobody answers anywhere."""

    def look_up(host: str, *_args: object, **_options: object) -> list[tuple[Any, ...]]:
        if host not in KNOWN:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (KNOWN[host], 0))]

    def connect(address: tuple[str, int], _timeout_s: float) -> socket.socket:
        raise TimeoutError if address[0] == "far" else ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(prospects.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(prospects.socket, "create_connection", connect)
    monkeypatch.setattr(prospects.own_addresses, "is_own", lambda host: host == "m2")


def test_master_is_this_machine_as_others_reach_it() -> None:
    """Debian calls it 127.0.1.1 in /etc/hosts."""
    assert prospects.check_master(Role.MASTER, "m2", 1911) == ""
    with pytest.raises(errors.UsageError, match=r"cannot reach 127\.0\.1\.1, which m1 is here"):
        prospects.check_master(Role.MASTER, "m1", 1911)
    with pytest.raises(errors.UsageError, match="does not know the name nobody"):
        prospects.check_master(Role.MASTER, "nobody", 1911)


def test_master_with_an_address_of_no_interface_is_warned_of() -> None:
    """NAT and floating addresses are legitimate; an address needs a setting, which a name has by itself."""
    named = prospects.check_master(Role.MASTER, "far", 1911)
    bare = prospects.check_master(Role.MASTER, "10.77.0.99", 1911)

    assert named.startswith("far is 10.77.0.99, which no interface of this machine has")
    assert "listen" not in named
    assert bare.startswith("no interface of this machine has 10.77.0.99")
    assert "[dbserver] listen = 0.0.0.0" in bare


def test_node_needs_a_master_that_answers() -> None:
    """And that is another machine."""
    with pytest.raises(errors.UsageError, match="m2 is this machine"):
        prospects.check_master(Role.NODE, "m2", 1911)
    with pytest.raises(errors.UsageError, match=r"nobody answers at far:1911 \(no answer\)"):
        prospects.check_master(Role.NODE, "far", 1911)
    with pytest.raises(errors.UsageError, match=r"m1:1911 \(Connection refused\): is the master installed"):
        prospects.check_master(Role.NODE, "m1", 1911)


def test_missing_program_is_told_before_anything_is_done() -> None:
    """With the package that has it."""
    prospects.check_programs([RunCommand(("sh", "-c", "true"))])
    with pytest.raises(errors.UsageError, match=r"the command no-such-command, which is not installed$"):
        prospects.check_programs([RunCommand(("no-such-command",))])
    with pytest.raises(errors.UsageError, match="the command no-such-command"):
        prospects.check_programs([GetCertificate(("no-such-command", "agentctl"), "qgnode1.secret")])


def test_missing_exportfs_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few people know it."""
    monkeypatch.setattr(prospects.shutil, "which", lambda _name: None)

    with pytest.raises(errors.UsageError, match="nfs-kernel-server has it"):
        prospects.check_programs([RunCommand(("exportfs", "-ra"))])
