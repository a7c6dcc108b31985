"""Waiting for the dbserver of a master that was just installed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.install import first_start


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a dbserver that does not run; a program in place of systemctl says that it does."""
    (number,) = testing.free_ports(1)
    testing.write_cluster_config(tmp_path, {"dbserver": {"port": str(number)}})
    monkeypatch.setenv("PATH", str(tmp_path))
    say(tmp_path, "active")
    return number


def say(folder: Path, state: str) -> None:
    """What systemctl says from now on."""
    path = folder / "systemctl"
    path.write_text(f"#!/bin/sh\necho {state}\n", encoding="utf-8")
    path.chmod(0o755)


def test_dbserver_that_answers_is_waited_for(port: int, tmp_path: Path) -> None:
    """As soon as it takes connections."""
    with socket.create_server(("127.0.0.1", port)):
        first_start.wait_for_dbserver(tmp_path)


def test_dbserver_that_does_not_answer_is_told(port: int, tmp_path: Path) -> None:
    """With its address, and the command that says why."""
    with pytest.raises(errors.PeerUnreachableError, match=rf":{port} .*journalctl -u quakegrid-dbserver"):
        first_start.wait_for_dbserver(tmp_path, 0.0)


@pytest.mark.usefixtures("port")
def test_nothing_is_waited_for_where_systemd_does_not_run_it(tmp_path: Path) -> None:
    """A unit that failed, an image that is made, a machine without systemd."""
    say(tmp_path, "failed")
    first_start.wait_for_dbserver(tmp_path)

    (tmp_path / "systemctl").unlink()
    first_start.wait_for_dbserver(tmp_path)
