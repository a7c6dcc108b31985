"""The kernel says who opened a connection."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from quakegrid.services.web import callers
from quakegrid.services.web.callers import Caller

OTHER_USER = 65534  # nobody


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A port on loopback."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((request.param, 0))
        except OSError:
            pytest.skip(f"this machine has no {request.param}")
        server.listen()
        server.settimeout(30)
        yield server


def ends(accepted: socket.socket) -> tuple[tuple[str, int], tuple[str, int]]:
    """The other end and our end, address and port."""
    return accepted.getpeername()[:2], accepted.getsockname()[:2]


def test_own_connection_is_ours(listener: socket.socket) -> None:
    """Also by name."""
    with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
        caller = callers.caller_of(*ends(accepted))

        assert caller is not None
        assert caller.user_id == os.getuid()
        assert callers.may_ask(caller)


def test_connection_that_was_closed_is_nobodys(listener: socket.socket) -> None:
    """The kernel names root as the owner of what is left of it."""
    client = socket.create_connection(listener.getsockname()[:2])
    with listener.accept()[0] as accepted:
        client.close()

        assert callers.caller_of(*ends(accepted)) is None


def test_connection_that_never_was_is_nobodys(listener: socket.socket) -> None:
    """As one from another machine."""
    address, port = listener.getsockname()[:2]

    assert callers.caller_of((address, 1), (address, port)) is None
    assert callers.caller_of(("no address", 1), (address, port)) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_connection_of_another_user_is_theirs(listener: socket.socket) -> None:
    """Who may not ask."""
    address, port = listener.getsockname()[:2]
    code = (
        f"import encodings.idna, os, socket; os.setuid({OTHER_USER}); "
        f"c = socket.create_connection(({address!r}, {port})); c.recv(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        with listener.accept()[0] as accepted:
            caller = callers.caller_of(*ends(accepted))
        process.wait(30)

    assert caller is not None
    assert caller.user_id == OTHER_USER
    assert not callers.may_ask(caller)


def test_root_may_ask() -> None:
    """Who could be anybody anyway."""
    assert callers.may_ask(Caller(0, "root"))


@pytest.mark.parametrize(
    ("mode", "groups", "is_let_in"),
    [(0o660, {7, 8}, True), (0o660, {7}, False), (0o600, {7, 8}, False)],
)
def test_members_of_the_agents_group_may_ask(
    tmp_path: Path, mode: int, groups: set[int], is_let_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the agent has opened its socket to the group."""
    door, other = tmp_path / "agent.sock", pwd.getpwuid(OTHER_USER)
    door.touch()
    door.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER - 1)
    own = door.stat().st_gid
    shifted = {group if group != 8 else own for group in groups}
    monkeypatch.setattr(os, "getgrouplist", lambda *_: sorted(shifted))

    assert callers.may_ask(Caller(OTHER_USER, other.pw_name), door) is is_let_in
    assert not callers.may_ask(Caller(OTHER_USER, other.pw_name), tmp_path / "missing")
    assert not callers.may_ask(Caller(54321, "nobody-has-this"), door)


def test_accounts_are_looked_up_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request asks for them, and a directory far away may be slow; what changes there counts later."""
    now_s, asked = -1e6, []

    def look_up(user_id: int) -> SimpleNamespace:
        asked.append(user_id)
        return SimpleNamespace(pw_name=f"name-{len(asked)}")

    monkeypatch.setattr(callers, "socket_owner", lambda *_ends: 54321)
    monkeypatch.setattr(callers, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(callers, "pwd", SimpleNamespace(getpwuid=look_up))

    def name() -> str:
        caller = callers.caller_of(("127.0.0.1", 1), ("127.0.0.1", 2))
        return caller.name if caller else ""

    assert [name(), name()] == ["name-1", "name-1"]
    now_s += 3600
    assert name() == "name-2"
    assert asked == [54321, 54321]
