"""The accounts that `[agent]` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.errors import SettingsError
from quakegrid.settings import config
from quakegrid.settings.agent_accounts import AgentAccounts


def read(tmp_path: Path, text: str) -> AgentAccounts:
    """The accounts of a configuration."""
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[agent]\n{text}\n")
    environ = {"OQ_CONFIG_FILE": str(path), config.ONLY_CONFIG: "1"}
    return config.load_settings(tmp_path, environ).agent_accounts


def test_without_settings_the_names_are_empty(tmp_path: Path) -> None:
    """The agent then looks for the default names."""
    assert read(tmp_path, "") == AgentAccounts("", "")


def test_names_are_read(tmp_path: Path) -> None:
    """Names of directory services are allowed."""
    found = read(tmp_path, "group = hazard.team\nworker_user = oq-worker@example.org")

    assert found == AgentAccounts("hazard.team", "oq-worker@example.org")


@pytest.mark.parametrize("name", ["1000", "two words", "a:b", "../a", "-x"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """A number would mean another account on each machine."""
    with pytest.raises(SettingsError, match=r"\[agent\] group .* the name of a group"):
        read(tmp_path, f"group = {name}")
