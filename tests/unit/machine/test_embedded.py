"""The embedded cluster's folder: what is made, with which modes, and what is left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.machine import own_cluster
from quakegrid.settings import authkeys, config
from quakegrid.settings.hosts import HostCores

SECRET = "a-secret-of-more-than-16-characters"


def mode(path: Path) -> int:
    """Permission bits of a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the one made here."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OQ_CONFIG_FILE", raising=False)


def test_first_start_makes_a_private_folder_and_key(tmp_path: Path) -> None:
    """Whatever the umask: 0700 for folders, 0600 for the file with the key."""
    state_dir = tmp_path / "state"
    before = os.umask(0)
    try:
        path = own_cluster.prepare_state(state_dir, authkeys.new_authkey)
    finally:
        os.umask(before)

    assert mode(path) == 0o600
    assert mode(state_dir) == mode(state_dir / "shared") == mode(own_cluster.data_dir(state_dir)) == 0o700


def test_made_configuration_is_what_settings_read(tmp_path: Path) -> None:
    """The file says loopback, our key, our folders."""
    own_cluster.prepare_state(tmp_path, lambda: SECRET, cores=3)

    settings = config.load_settings(tmp_path, {})

    assert settings.authkey == SECRET
    assert settings.is_embedded
    assert settings.database == tmp_path / "db.sqlite3"
    assert settings.shared_dir == str(tmp_path / "shared")
    assert settings.agent_host_cores == (HostCores("127.0.0.1", 3),)


def test_second_start_keeps_the_file(tmp_path: Path) -> None:
    """The key is made once; what the user wrote stays."""
    path = own_cluster.prepare_state(tmp_path, lambda: SECRET)
    path.write_text(path.read_text() + "[broker]\nport = 2911\n")

    own_cluster.prepare_state(tmp_path, lambda: "another-key-of-more-than-16")

    settings = config.load_settings(tmp_path, {})
    assert (settings.authkey, settings.broker_port) == (SECRET, 2911)


def test_cores_replace_only_their_line(tmp_path: Path) -> None:
    """`up --cores` on an old folder changes one line and no mode."""
    path = own_cluster.prepare_state(tmp_path, lambda: SECRET)

    own_cluster.prepare_state(tmp_path, lambda: "unused", cores=2)

    settings = config.load_settings(tmp_path, {})
    assert settings.agent_host_cores == (HostCores("127.0.0.1", 2),)
    assert settings.authkey == SECRET
    assert mode(path) == 0o600


@pytest.mark.parametrize("before", ["", "[agent]\nnice = 3\n", "[agent]\ntry_engine = no\n"])
def test_engine_that_shall_be_tried_is_written_down(tmp_path: Path, before: str) -> None:
    """`up --try-engine` counts for the next starts, too, and changes nothing else."""
    path = own_cluster.prepare_state(tmp_path, lambda: SECRET)
    path.write_text(path.read_text() + before)
    assert not config.load_settings(tmp_path, {}).try_engine

    for _ in range(2):
        own_cluster.prepare_state(tmp_path, lambda: "unused", tries_engine=True)

    settings = config.load_settings(tmp_path, {})
    assert settings.try_engine
    assert (settings.authkey, path.read_text().count("try_engine")) == (SECRET, 1)
    assert mode(path) == 0o600


def test_too_long_a_path_is_refused(tmp_path: Path) -> None:
    """A unix socket in it could not be bound; nothing is made."""
    state_dir = tmp_path / ("long" * 30)

    with pytest.raises(errors.UsageError, match="--state-dir"):
        own_cluster.prepare_state(state_dir, authkeys.new_authkey)

    assert not state_dir.exists()
