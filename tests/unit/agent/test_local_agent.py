"""Where commands look for this machine's own agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.clients import agent
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a cluster whose agent listens on one address."""
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"listen": "127.0.0.5"}})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


def test_agent_is_asked_where_it_listens(settings: Settings) -> None:
    """Not on loopback, unless it listens everywhere."""
    assert agent.local_host(settings) == "127.0.0.5"
    assert agent.local_host(replace(settings, agent_listen="0.0.0.0")) == config.LOOPBACK


def test_port_is_that_of_the_agent_that_runs(settings: Settings) -> None:
    """It may have been started with another one than is configured; without it, that one counts."""
    assert agent.local_settings(settings).agent_port == settings.agent_port

    service_files.write(settings, "agent", "127.0.0.5:4321")

    assert agent.local_settings(settings).agent_port == 4321
