"""Which addresses are outside, and that connections go to no others."""

from __future__ import annotations

import socket
import urllib.error
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.notify import delivery, outside


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",
     "100.64.0.1",
     "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1",
     "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::"],
)  # fmt: skip
def test_own_hosts_and_networks_are_not_outside(text: str) -> None:
    """In whatever way they are written."""
    assert not outside.is_outside(text)


@pytest.mark.parametrize(
    "text", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_the_internet_is_outside(text: str) -> None:
    """Of both versions."""
    assert outside.is_outside(text)


def test_hosts_are_allowed_by_the_names_in_urls() -> None:
    """Whatever the port and the letters."""
    assert outside.allows("http://Hooks.Example:8080/a", ["hooks.example"])
    assert outside.allows("http://[fd00::1]/a", ["fd00::1"])
    assert not outside.allows("http://hooks.example.evil/hooks.example", ["hooks.example"])
    assert not outside.allows("http://hooks.example@10.0.0.1/", ["hooks.example"])


class FakeSocket:
    """Notes where it should connect to."""

    places: list[Any] = []  # noqa: RUF012 - of one test

    def __init__(self, *_args: object) -> None:
        self.is_closed = False

    def settimeout(self, _timeout_s: float | None) -> None:
        """Nothing."""

    def connect(self, place: Any) -> None:
        """Nobody answers."""
        self.places.append(place)
        raise OSError("nobody answers")

    def close(self) -> None:
        """Nothing."""
        self.is_closed = True


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the name of any host leads to; connections are not made."""
    found: list[str] = []

    def look_up(_host: str, port: int, **_options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(outside.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(outside.socket, "socket", FakeSocket)
    FakeSocket.places.clear()
    return found


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_name_that_leads_inside_is_refused(
    addresses: list[str], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the connection is made, whatever the name looks like; a proxy is not asked instead."""
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:3128")
    addresses += ["127.0.0.1", "10.1.2.3"]
    with pytest.raises(
        errors.NotAllowedError, match=r"hook.example is a host of this network.*\[notify\] hosts"
    ):
        outside.opener().open(f"{scheme}://hook.example:8080/x")
    assert FakeSocket.places == []

    addresses.append("93.184.216.34")
    with pytest.raises(urllib.error.URLError, match="nobody answers"):
        outside.opener().open(f"{scheme}://hook.example:8080/x")
    assert FakeSocket.places == [("93.184.216.34", 8080)]


def test_refusal_is_told_at_once(addresses: list[str]) -> None:
    """Another try does not help."""
    addresses.append("169.254.169.254")
    pauses: list[float] = []

    assert "host of this network" in delivery.post(
        "http://a.example/x", b"{}", pauses.append, is_guarded=True
    )
    assert pauses == []
