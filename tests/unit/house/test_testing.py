"""What `quakegrid.testing` prepares for a cluster of a test's own."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.settings import config


def test_free_port_range_can_be_bound_and_is_contiguous() -> None:
    """A server can listen on each port of the range."""
    ports = testing.free_port_range(3)

    assert len(ports) == 3
    for port in ports:
        with socket.socket() as server:
            server.bind((config.LOOPBACK, port))


def test_write_cluster_config_is_read_back_as_settings(tmp_path: Path) -> None:
    """The file gives a cluster on loopback with distinct ports and everything below its directory."""
    state_dir = tmp_path / "state"

    path = testing.write_cluster_config(state_dir, {"broker": {"max_attempts": 7}}, lane_count=2)
    settings = config.load_settings(state_dir, {})

    ports = [settings.dbserver_port, settings.broker_port, settings.agent_port, *settings.lane_ports]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(ports)) == 5
    assert settings.is_embedded
    assert settings.database == state_dir / "db.sqlite3"
    assert settings.shared_dir == str(state_dir / "shared")
    assert len(settings.authkey) >= config.MIN_AUTHKEY_LENGTH
    assert settings.max_attempts == 7


def test_isolated_environ_hides_settings_and_keeps_caches(tmp_path: Path) -> None:
    """No variable of the engine or of QuakeGrid gets through; the user's caches stay in use."""
    environ = {"OQ_CONFIG_FILE": "x", "QUAKEGRID_STATE_DIR": "y", "PATH": "/bin", "XDG_CACHE_HOME": "/cache"}

    isolated = testing.isolated_environ(tmp_path, environ)

    assert isolated == {"PATH": "/bin", "XDG_CACHE_HOME": "/cache", "HOME": str(tmp_path), "CI": "1"}


def test_copy_engine_case_without_that_case_says_so(tmp_path: Path) -> None:
    """An engine that is missing, or lacks the case, is one clear error."""
    with pytest.raises(errors.EngineMissingError, match="no_such_case"):
        testing.copy_engine_case("classical/no_such_case", tmp_path / "case")
