"""A cluster of one's own beside that of somebody else: it takes other ports."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.cli import cluster
from quakegrid.machine import own_cluster, temporary_clusters
from quakegrid.settings import config

PORTS = range(20_000, 20_013)


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new cluster, with no other settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OQ_CONFIG_FILE", raising=False)
    monkeypatch.setattr(temporary_clusters, "free_port_range", lambda count: PORTS[:count])
    own_cluster.prepare_state(tmp_path, lambda: "kJ8sd7Hg5sLq0PzX2mNb", cores=2)
    return tmp_path


def fail(error: Exception) -> object:
    """A check that fails."""

    def check(_settings: object, _services: object) -> None:
        raise error

    return check


def test_ports_are_given_where_the_usual_ones_are_taken(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them; the rest of the file stays, and so does its mode."""
    monkeypatch.setattr(cluster.local_services, "check_ports", fail(errors.QuakeGridError("in use")))

    cluster._step_aside(state_dir)

    settings = config.load_settings(state_dir)
    assert (settings.dbserver_port, settings.broker_port, settings.agent_port) == (20_000, 20_001, 20_002)
    assert (settings.web_port, settings.lane_ports) == (20_003, tuple(range(20_004, 20_013)))
    assert settings.authkey == "kJ8sd7Hg5sLq0PzX2mNb"
    assert settings.agent_host_cores[0].cores == 2
    assert stat.S_IMODE((state_dir / config.CONFIG_NAME).stat().st_mode) == 0o600
    assert "this cluster has 20000 to 20012" in capsys.readouterr().err


@pytest.mark.parametrize("error", [None, errors.SettingsError("not this machine's")])
def test_ports_stay_as_they_are_otherwise(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Where they are free, or the trouble is another one."""
    before = (state_dir / config.CONFIG_NAME).read_text(encoding="utf-8")
    monkeypatch.setattr(
        cluster.local_services, "check_ports", fail(error) if error else lambda _settings, _services: None
    )

    cluster._step_aside(state_dir)

    assert (state_dir / config.CONFIG_NAME).read_text(encoding="utf-8") == before
